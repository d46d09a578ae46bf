"""The matrices of a model whose types a recipe chooses, and samples of their rows. Knows no types' cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgellm.convert.gguf import ggml
from edgellm.convert.gguf.plan import is_quantizable, kind_of, layer_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.convert.gguf.imatrix import Imatrix
    from edgellm.convert.gguf.source_model import SourceModel
    from edgellm.convert.gguf.sources import TensorSource

    Float32s = npt.NDArray[np.float32]

HEAD, EMBEDDING = "output", "token_embd"
_SAMPLE_PARTS = 4  # places a sample's rows are taken from


@dataclass(frozen=True)
class Matrix:
    """One matrix of a converted model."""

    source: TensorSource = field(repr=False)
    role: str
    layer: int  # -1 outside the layers
    is_read: bool  # for every token: not so an embedding of which a row is looked up
    active: float = 1.0  # the share of its experts that a model asks for each token

    @property
    def name(self) -> str:
        """In GGUF."""
        return self.source.info.name

    @property
    def is_experts(self) -> bool:
        """Whether it is a stack of routed experts'."""
        return "_exps." in self.name

    @property
    def n_weights(self) -> int:
        """How many it has."""
        return self.source.info.n_weights

    @property
    def share(self) -> float:
        """The part of it that a token needs."""
        return self.active if self.is_experts else 1.0

    @property
    def row_size(self) -> int:
        """Weights in a row."""
        return self.source.row_size

    def rows(self, start: int, stop: int) -> Float32s:
        """Rows [start, stop) as float32. Raises CheckpointError."""
        import numpy as np

        raw = np.empty((stop - start) * self.source.row_bytes, dtype=np.uint8)
        self.source.read(start, stop, raw.data)
        if self.source.storage.name == "F32":
            return raw.view(np.float32).reshape(-1, self.row_size)
        out = np.empty((stop - start, self.row_size), dtype=np.float32)
        ggml.dequantizer(self.source.storage)(raw.ctypes.data, out.ctypes.data, out.size)
        return out

    def sample(self, n_rows: int) -> Float32s:
        """About `n_rows` rows from all over it."""
        import numpy as np

        total = self.source.n_rows
        if total <= n_rows:
            return self.rows(0, total)
        each = n_rows // _SAMPLE_PARTS
        starts = [total * part // _SAMPLE_PARTS for part in range(_SAMPLE_PARTS)]
        return np.concatenate([self.rows(start, start + each) for start in starts])

    def importance(self, imatrix: Imatrix | None) -> Float32s | None:
        """Mean squares of the columns' inputs [row_size]; None where nothing was collected, or by expert."""
        if imatrix is None or imatrix.sizes.get(self.name) != self.row_size:
            return None
        return imatrix.weights(self.name, 0, self.row_size)


def matrices(model: SourceModel) -> list[Matrix]:
    """Every matrix that is quantized, in the file's order. A tied embedding is the head."""
    active = model.facts.n_expert_used / (model.facts.n_expert or 1)
    names = {tensor.info.name for tensor in model.tensors}
    tied = f"{HEAD}.weight" not in names
    found = []
    for tensor in model.tensors:
        if not is_quantizable(tensor.info):
            continue
        role = kind_of(tensor.info.name)
        if role == EMBEDDING and tied:
            role = HEAD
        found.append(Matrix(tensor, role, layer_of(tensor.info.name), role != EMBEDDING, active))
    return found


@dataclass(frozen=True)
class Group:
    """Matrices of one role in neighbouring layers: what is measured together."""

    role: str
    members: tuple[Matrix, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """E.g. `ffn_down 0-7`, which is also a recipe's pattern for it."""
        layers = [member.layer for member in self.members]
        return self.role if layers[0] < 0 else f"{self.role} {layers[0]}-{layers[-1]}"


def groups(every: Sequence[Matrix], n_bands: int) -> list[Group]:
    """Cut each role's layers into `n_bands` of equal depth."""
    n_layer = 1 + max(matrix.layer for matrix in every)
    bands: dict[tuple[str, int], list[Matrix]] = {}
    for matrix in every:
        bands.setdefault((matrix.role, max(0, matrix.layer) * n_bands // n_layer), []).append(matrix)
    return [Group(role, tuple(members)) for (role, _), members in bands.items()]
