"""Damaged or unusable sources: refused in one line that names the tensor or the number, nothing left behind."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import tensor_files
import tinymodels

from edgellm.convert.gguf.convert import ConvertRequest, convert, preview
from edgellm.errors import CheckpointError, UsageError
from edgellm.formats.gguf.reader import read_header


def spoiled(tmp_path: Path, tiny: tinymodels.Tiny, name: str, place: tuple[int, ...], value: float) -> Path:
    """A checkpoint with one value replaced."""
    source = tinymodels.write(tiny, tmp_path / "source")
    values = {key: (tiny.dtype, array) for key, array in tinymodels.tensors(tiny).items()}
    values[name][1][place] = value
    tensor_files.write_shards(source, values, tiny.n_shards)
    return source


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("quant", ["Q4_0", "F32", "BF16"])
@pytest.mark.fault(5)
def test_nan_and_infinity_are_refused_by_name_and_place(tmp_path, dtype, value, quant):
    tiny = tinymodels.variant("qwen2", dtype=dtype, n_layer=1, n_shards=1)
    name = "model.layers.0.mlp.down_proj.weight"
    source = spoiled(tmp_path, tiny, name, (7, 5), value)
    with pytest.raises(
        CheckpointError, match=rf"tensor {name} holds NaN or infinity at \[7, 5\]: the checkpoint"
    ):
        convert(ConvertRequest(source, quant, tmp_path / "out.gguf"))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("case", "name", "place"),
    [
        ("llama", "model.layers.1.self_attn.k_proj.weight", (29, 3)),  # its rows are interleaved on the way
        ("llama-bias", "model.layers.0.self_attn.q_proj.bias", (17,)),
        ("qwen3moe", "model.layers.1.mlp.experts.4.up_proj.weight", (39, 0)),
        ("qwen3moe-stacked", "model.layers.0.mlp.experts.gate_up_proj", (3, 71, 2)),
        ("qwen2moe", "model.layers.0.mlp.shared_expert_gate.weight", (0, 60)),
        ("qwen3", "model.norm.weight", (11,)),
    ],
)
@pytest.mark.fault(5)
def test_the_place_is_the_checkpoint_s_whatever_happens_to_the_rows(tmp_path, case, name, place):
    tiny = tinymodels.CASES[case]
    source = spoiled(tmp_path, tiny, name, place, np.nan)
    with pytest.raises(CheckpointError) as caught:
        convert(ConvertRequest(source, "Q8_0", tmp_path / "out.gguf"))
    assert f"tensor {name} holds NaN" in str(caught.value)


def test_a_quantized_source_whose_scale_is_no_number_is_refused(tmp_path):
    source = tinymodels.write(tinymodels.CASES["llama"], tmp_path / "source")
    once = convert(ConvertRequest(source, "Q8_0", tmp_path / "once.gguf")).path
    tensor = read_header(once).tensors["blk.0.ffn_down.weight"]
    data = bytearray(once.read_bytes())
    data[tensor.offset : tensor.offset + 2] = np.float16(np.nan).tobytes()  # the first block's scale
    once.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"blk\.0\.ffn_down\.weight holds NaN or infinity: the file is damaged"
    ):
        convert(ConvertRequest(once, "Q4_0", tmp_path / "twice.gguf", allow_requantize=True))
    assert not (tmp_path / "twice.gguf").exists()


def test_a_shard_that_shrinks_while_it_is_read(tmp_path, monkeypatch):
    source = tinymodels.write(tinymodels.CASES["qwen3"], tmp_path / "source")
    weights = source / "model.safetensors"
    from edgellm.convert.gguf import stream

    real = stream.run

    def run(*arguments):
        with weights.open("r+b") as file:
            file.truncate(weights.stat().st_size // 2)
        real(*arguments)

    monkeypatch.setattr(stream, "run", run)
    with pytest.raises(CheckpointError, match=r"ended at byte \d+: another program is changing it"):
        convert(ConvertRequest(source, "Q8_0", tmp_path / "out.gguf"))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_experts_in_two_dtypes_are_read_exactly(tmp_path):
    """transformers stacks them in the dtype it loads into; float32 holds both. Read with gguf-py."""
    tiny = tinymodels.variant("qwen3moe", n_shards=1)
    source = tinymodels.write(tiny, tmp_path / "source")
    values = {name: (tiny.dtype, array) for name, array in tinymodels.tensors(tiny).items()}
    name = "model.layers.1.mlp.experts.{}.up_proj.weight"
    values[name.format(2)] = ("F16", values[name.format(2)][1])
    tensor_files.write_shards(source, values)
    path = convert(ConvertRequest(source, "F32", tmp_path / "out.gguf")).path
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}["blk.1.ffn_up_exps.weight"]
    expected = [values[name.format(expert)][1] for expert in range(tiny.n_expert)]
    expected[2] = expected[2].astype(np.float16).astype(np.float32)
    assert np.array_equal(found, np.stack(expected))


def test_a_gguf_file_of_an_unknown_family_is_refused(tmp_path):
    from edgellm.convert.gguf.writer import encode, layout

    path = tmp_path / "model.gguf"
    path.write_bytes(layout({"general.architecture": encode("str", "mamba")}, []).header)
    with pytest.raises(UsageError, match=r"is a mamba model; only llama, .* can be quantized"):
        preview(ConvertRequest(path, "Q8_0", tmp_path / "out.gguf"))


@pytest.mark.parametrize("name", ["llama", "qwen3moe-stacked"])
def test_a_preview_is_exact_to_the_byte(tmp_path, name):
    source = tinymodels.write(tinymodels.CASES[name], tmp_path / "source")
    for split in (None, 50_000):
        request = ConvertRequest(source, "q4_k_m", tmp_path / f"{split}.gguf", split_max_bytes=split)
        planned = preview(request)
        assert [path.exists() for path, _ in planned.files] == [False] * len(planned.files)
        convert(request)
        assert [(path, path.stat().st_size) for path, _ in planned.files] == list(planned.files)
        assert sum(t.nbytes for t in planned.plan.tensors) == planned.plan.data_bytes < planned.total_bytes


def test_a_shard_smaller_than_a_tensor_is_refused(tmp_path):
    source = tinymodels.write(tinymodels.CASES["qwen3"], tmp_path / "source")
    with pytest.raises(
        UsageError, match=r"token_embd.weight alone takes [\d,]+ bytes; --split-max-size must be"
    ):
        preview(ConvertRequest(source, "F16", tmp_path / "out.gguf", split_max_bytes=1000))


CHILD = """
import sys
from pathlib import Path
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.errors import UsageError
try:
    convert(ConvertRequest(Path(sys.argv[1]), "Q8_0", Path(sys.argv[2]), max_ram=int(sys.argv[3]), force=True))
except UsageError as error:
    sys.exit(str(error))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def test_max_ram_is_kept_or_refused_with_the_least_that_would_do(tmp_path):
    tiny = tinymodels.variant("llama-256", n_ff=8192, n_vocab=8000, dtype="F32")
    source = tinymodels.write(tiny, tmp_path / "source")

    def run(max_ram: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", CHILD, str(source), str(tmp_path / "out.gguf"), str(max_ram)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    refused = run(20 << 20)
    assert refused.returncode == 1
    prefix = "--max-ram 20M is too little for this model; it needs at least "
    assert refused.stderr.startswith(prefix)
    least = int(refused.stderr.removeprefix(prefix).rstrip("M\n")) << 20
    kept = run(least)
    assert kept.returncode == 0, kept.stderr
    assert int(kept.stdout) * 1024 <= least


def test_provenance_names_source_recipe_and_versions(tmp_path):
    source = tinymodels.write(tinymodels.CASES["llama"], tmp_path / "source")
    request = ConvertRequest(source, "q4_k", tmp_path / "out.gguf", token_embd_type="q8_0")
    found = convert(request).provenance
    hashes = json.loads(found["edgellm.source"])
    assert hashes == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in source.iterdir()
        if path.name != "model.safetensors.index.json"
    }
    assert json.loads(found["edgellm.recipe"]) == {
        "type": "Q4_K_M",
        "source": "checkpoint",
        "token_embd_type": "Q8_0",
    }
    assert found["edgellm.engine"].startswith("ggml ")
    assert found["edgellm.version"].count(".") == 2
