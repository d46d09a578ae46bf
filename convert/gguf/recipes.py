"""What each quantization type means, tensor by tensor, as one table: llama.cpp's recipes, and a few of our own.

A recipe names the ggml type of a file's ordinary rows and, for each kind of tensor, the rule that departs
from it. A rule looks at `Facts` and answers a ggml type's name, or None for "as ordinary rows". Nothing here
knows shapes or files: what happens to rows that do not fit a type's blocks is plan.py's part.

Source: llama_tensor_get_type_impl and llama_ftype_get_default_type in src/llama-quant.cpp of llama.cpp; the
integration tests hold every recipe against `llama_model_quantize`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgellm.convert.recipes.rules import Pattern
from edgellm.errors import UsageError, did_you_mean
from edgellm.formats.gguf.types import OWN_TYPES


@dataclass(frozen=True)
class Facts:
    """What a rule may look at."""

    index: int  # which one of its kind this tensor is, counted from the first layer
    count: int  # how many of its kind a model of this depth has
    gqa: int  # query heads per key-value head
    n_expert: int  # 0 when dense
    imatrix: bool  # an importance matrix was given
    is_70b: bool = False  # what llama.cpp takes for a 70B model


Rule = Callable[[Facts], str | None]


def always(type_: str) -> Rule:
    """Every tensor of the kind."""
    return lambda facts: type_


def grouped(type_: str, otherwise: str | None = None) -> Rule:
    """Where four or more query heads share a value head, for its weights are few and matter more."""
    return lambda facts: type_ if facts.gqa >= 4 else otherwise


def first(divisor: int, type_: str, otherwise: str | None = None) -> Rule:
    """The first 1/`divisor` of the layers."""
    return lambda facts: type_ if facts.index < facts.count // divisor else otherwise


def leading(n: int, type_: str, otherwise: str | None = None) -> Rule:
    """The first `n` tensors of the kind."""
    return lambda facts: type_ if facts.index < n else otherwise


def middle(type_: str) -> Rule:
    """All layers but the first and the last eighth."""
    return lambda facts: type_ if facts.count // 8 <= facts.index < 7 * facts.count // 8 else None


def more_bits(type_: str) -> Rule:
    """The first and last eighth of the layers and every third one between: where errors cost most."""
    return lambda facts: type_ if _is_sensitive(facts) else None


def eight_experts(type_: str | None, otherwise: str | None = None) -> Rule:
    """Models of exactly eight experts, whose attention is a small part of the file."""
    return lambda facts: type_ if facts.n_expert == 8 else otherwise


def with_imatrix(rule: Rule) -> Rule:
    """Only when an importance matrix was given."""
    return lambda facts: rule(facts) if facts.imatrix else None


def without_imatrix(rule: Rule) -> Rule:
    """Only when no importance matrix was given."""
    return lambda facts: None if facts.imatrix else rule(facts)


def either(*rules: Rule) -> Rule:
    """The first rule that has an answer."""
    return lambda facts: next((type_ for rule in rules if (type_ := rule(facts))), None)


def _many_experts_or_grouped(type_: str, otherwise: str) -> Rule:
    return lambda facts: type_ if facts.gqa >= 4 or facts.n_expert >= 4 else otherwise


def _more_bits_of_eight_experts(type_: str) -> Rule:
    return lambda facts: type_ if facts.n_expert == 8 and _is_sensitive(facts) else None


def _is_sensitive(facts: Facts) -> bool:
    eighth = facts.count // 8
    return facts.index < eighth or facts.index >= 7 * facts.count // 8 or (facts.index - eighth) % 3 == 2


UNQUANTIZED = frozenset({"F32", "F16", "BF16"})

#: Without data on which weights matter, rows in these types are noise; llama.cpp refuses, and so do we.
NEED_IMATRIX = frozenset({"IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S"})


@dataclass(frozen=True)
class Recipe:
    """One quantization type. A kind of tensor without a rule is stored as `base`."""

    base: str
    rules: Mapping[str, Rule] = field(default_factory=dict)
    output: str = "Q6_K"  # the head, and a tied embedding
    token_embd: str | None = None  # an embedding that is not tied
    flat: str | None = None  # if given: every 2-D tensor, so that `base` is for stacked experts only
    low_bit: bool = False  # two bits and less: its rules count tensors, and no later rule raises a type
    needs_imatrix: frozenset[str] = NEED_IMATRIX  # ggml types that are noise here without one

    @property
    def quantizes(self) -> bool:
        """False for F32, F16 and BF16, which only convert."""
        return self.base not in UNQUANTIZED

    def choose(self, kind: str, facts: Facts) -> str:
        """The ggml type of a tensor of `kind` (its role's GGUF name, without _exps or _shexp)."""
        type_ = (rule(facts) if (rule := self.rules.get(kind)) else None) or self.base
        if self.low_bit:
            return type_
        if kind in ("attn_k", "attn_v") and facts.n_expert == 8:
            return "Q8_0"
        if kind == "attn_v" and facts.is_70b and type_ in ("Q3_K", "Q4_K"):
            return "Q5_K"
        return type_


_EIGHT_Q5 = eight_experts("Q5_K")


def _low_bit(base: str, richer: str, token_embd: str, attn_output: str | None = None) -> Recipe:
    """The recipes of about two bits and less: they share every rule and differ in the types."""
    return Recipe(
        base,
        {
            "attn_v": _many_experts_or_grouped("Q4_K", richer),
            "attn_k": eight_experts("Q4_K"),
            "ffn_down": first(8, richer),
            "attn_output": eight_experts("Q5_K", attn_output),
        },
        output="Q5_K",
        token_embd=token_embd,
        low_bit=True,
    )


RECIPES: dict[str, Recipe] = {
    "F32": Recipe("F32"),
    "F16": Recipe("F16"),
    "BF16": Recipe("BF16"),
    "Q8_0": Recipe("Q8_0", output="Q8_0"),
    # Q4_0 and Q5_0 can go astray on the first ffn_down tensors when an importance matrix steers them.
    "Q4_0": Recipe("Q4_0", {"ffn_down": with_imatrix(first(8, "Q4_1"))}),
    "Q4_1": Recipe("Q4_1"),
    "Q5_0": Recipe("Q5_0", {"ffn_down": with_imatrix(first(8, "Q5_1"))}),
    "Q5_1": Recipe("Q5_1"),
    "Q2_K": Recipe(
        "Q2_K",
        {
            "attn_v": grouped("Q4_K", "Q3_K"),
            "ffn_down": always("Q3_K"),
            "attn_output": eight_experts("Q5_K", "Q3_K"),
        },
    ),
    "Q2_K_S": Recipe(
        "Q2_K",
        {"attn_v": grouped("Q4_K"), "ffn_down": first(8, "Q4_K")},
        needs_imatrix=NEED_IMATRIX | {"Q2_K"},
    ),
    "Q3_K_S": Recipe("Q3_K", {"attn_output": _EIGHT_Q5}),
    "Q3_K_M": Recipe(
        "Q3_K",
        {
            "attn_v": leading(2, "Q5_K", "Q4_K"),
            "ffn_down": first(16, "Q5_K", "Q4_K"),
            "attn_output": eight_experts("Q5_K", "Q4_K"),
        },
    ),
    "Q3_K_L": Recipe(
        "Q3_K",
        {"attn_v": always("Q5_K"), "ffn_down": always("Q5_K"), "attn_output": eight_experts(None, "Q5_K")},
    ),
    "Q4_K_S": Recipe(
        "Q4_K", {"attn_v": leading(4, "Q5_K"), "ffn_down": first(8, "Q5_K"), "attn_output": _EIGHT_Q5}
    ),
    "Q4_K_M": Recipe(
        "Q4_K", {"attn_v": more_bits("Q6_K"), "ffn_down": more_bits("Q6_K"), "attn_output": _EIGHT_Q5}
    ),
    "Q5_K_S": Recipe("Q5_K"),
    "Q5_K_M": Recipe("Q5_K", {"attn_v": more_bits("Q6_K"), "ffn_down": more_bits("Q6_K")}),
    "Q6_K": Recipe("Q6_K"),
    "IQ4_NL": Recipe(
        "IQ4_NL",
        {"attn_v": grouped("Q5_K"), "ffn_down": without_imatrix(first(8, "Q5_K")), "attn_output": _EIGHT_Q5},
    ),
    "IQ4_XS": Recipe(
        "IQ4_XS",
        {"attn_v": grouped("Q5_K"), "ffn_down": without_imatrix(first(8, "Q5_K")), "attn_output": _EIGHT_Q5},
    ),
    "IQ3_XXS": Recipe(
        "IQ3_XXS",
        {
            "attn_q": always("IQ2_S"),
            "attn_k": always("IQ2_S"),
            "attn_v": either(grouped("Q4_K"), without_imatrix(always("IQ3_S"))),
            "ffn_down": without_imatrix(first(8, "Q4_K", "Q3_K")),
            "attn_output": eight_experts("Q5_K", "IQ3_S"),
        },
        output="Q5_K",
        token_embd="IQ3_S",
    ),
    "IQ3_XS": Recipe(
        "IQ3_S",
        {
            "attn_q": always("IQ3_XXS"),
            "attn_k": always("IQ3_XXS"),
            "attn_v": grouped("Q4_K"),
            "ffn_gate": middle("IQ3_XXS"),
            "ffn_up": middle("IQ3_XXS"),
            "attn_output": _EIGHT_Q5,
        },
    ),
    "IQ3_S": Recipe("IQ3_S", {"attn_v": grouped("Q4_K"), "attn_output": _EIGHT_Q5}),
    "IQ3_M": Recipe(
        "IQ3_S",
        {
            "attn_v": always("Q4_K"),
            "ffn_down": either(first(8, "Q4_K"), _more_bits_of_eight_experts("Q4_K")),
            "attn_output": eight_experts("Q5_K", "Q4_K"),
        },
    ),
    "IQ2_XXS": _low_bit("IQ2_XXS", "Q2_K", "Q2_K"),
    "IQ2_XS": _low_bit("IQ2_XS", "Q2_K", "Q2_K"),
    "IQ2_S": _low_bit("IQ2_XS", "IQ3_S", "IQ3_S", "IQ3_S"),
    "IQ2_M": _low_bit("IQ2_S", "IQ3_S", "IQ3_S", "IQ3_S"),
    "IQ1_S": _low_bit("IQ1_S", "Q2_K", "Q2_K", "IQ2_XXS"),
    "IQ1_M": _low_bit("IQ1_M", "Q2_K", "Q2_K", "IQ2_XXS"),
    "TQ1_0": Recipe("TQ1_0", token_embd="Q4_K"),
    "TQ2_0": Recipe("TQ2_0", token_embd="Q4_K"),
    # gpt-oss's layout: experts in MXFP4, all else in Q8_0.
    "MXFP4_MOE": Recipe("MXFP4", output="Q8_0", flat="Q8_0"),
}

#: Recipes of our own: those that OWN_TYPES says of llama.cpp's, with these kinds of tensor in richer types. Of a
#: hybrid's matrices those of its few attention layers, queries apart, are the most sensitive for their size, then the
#: delta net's time steps (docs/quantization.md has the figures).
_HYBRID = tuple(
    Pattern(role, type_)
    for type_, roles in {
        "Q6_K": ("attn_k", "attn_v", "attn_output"),
        "Q8_0": ("ssm_alpha", "ssm_beta"),
    }.items()
    for role in roles
)
OWN: dict[str, tuple[Pattern, ...]] = dict.fromkeys(OWN_TYPES, _HYBRID)

#: What llama.cpp's quantize tool calls some of them.
ALIASES: dict[str, str] = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}

#: A row that does not divide into a type's blocks is stored in this type instead.
FALLBACKS: dict[str, str] = {
    "IQ1_S": "IQ4_NL",
    "IQ1_M": "IQ4_NL",
    "IQ2_XXS": "IQ4_NL",
    "IQ2_XS": "IQ4_NL",
    "IQ2_S": "IQ4_NL",
    "IQ3_XXS": "IQ4_NL",
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


def canonical(name: str) -> str:
    """The recipe's name for what a user typed, e.g. "q4_k" -> "Q4_K_M". Raises UsageError."""
    upper = name.strip().upper().replace("-", "_")
    upper = ALIASES.get(upper, upper)
    if upper not in RECIPES and upper not in OWN:
        known = (*RECIPES, *OWN)
        hint = did_you_mean(name, known, f"choose one of {', '.join(known)}")
        raise UsageError(f"unknown quantization type {name!r}; {hint}")
    return upper


def recipe_of(type_: str) -> Recipe:
    """The rules of a type, by its canonical name; one of our own has more in `OWN`."""
    return RECIPES[OWN_TYPES.get(type_, type_)]
