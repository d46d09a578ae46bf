"""A gated delta net layer: causal convolution and linear attention over a state of fixed size, both in fused operators.

The state goes in and comes out beside the KV caches of the other layers, under the names onnxruntime-genai uses:
the convolution's last inputs and, for each value head, a matrix of keys by values. Formulas: transformers'
modeling_qwen3_5.py (torch_recurrent_gated_delta_rule); the recurrence is https://arxiv.org/abs/2412.06464.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgellm.convert.onnx.graph import MICROSOFT
from edgellm.convert.onnx.layers import Layers
from edgellm.convert.onnx.linear import FloatLinear
from edgellm.convert.onnx.proto import DataType, Dim
from edgellm.models.base import DeltaNetSpec, Role

_L2_EPS = 1e-6  # of transformers' l2norm, added to the sum of squares


@dataclass(frozen=True)
class DeltaNet:
    """The nodes of one layer."""

    layers: Layers
    layer: int

    @property
    def net(self) -> DeltaNetSpec:
        """The model's numbers for such layers."""
        net = self.layers.spec.delta_net
        assert net is not None
        return net

    def mix(self, hidden: str) -> str:
        """Everything between the layer's norm and its output projection.

        hidden -+- qkv, z - Split -+- CausalConvWithState - Split -+- unit heads - Split -- q, k -.
                |                  |                               '----------------------- v ----+
                '- a, b in float - Split - LinearAttentionGate -- decay, beta --------------------+
                                   |                                                    LinearAttention
                                   '- z -------------------------------------------- GatedRMSNorm -- mixed
        """
        net, graph, name = self.net, self.layers.writer.graph, f"layers.{self.layer}.attn"
        packed = self.layers.linear(f"{name}.qkvz", hidden, (Role.ATTN_QKV, Role.ATTN_GATE), self.layer)
        qkv, z = self._split(packed, "qkvz", (net.n_conv, net.n_v), "qkv", "z")
        keys, values = self._split(self._convolved(qkv), "keys_values", (2 * net.n_k, net.n_v), "qk", "v")
        q, k = self._split(self._unit_heads(keys), "queries_keys", (net.n_k, net.n_k), "q", "k")
        decay, beta = self._gates(hidden)
        past, present = self._state("recurrent")
        graph.multi(
            "LinearAttention",
            [q, k, values, past, decay, beta],
            [f"{name}.read", present],
            f"{name}.read",
            domain=MICROSOFT,
            update_rule="gated_delta",
            q_num_heads=net.n_k_heads,
            kv_num_heads=net.n_v_heads,
            scale=float(net.head_dim**-0.5),
        )
        weight = self.layers.vector(f"{name}.norm.weight", Role.SSM_NORM, self.layer)
        eps = self.layers.spec.rms_eps
        return graph.op(
            "GatedRMSNorm",
            [f"{name}.read", weight, z],
            f"{name}.mixed",
            domain=MICROSOFT,
            activation="silu",
            epsilon=eps,
        )

    def declare_state(self, batch: Dim) -> None:
        """Inputs and outputs of the layer's state."""
        net = self.net
        shapes: dict[str, tuple[Dim, ...]] = {
            "conv": (batch, net.conv_kernel - 1, net.n_conv),
            "recurrent": (batch, net.n_v_heads, net.head_dim, net.head_dim),
        }
        for part, shape in shapes.items():
            past, present = self._state(part)
            self.layers.writer.graph.input(past, DataType.FLOAT, shape)
            self.layers.writer.graph.output(present, DataType.FLOAT, shape)

    def _state(self, part: str) -> tuple[str, str]:
        return f"past.{self.layer}.{part}", f"present.{self.layer}.{part}"

    def _split(self, x: str, sizes: str, widths: tuple[int, int], *parts: str) -> tuple[str, str]:
        import numpy as np

        graph, name = self.layers.writer.graph, f"layers.{self.layer}.attn"
        bounds = graph.constant(f"{sizes}_widths", np.array(widths, dtype=np.int64))
        first, second = (f"{name}.{part}" for part in parts)
        graph.multi("Split", [x, bounds], [first, second], f"{first}/split", axis=-1)
        return first, second

    def _convolved(self, qkv: str) -> str:
        """Each channel over its last few tokens, then silu."""
        layers, name = self.layers, f"layers.{self.layer}.attn.conv"
        source = layers.rows((Role.SSM_CONV1D,), self.layer)
        region = layers.writer.stored(f"{name}.weight", source, (source.n_rows, 1, source.row_size))
        past, present = self._state("conv")
        layers.writer.graph.multi(
            "CausalConvWithState",
            [qkv, layers.writer.graph.external(region), "", past],
            [name, present],
            name,
            domain=MICROSOFT,
            activation="silu",
            ndim=1,
            channels_last=1,
        )
        return name

    def _unit_heads(self, keys: str) -> str:
        """Queries and keys at length 1: x / sqrt(sum of squares + eps), as an RMS norm of weight 1 / sqrt(head_dim)."""
        import numpy as np

        net, graph, name = self.net, self.layers.writer.graph, f"layers.{self.layer}.attn.qk"
        by_head = graph.constant("key_heads", np.array([0, 0, -1, net.head_dim], dtype=np.int64))
        flat = graph.constant("key_heads_flat", np.array([0, 0, 2 * net.n_k], dtype=np.int64))
        weight = graph.constant("unit", np.full(net.head_dim, net.head_dim**-0.5, dtype=np.float32))
        heads = graph.op("Reshape", [keys, by_head], f"{name}/heads")
        eps = _L2_EPS / net.head_dim
        unit = graph.op(
            "SimplifiedLayerNormalization",
            [heads, weight],
            f"{name}/unit",
            axis=-1,
            epsilon=eps,
            stash_type=1,
        )
        return graph.op("Reshape", [unit, flat], f"{name}/unit_flat")

    def _gates(self, hidden: str) -> tuple[str, str]:
        """How much of the state stays, as a logarithm, and how much of each value is written, by value head.

        Their matrices are a thousandth of the layer, and what they give is raised to a power: float32 in every recipe.
        """
        layers, graph, name = self.layers, self.layers.writer.graph, f"layers.{self.layer}.attn"
        source = layers.rows((Role.SSM_ALPHA, Role.SSM_BETA), self.layer)
        packed = FloatLinear().apply(layers.writer, f"{name}.ab", hidden, source, None)
        n = self.net.n_v_heads
        a, b = self._split(packed, "gates", (n, n), "a", "b")
        bias = layers.vector(f"{name}.dt", Role.SSM_DT, self.layer, "bias")
        rate = layers.vector(f"{name}.rate", Role.SSM_A, self.layer, "")
        decay, beta = f"{name}.decay", f"{name}.beta"
        graph.multi("LinearAttentionGate", [a, bias, rate, b], [decay, beta], decay, domain=MICROSOFT)
        return decay, beta
