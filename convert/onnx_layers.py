"""Roles into nodes: a linear layer or a gated block by its tensors' roles, each in the encoding the recipe says."""

from __future__ import annotations

from dataclasses import dataclass

from edgellm.convert.onnx_graph import MICROSOFT
from edgellm.convert.onnx_linear import Linear, Writer
from edgellm.convert.onnx_options import Recipe
from edgellm.convert.onnx_rows import Joined, Stacked
from edgellm.models.base import ModelSpec, Role, TensorSpec


@dataclass(frozen=True)
class Layers:
    """One model's tensors, by role, put into a writer."""

    spec: ModelSpec
    recipe: Recipe
    writer: Writer

    def tensors(self, roles: tuple[Role, ...], layer: int | None) -> tuple[TensorSpec, ...]:
        """The weights of `roles`, all of which the model must have."""
        found = tuple(tensor for role in roles if (tensor := self.spec.tensor(role, layer)))
        if len(found) != len(roles):
            raise KeyError(f"the model lacks one of {', '.join(role.value for role in roles)}")
        return found

    def rows(self, roles: tuple[Role, ...], layer: int | None) -> Stacked:
        """The weights of `roles`, stacked."""
        return Stacked(self.tensors(roles, layer))

    def vector(self, name: str, roles: tuple[Role, ...], layer: int | None) -> str:
        """A norm's weight."""
        return self.writer.vector(name, Joined(self.tensors(roles, layer)))

    def linear(self, name: str, x: str, roles: tuple[Role, ...], layer: int) -> str:
        """x through the matrices of `roles` stacked into one, with their biases."""
        encoding: Linear = self.recipe.encoding(roles, layer, self.spec.n_layer)
        return encoding.apply(self.writer, name, x, self.rows(roles, layer), self._bias(name, roles, layer))

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
        return self.writer.vector(f"{name}.bias", Joined(parts)) if parts else None
