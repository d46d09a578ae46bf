"""OpenAI's chat completions: /v1/chat/completions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgellm.server import cost, running, sse
from edgellm.server.conversation import Conversation
from edgellm.server.drawing import Count, Drawing
from edgellm.server.errors import RequestError
from edgellm.server.running import Answer
from edgellm.server.schema import Asked
from edgellm.serving.job import Done, Event, Job, Piece, Started, TokenLogprob

_PREFIX = "chatcmpl"  # of ids


class ChatRequest(Drawing, Conversation):
    """What is asked of /v1/chat/completions; names that llama-server adds to OpenAI's are known too."""

    IGNORED = frozenset(
        {
            "user",
            "metadata",
            "store",
            "service_tier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "prompt_cache_options",
            "safety_identifier",
            "verbosity",
            "prediction",
            "moderation",
            "timings_per_token",
        }
    )

    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None

    @property
    def limit(self) -> int | None:
        """OpenAI's newer name comes first."""
        newer = self.max_completion_tokens
        return super().limit if newer is None else None if newer < 0 else newer

    def jobs(self) -> list[Job]:
        """One for each answer that is wanted. Raises RequestError."""
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("top_logprobs needs logprobs: true", param="top_logprobs")
        n_logprobs = (self.top_logprobs or 0) if self.logprobs else None
        job = self.job(settings=self.settings(), n_logprobs=n_logprobs)
        return self.side_by_side(job)


async def chat(request: Request, asked: ChatRequest) -> Response:
    """Answer a conversation."""
    jobs = asked.jobs()
    if asked.stream:
        quiet = running.settings_of(request).quiet_seconds
        return sse.EventStream(_streamed(request, asked, jobs), quiet_seconds=quiet)
    async with running.engine_of(request, asked.model) as engine:
        answers = await running.collect(request, engine, jobs)
    dones = [answer.done for answer in answers if answer.done]
    choices = [_choice(i, answer, asked) for i, answer in enumerate(answers)]
    head = running.head(request, asked.model, _PREFIX, "chat.completion")
    return JSONResponse({**head, "choices": choices, **cost.whole(dones, len(dones) or 1)})


def _choice(place: int, answer: Answer, asked: ChatRequest) -> dict[str, Any]:
    calls = answer.calls[:1] if asked.parallel_tool_calls is False else answer.calls
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if calls else "")}
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    if calls:
        message["tool_calls"] = [_call(*call) for call in calls]
    reason = answer.done.finish_reason if answer.done else None
    logprobs = _logprobs(answer.logprobs) if asked.logprobs else None
    return {"index": place, "message": message, "logprobs": logprobs, "finish_reason": reason}


async def _streamed(request: Request, asked: ChatRequest, jobs: Sequence[Job]) -> AsyncGenerator[bytes, None]:
    """The chunks of all answers, then what they cost."""
    dones: dict[int, Done] = {}
    async with running.engine_of(request, asked.model) as engine:
        head = running.head(request, asked.model, _PREFIX, "chat.completion.chunk")
        async with contextlib.aclosing(running.events(request, engine, jobs)) as events:
            async for place, event in events:
                if isinstance(event, Done):
                    dones[place] = event
                for chunk in _chunks(place, event, asked):
                    yield sse.event({**head, **chunk})
    told = cost.whole([dones[place] for place in sorted(dones)], len(dones) or 1)
    if asked.stream_options and asked.stream_options.include_usage:
        yield sse.event({**head, "choices": [], **told})
    yield sse.event("[DONE]")


def _chunks(place: int, event: Event, asked: ChatRequest) -> list[dict[str, Any]]:
    """What is told of one event of an answer."""
    if isinstance(event, Started):
        return [_chunk(place, {"role": "assistant", "content": ""})]
    if isinstance(event, Piece):
        if event.call and event.call[0] > 0 and asked.parallel_tool_calls is False:
            return []
        logprobs = _logprobs(event.logprobs) if asked.logprobs else None
        return [_chunk(place, _delta(event), logprobs)]
    if isinstance(event, Done):
        rest = [_chunk(place, {}, _logprobs(event.logprobs))] if asked.logprobs and event.logprobs else []
        last = _chunk(place, {}, reason=event.finish_reason)
        return [*rest, {**last, **cost.ended(event)}]
    return []


def _chunk(
    place: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None
) -> dict[str, Any]:
    choice = {"index": place, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return {"choices": [choice]}


def _delta(piece: Piece) -> dict[str, Any]:
    if piece.kind == "text":
        return {"content": piece.text}
    if piece.kind == "thinking":
        return {"reasoning_content": piece.text}
    assert piece.call is not None
    place, id_, name = piece.call
    if piece.kind == "call":
        return {"tool_calls": [{"index": place, **_call(id_, name, "")}]}
    return {"tool_calls": [{"index": place, "function": {"arguments": piece.text}}]}


def _call(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {"content": cost.logprobs(tokens), "refusal": None}


ROUTES = (Asked("/v1/chat/completions", chat, ChatRequest, streams=True),)
