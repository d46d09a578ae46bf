"""How an answer is to be drawn, as clients of OpenAI and llama-server say it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from edgellm.server.errors import RequestError
from edgellm.server.schema import Model, Strict, Text
from edgellm.serving.job import Job

_SEEDS = 2**32 - 1  # llama.cpp takes the last one for "any"


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _biases(value: Any) -> Any:
    """OpenAI's mapping of ids as text, or llama-server's list of pairs, as ids with their bias."""
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list):
        raise ValueError("give an object of token ids and biases")
    found = {}
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ValueError("give pairs of a token id and a bias")
        token, bias = pair
        if isinstance(token, str) and token.isascii() and token.isdecimal() and len(token) < 10:
            token = int(token)
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < 2**31:
            raise ValueError(f"{token!r:.40} is no token id; /tokenize tells the ids of a text")
        found[token] = -100.0 if bias is False else bias
    return found


_Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Stops = Annotated[
    list[_Stop],
    Field(max_length=64),
    BeforeValidator(_listed),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 1000},
                {
                    "type": "array",
                    "maxItems": 64,
                    "items": {"type": "string", "minLength": 1, "maxLength": 1000},
                },
            ]
        }
    ),
]
Biases = Annotated[
    dict[int, Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=1024),
    BeforeValidator(_biases),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 1024,
            "propertyNames": {"pattern": "^[0-9]{1,9}$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        }
    ),
]
Count = Annotated[int, Field(ge=-1, lt=2**31)]  # of tokens; -1: no limit
Penalty = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=0, le=100)]


class SchemaOf(Strict):
    """OpenAI's wrapping of a JSON schema."""

    name: Annotated[str, Field(max_length=256)] = "schema"
    description: Text | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Strict):
    """What shape the text has to have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaOf | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None  # llama-server's


class StreamOptions(Strict):
    """What a stream tells."""

    IGNORED = frozenset({"include_obfuscation"})

    include_usage: bool | None = None


class Drawing(Strict):
    """Fields that chat and text completions have in common."""

    model: Model = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None  # -1: a fresh one
    stop: Stops | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_p: Share | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    repeat_last_n: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    max_tokens: Count | None = None
    n_predict: Count | None = None  # llama-server's name for it
    ignore_eos: bool | None = None
    exact: bool | None = None  # evaluate the whole prompt, so that a seed repeats an answer to the letter
    cache_prompt: bool | None = None  # llama-server's name for the opposite
    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    grammar: Text | None = None

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer, None without limit."""
        given = self.max_tokens if self.max_tokens is not None else self.n_predict
        return None if given is None or given < 0 else given

    def settings(self) -> dict[str, Any]:
        """What is said, by the names of api.settings.Settings. Raises RequestError for what excludes itself."""
        names = (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repeat_penalty",
            "repeat_last_n",
            "presence_penalty",
        )
        given = {name: getattr(self, name) for name in (*names, "frequency_penalty", "ignore_eos", "stop")}
        given["exact"] = self.exact if self.cache_prompt is None else not self.cache_prompt
        given["logit_bias"] = self.logit_bias or None
        given["max_tokens"] = self.limit
        given["seed"] = None if self.seed is None or self.seed == -1 else self.seed % _SEEDS
        return {name: value for name, value in given.items() if value is not None} | self._shape()

    def side_by_side(self, job: Job) -> list[Job]:
        """A job for each of the n answers: the first is drawn with the seed asked for, the others with those after."""
        seed = job.settings.get("seed")
        seeds: list[dict[str, int]] = [
            {} if seed is None else {"seed": (seed + i) % _SEEDS} for i in range(self.n or 1)
        ]
        return [dataclasses.replace(job, settings={**job.settings, **one}) for one in seeds]

    def _shape(self) -> dict[str, Any]:
        schema = self._schema()
        if schema is not None and self.grammar:
            raise RequestError("a JSON schema and a grammar exclude each other: give one", param="grammar")
        if self.grammar:
            return {"grammar": self.grammar}
        return {} if schema is None else {"json_schema": schema}

    def _schema(self) -> dict[str, Any] | None:
        form = self.response_format
        if form is None or form.type == "text":
            return self.json_schema
        if self.json_schema is not None:
            raise RequestError("json_schema is given twice: give response_format alone", param="json_schema")
        if form.type == "json_object":
            return form.schema_ if form.schema_ is not None else {"type": "object"}
        wrapped = form.json_schema.schema_ if form.json_schema else form.schema_
        if wrapped is None:
            raise RequestError(
                "response_format of the type json_schema needs a schema: json_schema.schema",
                param="response_format.json_schema",
            )
        return wrapped
