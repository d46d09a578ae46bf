"""Every recipe's choice of types equals llama.cpp's, on the shapes of real models: headers only, no weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import llama_quantize
import numpy as np
import pytest

from edgellm.convert.gguf.plan import ModelFacts, QuantOptions, TensorInfo, is_quantizable, make_plan
from edgellm.convert.gguf.recipes import RECIPES
from edgellm.convert.gguf.writer import TensorEntry, encode, layout
from edgellm.errors import UsageError
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME

BF16, F32 = GGML_TYPES_BY_NAME["BF16"], GGML_TYPES_BY_NAME["F32"]


@dataclass(frozen=True)
class Shape:
    """A model's numbers; `n_expert` 0 is dense."""

    architecture: str
    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    tied: bool = False
    n_expert: int = 0
    shared_expert: bool = False
    head_dim: int = 0
    n_vocab: int = 1024

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(self.architecture, self.n_layer, self.n_head, self.n_head_kv, self.n_expert)


SHAPES = {
    "qwen2.5-0.5b": Shape("qwen2", 24, 896, 4864, 14, 2, tied=True),
    "qwen2.5-72b": Shape("qwen2", 80, 8192, 29568, 64, 8),
    "llama-3.2-1b": Shape("llama", 16, 2048, 8192, 32, 8, tied=True),
    "llama-3.1-8b": Shape("llama", 32, 4096, 14336, 32, 8),
    "llama-3.3-70b": Shape("llama", 80, 8192, 28672, 64, 8),
    "llama-65b": Shape("llama", 80, 8192, 22016, 64, 64),
    "qwen3-0.6b": Shape("qwen3", 28, 1024, 3072, 16, 8, tied=True, head_dim=128),
    "qwen3-30b-a3b": Shape("qwen3moe", 48, 2048, 768, 32, 4, n_expert=128, head_dim=128),
    "qwen1.5-moe": Shape("qwen2moe", 24, 2048, 1408, 16, 16, n_expert=60, shared_expert=True),
    "eight-experts": Shape("qwen2moe", 17, 1024, 512, 8, 8, n_expert=8, shared_expert=True),
    "eight-grouped": Shape("qwen3moe", 33, 1024, 512, 16, 2, n_expert=8, head_dim=64),
    "two-experts": Shape("qwen3moe", 9, 512, 256, 8, 4, n_expert=2, head_dim=64),
    "odd": Shape("llama", 7, 80, 96, 5, 1, tied=True),
    "very-odd": Shape("qwen2", 11, 40, 72, 5, 1),
    "no-heads-shared": Shape("llama", 24, 1280, 3328, 10, 10),
}
OPTIONS: dict[str, dict] = {
    "plain": {},
    "pure": {"pure": True},
    "output": {"output_type": "Q8_0"},
    "embedding": {"token_embd_type": "Q4_0"},
    "both": {"output_type": "F16", "token_embd_type": "BF16"},
    "some-layers": {"tensor_types": (("blk\\.[02]\\.ffn_down", "Q8_0"), ("attn_v", "Q5_1"))},
    "first-match": {"tensor_types": (("blk.1.", "F16"), ("blk\\.[01]\\.attn", "Q4_0"), ("ffn_up", "Q2_K"))},
}


def tensors(shape: Shape) -> list[TensorInfo]:
    """A model's tensors as its bf16 GGUF file has them."""
    head_dim = shape.head_dim or shape.n_embd // shape.n_head
    n_q, n_kv = shape.n_head * head_dim, shape.n_head_kv * head_dim
    experts = (shape.n_expert,) if shape.n_expert else ()
    tail = "_exps" if shape.n_expert else ""
    found = {"token_embd.weight": (shape.n_vocab, shape.n_embd), "output_norm.weight": (shape.n_embd,)}
    if not shape.tied:
        found["output.weight"] = (shape.n_vocab, shape.n_embd)
    if shape.architecture == "llama":
        found["rope_freqs.weight"] = (head_dim // 2,)
    for layer in range(shape.n_layer):
        block = {
            "attn_norm": (shape.n_embd,),
            "attn_q": (n_q, shape.n_embd),
            "attn_k": (n_kv, shape.n_embd),
            "attn_v": (n_kv, shape.n_embd),
            "attn_output": (shape.n_embd, n_q),
            "ffn_norm": (shape.n_embd,),
            f"ffn_gate{tail}": (*experts, shape.n_ff, shape.n_embd),
            f"ffn_up{tail}": (*experts, shape.n_ff, shape.n_embd),
            f"ffn_down{tail}": (*experts, shape.n_embd, shape.n_ff),
        }
        if experts:
            block["ffn_gate_inp"] = (shape.n_expert, shape.n_embd)
        if shape.shared_expert:
            block |= {"ffn_gate_inp_shexp": (1, shape.n_embd), "ffn_gate_shexp": (shape.n_ff, shape.n_embd)}
            block |= {
                "ffn_up_shexp": (shape.n_ff, shape.n_embd),
                "ffn_down_shexp": (shape.n_embd, shape.n_ff),
            }
        found |= {f"blk.{layer}.{name}.weight": size for name, size in block.items()}
        if shape.architecture.startswith("qwen2"):
            found[f"blk.{layer}.attn_v.bias"] = (n_kv,)
    plain = [TensorInfo(name, size, BF16) for name, size in found.items()]
    return [
        tensor if is_quantizable(tensor) else TensorInfo(tensor.name, tensor.shape, F32) for tensor in plain
    ]


def write_hollow(shape: Shape, path: Path) -> None:
    """The model's GGUF file with a hole where its weights would be."""
    arch = shape.architecture
    keys = {
        "general.architecture": encode("str", arch),
        **{
            f"{arch}.{key}": encode("u32", value)
            for key, value in {
                "block_count": shape.n_layer,
                "context_length": 2048,
                "embedding_length": shape.n_embd,
                "feed_forward_length": shape.n_ff,
                "attention.head_count": shape.n_head,
                "attention.head_count_kv": shape.n_head_kv,
                "expert_count": shape.n_expert,
                "expert_used_count": min(shape.n_expert, 2),
                "expert_feed_forward_length": shape.n_ff,
                "vocab_size": shape.n_vocab,
            }.items()
        },
        f"{arch}.attention.layer_norm_rms_epsilon": encode("f32", 1e-6),
    }
    entries = [TensorEntry(t.name, t.shape, t.type, t.type.nbytes(t.n_weights)) for t in tensors(shape)]
    place = layout(keys, entries)
    with path.open("wb") as file:
        file.write(place.header)
        file.truncate(place.size)


@pytest.fixture(scope="module", params=SHAPES)
def hollow(request, tmp_path_factory) -> tuple[Shape, Path]:
    path = tmp_path_factory.mktemp("hollow") / f"{request.param}.gguf"
    write_hollow(SHAPES[request.param], path)
    return SHAPES[request.param], path


def importances(shape: Shape) -> dict[str, int]:
    """Number of values for each matrix but the embedding."""
    return {
        t.name: (t.shape[0] if len(t.shape) == 3 else 1) * t.shape[-1]
        for t in tensors(shape)
        if is_quantizable(t) and t.name != "token_embd.weight"
    }


SOME_RECIPES = ("F16", "Q4_K_M", "Q2_K_S", "IQ3_XXS", "MXFP4_MOE")


def test_types_are_those_of_llama_cpp(hollow):
    assert compare_types(*hollow, "plain", RECIPES, (True, False)) > 20


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "plain"])
def test_options_act_as_in_llama_cpp(hollow, option):
    assert compare_types(*hollow, option, SOME_RECIPES, (True,)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "plain"])
def test_options_act_as_in_llama_cpp_on_every_recipe(hollow, option):
    assert compare_types(*hollow, option, RECIPES, (True, False)) > 20


def compare_types(
    shape: Shape, path: Path, option: str, quants: Iterable[str], imatrices: Iterable[bool]
) -> int:
    """Hold our plans, and refusals, against llama.cpp's dry runs; the number of them."""
    compared = 0
    sizes = importances(shape)
    weights = {
        "blk.0.attn_q.weight": np.ones(shape.n_embd, dtype=np.float32)
    }  # only whether there is one counts
    for quant, imatrix in product(quants, imatrices):
        if "tensor_types" in OPTIONS[option] and not RECIPES[quant].quantizes:
            continue
        if quant == "MXFP4_MOE" and not shape.n_expert and option != "pure":
            continue
        given = {"weights": weights if imatrix else None, **OPTIONS[option]}
        theirs = llama_quantize.planned_types(path, quant, **given)
        options = QuantOptions(quant, **OPTIONS[option])
        compared += 1
        try:
            plan = make_plan(tensors(shape), shape.facts, options, sizes if imatrix else None)
        except UsageError as error:
            assert explained(str(error), theirs, imatrix), f"{quant}: {error}"
            continue
        ours = {tensor.name: tensor.type.name for tensor in plan.tensors}
        assert list(ours.items()) == list(theirs.items()), f"{quant}, imatrix {imatrix}"
    return compared


def explained(refusal: str, theirs: dict[str, str], imatrix: bool) -> bool:
    """Whether llama.cpp, whose dry run refuses nothing, would fail too when it came to the bytes."""
    if "needs an importance matrix" in refusal:
        noise = {"IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S", "Q2_K"}
        return bool(noise & set(theirs.values())) and (not imatrix or "nothing for token_embd" in refusal)
    return "not a multiple of" in refusal
