"""Rows of output tensors, read in any pieces from any layout of checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import tensor_files
import tinymodels

from edgellm.convert.checkpoint.folder import Checkpoint
from edgellm.convert.gguf.blocks import Item
from edgellm.convert.gguf.plan import PlannedTensor
from edgellm.convert.gguf.sources import TensorSource, from_checkpoint
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME
from edgellm.models.base import interleaved
from edgellm.models.registry import spec_of


@pytest.fixture
def opened(tmp_path):
    """Tensor sources by GGUF name, and the checkpoint's values."""
    checkpoints = []

    def open_(case: str) -> tuple[dict[str, TensorSource], dict[str, np.ndarray]]:
        folder = tinymodels.write(tinymodels.variant(case), tmp_path / case)
        checkpoint = Checkpoint.open(folder)
        checkpoints.append(checkpoint)
        spec = spec_of(checkpoint.config, checkpoint.shapes)
        sources = {source.info.name: source for source in from_checkpoint(checkpoint, spec)}
        return sources, tinymodels.tensors(tinymodels.variant(case))

    yield open_
    for checkpoint in checkpoints:
        checkpoint.close()


def read(source: TensorSource, start: int, stop: int) -> np.ndarray:
    out = bytearray((stop - start) * source.row_bytes)
    source.read(start, stop, memoryview(out))
    dtype = source.storage.name
    stored = np.frombuffer(out, dtype={"BF16": np.uint16, "F16": np.float16, "F32": np.float32}[dtype])
    return tensor_files.from_bits(stored, dtype).reshape(stop - start, source.row_size)


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


def in_turns(rows: np.ndarray, n_k_heads: int, first: int = 0) -> np.ndarray:
    """What follows `first`, value heads grouped by key head, with the first of every group first: by name of head."""
    head, tail = rows[:first], rows[first:]
    groups = [np.split(group, 3) for group in np.split(tail, n_k_heads)]
    return np.concatenate([head, *(groups[k][member] for member in range(3) for k in range(n_k_heads))])


def test_a_hybrid_s_heads_stand_in_turns_and_values_are_what_is_computed_with(opened):
    """Six value heads of 16 for two key heads, every place that follows them, and nothing else."""
    sources, values = opened("qwen35-grouped")
    net, block = "model.layers.0.linear_attn.", "blk.0."
    for name, ours, first in (
        ("in_proj_qkv.weight", "attn_qkv.weight", 64),
        ("in_proj_z.weight", "attn_gate.weight", 0),
        ("conv1d.weight", "ssm_conv1d.weight", 64),
        ("in_proj_a.weight", "ssm_alpha.weight", 0),
        ("in_proj_b.weight", "ssm_beta.weight", 0),
    ):
        rows = values[net + name].reshape(len(values[net + name]), -1)
        assert_rows(sources[block + ours], in_turns(rows, 2, first))
    assert_rows(sources[block + "ssm_out.weight"], in_turns(values[net + "out_proj.weight"].T, 2).T)
    assert_rows(sources[block + "ssm_dt.bias"], in_turns(values[net + "dt_bias"], 2)[None])
    decay = sources[block + "ssm_a"]
    np.testing.assert_allclose(read(decay, 0, 1)[0], -np.exp(in_turns(values[net + "A_log"], 2)), rtol=2e-7)
    assert_rows(sources[block + "ssm_norm.weight"], values[net + "norm.weight"][None])
    for name in ("blk.1.attn_q_norm.weight", "blk.1.post_attention_norm.weight", "output_norm.weight"):
        source = sources[name]
        stored = values[source.origin(0)[0].replace("language_model.", "")]
        assert_rows(source, 1 + stored[None])
    assert_rows(sources["blk.1.attn_q.weight"], values["model.layers.1.self_attn.q_proj.weight"])
    assert_rows(sources["blk.4.nextn.eh_proj.weight"], values["mtp.fc.weight"])


@pytest.mark.parametrize(
    ("name", "place"), [("A_log", (4,)), ("out_proj.weight", (5, 33)), ("in_proj_qkv.weight", (90, 2))]
)
def test_damage_is_named_where_it_is_stored(tmp_path: Path, name: str, place: tuple[int, ...]):
    """Not where the output has it: rows and columns there stand in another order."""
    from edgellm.convert.gguf.convert import ConvertRequest, convert
    from edgellm.errors import CheckpointError

    tiny = tinymodels.variant("qwen35-grouped", model_type="qwen3_5_text", n_shards=1)
    folder = tinymodels.write(tiny, tmp_path / "source")
    values = {key: (tiny.dtype, value) for key, value in tinymodels.tensors(tiny).items()}
    values[f"model.layers.2.linear_attn.{name}"][1][place] = np.nan
    tensor_files.write_shards(folder, values)
    row, column = (0, *place)[-2:]
    with pytest.raises(CheckpointError, match=rf"linear_attn\.{name} holds .* at \[{row}, {column}\]"):
        convert(ConvertRequest(folder, "Q8_0", tmp_path / "out.gguf"))


@pytest.mark.parametrize(
    ("stored", "quant", "bytes_a_weight"),
    [("BF16", "Q8_0", (2, 4, 34 / 32)), ("F32", "Q8_0", (4, 0, 34 / 32)), ("BF16", "BF16", (2, 0, 0))],
)
def test_a_block_takes_no_more_memory_than_its_steps_need(opened, stored, quant, bytes_a_weight):
    sources, _ = opened("llama" if stored == "BF16" else "qwen3-f32")
    source = sources["blk.0.ffn_up.weight"]
    assert source.storage.name == stored
    item = Item(source, PlannedTensor(source.info, GGML_TYPES_BY_NAME[quant]), fd=-1, offset=0)
    n_weights = 2 * source.row_size
    assert item.buffer_bytes(n_weights) == tuple(n_weights * size for size in bytes_a_weight)
