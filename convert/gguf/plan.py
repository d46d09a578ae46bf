"""Which ggml type each tensor of a model gets: a pure function of names, shapes and options.

Reproduces llama.cpp's quantizer to the letter, its order of tensors and its counters included, so that the
result can be held against it byte for byte. Reads and writes nothing.
Source: src/llama-quant.cpp of llama.cpp.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgellm.convert.gguf.ggml import ABORT_WITHOUT_IMATRIX
from edgellm.convert.gguf.recipes import FALLBACKS, OWN, RECIPES, UNQUANTIZED, Facts, Recipe, recipe_of
from edgellm.convert.recipes.rules import Pattern, Regex, Rule, Subject, check_patterns, first_match
from edgellm.errors import UsageError
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME, OWN_TYPES, GgmlType

_NAME = re.compile(
    r"(?:blk\.(?P<layer>\d+)\.)?(?P<kind>[a-z][a-z0-9_.]*?)(?:_exps|_shexp)?(?:\.(?:weight|bias))?"
)
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"

#: ggml types that a tensor can be asked to have.
TARGET_TYPES = frozenset({recipe.base for recipe in RECIPES.values()})


@dataclass(frozen=True)
class ModelFacts:
    """The numbers of a model that recipes depend on."""

    architecture: str
    n_layer: int
    n_head: int
    n_head_kv: int
    n_expert: int  # 0 when dense
    n_expert_used: int = 0

    @property
    def gqa(self) -> int:
        """Query heads per key-value head."""
        return self.n_head // self.n_head_kv if self.n_head_kv else 0

    @property
    def is_70b(self) -> bool:
        """What llama.cpp takes for a 70B model: 80 layers of Qwen2, or of Llama with grouped heads."""
        grouped = self.architecture == "llama" and self.n_head != self.n_head_kv and self.n_expert != 8
        return self.n_layer == 80 and (grouped or self.architecture == "qwen2")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor before quantization. `shape` has rows first; `type` is what an unquantized file holds."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType

    @property
    def n_weights(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class QuantOptions:
    """What the user asked for. `type` is a recipe's canonical name, the others ggml types' names."""

    type: str
    pure: bool = False
    output_type: str | None = None
    token_embd_type: str | None = None
    tensor_types: tuple[tuple[str, str], ...] = ()  # (regular expression, ggml type), the first match counts
    patterns: tuple[Pattern, ...] = ()  # a recipe file's, for what no regular expression is found in

    def __post_init__(self) -> None:
        chosen = [self.output_type, self.token_embd_type, *(rule.type for rule in self.rules)]
        for type_ in filter(None, chosen):
            if type_ not in TARGET_TYPES:
                raise UsageError(
                    f"{type_!r} is no type of a tensor; choose one of {', '.join(sorted(TARGET_TYPES))}"
                )
        if self.rules and not recipe_of(self.type).quantizes:
            what = "--tensor-type" if self.tensor_types else "a recipe"
            raise UsageError(f"{what} has no effect on {self.type}; choose a quantized --quant")

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What goes before the type's own rules, the strongest first."""
        return (*(Regex(*pair) for pair in self.tensor_types), *self.patterns)


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the output."""

    source: TensorInfo
    type: GgmlType
    wanted: GgmlType | None = (
        None  # set when the rows do not fit this type's blocks and `type` is the fallback
    )
    uses_imatrix: bool = False

    @property
    def name(self) -> str:
        """The tensor's GGUF name."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        return self.source.shape

    @property
    def nbytes(self) -> int:
        """Bytes in the output, without padding."""
        return self.type.nbytes(self.source.n_weights)


@dataclass(frozen=True)
class Plan:
    """All tensors in the order llama.cpp's quantizer writes them: those of no layer, then layer by layer."""

    options: QuantOptions
    tensors: tuple[PlannedTensor, ...] = field(repr=False)

    @property
    def n_weights(self) -> int:
        """Number of weights in the model."""
        return sum(tensor.source.n_weights for tensor in self.tensors)

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors, without padding."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits a weight takes on average, norms and all."""
        return 8 * self.data_bytes / self.n_weights

    @property
    def fallbacks(self) -> tuple[PlannedTensor, ...]:
        """Tensors whose rows do not fit the type the recipe wanted."""
        return tuple(tensor for tensor in self.tensors if tensor.wanted)


def make_plan(
    tensors: Sequence[TensorInfo],
    model: ModelFacts,
    options: QuantOptions,
    imatrix: Mapping[str, int] | None = None,
) -> Plan:
    """Choose every tensor's type. `imatrix` gives the number of column weights it has for each name.

    Raises UsageError when the request cannot be met, naming the tensor.
    """
    recipe = recipe_of(options.type)
    if recipe.flat and not model.n_expert and not options.pure:
        raise UsageError(
            f"{options.type} is for mixtures of experts and this model is dense; use Q8_0, or add --pure"
        )
    if options.type in OWN and not any(kind_of(tensor.name) == "ssm_out" for tensor in tensors):
        raise UsageError(
            f"{options.type} is for hybrids and this model has no delta nets; use {OWN_TYPES[options.type]}"
        )
    ordered = sorted(tensors, key=_file_order)
    _check_rules(ordered, model, options)
    chooser = _Chooser(recipe, model, options, ordered, imatrix is not None)
    return Plan(options, tuple(_plan_tensor(tensor, chooser, imatrix) for tensor in ordered))


def kind_of(name: str) -> str:
    """What a tensor is, e.g. "ffn_down" for `blk.3.ffn_down_exps.weight`."""
    match = _NAME.fullmatch(name)
    return match["kind"] if match else name


def _rule_kind(name: str) -> str:
    """The kind by whose rule llama.cpp chooses a tensor's type: values with others count as values."""
    kind = kind_of(name)
    return "attn_v" if kind == "attn_qkv" else kind


def is_quantizable(tensor: TensorInfo) -> bool:
    """Matrices are quantized; norms, biases, routers, convolutions and vectors keep the type they have."""
    is_matrix = math.prod(tensor.shape[:-1]) > 1
    kind = kind_of(tensor.name)
    return (
        is_matrix
        and tensor.name.endswith(".weight")
        and not kind.endswith("_norm")
        and kind not in ("ffn_gate_inp", "ssm_conv1d")
    )


class _Chooser:
    """Walks the tensors in file order; the recipe's rules see how many of each kind it has chosen so far."""

    def __init__(
        self,
        recipe: Recipe,
        model: ModelFacts,
        options: QuantOptions,
        tensors: Sequence[TensorInfo],
        imatrix: bool,
    ) -> None:
        self.recipe, self.model, self.options, self.imatrix = recipe, model, options, imatrix
        self.tied = _is_tied(tensors)
        self.rules = (*options.rules, *(() if options.pure else OWN.get(options.type, ())))
        self.n_attn_v = sum(
            _rule_kind(tensor.name) == "attn_v" and ".weight" in tensor.name for tensor in tensors
        )
        self.seen: Counter[str] = Counter()

    def choose(self, tensor: TensorInfo) -> tuple[str, bool]:
        """The wanted type, and whether a fallback may replace it."""
        options, recipe = self.options, self.recipe
        if tensor.name == _EMBEDDING and options.token_embd_type:
            return options.token_embd_type, False
        if tensor.name == _HEAD and options.output_type:
            return options.output_type, False
        if not recipe.quantizes:
            return recipe.base, True
        if ruled := first_match(self.rules, _subject(tensor, self.model, self.tied)):
            return ruled, True
        return (recipe.base if options.pure else self._by_recipe(tensor)), True

    def _by_recipe(self, tensor: TensorInfo) -> str:
        recipe = self.recipe
        if tensor.name == _HEAD or (self.tied and tensor.name == _EMBEDDING):
            fits = tensor.shape[-1] % GGML_TYPES_BY_NAME[recipe.base].block_size == 0
            return self.options.output_type or (recipe.output if fits else "Q8_0")
        if recipe.flat:
            return recipe.base if len(tensor.shape) == 3 and tensor.shape[0] > 1 else recipe.flat
        if tensor.name == _EMBEDDING:
            return recipe.token_embd or recipe.base
        kind = _rule_kind(tensor.name)
        facts = self._facts(tensor, kind)
        self.seen[kind] += 1
        return recipe.choose(kind, facts)

    def _facts(self, tensor: TensorInfo, kind: str) -> Facts:
        """Experts' tensors go by their layer, others by counting those that no option decided."""
        by_layer = self.model.n_expert > 1 and kind.startswith("ffn_") and not self.recipe.low_bit
        return Facts(
            index=layer_of(tensor.name) if by_layer else self.seen[kind],
            count=self.n_attn_v if kind == "attn_v" else self.model.n_layer,
            gqa=self.model.gqa,
            n_expert=self.model.n_expert,
            imatrix=self.imatrix,
            is_70b=self.model.is_70b,
        )


def _plan_tensor(tensor: TensorInfo, chooser: _Chooser, imatrix: Mapping[str, int] | None) -> PlannedTensor:
    if not is_quantizable(tensor):
        return PlannedTensor(tensor, tensor.type)
    wanted, replaceable = chooser.choose(tensor)
    name = _fit(tensor, wanted) if replaceable else wanted
    type_ = GGML_TYPES_BY_NAME[name]
    if tensor.shape[-1] % type_.block_size:
        raise UsageError(
            f"{tensor.name} has rows of {tensor.shape[-1]} weights, not a multiple of {name}'s block of "
            f"{type_.block_size}; choose Q8_0 or F16 for it"
        )
    converted = type_ != tensor.type
    uses = converted and name not in UNQUANTIZED and _has_weights(tensor, imatrix)
    if not uses and converted:
        _check_usable_without_imatrix(tensor, name, chooser.recipe, imatrix is not None)
    return PlannedTensor(tensor, type_, GGML_TYPES_BY_NAME[wanted] if name != wanted else None, uses)


def _fit(tensor: TensorInfo, wanted: str) -> str:
    """`wanted`, or what llama.cpp stores in its place when the rows do not divide into its blocks."""
    n_per_row = tensor.shape[-1]
    if n_per_row % GGML_TYPES_BY_NAME[wanted].block_size == 0:
        return wanted
    smaller = FALLBACKS.get(wanted, wanted)
    return smaller if n_per_row % GGML_TYPES_BY_NAME[smaller].block_size == 0 else "F16"


def _has_weights(tensor: TensorInfo, imatrix: Mapping[str, int] | None) -> bool:
    """Whether the importance matrix has this tensor's columns. Raises UsageError when it has others."""
    if imatrix is None or tensor.name not in imatrix:
        return False
    n_expert = tensor.shape[0] if len(tensor.shape) == 3 else 1
    if imatrix[tensor.name] == n_expert * tensor.shape[-1]:
        return True
    if tensor.name == _EMBEDDING:
        return False
    raise UsageError(
        f"the importance matrix has {imatrix[tensor.name]} values for {tensor.name}, which has "
        f"{n_expert * tensor.shape[-1]} columns; it was made for another model"
    )


def _check_usable_without_imatrix(tensor: TensorInfo, type_: str, recipe: Recipe, given: bool) -> None:
    excused = tensor.name in (_EMBEDDING, _HEAD)
    if type_ in ABORT_WITHOUT_IMATRIX or (type_ in recipe.needs_imatrix and not excused):
        fact = (
            f"the importance matrix has nothing for {tensor.name}"
            if given
            else f"{tensor.name} would be noise"
        )
        raise UsageError(
            f"{type_} needs an importance matrix: {fact}; make one with edgellm calibrate, give it with --imatrix"
        )


def _check_rules(tensors: Sequence[TensorInfo], model: ModelFacts, options: QuantOptions) -> None:
    tied = _is_tied(tensors)
    subjects = [_subject(tensor, model, tied) for tensor in tensors if is_quantizable(tensor)]
    check_patterns(options.patterns, subjects)
    every = [_subject(tensor, model, tied) for tensor in tensors]
    for pattern, type_ in options.tensor_types:
        if not any(map(Regex(pattern, type_).matches, every)):
            raise UsageError(
                f"--tensor-type {pattern}={type_} matches no tensor; edgellm inspect lists their names"
            )


def _is_tied(tensors: Sequence[TensorInfo]) -> bool:
    return all(tensor.name != _HEAD for tensor in tensors)


def _subject(tensor: TensorInfo, model: ModelFacts, tied: bool) -> Subject:
    """What rules see of a tensor. A tied embedding is the head as well."""
    kind = kind_of(tensor.name)
    roles = ("output", kind) if tied and tensor.name == _EMBEDDING else (kind,)
    return Subject(tensor.name, roles, layer_of(tensor.name), model.n_layer)


def layer_of(name: str) -> int:
    """The layer a tensor belongs to, -1 for those of none."""
    match = _NAME.fullmatch(name)
    return int(match["layer"]) if match and match["layer"] else -1


def _file_order(tensor: TensorInfo) -> tuple[int, bytes]:
    return layer_of(tensor.name), tensor.name.encode()
