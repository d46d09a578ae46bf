"""Roles into nodes: a linear layer or a gated block by its tensors' roles, each in the encoding the recipe says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellm.convert.onnx.graph import MICROSOFT
from edgellm.convert.onnx.heads import HeadLayout
from edgellm.convert.onnx.linear import Linear, Writer
from edgellm.convert.onnx.options import Recipe
from edgellm.convert.onnx.rows import Joined, Rearranged, RowSource, Stacked
from edgellm.errors import UsageError
from edgellm.models.base import ModelSpec, Role, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.convert.gguf.imatrix import Imatrix

    Float32s = npt.NDArray[np.float32]

#: Matrices whose rows are heads.
_HEAD_ROWS = frozenset({Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V})


@dataclass(frozen=True)
class Layers:
    """One model's tensors, by role, put into a writer."""

    spec: ModelSpec
    recipe: Recipe
    writer: Writer
    imatrix: Imatrix | None = None  # which columns matter where scales are searched for

    def tensors(
        self, roles: tuple[Role, ...], layer: int | None, suffix: str = "weight"
    ) -> tuple[TensorSpec, ...]:
        """The weights of `roles`, all of which the model must have."""
        found = tuple(tensor for role in roles if (tensor := self.spec.tensor(role, layer, suffix)))
        if len(found) != len(roles):
            raise KeyError(f"the model lacks one of {', '.join(role.value for role in roles)}")
        return found

    @property
    def heads(self) -> HeadLayout:
        """How heads lie in the engine."""
        return HeadLayout(self.spec.head_dim, self.spec.n_rotary)

    def rows(self, roles: tuple[Role, ...], layer: int | None) -> RowSource:
        """The weights of `roles`, stacked; heads as the engine takes them, gates of attention behind all others."""
        stacked = Stacked(self.tensors(roles, layer))
        if roles[0] in _HEAD_ROWS:
            heads = self.heads.rows(stacked)
            return self._gates_last(heads) if self.spec.architecture.gated_attention else heads
        return self.heads.columns(stacked) if roles[0] is Role.ATTN_OUT else stacked

    def _gates_last(self, rows: RowSource) -> RowSource:
        """A checkpoint has, for each head, its query's rows and its gate's; then keys and values."""
        heads = range(rows.n_rows // self.heads.width)
        n = 2 * self.spec.n_head
        order = (*heads[:n:2], *heads[n:], *heads[1:n:2])
        return Rearranged(rows, self.heads.width, order)

    def vector(self, name: str, role: Role, layer: int | None, suffix: str = "weight") -> str:
        """A norm's weight, or another vector's values."""
        return self.writer.vector(name, Joined(self.tensors((role,), layer, suffix)))

    def head_norm(self, name: str, role: Role, layer: int) -> tuple[str, float]:
        """Weight and epsilon of Q's or K's norm. Padding makes the mean of squares smaller, which both undo."""
        filled = self.spec.head_dim / self.heads.width
        weight = self.heads.columns(Joined(self.tensors((role,), layer)), filled**0.5)
        return self.writer.vector(name, weight), self.spec.rms_eps * filled

    def linear(self, name: str, x: str, roles: tuple[Role, ...], layer: int) -> str:
        """x through the matrices of `roles` stacked into one, with their biases."""
        encoding: Linear = self.recipe.encoding(roles, layer, self.spec.n_layer)
        bias, columns = self._bias(name, roles, layer), self.importance(roles, layer)
        return encoding.apply(self.writer, name, x, self.rows(roles, layer), bias, columns)

    def importance(self, roles: tuple[Role, ...], layer: int | None) -> Float32s | None:
        """What the importance matrix says of a matrix's columns, None where it says nothing."""
        name = f"{roles[0].value}.weight" if layer is None else f"blk.{layer}.{roles[0].value}.weight"
        if self.imatrix is None or name not in self.imatrix.sizes:
            return None
        values, n_in = (
            self.imatrix.weights(name, 0, self.imatrix.sizes[name]),
            self.tensors(roles, layer)[0].row_size,
        )
        if len(values) != n_in:
            raise UsageError(
                f"the importance matrix has {len(values)} values for {name}, which has {n_in} columns; "
                f"it was made for another model"
            )
        return self.heads.spread(values) if roles[0] is Role.ATTN_OUT and self.heads.is_padded else values

    def gated(self, name: str, layer: int, hidden: str, roles: tuple[Role, Role, Role]) -> str:
        """down(silu(gate) * up).

        hidden -+- gate - QuickGelu(alpha 1: silu) -+- Mul - down
                '- up ------------------------------'
        """
        graph = self.writer.graph
        gate = self.linear(f"{name}.gate", hidden, roles[:1], layer)
        up = self.linear(f"{name}.up", hidden, roles[1:2], layer)
        silu = graph.op("QuickGelu", [gate], f"{name}.silu", domain=MICROSOFT, alpha=1.0)
        product = graph.op("Mul", [silu, up], f"{name}.product")
        return self.linear(f"{name}.down", product, roles[2:], layer)

    def _bias(self, name: str, roles: tuple[Role, ...], layer: int) -> str | None:
        parts = tuple(bias for role in roles if (bias := self.spec.tensor(role, layer, "bias")))
        if not parts:
            return None
        joined = Joined(parts)
        return self.writer.vector(
            f"{name}.bias", self.heads.columns(joined) if roles[0] in _HEAD_ROWS else joined
        )
