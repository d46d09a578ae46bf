"""The search, the whole of it: probe file, importance, sensitivities, speeds, the choice, its proof.

Everything found is kept in a folder beside the output, so that the same command goes on where one was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgellm import files
from edgellm.calibration import store, text
from edgellm.convert.gguf.convert import ConvertRequest, convert, preview
from edgellm.convert.gguf.imatrix import Imatrix
from edgellm.convert.gguf.source_model import open_model
from edgellm.convert.onnx.blocks import BlockFormat
from edgellm.convert.recipes import recipe as recipe_files
from edgellm.convert.recipes.recipe import RecipeFile
from edgellm.errors import UsageError
from edgellm.fit.figures import Figures
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME
from edgellm.profiles.quality.reference_logits import CompactReference
from edgellm.recipes import sensitivity, solve
from edgellm.recipes.matrices import HEAD, Matrix, groups, matrices
from edgellm.recipes.noise import noise
from edgellm.recipes.sensitivity import Measured
from edgellm.session import EngineOptions

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
_BANDS = (1, 3)  # how finely the depth is cut, as far as the time goes
_PROBING = 0.6  # of the time, at most
_IMATRIX_CHUNKS, _IMATRIX_CHUNK = 16, 512


@dataclass(frozen=True)
class Goal:
    """What is asked for. The reference type gives limits that are ratios."""

    like: str  # a GGUF type
    max_bytes: int | None = None  # of all matrices; None: as many as `like` has
    decode: float | None = None  # times the reference type's speed, at least
    prefill: float | None = None
    onnx: bool = False


@dataclass(frozen=True)
class Request:
    """A search."""

    source: Path
    output: Path
    goal: Goal
    seconds: float
    speeds: Figures | None
    imatrix: Path | None = None
    auto_imatrix: bool = False
    n_tokens: int = 512
    n_threads: int | None = None
    force: bool = False

    @property
    def folder(self) -> Path:
        """Where what was found is kept."""
        return self.output.with_name(f"{self.output.name}.search")


@dataclass(frozen=True)
class Found:
    """A recipe, and what is known of it."""

    recipe: RecipeFile
    predicted_kld: float
    measured_kld: float | None  # None: the time was over, or it is for ONNX
    nbytes: int  # of the matrices
    decode_ms: float | None  # predicted, of the products of one token
    sensitivities: tuple[Measured, ...]


#: Told of each step: what, how many done, of how many.
Report = Callable[[str, int, int], None]


def search(request: Request, report: Report) -> Found:
    """Find a recipe, write it to the output and return it. Raises EdgellmError."""
    deadline = time.monotonic() + request.seconds
    files.check_output(request.output, force=request.force)
    with files.storage_errors(request.folder):
        request.folder.mkdir(exist_ok=True)
    engine = EngineOptions(n_ctx=512, n_threads=request.n_threads, n_threads_batch=request.n_threads)
    probe = _probe(request, report)
    imatrix = _imatrix(request, probe, engine, report)
    reference = _reference(request, probe, engine, report)
    with open_model(request.source, "Q8_0") as model:
        every = matrices(model)
        opened = Imatrix.open(imatrix) if imatrix else None
        of = [str(request.source.resolve()), request.n_tokens, files.sha256(imatrix) if imatrix else None]
        state = _State(request.folder / "sensitivity.json", of)
        stop = time.monotonic() + _PROBING * (deadline - time.monotonic())
        for n_bands in _BANDS:
            own = groups(every, n_bands)
            for index, group in enumerate(own):
                if group.name not in state.found and (n_bands == 1 or time.monotonic() < stop):
                    state.add(sensitivity.measure(group, probe.path, reference, engine, opened))
                report(f"sensitivity of {group.name}", index + 1, len(own))
        factors = _factors(every, state.found)
        problem, names = _problem(request, every, factors, opened, report)
        max_bytes, max_seconds = _limits(request, every)
    units = _units(every, onnx=request.goal.onnx)
    problem = solve.together(replace(problem, max_bytes=max_bytes, max_seconds=max_seconds), units)
    choice = solve.solve(problem)
    types = [names[choice[unit]] for unit in units]
    lines = solve.as_rules([m.role for m in every], [m.layer for m in every], types)
    kld, nbytes, seconds = problem.totals(choice)
    base = "onnx-int4" if request.goal.onnx else _base(types, every)
    about = f"found by edgellm recipe search for {request.source.resolve().name}: {nbytes / 1e6:.0f} MB of matrices"
    made = recipe_files.write(
        request.output, base, lines, about=about, imatrix=imatrix is not None, force=request.force
    )
    measured = None
    if not request.goal.onnx and time.monotonic() < deadline:
        report("verifying", 0, 1)
        measured = _verify(request, made, imatrix, reference, engine)
    return Found(
        made, kld, measured, int(nbytes), 1e3 * seconds if seconds else None, tuple(state.found.values())
    )


class _State:
    """Measured groups, on disk. What was measured of something else is forgotten."""

    def __init__(self, path: Path, identity: Sequence[object]) -> None:
        self.path, self.identity = path, list(identity)
        self.found: dict[str, Measured] = {}
        if path.exists():
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["of"] == self.identity:
                self.found = {each["name"]: Measured(**each) for each in data["groups"]}

    def add(self, measured: Measured) -> None:
        self.found[measured.name] = measured
        data = {"of": self.identity, "groups": [asdict(each) for each in self.found.values()]}
        with files.atomic_path(self.path, force=True) as temporary:
            temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _probe(request: Request, report: Report) -> Artifact:
    path = request.folder / "probe.gguf"
    if not path.exists():
        report("writing a Q8_0 file to probe", 0, 1)
        convert(ConvertRequest(request.source, "Q8_0", path, n_threads=request.n_threads, hash_sources=False))
    return Artifact.open(path)


def _imatrix(request: Request, probe: Artifact, engine: EngineOptions, report: Report) -> Path | None:
    if not request.auto_imatrix:
        return request.imatrix
    path = request.folder / "imatrix.gguf"
    if not path.exists():
        from edgellm import backends
        from edgellm.generation import scoring

        with backends.open_session(probe, engine) as session:
            pieces = scoring.text_chunks(session, text.text(), _IMATRIX_CHUNK)[:_IMATRIX_CHUNKS]
        job = store.Job(
            probe, pieces, text.NAME, path, engine, process_output=True, resume=True, save_every=4
        )
        store.run(job, lambda state: report("calibrating", state.n_chunks, len(pieces)))
    return path


def _reference(request: Request, probe: Artifact, engine: EngineOptions, report: Report) -> CompactReference:
    path = request.folder / f"reference-{request.n_tokens}"
    if path.exists():
        return CompactReference(path)
    report("what the Q8_0 file says", 0, 1)
    pieces = sensitivity.chunks(probe, engine, request.n_tokens)
    return sensitivity.save_reference(path, probe, engine, pieces)


def _factors(every: Sequence[Matrix], found: Mapping[str, Measured]) -> list[float]:
    """Divergence per noise of each matrix, by its finest measured group and its share of the group's weights.

    A group's noise is its members' mean by weights, so a member's share of the factor is that of the weights.
    """
    factors = [0.0] * len(every)
    place = {matrix.name: index for index, matrix in enumerate(every)}
    for n_bands in _BANDS:
        for group in groups(every, n_bands):
            if group.name in found:
                total = sum(member.n_weights for member in group.members)
                for member in group.members:
                    factors[place[member.name]] = found[group.name].factor * member.n_weights / total
    return factors


def _problem(
    request: Request,
    every: Sequence[Matrix],
    factors: Sequence[float],
    imatrix: Imatrix | None,
    report: Report,
) -> tuple[solve.Problem, tuple[str, ...]]:
    """What each matrix costs in each type, and the goal's limits."""
    goal, speeds = request.goal, request.speeds
    names = ENCODINGS if goal.onnx else TYPES
    kld, nbytes, seconds = (np.full((len(every), len(names)), fill) for fill in (np.inf, 0.0, 0.0))
    for row, matrix in enumerate(every):
        rows, importance = matrix.sample(_SAMPLE_ROWS), matrix.importance(imatrix)
        for column, name in enumerate(names):
            size = _bytes(name, matrix)
            if size is None:
                continue
            nbytes[row, column] = size
            kld[row, column] = factors[row] * noise(rows, name, importance)
            if speeds and matrix.is_read and not goal.onnx:
                seconds[row, column] = _seconds(matrix, name, speeds)
        report("noise of each type", row + 1, len(every))
    return solve.Problem(kld, nbytes, seconds), names


def _units(every: Sequence[Matrix], *, onnx: bool) -> list[int]:
    """Which matrices are chosen for together: an ONNX graph packs Q, K and V, and an expert's three."""
    keys: dict[tuple[str, int], int] = {}
    found = []
    for matrix in every:
        packed = matrix.role in ("attn_q", "attn_k", "attn_v") or "_exps." in matrix.name
        role = matrix.role[:4] if onnx and packed else matrix.name
        found.append(keys.setdefault((role, matrix.layer), len(keys)))
    return found


def _bytes(name: str, matrix: Matrix) -> float | None:
    """Of a matrix in a type, None where its rows do not fit."""
    if name in GGML_TYPES_BY_NAME:
        type_ = GGML_TYPES_BY_NAME[name]
        return None if matrix.row_size % type_.block_size else type_.nbytes(matrix.n_weights)
    from edgellm.convert.onnx.linear import BlockLinear
    from edgellm.convert.onnx.options import encoding_of

    encoding = encoding_of(name)
    assert isinstance(encoding, BlockLinear)
    form: BlockFormat = encoding.format
    row = form.n_blocks(matrix.row_size) * (form.block_bytes + 4)
    row += 0 if form.symmetric else form.zero_bytes(matrix.row_size)
    return float(matrix.n_weights // matrix.row_size * row)


def _seconds(matrix: Matrix, type_: str, speeds: Figures) -> float:
    """Of a matrix's product with one token, as edgellm fit has it. Raises UsageError where it was not measured."""
    if (kernel := speeds.kernels.get(type_)) is None:
        raise UsageError(f"the kernel speeds of {speeds.machine} have no {type_}; measure them again")
    return matrix.n_weights * kernel.decode + matrix.n_weights // matrix.row_size * kernel.decode_output


def _limits(request: Request, every: Sequence[Matrix]) -> tuple[float, float]:
    """Bytes of all matrices and seconds of a token's products."""
    goal = request.goal
    plan = preview(ConvertRequest(request.source, goal.like)).plan
    own = {tensor.name: tensor for tensor in plan.tensors}
    max_bytes = goal.max_bytes or sum(own[matrix.name].nbytes for matrix in every)
    if goal.decode is None:
        return float(max_bytes), float("inf")
    if request.speeds is None or goal.onnx:
        raise UsageError(
            "--decode needs kernel speeds, which are known for GGUF types: measure or give --for"
        )
    taken = sum(
        _seconds(matrix, own[matrix.name].type.name, request.speeds) for matrix in every if matrix.is_read
    )
    return float(max_bytes), taken / goal.decode


def _base(types: Sequence[str], every: Sequence[Matrix]) -> str:
    """The type most weights have, whose number the file carries."""
    weights: dict[str, int] = {}
    for type_, matrix in zip(types, every, strict=True):
        if matrix.role != HEAD:
            weights[type_] = weights.get(type_, 0) + matrix.n_weights
    like = {"Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}
    most = max(sorted(weights), key=weights.__getitem__)
    return like.get(most, most)


def _verify(
    request: Request,
    made: RecipeFile,
    imatrix: Path | None,
    reference: CompactReference,
    engine: EngineOptions,
) -> float:
    """The divergence of the model that the recipe makes."""
    wanted = ConvertRequest(request.source, made.base, request.folder / "candidate.gguf")
    wanted = replace(wanted, recipe=made, imatrix=imatrix, n_threads=request.n_threads)
    path = convert(replace(wanted, hash_sources=False, force=True)).path
    try:
        return sensitivity.divergence(path, reference, engine)
    finally:
        path.unlink(missing_ok=True)


def shown(found: Found) -> list[tuple[Any, ...]]:
    """The sensitivities as a table: group, divergence per noise, the most sensitive first."""
    ordered = sorted(found.sensitivities, key=lambda each: -each.factor)
    return [(each.name, f"{each.factor:.3g}", f"{each.kld:.2g}") for each in ordered]
