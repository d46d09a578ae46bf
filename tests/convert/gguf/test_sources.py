"""Rows of output tensors, read in any pieces from any layout of checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import tinymodels

from edgellm.convert.checkpoint.folder import Checkpoint
from edgellm.convert.gguf.sources import TensorSource, from_checkpoint
from edgellm.models.base import interleaved
from edgellm.models.registry import spec_of


@pytest.fixture
def opened(tmp_path):
    """Tensor sources by GGUF name, and the checkpoint's values."""
    checkpoints = []

    def open_(case: str) -> tuple[dict[str, TensorSource], dict[str, np.ndarray]]:
        folder = tinymodels.write(tinymodels.CASES[case], tmp_path / case)
        checkpoint = Checkpoint.open(folder)
        checkpoints.append(checkpoint)
        spec = spec_of(checkpoint.config, checkpoint.shapes)
        sources = {source.info.name: source for source in from_checkpoint(checkpoint, spec)}
        return sources, tinymodels.tensors(tinymodels.CASES[case])

    yield open_
    for checkpoint in checkpoints:
        checkpoint.close()


def read(source: TensorSource, start: int, stop: int) -> np.ndarray:
    out = bytearray((stop - start) * source.row_bytes)
    source.read(start, stop, memoryview(out))
    dtype = source.storage.name
    stored = np.frombuffer(out, dtype={"BF16": np.uint16, "F16": np.float16, "F32": np.float32}[dtype])
    return tinymodels.from_bits(stored, dtype).reshape(stop - start, source.row_size)


def assert_rows(source: TensorSource, expected: np.ndarray) -> None:
    """All pieces of all cuttings into steps of 1, 3 and everything are the rows of `expected`."""
    for step in (1, 3, source.n_rows):
        for start in range(0, source.n_rows, step):
            stop = min(start + step, source.n_rows)
            assert np.array_equal(read(source, start, stop), expected[start:stop])


@pytest.mark.parametrize("case", ["llama", "llama-odd", "llama-bias"])
def test_llama_s_query_and_key_rows_are_interleaved_within_heads(opened, case):
    tiny = tinymodels.CASES[case]
    sources, values = opened(case)
    for letter, heads in (("q", tiny.n_head), ("k", tiny.n_head_kv)):
        rows = values[f"model.layers.1.self_attn.{letter}_proj.weight"]
        expected = interleaved(rows.shape[0] // heads)(rows)
        assert not np.array_equal(rows, expected)
        assert_rows(sources[f"blk.1.attn_{letter}.weight"], expected)


def test_llama_s_biases_are_interleaved_alike(opened):
    sources, values = opened("llama-bias")
    bias = values["model.layers.0.self_attn.q_proj.bias"]
    source = sources["blk.0.attn_q.bias"]
    assert source.info.shape == bias.shape
    assert_rows(source, interleaved(16)(bias).reshape(1, -1))
    assert_rows(sources["blk.0.attn_v.bias"], values["model.layers.0.self_attn.v_proj.bias"].reshape(1, -1))


def test_qwen_s_rows_stay_as_they_are(opened):
    sources, values = opened("qwen2")
    assert_rows(sources["blk.0.attn_q.weight"], values["model.layers.0.self_attn.q_proj.weight"])


@pytest.mark.parametrize("case", ["qwen3moe", "qwen3moe-stacked", "qwen2moe"])
def test_experts_are_stacked_from_both_layouts(opened, case):
    tiny = tinymodels.CASES[case]
    sources, values = opened(case)
    prefix = "model.layers.1.mlp.experts."
    for kind in ("gate", "up", "down"):
        if not tiny.stacked:
            parts = [values[f"{prefix}{e}.{kind}_proj.weight"] for e in range(tiny.n_expert)]
        elif kind == "down":
            parts = list(values[prefix + "down_proj"])
        else:
            half = slice(0, tiny.n_ff_expert) if kind == "gate" else slice(tiny.n_ff_expert, None)
            parts = [matrix[half] for matrix in values[prefix + "gate_up_proj"]]
        source = sources[f"blk.1.ffn_{kind}_exps.weight"]
        assert source.info.shape == (tiny.n_expert, *parts[0].shape)
        assert_rows(source, np.concatenate(parts))
        last = source.n_rows - 1
        assert source.origin(last)[0].startswith(prefix)


def test_vectors_and_routers_become_f32_and_matrices_keep_their_type(opened):
    sources, _ = opened("qwen2moe")
    types = {name: source.info.type.name for name, source in sources.items()}
    kept = {name for name, type_ in types.items() if type_ == "BF16"}
    assert all(type_ in ("BF16", "F32") for type_ in types.values())
    assert "blk.0.ffn_gate_inp.weight" not in kept and "blk.0.ffn_gate_inp_shexp.weight" not in kept
    assert {"blk.0.ffn_up_shexp.weight", "token_embd.weight", "blk.1.ffn_up_exps.weight"} <= kept
    assert not any("norm" in name or name.endswith("bias") for name in kept)


def test_rope_divisors_are_computed(opened):
    sources, _ = opened("llama")
    source = sources["rope_freqs.weight"]
    rows = read(source, 0, 1)
    assert rows.shape == (1, 8) and rows[0, 0] == 1 and rows.max() == 8
    source.will_need(0, 1)


def test_reading_past_a_file_s_end_names_it(opened, tmp_path: Path):
    from edgellm.errors import CheckpointError

    sources, _ = opened("qwen3")
    weights = tmp_path / "qwen3" / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(3000)
    with pytest.raises(CheckpointError, match=r"model.safetensors ended at byte \d+"):
        read(sources["output_norm.weight"], 0, 1)
