"""A mixture-of-experts block: the router in float32, the experts in one fused operator, a shared expert if any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgellm.convert.onnx.blocks import BLOCK_SIZES, BlockFormat
from edgellm.convert.onnx.graph import MICROSOFT
from edgellm.convert.onnx.layers import Layers
from edgellm.convert.onnx.linear import INT8_ACTIVATIONS, BlockLinear, FloatLinear, block_encoder
from edgellm.convert.onnx.proto import DataType
from edgellm.convert.onnx.rows import ExpertRows
from edgellm.convert.onnx.stream import Job
from edgellm.errors import UsageError
from edgellm.models.base import MoeSpec, Role, TensorSpec

_SHARED = (Role.FFN_GATE_SHEXP, Role.FFN_UP_SHEXP, Role.FFN_DOWN_SHEXP)


def experts(layers: Layers, moe: MoeSpec, layer: int, hidden: str) -> str:
    """Every token through its likeliest experts.

    hidden -+- router - Reshape [tokens, n_expert] - MoE or QMoE -+- Add
            '- shared expert * Sigmoid(its gate) -----------------'
    """
    import numpy as np

    graph, name = layers.writer.graph, f"layers.{layer}.moe"
    router = FloatLinear().apply(
        layers.writer, f"{name}.router", hidden, layers.rows((Role.FFN_GATE_INP,), layer), None
    )
    by_token = graph.constant("by_token", np.array([-1, moe.n_expert], dtype=np.int64))
    scores = graph.op("Reshape", [router, by_token], f"{name}.scores")
    routed = _routed(layers, moe, layer, hidden, scores)
    if not moe.norm_topk_prob:
        routed = _unnormalised(layers, moe, name, routed, scores)
    if not moe.n_ff_shared:
        return routed
    gate = FloatLinear().apply(
        layers.writer, f"{name}.shared_gate", hidden, layers.rows((Role.FFN_GATE_INP_SHEXP,), layer), None
    )
    weight = graph.op("Sigmoid", [gate], f"{name}.shared_weight")
    shared = layers.gated(f"{name}.shared", layer, hidden, _SHARED)
    weighted = graph.op("Mul", [shared, weight], f"{name}.shared_part")
    return graph.op("Add", [routed, weighted], f"{name}.out")


def _routed(layers: Layers, moe: MoeSpec, layer: int, hidden: str, scores: str) -> str:
    name, graph = f"layers.{layer}.moe", layers.writer.graph
    encoding = layers.recipe.expert_encoding(layer, layers.spec.n_layer)
    (gate,), (up,), (down,) = (
        layers.tensors((role,), layer) for role in (Role.FFN_GATE_EXPS, Role.FFN_UP_EXPS, Role.FFN_DOWN_EXPS)
    )
    attributes: dict[str, Any] = {
        "k": moe.n_expert_used,
        "normalize_routing_weights": 1,
        "activation_type": "swiglu",
        "activation_alpha": 1.0,
        "activation_beta": 0.0,
        "swiglu_fusion": 1,
    }
    if not isinstance(encoding, BlockLinear):
        first = _store_float(layers, f"{name}.fc1", gate, up)
        second = _store_float(layers, f"{name}.fc2", down, None)
        weights = [first, "", second]
        return graph.op("MoE", [hidden, scores, *weights], f"{name}.routed", domain=MICROSOFT, **attributes)
    form = replace(encoding.format, block=_fitting_block(encoding.format.block, layers.spec.n_embd))
    n_ff = form.n_blocks(moe.n_ff_expert) * form.block
    first_parts = _store_blocks(layers, f"{name}.fc1", ExpertRows(gate, up, n_ff, layers.spec.n_embd), form)
    second_parts = _store_blocks(
        layers, f"{name}.fc2", ExpertRows(down, None, layers.spec.n_embd, n_ff), form
    )
    inputs = [
        hidden,
        scores,
        *first_parts[:2],
        "",
        *second_parts[:2],
        "",
        "",
        "",
        "",
        *first_parts[2:],
        *second_parts[2:],
    ]
    while not inputs[-1]:
        inputs.pop()
    return graph.op(
        "QMoE",
        inputs,
        f"{name}.routed",
        domain=MICROSOFT,
        expert_weight_bits=form.bits,
        block_size=form.block,
        accuracy_level=INT8_ACTIVATIONS,
        weights_prepacked=0,
        **attributes,
    )


def _unnormalised(layers: Layers, moe: MoeSpec, name: str, routed: str, scores: str) -> str:
    """Scale back by the chosen experts' total share, for models whose shares do not add up to one.

    The CPU's MoE with normalize_routing_weights=0 adds to what its output buffer held (onnxruntime 1.31.1).

    scores - Softmax - TopK - ReduceSum - Reshape [batch, new, 1] -- Mul
    """
    import numpy as np

    graph = layers.writer.graph
    k = graph.constant("n_expert_used", np.array([moe.n_expert_used], dtype=np.int64))
    axis = graph.constant("axis_last", np.array([-1], dtype=np.int64))
    shape = graph.constant("one_share_a_token", np.array([1, -1, 1], dtype=np.int64))
    shares = graph.op("Softmax", [scores], f"{name}.shares", axis=-1)
    graph.multi("TopK", [shares, k], [f"{name}.top", f"{name}.chosen"], f"{name}.top", axis=-1)
    total = graph.op("ReduceSum", [f"{name}.top", axis], f"{name}.top_total", keepdims=1)
    by_token = graph.op("Reshape", [total, shape], f"{name}.top_share")
    return graph.op("Mul", [routed, by_token], f"{name}.scaled")


def _fitting_block(wanted: int, n_embd: int) -> int:
    """The largest block up to `wanted` that divides the width: QMoE has no partial blocks."""
    for block in sorted(BLOCK_SIZES, reverse=True):
        if block <= wanted and n_embd % block == 0:
            return block
    raise UsageError(f"experts of width {n_embd} do not divide into blocks of 16; choose --quant onnx-fp32")


def _store_float(layers: Layers, name: str, tensor: TensorSpec, up: TensorSpec | None) -> str:
    n_expert, n_out, n_in = tensor.shape
    source = ExpertRows(tensor, up, n_out, n_in)
    each = source.rows_each
    (region,) = layers.writer.place(
        [(f"{name}.weight", DataType.FLOAT, (n_expert, each, n_in))],
        lambda regions: Job(source, lambda rows: (rows,), regions, rows_together=each),
    )
    return layers.writer.graph.external(region)


def _store_blocks(layers: Layers, name: str, source: ExpertRows, form: BlockFormat) -> list[str]:
    """Weights, scales and, when asymmetric, zero points of all experts of one projection."""
    n_expert, rows, k = source.tensor.shape[0], source.rows_each, source.n_in
    widths = {
        "weight": (DataType.UINT8, k * form.bits // 8),
        "scales": (DataType.FLOAT, form.n_blocks(k)),
    }
    if not form.symmetric:
        widths["zeros"] = (DataType.UINT8, form.zero_bytes(k))
    regions = layers.writer.place(
        [(f"{name}.{part}", type_, (n_expert, rows, width)) for part, (type_, width) in widths.items()],
        lambda regions: Job(source, block_encoder(form), regions, rows_together=rows),
    )
    return [layers.writer.graph.external(region) for region in regions]
