"""What each matrix costs in each type that a search chooses among: divergence foretold, bytes, seconds; and the limits.

A cost is a row for each matrix and a column for each type. Limits are those of the type that a search is told to be
like, by the same figures. Both formats are one thing here but for how a type's name says bytes and kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgellm.convert.gguf.convert import ConvertRequest, preview
from edgellm.convert.gguf.imatrix import Imatrix
from edgellm.convert.onnx import is_onnx
from edgellm.convert.onnx.linear import BlockLinear, Linear, W8A8Linear
from edgellm.convert.onnx.options import OnnxOptions, encoding_of, recipe
from edgellm.errors import UsageError
from edgellm.fit.figures import Figures
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME
from edgellm.models.base import Role
from edgellm.recipes import solve
from edgellm.recipes.matrices import EMBEDDING, HEAD, Matrix
from edgellm.recipes.noise import noise

#: ggml types that a search chooses among.
TYPES = (
    *("Q4_0", "IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),  # rows of any multiple of 32
    *("Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K"),  # of 256
)
#: ONNX encodings that a search chooses among.
ENCODINGS = (
    *("int4a/128:kquant", "int4a/64:kquant", "int4a/32:kquant", "int4a/16:kquant"),
    *("int4/32:search", "int8/128", "int8/32"),
)
_SAMPLE_ROWS = 32

#: Kernel speeds of a machine, with at least those named where they can be had.
Speeds = Callable[[Collection[str]], Figures]


@dataclass(frozen=True)
class Goal:
    """What is asked for. The reference type gives limits that are ratios. Raises UsageError for one that cannot."""

    like: str  # a GGUF or an ONNX type
    max_bytes: int | None = None  # of all matrices; None: as many as `like` has
    decode: float | None = None  # times the reference type's speed, at least
    onnx: bool = False

    def __post_init__(self) -> None:
        if is_onnx(self.like) and not self.onnx:
            raise UsageError(f"{self.like} is an ONNX type, and the recipe is for GGUF: add --format onnx")
        if self.onnx and self.decode is not None and not is_onnx(self.like):
            raise UsageError(
                f"--decode is times the speed of --like in the same engine, and {self.like} is a GGUF type: "
                "give one such as onnx-int4"
            )


@dataclass(frozen=True)
class Costs:
    """A problem for solve.py without units, and what its columns are."""

    problem: solve.Problem
    types: tuple[str, ...]
    speeds: Figures | None


def costs(
    source: Path,
    goal: Goal,
    every: Sequence[Matrix],
    factors: Sequence[float],
    imatrix: Imatrix | None,
    speeds: Speeds | None,
    report: Callable[[str, int, int], None],
) -> Costs:
    """Of all matrices, with the goal's limits. `factors` are divergences per noise. Raises UsageError."""
    types = ENCODINGS if goal.onnx else TYPES
    like = _like(source, goal, every)
    known = speeds({_kernel(matrix, t) for matrix in every for t in (*types, *like)}) if speeds else None
    kld, nbytes, seconds = (np.full((len(every), len(types)), fill) for fill in (np.inf, 0.0, 0.0))
    for row, matrix in enumerate(every):
        rows, importance = matrix.sample(_SAMPLE_ROWS), matrix.importance(imatrix)
        for column, name in enumerate(types):
            size, time = _bytes(name, matrix), _seconds(matrix, name, known)
            if size is None or time is None:
                continue
            nbytes[row, column], seconds[row, column] = size, time
            kld[row, column] = factors[row] * noise(rows, name, importance)
        if known and not np.isfinite(kld[row]).any():
            raise UsageError(f"the kernel speeds of {known.machine} have no type for {matrix.name}")
        report("noise of each type", row + 1, len(every))
    max_bytes = goal.max_bytes or sum(_bytes(t, m) or 0.0 for t, m in zip(like, every, strict=True))
    problem = solve.Problem(kld, nbytes, seconds, float(max_bytes), _most(goal, every, like, known))
    return Costs(problem, types, known)


def kernels(*, onnx: bool) -> list[str]:
    """What multiplies the types that a search chooses among, experts apart."""
    return sorted({name.partition(":")[0] for name in (ENCODINGS if onnx else TYPES)})


def units(every: Sequence[Matrix], *, onnx: bool) -> list[int]:
    """Which matrices are chosen for together: an ONNX graph packs Q, K and V, and an expert's three."""
    keys: dict[tuple[str, int], int] = {}
    found = []
    for matrix in every:
        packed = matrix.role in ("attn_q", "attn_k", "attn_v") or matrix.is_experts
        role = matrix.role[:4] if onnx and packed else matrix.name
        found.append(keys.setdefault((role, matrix.layer), len(keys)))
    return found


def _like(source: Path, goal: Goal, every: Sequence[Matrix]) -> list[str]:
    """The type of each matrix in the reference type."""
    if not is_onnx(goal.like):
        own = {t.name: t.type.name for t in preview(ConvertRequest(source, goal.like)).plan.tensors}
        return [own[matrix.name] for matrix in every]
    chosen, n_layer = recipe(goal.like, OnnxOptions()), 1 + max(matrix.layer for matrix in every)
    tied = all(matrix.role != EMBEDDING for matrix in every)

    def encoding(matrix: Matrix) -> Linear:
        if matrix.role == HEAD:
            return chosen.head_encoding(tied=tied)
        if matrix.role == EMBEDDING:
            return chosen.embedding_encoding(tied=False)
        if matrix.is_experts:
            return chosen.expert_encoding(matrix.layer, n_layer)
        return chosen.encoding((Role(matrix.role),), matrix.layer, n_layer)

    return [encoding(matrix).label for matrix in every]


def _most(goal: Goal, every: Sequence[Matrix], like: Sequence[str], speeds: Figures | None) -> float:
    """Seconds of a token's products that are left by the goal."""
    if goal.decode is None:
        return float("inf")
    assert speeds is not None, "a limit on speed comes with speeds"
    taken = 0.0
    for matrix, type_ in zip(every, like, strict=True):
        if (seconds := _seconds(matrix, type_, speeds)) is None:
            raise UsageError(f"the kernel speeds of {speeds.machine} have no {type_}; measure them again")
        taken += seconds
    return taken / goal.decode


def _bytes(name: str, matrix: Matrix) -> float | None:
    """Of a matrix in a type, None where its rows do not fit."""
    if name in GGML_TYPES_BY_NAME:
        type_ = GGML_TYPES_BY_NAME[name]
        return None if matrix.row_size % type_.block_size else type_.nbytes(matrix.n_weights)
    encoding, n_rows = encoding_of(name), matrix.n_weights // matrix.row_size
    if isinstance(encoding, BlockLinear):
        form = encoding.format
        row = form.n_blocks(matrix.row_size) * (form.block_bytes + 4)
        row += 0 if form.symmetric else form.zero_bytes(matrix.row_size)
        return float(n_rows * row)
    return float(matrix.n_weights + 4 * n_rows if isinstance(encoding, W8A8Linear) else 4 * matrix.n_weights)


def _seconds(matrix: Matrix, type_: str, speeds: Figures | None) -> float | None:
    """Of a matrix's product with one token, as edgellm fit has it; None where it was not measured."""
    if speeds is None or not matrix.is_read:
        return 0.0
    if (kernel := speeds.kernels.get(_kernel(matrix, type_))) is None:
        return None
    n_rows = matrix.n_weights // matrix.row_size
    return matrix.share * (matrix.n_weights * kernel.decode + n_rows * kernel.decode_output)


def _kernel(matrix: Matrix, type_: str) -> str:
    """What multiplies a matrix of a type, as edgellm fit calls it."""
    name = type_.partition(":")[0]
    return f"experts {name}" if matrix.is_experts and type_ not in GGML_TYPES_BY_NAME else name
