"""The decoder graph of an architecture, from its description: fused attention, packed QKV, logits where asked.

Inputs and outputs carry the names onnxruntime-genai uses. `logits_index` says which positions logits are wanted
for; the fixed form of the graph, for programs that do not know it, gives those of the last one. Knows no file
and no option but the encodings that a recipe chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgellm.convert.onnx.delta_net import DeltaNet
from edgellm.convert.onnx.experts import experts
from edgellm.convert.onnx.graph import MICROSOFT, Region
from edgellm.convert.onnx.kv import LayerScales
from edgellm.convert.onnx.layers import Layers
from edgellm.convert.onnx.linear import BlockLinear, FloatLinear, Writer
from edgellm.convert.onnx.proto import DataType
from edgellm.models.base import LayerKind, ModelSpec, Role
from edgellm.models.rope import frequencies

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

BATCH, NEW, PAST, TOTAL, ASKED = "batch_size", "sequence_length", "past_length", "total_length", "n_logits"

HIDDEN = "hidden_states"  # after the final norm, of the positions asked for; genai's name
_QKV = (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)


@dataclass
class Decoder:
    """Builds one graph. `computed` are tensors of the data file that come from no checkpoint."""

    layers: Layers
    n_ctx: int
    kv_scales: Mapping[int, LayerScales] = field(default_factory=dict)  # by layer, of an int8 KV cache
    has_head: bool = True  # without: fills the cache, and ends where nothing more goes into it
    computed: list[tuple[Region, Float32s]] = field(default_factory=list)

    @property
    def spec(self) -> ModelSpec:
        """The model's numbers."""
        return self.layers.spec

    @property
    def writer(self) -> Writer:
        """What the graph and its weights are written into."""
        return self.layers.writer

    def build(self) -> None:
        """Add everything from token ids to logits."""
        spec, graph = self.spec, self.writer.graph
        ids = graph.input("input_ids", DataType.INT64, (BATCH, NEW))
        lengths = self._lengths()
        residual, hidden = self._embed(ids), ""
        rotary = self._rotary()
        delta: str | None = None
        for layer in range(spec.n_layer):
            residual, hidden = self._norm(Role.ATTN_NORM, layer, residual, delta)
            if spec.kind(layer) is LayerKind.DELTA_NET:
                mixed, out = DeltaNet(self.layers, layer).mix(hidden), Role.SSM_OUT
            else:
                mixed, out = self._attention(layer, hidden, lengths, rotary), Role.ATTN_OUT
            if layer == spec.n_layer - 1:
                if not self.has_head:
                    return self._declare_cache()
                residual, mixed = self._asked_for(residual, mixed)
            delta = self.layers.linear(f"layers.{layer}.attn.out", mixed, (out,), layer)
            residual, hidden = self._norm(Role.FFN_NORM, layer, residual, delta)
            delta = self._feed_forward(layer, hidden)
        _, hidden = self._norm(Role.OUTPUT_NORM, None, residual, delta)
        graph.output(hidden, DataType.FLOAT, (BATCH, ASKED, spec.n_embd), (BATCH, 1, spec.n_embd))
        self._head(hidden)
        shapes = (BATCH, ASKED, spec.n_vocab), (BATCH, 1, spec.n_vocab)
        graph.output("logits", DataType.FLOAT, *shapes)
        self._declare_cache()

    def _lengths(self) -> tuple[str, str]:
        """GroupQueryAttention's two lengths.

        attention_mask --+- ReduceSum - Sub(1) - Cast -- seqlens_k [batch]
                         '- Shape - Gather(1) - Cast ---- total_sequence_length
        """
        import numpy as np

        graph = self.writer.graph
        mask = graph.input("attention_mask", DataType.INT64, (BATCH, TOTAL))
        one = graph.constant("one", np.array([1], dtype=np.int64))
        index = graph.constant("index_one", np.array(1, dtype=np.int64))
        count = graph.op("ReduceSum", [mask, one], "lengths/count", keepdims=0)
        last = graph.op("Sub", [count, one], "lengths/last")
        seqlens = graph.op("Cast", [last], "seqlens_k", to=DataType.INT32)
        shape = graph.op("Shape", [mask], "lengths/shape")
        total = graph.op("Gather", [shape, index], "lengths/total", axis=0)
        return seqlens, graph.op("Cast", [total], "total_sequence_length", to=DataType.INT32)

    def _embed(self, ids: str) -> str:
        """Rows of the embedding. A tied head uses the same bytes, so it is placed here too."""
        source = self.layers.rows((Role.TOKEN_EMBD,), None)
        name, encoding = "token_embd", self.layers.recipe.embedding_encoding(tied=self.spec.tied)
        if isinstance(encoding, BlockLinear):
            self._embedding: tuple[Region, ...] = encoding.store(self.writer, name, source)
            return encoding.gather(self.writer, "embedding", ids, self._embedding, self.spec.n_embd)
        region = self.writer.stored(f"{name}.weight", source, (source.n_rows, source.row_size))
        self._embedding = (region,)
        return self.writer.graph.op("Gather", [self.writer.graph.external(region), ids], "embedding", axis=0)

    def _head(self, hidden: str) -> None:
        encoding, name = self.layers.recipe.head_encoding(tied=self.spec.tied), "logits"
        if isinstance(encoding, BlockLinear):
            regions = self._embedding if self.spec.tied else self._stored_head(encoding)
            encoding.multiply_in_parts(self.writer, name, hidden, regions, self.spec.n_embd)
        elif not self.spec.tied:
            encoding.apply(self.writer, name, hidden, self.layers.rows((Role.OUTPUT,), None), None)
        else:
            FloatLinear().multiply(self.writer, name, hidden, self._embedding[0], None)

    def _stored_head(self, encoding: BlockLinear) -> tuple[Region, ...]:
        return encoding.store(
            self.writer,
            "logits",
            self.layers.rows((Role.OUTPUT,), None),
            self.layers.importance((Role.OUTPUT,), None),
        )

    def _asked_for(self, residual: str, mixed: str) -> tuple[str, str]:
        """Keep the positions whose logits are wanted: nothing after the last attention looks at others."""
        import numpy as np

        graph = self.writer.graph
        index = graph.choice("logits_index", (ASKED,), np.array([-1], dtype=np.int64))
        return (
            graph.op("Gather", [residual, index], "residual_asked", axis=1),
            graph.op("Gather", [mixed, index], "mixed_asked", axis=1),
        )

    def _norm(self, role: Role, layer: int | None, residual: str, delta: str | None) -> tuple[str, str]:
        """residual + delta, and its RMS norm."""
        graph, eps = self.writer.graph, self.spec.rms_eps
        place = HIDDEN if layer is None else f"layers.{layer}.{role.value}"
        weight = self.layers.vector(f"{place}.weight", role, layer)
        if delta is None:
            return residual, self._simple_norm(residual, weight, place, eps)
        total = f"{place}/sum"
        graph.multi(
            "SkipSimplifiedLayerNormalization",
            [residual, delta, weight],
            [place, "", "", total],
            place,
            domain=MICROSOFT,
            epsilon=eps,
        )
        return total, place

    def _simple_norm(self, x: str, weight: str, name: str, eps: float) -> str:
        return self.writer.graph.op(
            "SimplifiedLayerNormalization",
            [x, weight],
            name,
            axis=-1,
            epsilon=eps,
            stash_type=1,
        )

    def _attention(self, layer: int, hidden: str, lengths: tuple[str, str], rotary: tuple[str, str]) -> str:
        """Packed QKV into one fused attention that rotates, appends to the cache and mixes.

        hidden -- qkv -- [Split - norm of Q and K per head] -- GroupQueryAttention -- [Mul] -- mixed
                             '----- gate - Sigmoid ---------------------------------'
        """
        spec, graph, name = self.spec, self.writer.graph, f"layers.{layer}.attn"
        qkv = self.layers.linear(f"{name}.qkv", hidden, _QKV, layer)
        q, k, v = self._normed_heads(layer, qkv) if spec.architecture.qk_norm else (qkv, "", "")
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        scales, quantized = self._cache_scales(layer)
        graph.multi(
            "GroupQueryAttention",
            [q, k, v, *past, *lengths, *rotary, *scales],
            [f"{name}.mixed", *present],
            f"{name}.mixed",
            domain=MICROSOFT,
            num_heads=spec.n_head,
            kv_num_heads=spec.n_head_kv,
            scale=float(spec.head_dim**-0.5),
            local_window_size=-1,
            softcap=0.0,
            do_rotary=1,
            rotary_interleaved=0,
            **quantized,
        )
        if not spec.architecture.gated_attention:
            return f"{name}.mixed"
        gate = graph.op("Sigmoid", [f"{name}.gate"], f"{name}.gate/sigmoid")
        return graph.op("Mul", [f"{name}.mixed", gate], f"{name}.gated")

    def _cache_scales(self, layer: int) -> tuple[list[str], dict[str, Any]]:
        """Attention's inputs and attributes for an int8 cache: a scale for each channel [1, n_head_kv, 1, width]."""
        if not self.kv_scales:
            return [], {}
        names = []
        for part, values in zip(("key", "value"), self.kv_scales[layer], strict=True):
            wide = self.layers.heads.spread(values)[None, :, None]
            names.append(self.writer.graph.constant(f"layers.{layer}.{part}_scale", wide))
        attributes = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        return ["", "", "", *names], attributes

    def _normed_heads(self, layer: int, qkv: str) -> tuple[str, str, str]:
        """Qwen3's RMS norm of every head of Q and K; the gates of attention, if any, are left aside.

        qkv - Split -+- Reshape [.., head_dim] - norm - Reshape back -- q
                     +- the same -------------------------------------- k
                     +------------------------------------------------- v
                     '------------------------------------------------- gate
        """
        import numpy as np

        spec, graph, name = self.spec, self.writer.graph, f"layers.{layer}.attn"
        width = self.layers.heads.width
        widths = [spec.n_head * width, spec.n_head_kv * width, spec.n_head_kv * width]
        parts = [f"{name}.q/raw", f"{name}.k/raw", f"{name}.v"]
        if spec.architecture.gated_attention:
            widths, parts = [*widths, widths[0]], [*parts, f"{name}.gate"]
        sizes = graph.constant("qkv_widths", np.array(widths, dtype=np.int64))
        graph.multi("Split", [qkv, sizes], parts, f"{name}.split", axis=-1)
        normed = []
        for part, role, heads in (
            ("q", Role.ATTN_Q_NORM, spec.n_head),
            ("k", Role.ATTN_K_NORM, spec.n_head_kv),
        ):
            by_head = graph.constant(f"{part}_heads", np.array([0, 0, heads, width], dtype=np.int64))
            flat = graph.constant(f"{part}_flat", np.array([0, 0, heads * width], dtype=np.int64))
            weight, eps = self.layers.head_norm(f"{name}.{part}_norm.weight", role, layer)
            heads_of = graph.op("Reshape", [f"{name}.{part}/raw", by_head], f"{name}.{part}/heads")
            norm = self._simple_norm(heads_of, weight, f"{name}.{part}/norm", eps)
            normed.append(graph.op("Reshape", [norm, flat], f"{name}.{part}"))
        return normed[0], normed[1], f"{name}.v"

    def _rotary(self) -> tuple[str, str]:
        """Cosine and sine [n_ctx, half of what turns], rope scaling and yarn's factor in them; zeros meet zeros."""
        import numpy as np

        radians, factor = frequencies(self.spec)
        # The product in float32, as transformers has it: at large positions its rounding is part of the model.
        angles = (np.arange(self.n_ctx, dtype=np.float32)[:, None] * radians).astype(np.float64)
        names = []
        for name, values in (("cos_cache", np.cos(angles)), ("sin_cache", np.sin(angles))):
            region = self.writer.shared.get(name)
            if region is None:
                wide = np.zeros((self.n_ctx, self.layers.heads.turned // 2), dtype=np.float32)
                wide[:, : angles.shape[1]] = values * factor
                region = self.writer.data.place(name, DataType.FLOAT, wide.shape)
                self.computed.append((region, wide))
            names.append(self.writer.graph.external(region))
        return names[0], names[1]

    def _feed_forward(self, layer: int, hidden: str) -> str:
        if self.spec.moe:
            return experts(self.layers, self.spec.moe, layer, hidden)
        roles = (Role.FFN_GATE, Role.FFN_UP, Role.FFN_DOWN)
        return self.layers.gated(f"layers.{layer}.ffn", layer, hidden, roles)

    def _declare_cache(self) -> None:
        graph, spec = self.writer.graph, self.spec
        type_ = DataType.INT8 if self.kv_scales else DataType.FLOAT
        for layer in range(spec.n_layer):
            if spec.kind(layer) is LayerKind.DELTA_NET:
                DeltaNet(self.layers, layer).declare_state(BATCH)
                continue
            for part in ("key", "value"):
                for prefix, length in (("past_key_values", PAST), ("present", TOTAL)):
                    declare = graph.input if prefix == "past_key_values" else graph.output
                    shape = (BATCH, spec.n_head_kv, length, self.layers.heads.width)
                    declare(f"{prefix}.{layer}.{part}", type_, shape)
