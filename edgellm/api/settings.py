"""Settings by keyword, for the Python API: names and ranges are those of chat's settings table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

from edgellm.chat import settings as table
from edgellm.errors import UsageError
from edgellm.generation.generate import GenerateOptions

if TYPE_CHECKING:
    from edgellm.generation.constraints import Grammar


class Settings(TypedDict, total=False):
    """What can be said of one generation. What is left out keeps the value that `Sampling` documents."""

    max_tokens: int | None  # None: until the context is full
    stop: str | Sequence[str]  # ends before the first of these
    ignore_eos: bool
    temperature: float  # 0: greedy
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    repeat_last_n: int
    seed: int | None  # None: a fresh one
    logit_bias: Mapping[int, float]  # what is added to the logits of some token ids
    exact: bool  # the same prompt and seed give the same answer whatever came before, at the price of prefill
    json_schema: str | Mapping[str, Any]  # the text is JSON of this schema
    grammar: str  # the text is of this grammar, GBNF or Lark


_BY_FIELD = {parameter.field: parameter for parameter in table.PARAMETERS}


def options_with(options: GenerateOptions, settings: Settings) -> GenerateOptions:
    """`options` with some settings changed. Raises UsageError for a name or a value that is not one."""
    for name, value in cast("Mapping[str, Any]", settings).items():
        if name == "stop":
            stop = (value,) if isinstance(value, str) else tuple(value or ())
            options = dataclasses.replace(options, stop=stop)
        elif name in ("json_schema", "grammar"):
            options = dataclasses.replace(options, grammar=_grammar(name, value))
        elif name == "ignore_eos":
            options = dataclasses.replace(options, ignore_eos=bool(value))
        elif name == "exact":
            options = dataclasses.replace(options, exact=bool(value))
        elif name == "logit_bias":
            options = dataclasses.replace(
                options, sampling=dataclasses.replace(options.sampling, logit_bias=_biases(value))
            )
        elif name in _BY_FIELD:
            parameter = _BY_FIELD[name]
            options = table.put(options, parameter, parameter.parse(str(value)))
        else:
            raise UsageError(
                f"there is no setting {name!r}; there are: {', '.join(Settings.__annotations__)}"
            )
    return options


def _biases(value: Any) -> tuple[tuple[int, float], ...]:
    try:
        return tuple((int(token), float(bias)) for token, bias in (value or {}).items())
    except (AttributeError, TypeError, ValueError):
        raise UsageError(f"logit_bias is a mapping of token ids to numbers, not {value!r:.60}") from None


def _grammar(name: str, value: Any) -> Grammar | None:
    from edgellm.generation.constraints import Grammar

    if value is None:
        return None
    return Grammar.json_schema(value) if name == "json_schema" else Grammar.grammar(value)
