"""Every tensor we write equals llama.cpp's own quantizer on an unquantized file of the same source, to the byte.

The default run takes every type on one model and every kind of model on a few types; the whole product of
types, models, sources and importance matrices runs under `-m slow` and in bench/quant_bytes.py.
"""

from pathlib import Path

import embedders
import llama_quantize
import numpy as np
import pytest
import tensor_files
import tinymodels

from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.gguf.recipes import RECIPES
from edgellm.errors import UsageError
from edgellm.formats.gguf.reader import read_header

SMALL = tinymodels.variant("llama-256", n_layer=1, n_ff=256, n_vocab=320, n_head_kv=1, seed=5)
DEEP = tinymodels.variant(
    "qwen3", n_layer=9, n_embd=256, n_ff=256, n_head=2, n_head_kv=1, head_dim=64, seed=6
)
EIGHT = tinymodels.variant("qwen3moe-256", n_layer=2, n_expert=8, n_ff_expert=32, seed=7)
CASES = tinymodels.CASES | tinymodels.HYBRIDS
NEED_IMATRIX = {"IQ3_XXS", "IQ3_XS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M", "Q2_K_S"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """source folder, unquantized GGUF file and importances of a tiny model, written once."""

    kept = {}

    def make(name: str, tiny: tinymodels.Tiny, base_quant: str):
        if (name, base_quant) not in kept:
            folder = tmp_path_factory.mktemp(name)
            source = tinymodels.write(tiny, folder / "source")
            base = folder / f"{base_quant}.gguf"
            kept[name, base_quant] = source, base, llama_quantize.make_base(source, base, base_quant)
        return kept[name, base_quant]

    return make


def same(made, name, tiny, tmp_path, *, imatrix, base_quant=None, **request) -> int:
    source, base, weights = made(name, tiny, base_quant or ("BF16" if tiny.dtype == "BF16" else "F32"))
    n, found = llama_quantize.compare(source, base, weights if imatrix else None, tmp_path, request)
    assert found == []
    return n


# llama.cpp takes ten seconds to build the tables of these two before their first row.
SLOW_TYPES = {"IQ1_S", "IQ1_M"}


@pytest.mark.parametrize("quant", [q for q in RECIPES if q != "MXFP4_MOE" and q not in SLOW_TYPES])
@pytest.mark.parametrize("imatrix", [True, False], ids=["imatrix", "no-imatrix"])
def test_every_type(made, tmp_path, quant, imatrix):
    n = same(made, "small", SMALL, tmp_path, imatrix=imatrix, quant=quant)
    assert n == (0 if quant in NEED_IMATRIX and not imatrix else 13)


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_model(made, tmp_path, name):
    tiny = CASES[name]
    for quant, imatrix in (("Q4_K_M", True), ("Q8_0", False), ("BF16", False), ("Q5_0", True)):
        assert same(made, name, tiny, tmp_path, imatrix=imatrix, quant=quant) > 20


def test_layers_differ_within_a_recipe(made, tmp_path):
    for quant in ("Q4_K_M", "Q3_K_M", "Q4_0"):
        assert same(made, "deep", DEEP, tmp_path, imatrix=True, quant=quant) == 9 * 11 + 2


def test_experts_in_mxfp4_and_attention_of_eight_experts(made, tmp_path):
    for quant, imatrix in (("MXFP4_MOE", False), ("Q4_K_S", True)):
        assert same(made, "eight", EIGHT, tmp_path, imatrix=imatrix, quant=quant) == 2 * 12 + 3


@pytest.mark.parametrize("quant", ["Q4_K_M", "Q8_0", "IQ2_XXS"])
def test_a_rerankers_two_rows(tmp_path, quant):
    source = embedders.write_reranker(tmp_path / "source", DEEP)
    base = tmp_path / "base.gguf"
    weights = llama_quantize.make_base(source, base, "BF16")
    n, found = llama_quantize.compare(source, base, weights, tmp_path, {"quant": quant})
    assert found == [] and n == 9 * 11 + 3
    assert "cls.output.weight" in read_header(base).tensors


@pytest.mark.parametrize(
    "request_",
    [
        {"quant": "Q2_K", "pure": True},
        {"quant": "MXFP4_MOE", "pure": True},
        {"quant": "Q4_K_M", "output_type": "Q8_0", "token_embd_type": "Q4_0"},
        {"quant": "F16", "output_type": "BF16"},
        {"quant": "Q4_K_S", "tensor_types": (("ffn_(up|gate)", "Q3_K"), ("attn_v", "F16"))},
    ],
    ids=lambda request: "-".join(map(str, request.values())),
)
def test_options(made, tmp_path, request_):
    assert same(made, "small", SMALL, tmp_path, imatrix=True, **request_) == 13


def test_a_bf16_checkpoint_equals_its_f32_file_quantized(made, tmp_path):
    for quant in ("Q4_K_M", "F16", "BF16"):
        assert same(made, "small", SMALL, tmp_path, imatrix=True, base_quant="F32", quant=quant) == 13


def test_a_gguf_source_gives_llama_cpp_s_file_metadata_included(made, tmp_path):
    _, base, (imatrix, weights) = made("small", SMALL, "BF16")
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    convert(ConvertRequest(base, "IQ3_S", ours, imatrix=imatrix))
    llama_quantize.quantize(base, theirs, "IQ3_S", weights=weights)
    assert llama_quantize.differences(ours, theirs) == (13, [])
    a, b = read_header(ours), read_header(theirs)
    own = {"edgellm.version", "edgellm.engine", "edgellm.recipe", "edgellm.source", "edgellm.verification"}
    # Those of llama.cpp's quantize tool, which the library function does not write by itself.
    own |= {f"quantize.imatrix.{key}" for key in ("file", "dataset", "entries_count", "chunks_count")}
    keys = a.metadata.keys() | b.metadata.keys()
    assert [key for key in keys - own if a.raw_value(key) != b.raw_value(key)] == []


def test_quantizing_again_needs_leave_and_then_equals_llama_cpp(made, tmp_path):
    source, _, _ = made("small", SMALL, "BF16")
    once, twice, theirs = (tmp_path / f"{name}.gguf" for name in ("once", "twice", "theirs"))
    convert(ConvertRequest(source, "Q8_0", once))
    with pytest.raises(UsageError, match=r"already quantized.*--allow-requantize"):
        convert(ConvertRequest(once, "Q4_K_M", twice))
    assert not twice.exists()
    convert(ConvertRequest(once, "Q4_K_M", twice, allow_requantize=True))
    llama_quantize.quantize(once, theirs, "Q4_K_M", allow_requantize=True)
    assert llama_quantize.differences(twice, theirs) == (13, [])


def test_blocks_threads_and_shards_do_not_change_a_byte(made, tmp_path, monkeypatch):
    from edgellm.convert.gguf import blocks

    source, base, (imatrix, weights) = made("eight", EIGHT, "BF16")
    theirs = tmp_path / "theirs.gguf"
    llama_quantize.quantize(base, theirs, "Q4_K_M", weights=weights)
    for i, (block, threads, shard) in enumerate(((1, 1, None), (700, 5, None), (1 << 20, 3, 100_000))):
        monkeypatch.setattr(blocks, "BLOCK_WEIGHTS", block)
        monkeypatch.setattr(blocks, "MIN_BLOCK_WEIGHTS", block)
        request = ConvertRequest(
            source,
            "Q4_K_M",
            tmp_path / f"{i}.gguf",
            imatrix=imatrix,
            n_threads=threads,
            split_max_bytes=shard,
        )
        artifact = convert(request)
        assert llama_quantize.differences(artifact.path, theirs)[1] == []
    assert len(read_header(artifact.path).shard_paths()) > 3


def test_llama_cpp_loads_our_shards(made, tmp_path):
    source, base, _ = made("eight", EIGHT, "BF16")
    shards = convert(ConvertRequest(source, "BF16", tmp_path / "cut.gguf", split_max_bytes=300_000)).path
    assert shards.name.startswith("cut-00001-of-000")
    whole, cut = tmp_path / "whole.q4.gguf", tmp_path / "cut.q4.gguf"
    llama_quantize.quantize(base, whole, "Q4_0")
    llama_quantize.quantize(shards, cut, "Q4_0")
    assert llama_quantize.differences(whole, cut) == (27, [])


def test_f32_and_f16_round_as_ggml_does(tmp_path):
    """Halfway cases, subnormals and the largest values: F32 to BF16 and F16 equals llama.cpp's conversion."""
    tiny = tinymodels.variant("qwen3-f32", n_layer=1)
    source = tinymodels.write(tiny, tmp_path / "source")
    values = {name: ("F32", value) for name, value in tinymodels.tensors(tiny).items()}
    name = "model.layers.0.mlp.up_proj.weight"
    odd = np.array(
        [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 65504, -65519.9, 1e-8, -6e-8, 3e-39, -0.0]
    )
    values[name][1].reshape(-1)[: len(odd)] = odd.astype(np.float32)
    tensor_files.write_shards(source, values)
    base = tmp_path / "f32.gguf"
    weights = llama_quantize.make_base(source, base, "F32")
    for quant in ("F16", "BF16"):
        n, found = llama_quantize.compare(source, base, weights, tmp_path, {"quant": quant})
        assert (n, found) == (14, [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "deep", "eight", *CASES])
def test_everything(made, tmp_path, name):
    tiny = {"small": SMALL, "deep": DEEP, "eight": EIGHT}.get(name) or CASES[name]
    for quant in RECIPES:
        if quant != "MXFP4_MOE" or tiny.moe:
            for base_quant in {"F32", "BF16"} if tiny.dtype == "BF16" else {"F32"}:
                for imatrix in (True, False):
                    same(made, name, tiny, tmp_path, imatrix=imatrix, base_quant=base_quant, quant=quant)


def test_weights_out_of_a_type_s_range_are_refused(tmp_path: Path):
    from edgellm.errors import CheckpointError

    tiny = tinymodels.variant("qwen3-f32", n_layer=1)
    source = tinymodels.write(tiny, tmp_path / "source")
    values = {name: ("F32", value) for name, value in tinymodels.tensors(tiny).items()}
    values["model.layers.0.mlp.up_proj.weight"][1][2, 3] = 70000.0
    tensor_files.write_shards(source, values)
    with pytest.raises(
        CheckpointError, match=r"blk\.0\.ffn_up\.weight has values too large for F16: choose BF16"
    ):
        convert(ConvertRequest(source, "F16", tmp_path / "out.gguf"))
    assert not (tmp_path / "out.gguf").exists()
