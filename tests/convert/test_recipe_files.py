"""Recipe files: read strictly, and in both formats each matrix becomes what they say."""

from __future__ import annotations

from pathlib import Path

import llama_quantize
import numpy as np
import onnx
import pytest
import tinymodels

from edgellm.convert.checkpoint.folder import Checkpoint
from edgellm.convert.gguf.convert import ConvertRequest, convert, preview
from edgellm.convert.onnx.blocks import BlockFormat, decode, encode
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx, make_plan
from edgellm.convert.recipes import recipe
from edgellm.errors import EdgellmError, UsageError
from edgellm.models import bundled

MIX = """
about = "a test"
base = "Q4_0"
[types]
"output" = "IQ4_NL"
"ffn_down 0%-50%" = "q8_0"
"blk.1.attn_v.weight" = "Q5_1"
"attn_*" = "Q5_0"
"""


def test_bytes_are_llama_cpps_with_the_same_types_by_name(tmp_path: Path) -> None:
    source = tinymodels.write(tinymodels.variant("llama-256", n_layer=4), tmp_path / "source")
    base, ours, theirs = (tmp_path / f"{name}.gguf" for name in ("base", "ours", "theirs"))
    imatrix, weights = llama_quantize.make_base(source, base, "BF16")
    convert(ConvertRequest(source, "Q4_0", ours, recipe=recipe.parse(MIX, "mix"), imatrix=imatrix))
    names = [
        (r"^output\.weight", "IQ4_NL"),
        (r"blk\.[01]\.ffn_down", "Q8_0"),
        (r"blk\.1\.attn_v", "Q5_1"),
        (r"attn_(q|k|v|output)", "Q5_0"),
    ]
    llama_quantize.quantize(
        base, theirs, "Q4_0", weights=weights, tensor_types=names[1:], output_type="IQ4_NL"
    )
    n, found = llama_quantize.differences(ours, theirs)
    assert found == [] and n > 30


def test_a_tied_embedding_is_the_head() -> None:
    made = recipe.parse('base = "Q4_0"\n[types]\n"output" = "Q5_1"', "tied")
    source = bundled.path("tiny-qwen3")
    assert source
    plan = preview(ConvertRequest(source, "Q4_0", recipe=made)).plan
    assert {t.name: t.type.name for t in plan.tensors}["token_embd.weight"] == "Q5_1"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("base = 'Q4_0'\ntype = 1", "'type'"),
        ("[types]\n'output' = 'Q4_0'", "base"),
        ("base = 'Q4_0'\n[types]\n'ffn_down x' = 'Q8_0'", "'x'"),
        ("base = 'Q4_0'\n[types]\n'ffn_down 3-1' = 'Q8_0'", "3-1"),
        ("base = 'Q4_0'\n[types]\n'ffn_down 0-99' = 'Q8_0'", "5 layers"),
        ("base = 'Q4_0'\n[types]\n'ffn_dwn' = 'Q8_0'", "ffn_dwn"),
        ("base = 'Q4_0'\n[types]\n'output' = 'Q9'", "Q9"),
        ("base = 'Q4_0'\n[types]\n'output' = 8", "8"),
        ("base = 'onnx-int4'\n[types]\n'output' = 'int4/33'", "33"),
        ("base = 'onnx-int4'\n[types]\n'output' = 'w8a8'", "w8a8"),
        ("base = 'onnx-int4'\n[types]\n'ffn_dwn' = 'int8/32'", "ffn_dwn"),
        ("base = ", "TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, word: str) -> None:
    source = bundled.path("tiny-llama3")
    assert source
    with pytest.raises(EdgellmError) as caught:
        found = recipe.parse(text, "wrong")
        if found.is_onnx:
            with Checkpoint.open(source) as checkpoint:
                make_plan(checkpoint, OnnxRequest(source, found.base, recipe=found))
        else:
            preview(ConvertRequest(source, found.base, recipe=found))
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_onnx_nodes_have_the_blocks_a_recipe_says(tmp_path: Path) -> None:
    text = """
    base = "onnx-int4"
    [types]
    "output" = "int4a/64:kquant"
    "token_embd" = "int4/32"
    "ffn_down 1" = "int8/16"
    "attn_v" = "int4/32:search"
    """
    source = bundled.path("tiny-llama3")
    assert source
    folder = convert_onnx(
        OnnxRequest(source, "onnx-int4", tmp_path / "m", recipe=recipe.parse(text, "mix"))
    ).path
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    blocks = {}
    for node in graph.node:
        found = {a.name: a.i for a in node.attribute if a.name in ("bits", "block_size")}
        if found:
            blocks[node.name] = (found["bits"], found["block_size"])
    assert blocks["layers.1.ffn.down"] == (8, 16) and blocks["layers.0.ffn.down"] == (4, 32)
    assert blocks["layers.2.attn.qkv"] == (4, 32)  # one rule for what is stored as one
    assert blocks["embedding"] == (4, 32)
    assert next(value for name, value in blocks.items() if name.startswith("logits")) == (4, 64)


@pytest.mark.parametrize(("symmetric", "algorithm"), [(True, "search"), (False, "kquant")])
def test_scales_are_chosen_for_the_columns_that_matter(symmetric: bool, algorithm: str) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((64, 96), np.float32)
    importance = np.exp(2 * rng.standard_normal(96)).astype(np.float32)
    form = BlockFormat(4, 32, symmetric, algorithm)

    def wrong(weights: np.ndarray | None) -> float:
        return float((np.square(decode(encode(rows, form, weights), form, 96) - rows) * importance).sum())

    assert wrong(importance) < 0.85 * wrong(None)


def test_unknown_names_list_those_there_are() -> None:
    with pytest.raises(UsageError, match="no recipe"):
        recipe.load("nothing-of-that-name")
