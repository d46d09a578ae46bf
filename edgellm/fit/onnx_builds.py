"""The ONNX side of `Build`: from the graph that the converter would write, or from one that is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgellm.errors import ArtifactError
from edgellm.fit.model import Build, Matrix, Numbers
from edgellm.profiles.result import onnx_weights
from edgellm.profiles.result.onnx_weights import Node, Tensor
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.models.base import ModelSpec

_FLOATS = ("FusedMatMul", "MatMul", "Gemm")
#: Where QMoE has its first matrices' zero points (ContribOperators.md).
_ZEROS = 11


def of_spec(spec: ModelSpec, type_: str) -> Build:
    """By building the graph, of which nothing is written. Raises UsageError."""
    from edgellm.convert.onnx.decoder import Decoder
    from edgellm.convert.onnx.graph import DataFile, Graph
    from edgellm.convert.onnx.layers import Layers
    from edgellm.convert.onnx.linear import Writer
    from edgellm.convert.onnx.options import MAX_CTX, OnnxOptions, recipe
    from edgellm.convert.onnx.writer import DATA
    from edgellm.models.base import LayerKind

    writer = Writer(Graph(spec.architecture.name), DataFile(DATA))
    decoder = Decoder(Layers(spec, recipe(type_, OnnxOptions()), writer), min(MAX_CTX, spec.n_ctx_train), {})
    decoder.build()
    graph = writer.graph.serialize({}, ("edgellm", __version__))
    read = onnx_weights.parse(graph)
    tensors, nodes = read.tensors, read.nodes
    numbers = Numbers(
        n_layer=spec.n_layer,
        n_attention=sum(spec.kind(layer) is LayerKind.ATTENTION for layer in range(spec.n_layer)),
        n_embd=spec.n_embd,
        n_head=spec.n_head,
        n_head_kv=spec.n_head_kv,
        head_dim=decoder.layers.heads.width,
        n_vocab=spec.n_vocab,
        n_ctx_train=spec.n_ctx_train,
        n_expert=spec.moe.n_expert if spec.moe else 0,
        n_expert_used=spec.moe.n_expert_used if spec.moe else 0,
    )
    matrices = tuple(_matrices(tensors, nodes, spec.n_vocab))
    return Build(type_, "onnxruntime", len(graph) + writer.data.nbytes, True, matrices, numbers)


def of_folder(artifact: Artifact) -> Build:
    """From a folder's graph. Raises ArtifactError where it has no attention that is known here."""
    from edgellm.formats import onnx_folder

    folder = onnx_folder.read(artifact.path)
    try:
        read = onnx_weights.read(folder.model)
    except ValueError as error:
        raise ArtifactError(str(error)) from error
    tensors, nodes = read.tensors, read.nodes
    attention = [node for node in nodes if node.op == "GroupQueryAttention"]
    if not attention:
        raise ArtifactError(f"{artifact.path} has no GroupQueryAttention: what it costs is not known here")
    attributes = attention[0].attributes
    matrices = tuple(_matrices(tensors, nodes, folder.n_vocab))
    n_embd = next((tensors[n].shape[0] for n in tensors if n.endswith("norm.weight")), 0)
    widths = [t.shape[-1] for name, t in tensors.items() if name.endswith("cos_cache")]
    experts = [(m.n_expert, m.n_used) for m in matrices if m.n_expert > 1]
    numbers = Numbers(
        n_layer=sum(node.op in ("GroupQueryAttention", "LinearAttention") for node in nodes),
        n_attention=len(attention),
        n_embd=n_embd,
        n_head=attributes.get("num_heads", 1),
        n_head_kv=attributes.get("kv_num_heads", 1),
        head_dim=folder.head_dim or (2 * widths[0] if widths else 0),
        n_vocab=folder.n_vocab,
        n_ctx_train=folder.n_ctx,
        n_expert=experts[0][0] if experts else 0,
        n_expert_used=experts[0][1] if experts else 0,
    )
    kv = 1.0 if attributes.get("kv_cache_bit_width") == 8 else 4.0
    return Build(
        artifact.quantization,
        "onnxruntime",
        artifact.size_bytes,
        True,
        matrices,
        numbers,
        kv_value_bytes=kv,
        path=artifact.path,
    )


def _matrices(tensors: Mapping[str, Tensor], nodes: Sequence[Node], n_vocab: int) -> Iterator[Matrix]:
    for node in nodes:
        if node.op == "MatMulNBits":
            k, n = node.attributes["K"], node.attributes["N"]
            bits, block = node.attributes.get("bits", 4), node.attributes.get("block_size", 32)
            zeros = "a" if len(node.inputs) > 3 and node.inputs[3] else ""
            label, n_weights = f"int{bits}{zeros}/{block}", k * n
        elif node.op == "MatMulIntegerToFloat":
            k, n = tensors[node.inputs[1]].shape
            label, n_weights = "w8a8", k * n
        elif node.op in _FLOATS and (weights := [tensors[i] for i in node.inputs if i in tensors]):
            shape = weights[0].shape
            n, n_weights, label = (
                shape[0] if node.attributes.get("transB") else shape[-1],
                math.prod(shape),
                "fp32",
            )
        elif node.op in ("QMoE", "MoE"):
            yield _experts(tensors, node)
            continue
        else:
            continue
        n_bytes = sum(tensors[name].n_bytes for name in node.inputs if name in tensors)
        is_head = n == n_vocab or node.inputs[1].startswith(("token_embd", "logits"))
        yield Matrix(
            label, n_weights, n_bytes, n, is_head=is_head, kind="head" if is_head else _kind(node), type=label
        )


def _kind(node: Node) -> str:
    """GGUF's word for the role, as far as the weight's name tells it: `layers.3.ffn.down.weight` is ffn_down."""
    parts = node.inputs[1].split(".")
    return "_".join(parts[2:4]) if parts[0] == "layers" and len(parts) > 4 else ""


def _experts(tensors: Mapping[str, Tensor], node: Node) -> Matrix:
    stacks = [tensors[name] for name in node.inputs if name in tensors and len(tensors[name].shape) == 3]
    n_expert = stacks[0].shape[0]
    bits = node.attributes.get("expert_weight_bits", 0)
    weights = stacks[:1] + stacks[2:3] if bits else stacks
    n_weights = sum(math.prod(stack.shape) for stack in weights) * (8 // bits if bits else 1)
    zeros = "a" if len(node.inputs) > _ZEROS and node.inputs[_ZEROS] else ""
    label = f"experts int{bits}{zeros}/{node.attributes.get('block_size', 0)}" if bits else "experts fp32"
    n_bytes = sum(stack.n_bytes for stack in stacks)
    n_rows = sum(stack.shape[0] * stack.shape[1] for stack in weights)
    return Matrix(
        label, n_weights, n_bytes, n_rows, n_expert, node.attributes.get("k", 1), kind="experts", type=label
    )
