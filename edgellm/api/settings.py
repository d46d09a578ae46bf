"""Settings by keyword, for the Python API: names and ranges are those of chat's settings table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

from edgellm.chat import settings as table
from edgellm.errors import UsageError, did_you_mean
from edgellm.generation.generate import GenerateOptions

if TYPE_CHECKING:
    from edgellm.api.answer import Schema
    from edgellm.chat.conversation import OnFull
    from edgellm.prompt.openai import Messages
    from edgellm.prompt.tool_choice import ToolChoice
    from edgellm.prompt.tools import Tool


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
    json_schema: (
        str | Mapping[str, Any] | type[Schema]
    )  # the text is JSON of this schema, or of a pydantic model's
    grammar: str  # the text is of this grammar, GBNF or Lark
    logprobs: int | None  # tell each token's log-probability, and those of so many likeliest tokens


class Asked(Settings, total=False):
    """What can be said of one answer beside its settings; `Model.stream` says what it means."""

    tools: Sequence[Tool]
    tool_choice: ToolChoice
    think: bool | None


class ChatSettings(Asked, total=False):
    """What can be said of a conversation."""

    system: str | None
    messages: Messages
    on_full: OnFull


_BY_FIELD = {parameter.field: parameter for parameter in table.PARAMETERS}


def options_with(
    options: GenerateOptions, settings: Settings, *, beside: type[Any] = Settings
) -> GenerateOptions:
    """`options` with some settings changed; further keys of the TypedDict `beside` are other's to read.

    Raises UsageError for a name or a value that is not one.
    """
    given = cast("Mapping[str, Any]", settings)
    if given.get("json_schema") is not None and given.get("grammar") is not None:
        raise UsageError("json_schema and grammar exclude each other: give one")
    for name, value in given.items():
        if name in _READERS:
            options = _READERS[name](options, value)
        elif name in _BY_FIELD:
            options = table.put(options, _BY_FIELD[name], _value(name, value))
        elif name not in beside.__annotations__:
            names = list(beside.__annotations__)
            raise UsageError(
                f"there is no setting {name!r}; {did_you_mean(name, names, 'there are: ' + ', '.join(names))}"
            )
    return options


def _value(name: str, value: Any) -> Any:
    try:
        return _BY_FIELD[name].read(str(value))
    except ValueError as error:
        raise UsageError(f"{name} cannot be {value!r}: {error}") from None


def _with_stop(options: GenerateOptions, value: Any) -> GenerateOptions:
    return dataclasses.replace(options, stop=(value,) if isinstance(value, str) else tuple(value or ()))


def _with_ignore_eos(options: GenerateOptions, value: Any) -> GenerateOptions:
    return dataclasses.replace(options, ignore_eos=bool(value))


def _with_exact(options: GenerateOptions, value: Any) -> GenerateOptions:
    return dataclasses.replace(options, exact=bool(value))


def _with_biases(options: GenerateOptions, value: Any) -> GenerateOptions:
    sampling = dataclasses.replace(options.sampling, logit_bias=_biases(value))
    return dataclasses.replace(options, sampling=sampling)


def _with_schema(options: GenerateOptions, value: Any) -> GenerateOptions:
    from edgellm.generation.constraints import Grammar

    schema = value.model_json_schema() if hasattr(value, "model_json_schema") else value
    return dataclasses.replace(options, grammar=None if schema is None else Grammar.json_schema(schema))


def _with_grammar(options: GenerateOptions, value: Any) -> GenerateOptions:
    from edgellm.generation.constraints import Grammar

    return dataclasses.replace(options, grammar=None if value is None else Grammar.grammar(value))


def _with_logprobs(options: GenerateOptions, value: Any) -> GenerateOptions:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise UsageError(f"logprobs is how many likeliest tokens to tell, 0 or more, not {value!r}")
    return dataclasses.replace(options, n_logprobs=value)


#: Settings that are no parameters of chat's table, each with what puts it into the options.
_READERS: dict[str, Callable[[GenerateOptions, Any], GenerateOptions]] = {
    "stop": _with_stop,
    "ignore_eos": _with_ignore_eos,
    "exact": _with_exact,
    "logit_bias": _with_biases,
    "json_schema": _with_schema,
    "grammar": _with_grammar,
    "logprobs": _with_logprobs,
}


def _biases(value: Any) -> tuple[tuple[int, float], ...]:
    try:
        return tuple((int(token), float(bias)) for token, bias in (value or {}).items())
    except (AttributeError, TypeError, ValueError):
        raise UsageError(f"logit_bias is a mapping of token ids to numbers, not {value!r:.60}") from None
