"""OpenAI's text completions: /v1/completions. The prompt is continued as it is, control tokens read in it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgellm.server import cost, running, sse
from edgellm.server.drawing import Drawing
from edgellm.server.errors import RequestError
from edgellm.server.running import Answer
from edgellm.server.schema import MAX_TEXT, Asked, Text, Token
from edgellm.serving.job import Done, Event, Job, Piece, TokenLogprob

_MAX_PROMPTS = 64
_Prompt = Annotated[
    Annotated[Text, Field(min_length=1), Tag("<text>")]
    | Annotated[list[Token], Field(min_length=1, max_length=2**20), Tag("<ids>")],
    Discriminator(lambda value: "<ids>" if isinstance(value, list) else "<text>"),
]


def _prompts(value: Any) -> Any:
    """A text, texts, token ids, or lists of them, as a list of prompts."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(one, int) for one in value):
        return [value]
    return value


_ID_LIST = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}}
_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
Prompts = Annotated[
    list[_Prompt],
    Field(min_length=1, max_length=_MAX_PROMPTS),
    BeforeValidator(_prompts),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                {"type": "array", "minItems": 1, "maxItems": _MAX_PROMPTS, "items": _TEXT},
                _ID_LIST,
                {"type": "array", "minItems": 1, "maxItems": _MAX_PROMPTS, "items": _ID_LIST},
            ]
        }
    ),
]


class CompletionRequest(Drawing):
    """What is asked of /v1/completions."""

    IGNORED = frozenset({"user", "metadata", "store", "service_tier", "timings_per_token"})

    prompt: Prompts
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=16)] | None = None
    suffix: Text | None = None

    def jobs(self) -> list[Job]:
        """One for each answer, those to a prompt one after the other. Raises RequestError."""
        if self.suffix:
            raise RequestError("suffix is not supported: write the model's own infill tokens", param="suffix")
        if self.best_of not in (None, self.n or 1):
            raise RequestError("best_of has to be n: answers are not compared here", param="best_of")
        if self.echo and self.logprobs is not None:
            raise RequestError("echo with logprobs is not supported: prompts are not scored", param="echo")
        if self.echo and not all(isinstance(prompt, str) for prompt in self.prompt):
            raise RequestError("echo needs prompts that are text", param="echo")
        settings = self.settings()
        jobs = []
        for prompt in self.prompt:
            given = prompt if isinstance(prompt, str) else tuple(prompt)
            jobs += self.side_by_side(Job(prompt=given, settings=settings, n_logprobs=self.logprobs))
        return jobs


async def complete(request: Request, asked: CompletionRequest) -> Response:
    """Continue a text."""
    jobs = asked.jobs()
    if asked.stream:
        quiet = running.settings_of(request).quiet_seconds
        return sse.EventStream(_streamed(request, asked, jobs), quiet_seconds=quiet)
    async with running.engine_of(request, asked.model) as engine:
        answers = await running.collect(request, engine, jobs)
    choices = [
        _choice(i, answer, job, asked) for i, (answer, job) in enumerate(zip(answers, jobs, strict=True))
    ]
    dones = [answer.done for answer in answers if answer.done]
    return JSONResponse({**_head(request, asked), "choices": choices, **cost.whole(dones, asked.n or 1)})


def _choice(place: int, answer: Answer, job: Job, asked: CompletionRequest) -> dict[str, Any]:
    text = f"{job.prompt}{answer.text}" if asked.echo else answer.text
    reason = answer.done.finish_reason if answer.done else None
    logprobs = None if asked.logprobs is None else _Logprobs().told(answer.logprobs)
    return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": reason}


async def _streamed(
    request: Request, asked: CompletionRequest, jobs: Sequence[Job]
) -> AsyncGenerator[bytes, None]:
    dones: dict[int, Done] = {}
    seen = [_Logprobs() for _ in jobs]
    async with running.engine_of(request, asked.model) as engine:
        head = _head(request, asked)
        if asked.echo:
            for place, job in enumerate(jobs):
                yield sse.event({**head, **_chunk(place, str(job.prompt))})
        async with contextlib.aclosing(running.events(request, engine, jobs)) as events:
            async for place, event in events:
                if isinstance(event, Done):
                    dones[place] = event
                for chunk in _chunks(place, event, None if asked.logprobs is None else seen[place]):
                    yield sse.event({**head, **chunk})
    if asked.stream_options and asked.stream_options.include_usage:
        told = cost.whole([dones[place] for place in sorted(dones)], asked.n or 1)
        yield sse.event({**head, "choices": [], **told})
    yield sse.event("[DONE]")


def _chunks(place: int, event: Event, seen: _Logprobs | None) -> list[dict[str, Any]]:
    if isinstance(event, Piece):
        return [_chunk(place, event.text, seen.told(event.logprobs) if seen else None)]
    if isinstance(event, Done):
        rest = [_chunk(place, "", seen.told(event.logprobs))] if seen and event.logprobs else []
        last = _chunk(place, "", reason=event.finish_reason)
        return [*rest, {**last, **cost.ended(event)}]
    return []


def _chunk(place: int, text: str, logprobs: Any = None, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": place, "text": text, "logprobs": logprobs, "finish_reason": reason}
    return {"choices": [choice]}


class _Logprobs:
    """OpenAI's older form: lists side by side, with places in the text that goes on from piece to piece."""

    def __init__(self) -> None:
        self._offset = 0

    def told(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Of the tokens that come next."""
        found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for one in tokens:
            text = one.data.decode("utf-8", "replace")
            found["tokens"].append(text)
            found["token_logprobs"].append(max(one.logprob, -9999.0))
            top = {data.decode("utf-8", "replace"): max(logprob, -9999.0) for _, data, logprob in one.top}
            found["top_logprobs"].append(top)
            found["text_offset"].append(self._offset)
            self._offset += len(text)
        return found


def _head(request: Request, asked: CompletionRequest) -> dict[str, Any]:
    return running.head(request, asked.model, "cmpl", "text_completion")


ROUTES = (Asked("/v1/completions", complete, CompletionRequest, streams=True),)
