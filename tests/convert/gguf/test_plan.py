"""Which type a tensor gets, and what is refused. That the choice is llama.cpp's: integration/test_quantize_types.py."""

import pytest

from edgellm.convert.gguf.plan import ModelFacts, QuantOptions, TensorInfo, is_quantizable, kind_of, make_plan
from edgellm.convert.gguf.recipes import FALLBACKS, NEED_IMATRIX, RECIPES, canonical
from edgellm.errors import UsageError
from edgellm.formats.gguf.types import FILE_TYPES, GGML_TYPES_BY_NAME

BF16 = GGML_TYPES_BY_NAME["BF16"]
DENSE = ModelFacts("llama", n_layer=8, n_head=8, n_head_kv=2, n_expert=0)
MIXED = ModelFacts("qwen3moe", n_layer=8, n_head=8, n_head_kv=2, n_expert=4)


def info(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, shape, BF16)


def one(name: str, shape: tuple[int, ...], quant: str, facts: ModelFacts = DENSE, imatrix=None, **options):
    """The plan of a model of one tensor besides its head."""
    tensors = [info(name, *shape), info("output.weight", 512, 256)]
    plan = make_plan(tensors, facts, QuantOptions(quant, **options), imatrix)
    return next(tensor for tensor in plan.tensors if tensor.name == name)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("q4_k_m", "Q4_K_M"),
        ("Q4_K", "Q4_K_M"),
        ("q3_k", "Q3_K_M"),
        ("Q5_k", "Q5_K_M"),
        ("mxfp4", "MXFP4_MOE"),
        (" bf16 ", "BF16"),
        ("iq4-xs", "IQ4_XS"),
    ],
)
def test_names_as_people_write_them(typed, meant):
    assert canonical(typed) == meant


def test_an_unknown_type_is_named_with_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown quantization type 'best'; choose one of F32, .*IQ4_XS"):
        canonical("best")
    with pytest.raises(UsageError, match=r"unknown quantization type 'q9_k'; did you mean Q6_K\?"):
        canonical("q9_k")


def test_every_recipe_has_a_file_type_and_real_types():
    assert set(RECIPES) == set(FILE_TYPES)
    for recipe in RECIPES.values():
        assert {recipe.base, recipe.output} <= set(GGML_TYPES_BY_NAME)
    for large, small in FALLBACKS.items():
        assert GGML_TYPES_BY_NAME[large].block_size == 256 > GGML_TYPES_BY_NAME[small].block_size
    assert set(GGML_TYPES_BY_NAME) >= NEED_IMATRIX


def test_kinds_do_not_depend_on_layer_or_experts():
    assert kind_of("blk.31.ffn_down_exps.weight") == kind_of("blk.0.ffn_down.weight") == "ffn_down"
    assert kind_of("blk.1.ffn_up_shexp.weight") == "ffn_up"
    assert kind_of("token_embd.weight") == "token_embd"
    assert kind_of("something.else") == "something.else"


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("blk.0.attn_q.weight", (64, 64), True),
        ("blk.0.ffn_up_exps.weight", (4, 64, 64), True),
        ("token_embd.weight", (64, 64), True),
        ("blk.0.attn_q.bias", (64,), False),
        ("blk.0.attn_norm.weight", (64,), False),
        ("blk.0.attn_q_norm.weight", (8, 8), False),
        ("blk.0.ffn_gate_inp.weight", (4, 64), False),
        ("blk.0.ffn_gate_inp_shexp.weight", (1, 64), False),
        ("rope_freqs.weight", (32,), False),
    ],
)
def test_only_matrices_are_quantized(name, shape, expected):
    assert is_quantizable(info(name, *shape)) is expected


def test_rows_that_do_not_fit_fall_back_and_are_listed():
    tensors = [info("blk.0.ffn_up.weight", 64, 896), info("blk.0.ffn_gate.weight", 64, 40)]
    plan = make_plan([*tensors, info("output.weight", 512, 256)], DENSE, QuantOptions("Q4_K_S"))
    types = {tensor.name: tensor.type.name for tensor in plan.tensors}
    assert types == {"output.weight": "Q6_K", "blk.0.ffn_up.weight": "Q5_0", "blk.0.ffn_gate.weight": "F16"}
    assert {(t.name, t.wanted.name) for t in plan.fallbacks} == {
        ("blk.0.ffn_up.weight", "Q4_K"),
        ("blk.0.ffn_gate.weight", "Q4_K"),
    }


def test_sizes_add_up():
    plan = make_plan(
        [info("output.weight", 512, 256), info("blk.0.attn_q.weight", 256, 256)], DENSE, QuantOptions("Q8_0")
    )
    assert plan.n_weights == 512 * 256 + 256 * 256
    assert plan.data_bytes == plan.n_weights * 34 // 32
    assert plan.bits_per_weight == 8.5


def test_tensors_come_layer_by_layer_after_those_of_none():
    names = [
        "blk.10.attn_q.weight",
        "token_embd.weight",
        "blk.2.ffn_up.weight",
        "blk.2.attn_q.weight",
        "output.weight",
    ]
    plan = make_plan([info(name, 256, 256) for name in names], DENSE, QuantOptions("Q8_0"))
    assert [tensor.name for tensor in plan.tensors] == [names[4], names[1], names[3], names[2], names[0]]


def test_a_tied_embedding_is_stored_as_the_head_would_be():
    tied = make_plan([info("token_embd.weight", 512, 256)], DENSE, QuantOptions("IQ4_XS"))
    assert tied.tensors[0].type.name == "Q6_K"
    assert one("token_embd.weight", (512, 256), "IQ4_XS").type.name == "IQ4_XS"


def test_the_users_choice_goes_before_the_recipe_s():
    names = ("blk.0.ffn_down.weight", "blk.0.ffn_up.weight", "token_embd.weight", "output.weight")
    options = QuantOptions(
        "Q4_K_M",
        output_type="Q5_K",
        token_embd_type="F16",
        tensor_types=(("ffn_down", "Q3_K"), ("ffn_|output", "Q8_0")),
    )
    plan = make_plan([info(name, 64, 256) for name in names], DENSE, options)
    types = {tensor.name: tensor.type.name for tensor in plan.tensors}
    assert types == dict(zip(names, ("Q3_K", "Q8_0", "F16", "Q5_K"), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensor_types": (("nowhere", "Q8_0"),)}, r"--tensor-type nowhere=Q8_0 matches no tensor"),
        ({"tensor_types": (("attn_(", "Q8_0"),)}, r"--tensor-type attn_\(=Q8_0: not a regular expression"),
        ({"tensor_types": (("attn", "Q4_K_M"),)}, r"'Q4_K_M' is no type of a tensor; choose one of BF16"),
        ({"output_type": "Q1"}, r"'Q1' is no type of a tensor"),
        (
            {"output_type": "Q4_K"},
            r"output.weight has rows of 48 weights, not a multiple of Q4_K's block of 256",
        ),
    ],
)
def test_options_that_cannot_be_met_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make_plan([info("output.weight", 64, 48)], DENSE, QuantOptions("Q8_0", **options))


def test_tensor_types_need_a_quantized_recipe():
    with pytest.raises(UsageError, match="--tensor-type has no effect on F16"):
        QuantOptions("F16", tensor_types=(("attn", "Q8_0"),))


def test_mxfp4_is_for_experts():
    shape = (4, 64, 256)
    assert one("blk.0.ffn_up_exps.weight", shape, "MXFP4_MOE", MIXED).type.name == "MXFP4"
    assert one("blk.0.attn_q.weight", (64, 256), "MXFP4_MOE", MIXED).type.name == "Q8_0"
    with pytest.raises(
        UsageError, match="MXFP4_MOE is for mixtures of experts and this model is dense; use Q8_0"
    ):
        one("blk.0.attn_q.weight", (64, 256), "MXFP4_MOE")
    assert one("blk.0.attn_q.weight", (64, 256), "MXFP4_MOE", pure=True).type.name == "MXFP4"


@pytest.mark.parametrize(
    "quant", ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"]
)
def test_types_that_need_an_importance_matrix_say_so(quant):
    name = "blk.4.attn_q.weight"
    with pytest.raises(UsageError, match=rf"needs an importance matrix: {name} would be noise; .*--imatrix"):
        one(name, (256, 256), quant)
    with pytest.raises(UsageError, match=rf"needs an importance matrix: .* has nothing for {name}"):
        one(name, (256, 256), quant, imatrix={"blk.3.attn_q.weight": 256})
    assert one(name, (256, 256), quant, imatrix={name: 256}).uses_imatrix


def test_an_importance_matrix_of_another_model_is_refused():
    name = "blk.0.ffn_up_exps.weight"
    with pytest.raises(
        UsageError, match=f"has 256 values for {name}, which has 1024 columns; .* another model"
    ):
        one(name, (4, 64, 256), "Q4_K_M", MIXED, imatrix={name: 256})
    assert not one("token_embd.weight", (512, 256), "Q4_K_M", imatrix={"token_embd.weight": 7}).uses_imatrix
