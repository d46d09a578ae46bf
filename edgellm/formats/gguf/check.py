"""What a GGUF header must say before llama.cpp may see the file.

llama.cpp aborts the whole process (GGML_ASSERT) on a number of wrong values, takes others silently, and a few
make it compute nonsense. Each rule here stands for one of these; of an architecture that is not known here, less can
be asked (foreign.py). Knows headers alone, no tensor data.
Sources: src/llama-model.cpp (load_hparams, load_tensors), src/llama-vocab.cpp (load), src/models/*.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from edgellm.errors import option
from edgellm.formats.gguf import foreign, vocabulary
from edgellm.formats.gguf.classifier import check_classifier
from edgellm.formats.gguf.families import FAMILIES, Family
from edgellm.formats.gguf.faults import fail, shown
from edgellm.formats.gguf.header import GgufFile, GgufTensor
from edgellm.formats.gguf.reader import read_header

ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")

# Key -> whether it must be there. All must be finite and above 0.
_FLOATS: dict[str, bool] = {
    "attention.layer_norm_rms_epsilon": True,
    "rope.freq_base": False,
    "rope.scaling.factor": False,
}
# Tensor name -> shape in terms of the header's numbers.
_GLOBAL_SHAPES: dict[str, tuple[str, ...]] = {
    "token_embd.weight": ("vocab", "embd"),
    "output_norm.weight": ("embd",),
    "output.weight": ("vocab", "embd"),
    "rope_freqs.weight": ("half_rope",),
}
#: Types there is no matrix product for: the engine crashes. Vectors must be F32, or it aborts.
_NO_WEIGHTS = frozenset({"I8", "I16", "I32", "I64", "F64"})
_REQUIRED = ("token_embd.weight", "output_norm.weight")
_TYPE_KEY = "general.architecture"


def check_runnable(file: GgufFile) -> None:
    """Raise ArtifactError, naming key or tensor and value, when llama.cpp must not be given this file.

    Reads the headers of all parts of a split model.
    """
    kind = file.get("general.type", "model")
    if kind == "adapter":
        fail(file, f"is a LoRA adapter, not a model: put it on its model with {option('lora')}")
    if kind != "model":
        fail(file, f"holds a model's {shown(kind)}, not a model that writes text; open the model's own file")
    architecture = file.get(_TYPE_KEY)
    if not isinstance(architecture, str):
        fail(file, f"has no {_TYPE_KEY}; it is not a language model in GGUF form")
    if file.get(f"{architecture}.attention.causal") is False:
        fail(
            file,
            f"a {architecture[:64]} model that sees its whole text at once: it makes embeddings or fills gaps, "
            "and only models that go on with a text are run",
        )
    family = FAMILIES.get(architecture)
    if family is None:
        foreign.check(file, architecture)
        vocabulary.check(file)
        _tensors_of_all_parts(file)
        return
    numbers = _integers(file, architecture, family)
    _floats(file, architecture)
    _scaling(file, architecture)
    n_vocab = vocabulary.check(file)
    dims = _dimensions(file, numbers, n_vocab)
    if family.hybrid:
        dims |= _recurrent_dimensions(file, numbers)
    if family.sections:
        _sections(file, architecture)
    recurrent = _recurrent_layers(file, architecture, family, numbers)
    tensors = _tensors_of_all_parts(file)
    check_classifier(file, architecture, tensors, dims["embd"])
    _tensors(file, tensors, family, dims, recurrent)


def is_verified(file: GgufFile) -> bool:
    """Whether architecture and tokenizer are of the families that edgellm converts and checks itself."""
    return file.get(_TYPE_KEY) in FAMILIES and vocabulary.is_verified(file)


def _integers(file: GgufFile, architecture: str, family: Family) -> dict[str, int]:
    numbers = {}
    for name, (low, high, required) in family.integers.items():
        key = f"{architecture}.{name}"
        value = file.get(key)
        if value is None and not required:
            continue
        if file.value_types.get(key) not in ("u32", "i32", "u64", "i64", "u16"):
            fail(file, f"{key} must be an integer but is {shown(value)}; convert the model again")
        if not low <= value <= high:
            fail(file, f"{key} is {value:,}, outside {low:,} to {high:,}; the file is damaged")
        numbers[name] = int(value)
    return numbers


def _floats(file: GgufFile, architecture: str) -> None:
    for name, required in _FLOATS.items():
        key = f"{architecture}.{name}"
        value = file.get(key)
        if value is None and not required:
            continue
        if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
            fail(file, f"{key} is {shown(value)}; it must be a number above 0. Convert the model again")


def _scaling(file: GgufFile, architecture: str) -> None:
    kind = file.get(f"{architecture}.rope.scaling.type", "none")
    if not isinstance(kind, str) or kind not in ROPE_SCALINGS:
        fail(file, f"rope scaling {shown(kind)} is unknown; known are {', '.join(ROPE_SCALINGS)}")


def _dimensions(file: GgufFile, numbers: Mapping[str, int], n_vocab: int) -> dict[str, int]:
    """The header's numbers by the names `_SHAPES` uses, checked against each other."""
    n_embd, n_head = numbers["embedding_length"], numbers["attention.head_count"]
    n_head_kv = numbers.get("attention.head_count_kv", n_head)
    head = numbers.get("attention.key_length", n_embd // n_head)
    head_v = numbers.get("attention.value_length", n_embd // n_head)
    if n_head % n_head_kv:
        fail(file, f"{n_head} heads cannot share {n_head_kv} key-value heads; the file is damaged")
    if head != head_v or head % 2 or head < 2:
        fail(file, f"key length {head} and value length {head_v} must be equal and even; the file is damaged")
    rope = numbers.get("rope.dimension_count", head)
    if rope % 2 or not (rope == head or ("ssm.inner_size" in numbers and rope < head)):
        fail(file, f"rope.dimension_count {rope} does not fit the head size {head}; the file is damaged")
    n_expert, n_used = numbers.get("expert_count", 0), numbers.get("expert_used_count", 0)
    if n_used > n_expert or (n_expert and not n_used):
        fail(file, f"{n_used} of {n_expert} experts cannot be used; the file is damaged")
    return {
        "embd": n_embd,
        "two_embd": 2 * n_embd,
        "q": n_head * head,
        "q_gate": 2 * n_head * head,
        "o": n_head * head,
        "k": n_head_kv * head,
        "v": n_head_kv * head,
        "head": head,
        "half_rope": rope // 2,
        "ff": numbers.get("feed_forward_length", 0),
        "expert": n_expert,
        "vocab": n_vocab,
    }


def _recurrent_dimensions(file: GgufFile, numbers: Mapping[str, int]) -> dict[str, int]:
    """The gated delta net's numbers, checked against each other."""
    inner, state = numbers["ssm.inner_size"], numbers["ssm.state_size"]
    n_group, rank = numbers["ssm.group_count"], numbers["ssm.time_step_rank"]
    if rank % n_group or inner != rank * state:
        fail(
            file,
            f"ssm.inner_size {inner}, ssm.time_step_rank {rank}, ssm.state_size {state} and ssm.group_count "
            f"{n_group} do not fit each other; the file is damaged",
        )
    return {
        "inner": inner,
        "state": state,
        "rank": rank,
        "alpha_beta": 2 * rank,
        "conv": inner + 2 * n_group * state,
        "kernel": numbers["ssm.conv_kernel"],
    }


def _sections(file: GgufFile, architecture: str) -> None:
    """The rotated dimensions by position kind, which the engine asserts of: some, and none below 0."""
    key = f"{architecture}.rope.dimension_sections"
    value = file.get(key)
    if value is None and architecture == "qwen3next":
        return
    if file.value_types.get(key) not in ("arr[i32]", "arr[u32]") or not 3 <= len(value) <= 4:
        fail(file, f"{key} is {shown(value)}; it must be 4 integers. Convert the model again")
    if min(value) < 0 or not 0 < sum(value[:3]) <= 1 << 15:
        fail(file, f"{key} is {shown(list(value))}; the file is damaged")


def _recurrent_layers(
    file: GgufFile, architecture: str, family: Family, numbers: Mapping[str, int]
) -> tuple[bool, ...]:
    """For each layer, whether it keeps a recurrent state. The extra blocks of a draft head never do."""
    n_layer = numbers["block_count"]
    if not family.hybrid:
        return (False,) * n_layer
    n_main = n_layer - numbers.get("nextn_predict_layers", 0)
    if n_main < 1:
        fail(file, f"nextn_predict_layers leaves {n_main} of {n_layer} layers; the file is damaged")
    key = f"{architecture}.attention.recurrent_layers"
    told = file.get(key)
    if told is None:
        interval = numbers.get("full_attention_interval", 4)
        return tuple(i < n_main and (i + 1) % interval != 0 for i in range(n_layer))
    if file.value_types.get(key) != "arr[bool]" or len(told) != n_layer:
        fail(file, f"{key} must be {n_layer} booleans; the file is damaged")
    return tuple(map(bool, told))


def _tensors_of_all_parts(file: GgufFile) -> dict[str, GgufTensor]:
    tensors = dict(file.tensors)
    for path in file.shard_paths():
        if path != file.path:
            part = read_header(path)
            for name, tensor in part.tensors.items():
                if name in tensors:
                    fail(part, f"tensor {name!r} is also in another part; the files do not belong together")
                tensors[name] = tensor
    count = file.get("split.tensors.count", len(tensors))
    if type(count) is not int or count != len(tensors):
        fail(file, f"the parts hold {len(tensors)} tensors where {shown(count)} are due; fetch them again")
    return tensors


def _tensors(
    file: GgufFile,
    tensors: Mapping[str, GgufTensor],
    family: Family,
    dims: Mapping[str, int],
    recurrent: Sequence[bool],
) -> None:
    n_layer = len(recurrent)
    for name in _required(family, recurrent):
        if name not in tensors:
            fail(file, f"tensor {name!r} is missing; convert the model again")
    for tensor in tensors.values():
        layer, base = _split_name(tensor.name)
        if tensor.type.name in _NO_WEIGHTS or (len(tensor.shape) == 1 and tensor.type.name != "F32"):
            fail(file, f"tensor {tensor.name!r} is {tensor.type.name}, which the engine cannot compute with")
        if layer is not None and layer >= n_layer:
            fail(file, f"tensor {tensor.name!r} is beyond the model's {n_layer} layers; the file is damaged")
        shape = _GLOBAL_SHAPES.get(base) if layer is None else family.shapes.get(base)
        if shape and tensor.shape != tuple(dims[d] for d in shape):
            wanted = "x".join(str(dims[d]) for d in shape)
            fail(
                file,
                f"tensor {tensor.name!r} is {'x'.join(map(str, tensor.shape))}, not {wanted}; it is damaged",
            )


def _required(family: Family, recurrent: Sequence[bool]) -> Iterable[str]:
    yield from _REQUIRED
    for layer, keeps_state in enumerate(recurrent):
        for name in family.in_recurrent if keeps_state else family.in_layer:
            yield f"blk.{layer}.{name}"


def _split_name(name: str) -> tuple[int | None, str]:
    """`blk.7.attn_q.weight` -> (7, `attn_q.weight`); any other name -> (None, name)."""
    parts = name.split(".", 2)
    if len(parts) == 3 and parts[0] == "blk" and parts[1].isascii() and parts[1].isdigit():
        return int(parts[1]), parts[2]
    return None, name
