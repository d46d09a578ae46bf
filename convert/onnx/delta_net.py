"""A gated delta net layer: causal convolution and linear attention over a state of fixed size.

The state goes in and comes out beside the KV caches of the other layers, under the names onnxruntime-genai uses:
the convolution's last inputs and, for each value head, a matrix of keys by values. Formulas: transformers'
modeling_qwen3_5.py (torch_recurrent_gated_delta_rule); the recurrence is https://arxiv.org/abs/2412.06464.

Where ONNX Runtime 1.32 has an operator for a part of this, its CPU kernel may be the slower way: GatedDeltaNet takes
five to ten times as long as LinearAttention, GatedRMSNorm twenty times as long as what it stands for, and
CausalConvWithState, channels last, three times (256 tokens of Qwen3.5-0.8B's shape, one thread).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgellm.convert.onnx.graph import MICROSOFT
from edgellm.convert.onnx.layers import Layers
from edgellm.convert.onnx.linear import FloatLinear
from edgellm.convert.onnx.proto import DataType, Dim
from edgellm.models.base import DeltaNetSpec, Role

_L2_EPS = 1e-6  # of transformers' l2norm, added to the sum of squares
_END = 1 << 62  # of a slice: as far as there is


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

    @property
    def name(self) -> str:
        """What the layer's nodes and weights begin with."""
        return f"layers.{self.layer}.attn"

    def mix(self, hidden: str) -> str:
        """Everything between the layer's norm and its output projection.

        hidden -+- qkv - convolution - silu - Split -+- q, k at length 1 -.
                |                                    '- v ----------------+
                +- a, b in float - Split - LinearAttentionGate -----------+
                |                                                LinearAttention - norm per head -+
                '- z - silu --------------------------------------------------------------------- Mul -- mixed
        """
        net, graph, name = self.net, self.layers.writer.graph, self.name
        qkv = self.layers.linear(f"{name}.qkv", hidden, (Role.ATTN_QKV,), self.layer)
        q, k, v = self._split(self._silu(self._convolved(qkv)), (net.n_k, net.n_k, net.n_v), "q", "k", "v")
        decay, beta = self._gates(hidden)
        past, present = self._state("recurrent")
        graph.multi(
            "LinearAttention",
            [self._unit_heads(q), self._unit_heads(k), v, past, decay, beta],
            [f"{name}.read", present],
            f"{name}.read",
            domain=MICROSOFT,
            update_rule="gated_delta",
            q_num_heads=net.n_k_heads,
            kv_num_heads=net.n_v_heads,
            scale=float(net.head_dim**-0.5),
        )
        weight = self.layers.vector(f"{name}.norm.weight", Role.SSM_NORM, self.layer)
        normed = self._by_head(f"{name}.read", weight, self.layers.spec.rms_eps)
        z = self.layers.linear(f"{name}.z", hidden, (Role.ATTN_GATE,), self.layer)
        return graph.op("Mul", [normed, self._silu(z)], f"{name}.mixed")

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

    def _split(self, x: str, widths: tuple[int, ...], *parts: str) -> list[str]:
        import numpy as np

        graph, names = self.layers.writer.graph, [f"{self.name}.{part}" for part in parts]
        sizes = graph.constant(f"{'_'.join(parts)}_widths", np.array(widths, dtype=np.int64))
        graph.multi("Split", [x, sizes], names, f"{names[0]}/split", axis=-1)
        return names

    def _silu(self, x: str) -> str:
        return self.layers.writer.graph.op("QuickGelu", [x], f"{x}/silu", domain=MICROSOFT, alpha=1.0)

    def _convolved(self, qkv: str) -> str:
        """Each channel over its last few tokens.

        past -+- Concat -+- from 0 on, by tap 0 -+- Add
        qkv --+          +- from 1 on, by tap 1 -+
              |          '- the last ones --- present
              '- by the last tap ----------------'
        """
        layers, graph, name = self.layers, self.layers.writer.graph, f"{self.name}.conv"
        n_past = self.net.conv_kernel - 1
        past, present = self._state("conv")
        taps = layers.rows((Role.SSM_CONV1D,), self.layer)
        region = layers.writer.stored_columns(f"{name}.taps", taps)
        total = graph.op("Concat", [past, qkv], f"{name}/with_past", axis=1)
        out = ""
        for tap in range(n_past + 1):
            weight = graph.external(region.rows(f"{name}.tap{tap}", tap, tap + 1))
            seen = qkv if tap == n_past else self._slice(total, f"{name}/{tap}", tap, tap - n_past)
            term = graph.op("Mul", [seen, weight], f"{name}/{tap}/term")
            out = graph.op("Add", [out, term], f"{name}/{tap}/sum") if out else term
        self._slice(total, present, -n_past, _END)
        return out

    def _slice(self, x: str, name: str, start: int, stop: int) -> str:
        """Tokens [start, stop)."""
        import numpy as np

        graph = self.layers.writer.graph
        ends = [
            graph.constant(f"{kind}_{value}", np.array([value], dtype=np.int64))
            for kind, value in (("slice_start", start), ("slice_stop", stop), ("slice_axis", 1))
        ]
        return graph.op("Slice", [x, *ends], name)

    def _unit_heads(self, x: str) -> str:
        """Queries or keys at length 1: x / sqrt(sum of squares + eps), as an RMS norm of weight 1 / sqrt(head_dim)."""
        import numpy as np

        width = self.net.head_dim
        weight = self.layers.writer.graph.constant("unit", np.full(width, width**-0.5, dtype=np.float32))
        return self._by_head(x, weight, _L2_EPS / width)

    def _by_head(self, x: str, weight: str, eps: float) -> str:
        """The RMS norm of every head of x [batch, tokens, heads * head_dim]."""
        import numpy as np

        graph, width = self.layers.writer.graph, self.net.head_dim
        by_head = graph.constant("net_heads", np.array([0, 0, -1, width], dtype=np.int64))
        heads = graph.op("Reshape", [x, by_head], f"{x}/heads")
        norm = graph.op(
            "SimplifiedLayerNormalization", [heads, weight], f"{x}/norm", axis=-1, epsilon=eps, stash_type=1
        )
        flat = graph.constant("net_heads_flat", np.array([0, 0, -1], dtype=np.int64))
        return graph.op("Reshape", [norm, flat], f"{x}/normed")

    def _gates(self, hidden: str) -> tuple[str, str]:
        """How much of the state stays, as a logarithm, and how much of each value is written, by value head.

        Their matrices are a thousandth of the layer, and what they give is raised to a power: float32 in every recipe.
        """
        layers, graph, name = self.layers, self.layers.writer.graph, self.name
        source = layers.rows((Role.SSM_ALPHA, Role.SSM_BETA), self.layer)
        packed = FloatLinear().apply(layers.writer, f"{name}.ab", hidden, source, None)
        a, b = self._split(packed, (self.net.n_v_heads,) * 2, "a", "b")
        bias = layers.vector(f"{name}.dt", Role.SSM_DT, self.layer, "bias")
        rate = layers.vector(f"{name}.rate", Role.SSM_A, self.layer, "")
        decay, beta = f"{name}.decay", f"{name}.beta"
        graph.multi("LinearAttentionGate", [a, bias, rate, b], [decay, beta], decay, domain=MICROSOFT)
        return decay, beta
