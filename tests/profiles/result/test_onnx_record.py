"""What a report says of an ONNX model, against the checkpoint's own sizes and the onnx package's reading."""

import hashlib
import math

import pytest
import tinymodels

from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.onnx import linear
from edgellm.convert.onnx.options import OnnxOptions
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.formats.artifact import Artifact
from edgellm.profiles.result.model_files import model_record, weight_files, weight_places

onnx = pytest.importorskip("onnx")

#: Operators that look rows up in a table; and inputs that are a table of rotations.
ROWS = ("Gather", "GatherBlockQuantized", "GroupQueryAttention", "RotaryEmbedding")


def multiplied(tiny: tinymodels.Tiny) -> tuple[int, int]:
    """Parameters that one token is multiplied with, by the architecture's definition: layers, and the head."""
    heads, kv = tiny.n_head * tiny.head_size, tiny.n_head_kv * tiny.head_size
    attention = tiny.n_embd * (heads + 2 * kv) + heads * tiny.n_embd
    ffn = 3 * tiny.n_embd * tiny.n_ff
    if tiny.moe:  # the router, and the experts that a token is sent to
        ffn = tiny.n_embd * tiny.n_expert + tiny.n_expert_used * 3 * tiny.n_embd * tiny.n_ff_expert
    return tiny.n_layer * (attention + ffn), tiny.n_vocab * tiny.n_embd


def parameters(source) -> int:
    """Of the checkpoint, as safetensors itself counts its tensors."""
    safetensors = pytest.importorskip("safetensors")
    n = 0
    for path in source.glob("*.safetensors"):
        with safetensors.safe_open(path, "np") as file:
            n += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return n


def test_a_head_in_parts_is_the_head(tmp_path, monkeypatch):
    """In parts of 128 rows: the work of a prompt counts it once, not for every token."""
    tiny = tinymodels.CASES["llama-256"]
    monkeypatch.setattr(linear, "_PART_WEIGHTS", 128 * tiny.n_embd)
    source = tinymodels.write(tiny, tmp_path / "source")
    record = model_record(convert_onnx(OnnxRequest(source, "onnx-int8", tmp_path / "out")), "m")
    graph = onnx.load(str(tmp_path / "out" / "model.onnx"), load_external_data=False).graph
    assert any(node.op_type == "Concat" and "logits" in node.output for node in graph.node)
    assert (record.n_params_active, record.n_params_head) == multiplied(tiny)


@pytest.mark.parametrize("name", ["llama-256", "qwen2-256"])
def test_a_gguf_has_the_checkpoints_parameters(name, tmp_path):
    source = tinymodels.write(tinymodels.CASES[name], tmp_path / "source")
    convert(ConvertRequest(source, "Q8_0", tmp_path / "out.gguf"))
    assert model_record(Artifact.open(tmp_path / "out.gguf"), "m").n_params == parameters(source)


@pytest.mark.parametrize("quant", ["onnx-fp32", "onnx-int8", "onnx-int4"])
@pytest.mark.parametrize("name", ["llama-256", "qwen2-256", "qwen3moe-256"])
def test_parameters_are_the_architectures_whatever_the_encoding(name, quant, tmp_path):
    tiny = tinymodels.CASES[name]
    source = tinymodels.write(tiny, tmp_path / "source")
    artifact = convert_onnx(OnnxRequest(source, quant, tmp_path / "out"))
    record = model_record(artifact, "m")
    layers, head = multiplied(tiny)
    assert (record.n_params_active, record.n_params_head) == (layers, head)
    assert record.n_params == parameters(source)
    digest = hashlib.sha256((tmp_path / "out" / "tokenizer.json").read_bytes()).hexdigest()
    assert record.tokenizer_sha256 == digest


@pytest.mark.parametrize("settings", [[], ["head=fp32"], ["block=16", "symmetric=true"]])
def test_bytes_are_all_weights_but_for_rows_that_are_looked_up(settings, tmp_path):
    source = tinymodels.write(tinymodels.CASES["llama-256"], tmp_path / "source")
    artifact = convert_onnx(OnnxRequest(source, "onnx-int4", tmp_path / "out", OnnxOptions.parse(settings)))
    model = onnx.load(str(tmp_path / "out" / "model.onnx"), load_external_data=False)
    sizes = {
        t.name: math.prod(t.dims) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize
        for t in model.graph.initializer
    }
    read = {
        name for node in model.graph.node if node.op_type not in ROWS for name in node.input if name in sizes
    }
    assert model_record(artifact, "m").weight_bytes_per_token == sum(sizes[name] for name in read)


def test_weights_lie_in_the_data_file_and_in_the_engines_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    source = tinymodels.write(tinymodels.CASES["llama-256"], tmp_path / "source")
    artifact = convert_onnx(OnnxRequest(source, "onnx-int8", tmp_path / "out"))
    files = weight_files(artifact)
    assert tmp_path / "out" / "model.onnx.data" in files and all(path.is_file() for path in files)
    assert weight_places(artifact) == (*files, tmp_path / "cache" / "prepacked")
