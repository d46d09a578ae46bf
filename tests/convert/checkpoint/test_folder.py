"""Opening and reading checkpoints that are as they should be."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from tensor_files import from_bits, to_bits, write_json, write_raw_safetensors, write_safetensors
from tinymodels import CASES, config, hashed, tensors, write

from edgellm.convert.checkpoint.finite import check_finite
from edgellm.convert.checkpoint.folder import Checkpoint, read_json
from edgellm.convert.checkpoint.safetensors_file import Shard, read_tensors
from edgellm.errors import CheckpointError


@pytest.mark.parametrize("name", ["llama", "qwen2-f16", "qwen3-f32", "qwen3moe-stacked"])
def test_every_tensor_is_read_as_written(name: str, tmp_path: Path) -> None:
    with Checkpoint.open(write(CASES[name], tmp_path)) as checkpoint:
        expected = tensors(CASES[name])
        assert checkpoint.tensors.keys() == expected.keys()
        assert checkpoint.shapes == {key: value.shape for key, value in expected.items()}
        for key, tensor in checkpoint.tensors.items():
            found = tensor.rows(0, tensor.n_rows)
            assert found.dtype == np.float32 and found.shape == (tensor.n_rows, tensor.row_size)
            assert np.array_equal(found.reshape(tensor.shape), expected[key])
            stored = tensor.raw(0, tensor.n_rows)
            assert np.array_equal(from_bits(stored, tensor.dtype).reshape(tensor.shape), expected[key])
            assert stored.nbytes == tensor.nbytes


def test_configs_are_read(tmp_path: Path) -> None:
    folder = write(CASES["llama"], tmp_path)
    with Checkpoint.open(folder) as checkpoint:
        assert checkpoint.config == config(CASES["llama"])
        assert checkpoint.generation_config["eos_token_id"] == [304, 300]
        assert len(checkpoint.shards) == 3
    (folder / "generation_config.json").unlink()
    with Checkpoint.open(folder) as checkpoint:
        assert checkpoint.generation_config == {}


def test_rows_are_slices(tmp_path: Path) -> None:
    with Checkpoint.open(write(CASES["qwen3moe-stacked"], tmp_path)) as checkpoint:
        tensor = checkpoint.tensors["model.layers.1.mlp.experts.gate_up_proj"]
        whole = tensor.rows(0, tensor.n_rows)
        assert whole.shape == (9 * 80, 64)
        assert np.array_equal(tensor.rows(79, 82), whole[79:82])
        assert tensor.rows(5, 5).shape == (0, 64)
        norm = checkpoint.tensors["model.norm.weight"]
        assert norm.n_rows == 1 and norm.rows(0, 1).shape == (1, 64)
        for start, stop in ((0, 721), (-1, 1), (3, 2), (720, 721)):
            with pytest.raises(IndexError, match="gate_up_proj"):
                tensor.rows(start, stop)


def test_rows_fill_an_array_that_is_kept(tmp_path: Path) -> None:
    with Checkpoint.open(write(CASES["qwen2"], tmp_path)) as checkpoint:
        tensor = checkpoint.tensors["lm_head.weight"]
        kept = np.full((10, 64), np.nan, dtype=np.float32)
        assert tensor.rows(3, 13, kept) is kept
        assert np.array_equal(kept, tensor.rows(3, 13))
        for wrong in (kept[:9], np.empty((64, 10), dtype=np.float32).T):
            with pytest.raises(ValueError, match="contiguous"):
                tensor.rows(3, 13, wrong)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_tensors_larger_than_a_read_are_whole(dtype: str, tmp_path: Path) -> None:
    """An odd number of values in several reads of 1 MiB, after a tensor that makes the offset odd."""
    values = {"small": (dtype, hashed("s", (3,), 1)), "large": (dtype, hashed("l", (1201, 1003), 1))}
    write_safetensors(tmp_path / "x.safetensors", values)
    shard = Shard.open(tmp_path / "x.safetensors")
    large = read_tensors(shard)["large"]
    expected = from_bits(to_bits(values["large"][1], dtype), dtype)
    assert np.array_equal(large.rows(0, 1201), expected)
    assert np.array_equal(large.rows(600, 1200), expected[600:1200])
    assert large.raw(0, 1201).tobytes() == to_bits(values["large"][1], dtype).tobytes()
    shard.close()


def test_every_bf16_and_f16_value_is_widened_exactly(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    entries = {
        name: {"dtype": dtype, "shape": [256, 256], "data_offsets": [i << 17, (i + 1) << 17]}
        for i, (name, dtype) in enumerate((("b", "BF16"), ("h", "F16")))
    }
    write_raw_safetensors(tmp_path / "x.safetensors", json.dumps(entries).encode(), bits.tobytes() * 2)
    shard = Shard.open(tmp_path / "x.safetensors")
    found = read_tensors(shard)
    wide = (bits.astype(np.uint32) << 16).view(np.float32).reshape(256, 256)
    assert found["b"].rows(0, 256).tobytes() == wide.tobytes()
    np.testing.assert_array_equal(
        found["h"].rows(0, 256), bits.view(np.float16).reshape(256, 256).astype(np.float32)
    )
    shard.close()


def test_files_of_the_official_library_are_read(tmp_path: Path) -> None:
    expected = {"b": hashed("b", (5, 7), 1), "a": hashed("a", (4,), 1)}
    safetensors.numpy.save_file(
        expected, tmp_path / "model.safetensors", metadata={"format": "np", "作者": "无"}
    )
    write_json(tmp_path / "config.json", {})
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.tensors.keys() == expected.keys()
        assert np.array_equal(checkpoint.tensors["b"].rows(0, 5), expected["b"])
        assert checkpoint.nbytes == 4 * (35 + 4)


def test_a_whole_file_goes_before_an_index(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": ("F32", hashed("a", (4,), 1))})
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "gone.safetensors"}})
    write_json(tmp_path / "config.json", {})
    with Checkpoint.open(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["a"]


def test_hashes_are_sha256(tmp_path: Path) -> None:
    with Checkpoint.open(write(CASES["qwen2"], tmp_path)) as checkpoint:
        found = checkpoint.sha256()
    assert found.keys() == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    for name, digest in found.items():
        assert digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_closing_releases_the_files(tmp_path: Path) -> None:
    with Checkpoint.open(write(CASES["qwen2"], tmp_path)) as checkpoint:
        tensor = checkpoint.tensors["lm_head.weight"]
    with pytest.raises(CheckpointError, match=r"reading .* failed"):
        tensor.rows(0, 1)


def test_json_files_may_be_absent(tmp_path: Path) -> None:
    assert read_json(tmp_path, "tokenizer_config.json") is None


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(dtype: str, bad: float) -> None:
    block = hashed("w", (6, 50), 1)
    for stored in (block, to_bits(block, dtype)):
        check_finite("w", stored, first_row=100)
    block[3, 7] = bad
    for stored in (block, to_bits(block, dtype)):
        with pytest.raises(CheckpointError, match=r"tensor w .* at \[103, 7\]"):
            check_finite("w", stored, first_row=100)


def test_large_finite_values_are_no_infinity() -> None:
    check_finite("w", np.full((4, 4), 3e38, dtype=np.float32))  # whose sum overflows
    check_finite("w", np.full((4, 4), 65504, dtype=np.float16))


_STREAM = """
import resource, sys
from pathlib import Path
import numpy as np
from edgellm.convert.checkpoint.safetensors_file import Shard, read_tensors
tensor = read_tensors(Shard.open(Path(sys.argv[1])))["w"]
kept = np.empty((512, tensor.row_size), dtype=np.float32)
tensor.rows(0, 512, kept)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, tensor.n_rows, 512):
    tensor.rows(start, start + 512, kept)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """512 MB of zeros (a sparse file) pass through a child process that may grow by a few pages only."""
    path, n_rows = tmp_path / "x.safetensors", 1 << 17
    entry = b'{"w":{"dtype":"BF16","shape":[%d,2048],"data_offsets":[0,%d]}}' % (n_rows, n_rows * 4096)
    path.write_bytes(len(entry).to_bytes(8, "little") + entry)
    with path.open("r+b") as file:
        file.truncate(8 + len(entry) + n_rows * 4096)
    found = subprocess.run(
        [sys.executable, "-c", _STREAM, str(path)], capture_output=True, text=True, check=True
    )
    grown = int(found.stdout) * (1 if sys.platform == "darwin" else 1024)  # bytes there, KiB on Linux
    assert grown < 16 << 20
