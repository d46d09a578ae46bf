"""What must hold for every registered architecture; a new file in models/ is tested here without a new test."""

from __future__ import annotations

from collections import Counter
from math import prod

import gguf
import numpy as np
import pytest
import towers
from tinymodels import CASES as DENSE
from tinymodels import FAMILIES, HYBRIDS, config, hashed, shapes, variant

from edgellm.errors import CheckpointError
from edgellm.models.base import Architecture, ModelSpec, Role, Source, TensorSpec, interleaved, tiled
from edgellm.models.layout import SHAPES
from edgellm.models.registry import architectures, find, spec_of

CASES = DENSE | HYBRIDS


def spec_named(name: str) -> ModelSpec:
    tiny = CASES[name]
    return spec_of(config(tiny), shapes(tiny))


def gguf_arch(name: str) -> gguf.MODEL_ARCH:
    return next(arch for arch, found in gguf.MODEL_ARCH_NAMES.items() if found == name)


@pytest.fixture(params=architectures(), ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Architecture:
    found: Architecture = request.param
    return found


def test_has_tiny_checkpoints(family: Architecture) -> None:
    seeing = {tower.model_type for tower in towers.CASES.values()}
    assert set(family.model_types) <= FAMILIES.keys() | seeing, "add the family to tests/tinymodels.py"
    assert seeing & set(family.model_types) or any(
        tiny.model_type in family.model_types for tiny in CASES.values()
    )


def test_is_found_by_class_and_by_model_type(family: Architecture) -> None:
    for name in family.class_names:
        assert find({"architectures": [name], "model_type": "anything"}) is family
    for name in family.model_types:
        assert find({"model_type": name}) is family


def test_shares_no_name_with_another(family: Architecture) -> None:
    others = [other for other in architectures() if other is not family]
    for other in others:
        assert other.name != family.name
        assert not set(other.class_names) & set(family.class_names)
        assert not set(other.model_types) & set(family.model_types)


def test_names_only_roles_of_known_shape(family: Architecture) -> None:
    assert family.tensor_names.keys() <= SHAPES.keys()
    assert len(set(family.tensor_names.values())) == len(family.tensor_names)


def test_llama_cpp_knows_the_architecture_and_its_tensors(family: Architecture) -> None:
    known = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[gguf_arch(family.name)]}
    known |= {
        name for name in gguf.TENSOR_NAMES.values() if ".nextn." in name
    }  # gguf 0.19 is behind the engine
    for role in family.tensor_names:
        blocked = (
            role.value
            if role in (Role.TOKEN_EMBD, Role.OUTPUT_NORM, Role.OUTPUT)
            else f"blk.{{bid}}.{family.gguf_roles.get(role, role.value)}"
        )
        assert blocked in known


@pytest.mark.parametrize("name", CASES)
def test_every_value_of_the_checkpoint_is_used_exactly_once(name: str) -> None:
    tiny, spec = CASES[name], spec_named(name)
    rows: Counter[tuple[str, int]] = Counter()
    for tensor in spec.tensors:
        if tensor.role is Role.OUTPUT and spec.tied:
            continue  # the embedding again, for an engine that wants it
        for span in tensor.spans():
            rows.update((span.name, row) for row in range(span.start, span.stop))
    expected = {(name, row) for name, shape in shapes(tiny).items() for row in range(prod(shape[:-1]))}
    assert rows.keys() == expected
    assert set(rows.values()) == {1}


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_those_of_the_checkpoint(name: str) -> None:
    assert spec_named(name).n_params == sum(prod(shape) for shape in shapes(CASES[name]).values())


@pytest.mark.parametrize("name", CASES)
def test_sources_fill_the_target(name: str) -> None:
    for tensor in spec_named(name).tensors:
        if tensor.sources:
            assert sum(source.stop - source.start for source in tensor.sources) == tensor.n_rows
        assert tensor.n_rows * tensor.row_size == prod(tensor.shape)


@pytest.mark.parametrize("name", CASES)
def test_gguf_names_are_llama_cpps(name: str) -> None:
    """Every checkpoint tensor goes where llama.cpp's own name map sends it."""
    spec = spec_named(name)
    n_blocks = spec.n_layer + spec.n_layer_nextn
    names = gguf.get_tensor_name_map(gguf_arch(spec.architecture.name), n_blocks)
    assert len({tensor.gguf_name for tensor in spec.tensors}) == len(spec.tensors)
    for tensor in spec.tensors:
        source = tensor.sources[0].name if tensor.sources else "rope_freqs.weight"
        if tensor.role in (Role.FFN_GATE_EXPS, Role.FFN_UP_EXPS) and "gate_up" in source:
            continue  # split, so no single name stands for it
        if tensor.role is Role.OUTPUT and spec.tied:
            continue
        if tensor.role.value.endswith("_exps"):  # the map knows the merged name
            source = source.replace(".experts.0.", ".experts.").removesuffix(".weight") + ".weight"
        if tensor.layer is not None and tensor.layer >= spec.n_layer:
            continue  # renamed by llama.cpp's converter first: held against its whole output elsewhere
        source = source.replace("dt_bias", "dt_proj.bias")  # as its converter does
        assert names.get_name(source, try_suffixes=(".weight", ".bias")) == tensor.gguf_name


def test_tied_follows_the_head() -> None:
    assert spec_named("qwen3").tied and spec_named("qwen3").tensor(Role.OUTPUT) is None
    untied = spec_named("qwen3moe").tensor(Role.OUTPUT)
    assert untied is not None and untied.sources == (Source("lm_head.weight", 0, 320),)


def test_tied_qwen2_moe_gets_its_embedding_as_output() -> None:
    spec = spec_named("qwen2moe-stacked")
    output = spec.tensor(Role.OUTPUT)
    assert spec.tied and output is not None
    assert output.sources == (Source("model.embed_tokens.weight", 0, 320),)


def test_a_head_beside_a_tie_flag_is_used() -> None:
    tiny = variant("qwen3", tied=False, extra_config={"tie_word_embeddings": True})
    spec = spec_of(config(tiny), shapes(tiny))
    assert not spec.tied and spec.tensor(Role.OUTPUT) is not None


def test_both_expert_layouts_give_the_same_rows() -> None:
    """Expert e of the stacked gate_up: gate first, then up, 2 n_ff rows apart from the next expert's."""
    spec = spec_named("qwen3moe-stacked")
    gate, up, down = (
        spec.tensor(role, 1) for role in (Role.FFN_GATE_EXPS, Role.FFN_UP_EXPS, Role.FFN_DOWN_EXPS)
    )
    assert gate is not None and up is not None and down is not None
    n_ff, n_embd = spec.moe.n_ff_expert if spec.moe else 0, spec.n_embd
    assert gate.shape == up.shape == (9, n_ff, n_embd) and down.shape == (9, n_embd, n_ff)
    assert gate.sources[2] == Source("model.layers.1.mlp.experts.gate_up_proj", 4 * n_ff, 5 * n_ff)
    assert up.sources[2] == Source("model.layers.1.mlp.experts.gate_up_proj", 5 * n_ff, 6 * n_ff)
    assert down.sources[2] == Source("model.layers.1.mlp.experts.down_proj", 2 * n_embd, 3 * n_embd)


def test_spans_cut_across_sources() -> None:
    sources = (Source("a", 10, 14), Source("b", 0, 3), Source("c", 5, 6))
    tensor = TensorSpec(Role.FFN_UP_EXPS, 0, "weight", sources, (2, 4, 7))
    assert list(tensor.spans()) == list(sources)
    assert list(tensor.spans(2, 5)) == [Source("a", 12, 14), Source("b", 0, 1)]
    assert list(tensor.spans(5, 8)) == [Source("b", 1, 3), Source("c", 5, 6)]
    assert list(tensor.spans(3, 3)) == []


@pytest.mark.parametrize(("n_head", "head_dim", "tail"), [(4, 16, (8,)), (3, 6, (5,)), (2, 4, ())])
def test_interleaving_undoes_transformers_permutation(
    n_head: int, head_dim: int, tail: tuple[int, ...]
) -> None:
    """The permutation is `permute` in transformers' convert_llama_weights_to_hf.py, written with indices."""
    ours = hashed("w", (n_head * head_dim, *tail), 0)
    order = [
        head * head_dim + 2 * pair + half
        for head in range(n_head)
        for half in (0, 1)
        for pair in range(head_dim // 2)
    ]
    reorder = interleaved(head_dim)
    assert np.array_equal(reorder(ours[order]), ours)
    assert [order[reorder.origin(place)] for place in range(len(order))] == list(range(len(order)))


def test_only_llama_is_permuted() -> None:
    assert [family.name for family in architectures() if family.permute_qk] == ["llama"]
    spec = spec_named("llama-odd")
    orders = {tensor.role: tensor.row_order for tensor in spec.tensors if tensor.row_order}
    assert orders == {Role.ATTN_Q: interleaved(24), Role.ATTN_K: interleaved(24)}
    biases = [
        tensor.role
        for tensor in spec_named("llama-bias").tensors
        if tensor.row_order and tensor.suffix == "bias"
    ]
    assert biases == [Role.ATTN_Q, Role.ATTN_K] * 2


def test_value_heads_stand_in_turns() -> None:
    """Six value heads of two key heads, 0 0 0 1 1 1, as llama.cpp repeats keys: 0 1 0 1 0 1."""
    spec = spec_named("qwen35-grouped")
    assert spec.delta_net is not None
    reorder = tiled(spec.delta_net, 1, first=4)
    assert reorder is not None and list(reorder(np.arange(10))) == [0, 1, 2, 3, 4, 7, 5, 8, 6, 9]
    assert [reorder.origin(place) for place in range(10)] == list(reorder(np.arange(10)))
    reordered = {t.role for t in spec.tensors if t.layer == 0 and (t.row_order or t.column_order)}
    kept = {Role.SSM_NORM, Role.ATTN_NORM, Role.FFN_NORM, Role.FFN_GATE, Role.FFN_UP, Role.FFN_DOWN}
    assert reordered == {t.role for t in spec.tensors if t.layer == 0} - kept
    alike = spec_named("qwen35")
    assert not any(tensor.row_order or tensor.column_order for tensor in alike.tensors)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Qwen2ForSequenceClassification", "it classifies or rates a whole text"),
        ("LlamaForSequenceClassification", "score.weight"),
        ("Qwen2ForTokenClassification", "it labels every token"),
        ("LlamaForQuestionAnswering", "it marks answers in a text"),
        ("Qwen2ForRewardModel", "it rates answers"),
        ("Qwen2ForProcessRewardModel", "it rates answers"),
        ("MllamaForConditionalGeneration", "cross attention"),
        ("MllamaForCausalLM", "cross attention"),
        ("Llama4ForConditionalGeneration", "llama.cpp converts it"),
        ("Qwen2_5OmniForConditionalGeneration", "hears and speaks"),
        ("Qwen3VLMoeForConditionalGeneration", "experts are stored the other way round"),
    ],
)
def test_what_is_no_such_language_model_is_refused_with_the_reason(name: str, part: str) -> None:
    with pytest.raises(CheckpointError, match=rf"'{name}' is not supported: .*{part}.*; supported are: "):
        find({"architectures": [name], "model_type": "qwen3"})


def test_the_reason_is_known_by_the_model_type_alone() -> None:
    with pytest.raises(CheckpointError, match="cross attention"):
        find({"model_type": "mllama"})


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, "'GPT2LMHeadModel' is not supported"),
        ({"architectures": ["Qwen2ForSequenceClassification"], "model_type": "qwen2"}, "Qwen3MoeForCausalLM"),
        ({"architectures": "Qwen2AudioEncoder"}, "'Qwen2AudioEncoder'"),
        ({"model_type": ["qwen2"]}, "of model_type ['qwen2']"),
        ({"architectures": []}, "names no architecture"),
        ({}, "add `architectures`"),
    ],
)
def test_unknown_architectures_are_refused_with_the_known_ones(given: dict[str, object], part: str) -> None:
    with pytest.raises(CheckpointError) as error:
        find(given)
    assert part in str(error.value) and "LlamaForCausalLM" in str(error.value)
