"""Which encoding each matrix of an ONNX model gets: recipes as a table, refined by options. Reads nothing.

The options are what `--onnx KEY=VALUE` takes on the command line; unknown keys and values fail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from edgellm.convert.onnx.blocks import ALGORITHMS, BLOCK_SIZES, BlockFormat
from edgellm.convert.onnx.linear import BlockLinear, FloatLinear, Linear, W8A8Linear
from edgellm.convert.recipes.rules import Pattern, Subject, first_match
from edgellm.errors import UsageError
from edgellm.models.base import Role

#: Positions the rotary caches are written for: 4 bytes * head_dim each, and no laptop runs longer contexts.
MAX_CTX = 32768

#: Attention's matrices, and what leaves a delta net: a tenth or so of the weights, whose rounding costs the most.
_ATTENTION = frozenset({Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V, Role.ATTN_OUT, Role.SSM_OUT})
#: What is kept in int8 in sensitive layers.
_SENSITIVE = frozenset({Role.FFN_DOWN, Role.FFN_DOWN_SHEXP})


@dataclass(frozen=True)
class OnnxOptions:
    """What refines a recipe. None and "auto": the recipe's own choice."""

    block: int | None = None  # weights that share a scale
    head: str = "auto"  # auto | int4 | int8 | fp32: the output projection, and a tied embedding
    attention: str = (
        "auto"  # auto | int4 | int8: attention's matrices and what leaves delta nets; 4 bits elsewhere
    )
    symmetric: bool | None = None  # False: blocks have a zero point
    algorithm: str = "auto"  # auto | rtn | search | kquant: how scales are chosen
    mixed: bool | None = None  # int8 for down in the first and last eighth of the layers and every third one
    kv: str = "auto"  # auto | fp32 | int8: the KV cache, int8 with scales from a short calibration
    context: int | None = None  # positions the model can be run at; at most the model's own
    prefill: str = "same"  # same | w8a8: a second set of weights for prompts, for integer products

    @classmethod
    def parse(cls, settings: Sequence[str]) -> OnnxOptions:
        """From `key=value` strings. Raises UsageError naming what is unknown."""
        found: dict[str, object] = {}
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals or key not in _VALUES:
                raise UsageError(f"--onnx {setting} is unknown; settings are {', '.join(sorted(_VALUES))}")
            choices = _VALUES[key]
            if choices is None and (not text.isdigit() or int(text) < 1):
                raise UsageError(f"--onnx {setting}: {key} must be a positive number")
            if choices is not None and text.lower() not in choices:
                raise UsageError(f"--onnx {setting}: {key} must be one of {', '.join(choices)}")
            found[key] = int(text) if choices is None else choices[text.lower()]
        return cls(**found)  # type: ignore[arg-type]


def _named(*names: str) -> dict[str, object]:
    return {name: name for name in names}


_VALUES: dict[str, Mapping[str, object] | None] = {  # None: any positive number
    "block": {str(size): size for size in BLOCK_SIZES},
    "head": _named("auto", "int4", "int8", "fp32"),
    "attention": _named("auto", "int4", "int8"),
    "symmetric": {"true": True, "false": False},
    "algorithm": _named("auto", *ALGORITHMS),
    "kv": _named("auto", "fp32", "int8"),
    "mixed": {"true": True, "false": False},
    "context": None,
    "prefill": _named("same", "w8a8"),
}
assert set(_VALUES) == {field.name for field in fields(OnnxOptions)}


@dataclass(frozen=True)
class Recipe:
    """The encodings of one model's matrices."""

    name: str  # e.g. "onnx-int4"
    matrix: Linear
    head: Linear  # the output projection and the embedding
    experts: Linear
    embedding: Linear | None = None  # one that is not the head as well, where it differs
    attention: Linear | None = None  # attention's matrices and what leaves delta nets, where they differ
    sensitive: Linear | None = None  # for the down projection of sensitive layers
    sensitive_experts: Linear | None = None  # and experts, which are most of a model
    patterns: tuple[Pattern, ...] = ()  # a recipe file's, before all of these

    def encoding(self, roles: Sequence[Role], layer: int, n_layer: int) -> Linear:
        """The encoding of the matrix packed from `roles` in a layer."""
        if ruled := self._ruled(roles, layer, n_layer):
            return ruled
        if self.attention and _ATTENTION.intersection(roles):
            return self.attention
        if self.sensitive and _is_sensitive(layer, n_layer) and _SENSITIVE.intersection(roles):
            return self.sensitive
        return self.matrix

    def head_encoding(self, *, tied: bool) -> Linear:
        """The encoding of the output projection."""
        return self._ruled((Role.OUTPUT, Role.TOKEN_EMBD) if tied else (Role.OUTPUT,), -1, 1) or self.head

    def embedding_encoding(self, *, tied: bool) -> Linear:
        """The encoding of the embedding: a tied one is the head."""
        if tied:
            return self.head_encoding(tied=True)
        return self._ruled((Role.TOKEN_EMBD,), -1, 1) or self.embedding or self.head

    def _ruled(self, roles: Sequence[Role], layer: int, n_layer: int) -> Linear | None:
        found = first_match(self.patterns, subject(roles, layer, n_layer))
        return encoding_of(found) if found else None

    def expert_encoding(self, layer: int, n_layer: int) -> Linear:
        """The encoding of a layer's routed experts."""
        if ruled := self._ruled((Role.FFN_GATE_EXPS, Role.FFN_UP_EXPS, Role.FFN_DOWN_EXPS), layer, n_layer):
            return ruled
        sensitive = self.sensitive_experts if _is_sensitive(layer, n_layer) else None
        return sensitive or self.experts


def subject(roles: Sequence[Role], layer: int, n_layer: int) -> Subject:
    """What rules see of a matrix: the roles it is packed from, and its first one's name in GGUF."""
    words = tuple(role.value for role in roles)
    where = f"blk.{layer}." if layer >= 0 else ""
    return Subject(f"{where}{words[0]}.weight", words, layer, n_layer)


_ENCODING = re.compile(r"int(4|8)(a?)/(\d+)(?::([a-z]+))?")


def encoding_of(text: str) -> Linear:
    """An encoding by its label: `int4/32`, `int4a/32` (zero points), `int8/32`, `fp32`, `w8a8`, and behind a colon
    how scales are chosen: `int4/32:search`, `int4a/32:kquant`. Raises UsageError.
    """
    if text in ("fp32", "w8a8"):
        return FloatLinear() if text == "fp32" else W8A8Linear()
    if not (match := _ENCODING.fullmatch(text)):
        raise UsageError(
            f"{text!r} is no encoding: give int4/BLOCK, int4a/BLOCK (with zero points), int8/BLOCK, fp32 or w8a8"
        )
    bits, zeros, block, algorithm = match.groups()
    return BlockLinear(BlockFormat(int(bits), int(block), not zeros, algorithm or "rtn"))


def _is_sensitive(layer: int, n_layer: int) -> bool:
    """The first and last eighth and every third layer between: llama.cpp's `use_more_bits`."""
    eighth = n_layer // 8
    return layer < eighth or layer >= 7 * n_layer // 8 or (layer - eighth) % 3 == 2


@dataclass(frozen=True)
class _Base:
    """What a recipe is before options."""

    bits: int  # of weights; 32: float
    block: int = 128
    fine_block: int = 128  # of matrices in 4 bits, which need it more; experts have `block`
    w8a8: bool = False


_BASES: dict[str, _Base] = {
    "onnx-fp32": _Base(32),
    "onnx-int8": _Base(8, block=32),
    "onnx-int4": _Base(4, fine_block=32),
    "onnx-w8a8": _Base(8, block=32, w8a8=True),
}
QUANTS = tuple(_BASES)


def recipe(
    quant: str, options: OnnxOptions, patterns: tuple[Pattern, ...] = (), *, weighed: bool = False
) -> Recipe:
    """The recipe of a `--quant` name, refined, `patterns` before its own choice; with an importance matrix, `weighed`.

    Raises UsageError for an unknown name or encoding or a senseless mix.
    """
    for pattern in patterns:
        if pattern.text.split()[0] in ("output", "token_embd") and pattern.type == "w8a8":
            raise UsageError(f"{pattern.text!r}: an embedding and a head cannot be w8a8; choose int8/32")
        encoding_of(pattern.type)
    name = quant.strip().lower()
    base = _BASES.get(name)
    if base is None:
        raise UsageError(f"unknown ONNX type {quant!r}; choose one of {', '.join(QUANTS)}")
    block = options.block or base.block
    plain = FloatLinear() if base.bits == 32 else BlockLinear(BlockFormat(8, block))
    form = _refined(base, options, weighed=weighed)
    refined = plain if base.bits == 32 else BlockLinear(form)
    heads = {"auto": plain, "fp32": FloatLinear(), "int8": BlockLinear(BlockFormat(8, block))}
    four = base.bits == 4
    return Recipe(
        name=name,
        matrix=W8A8Linear() if base.w8a8 else refined,
        head=heads.get(options.head) or BlockLinear(replace(form, bits=4)),
        experts=BlockLinear(replace(form, block=block)) if four else refined,
        embedding=refined if four and options.head == "auto" else None,
        attention=plain if four and options.attention != "int4" else None,
        sensitive=plain if four and options.mixed is not False else None,
        sensitive_experts=plain if four and options.mixed else None,
        patterns=patterns,
    )


def _refined(base: _Base, options: OnnxOptions, *, weighed: bool) -> BlockFormat:
    """Blocks as the options on scales want them: a search is for symmetric ones, k-quant for the others.

    Where nothing was asked for, 4 bits are searched if columns are weighed: without weights it gains nothing.
    """
    symmetric = options.symmetric
    algorithm = options.algorithm
    if algorithm == "auto":
        searched = "search" if symmetric else "kquant"
        algorithm = searched if weighed and base.bits == 4 else "rtn"
    if symmetric is None:
        symmetric = {"search": True, "kquant": False}.get(algorithm, base.bits == 8)
    block = options.block or (base.fine_block if base.bits == 4 else base.block)
    return BlockFormat(min(base.bits, 8), block, symmetric, algorithm)


def for_prompts(recipe: Recipe) -> Recipe:
    """The same embedding and experts, with matrices whose products over many tokens are fastest."""
    return replace(recipe, matrix=W8A8Linear(), attention=None, sensitive=None, patterns=())
