"""OpenAI's responses: /v1/responses, streamed or whole. Nothing of an answer is kept."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgellm.server import cost, running, sse
from edgellm.server.agents import responses as reading
from edgellm.server.agents import skipped
from edgellm.server.agents.responses import ResponsesRequest
from edgellm.server.errors import Told
from edgellm.server.schema import Asked
from edgellm.serving.job import Done, Job, Piece, Started

Event = dict[str, Any]


async def responses(request: Request, asked: ResponsesRequest) -> Response:
    """Answer what the items of `input` hold."""
    job, passed_over = asked.read()
    headers = skipped.headers(request, passed_over)
    telling = _Telling(asked, job)
    if asked.stream:
        quiet = running.settings_of(request).quiet_seconds
        events = _streamed(request, telling, job)
        return sse.EventStream(events, quiet_seconds=quiet, on_error=telling.failed, headers=headers)
    async with running.engine_of(request, asked.model) as engine:
        (answer,) = await running.collect(request, engine, [job])
    telling.begin(running.record_of(request).model)
    for piece in answer.pieces:
        list(telling.take(piece))
    assert answer.done is not None
    list(telling.end(answer.done))
    return JSONResponse(telling.response, headers=headers)


async def _streamed(request: Request, telling: _Telling, job: Job) -> AsyncGenerator[bytes, None]:
    async with (
        running.engine_of(request, telling.asked.model) as engine,
        contextlib.aclosing(running.events(request, engine, [job])) as events,
    ):
        async for _, event in events:
            told: Iterator[Event] = iter(())
            if isinstance(event, Started):
                told = telling.begin(running.record_of(request).model)
            elif isinstance(event, Piece):
                told = telling.take(event)
            elif isinstance(event, Done):
                told = telling.end(event)
            for one in told:
                yield telling.written(one)


class _Telling:
    """A response as it grows, and the events that tell of it."""

    def __init__(self, asked: ResponsesRequest, job: Job) -> None:
        self.asked = asked
        self.response = _empty(asked, job)
        self._open: tuple[str, int] | None = None  # the growing item's kind and, of a call, its place
        self._n_events = 0

    def begin(self, model: str) -> Iterator[Event]:
        """Nothing has been said yet."""
        self.response["model"] = self.asked.model or model
        return iter([self._whole("created"), self._whole("in_progress")])

    def take(self, piece: Piece) -> Iterator[Event]:
        """A piece of the answer."""
        place = piece.call[0] if piece.call else 0
        if (place > 0 and self.asked.parallel_tool_calls is False) or not (piece.text or piece.call):
            return
        this = ("function_call" if piece.call else piece.kind, place)
        if this != self._open:
            yield from self._close("completed")
            self._open = this
            yield from self._opened(_item(piece))
        if piece.text:
            yield self._grown(piece)

    def end(self, done: Done) -> Iterator[Event]:
        """The answer has ended."""
        whole = done.finish_reason != "length"
        if self._open and self._open[0] == "text":
            self.response["output"][-1]["content"][0]["logprobs"] += cost.logprobs(done.logprobs)
        yield from self._close("completed" if whole else "incomplete")
        self.response |= {
            "status": "completed" if whole else "incomplete",
            "completed_at": int(time.time()) if whole else None,
            "incomplete_details": None if whole else {"reason": "max_output_tokens"},
            "usage": _usage(done),
            **cost.ended(done),
        }
        yield self._whole("completed" if whole else "incomplete")

    def failed(self, told: Told) -> bytes:
        """It cannot go on."""
        list(self._close("incomplete"))
        code = {429: "rate_limit_exceeded", 400: "invalid_prompt"}.get(told.status, "server_error")
        self.response |= {"status": "failed", "error": {"code": code, "message": told.message}}
        return self.written(self._whole("failed"))

    def written(self, event: Event) -> bytes:
        """An event with its number, as it is sent."""
        numbered = {**event, "sequence_number": self._n_events}
        self._n_events += 1
        return sse.event(numbered, event["type"])

    @property
    def _at(self) -> int:
        return len(self.response["output"]) - 1

    def _whole(self, what: str) -> Event:
        return {"type": f"response.{what}", "response": dict(self.response)}

    def _about(self, what: str, *, content: bool, **more: Any) -> Event:
        """An event about the item that is growing."""
        place = {"content_index": 0} if content else {}
        item_id = self.response["output"][-1]["id"]
        return {"type": f"response.{what}", "item_id": item_id, "output_index": self._at, **place, **more}

    def _opened(self, item: dict[str, Any]) -> Iterator[Event]:
        kind = item["type"]
        self.response["output"].append(item)
        shown = item if kind == "function_call" else {**item, "content": []}
        yield {"type": "response.output_item.added", "output_index": self._at, "item": dict(shown)}
        if kind != "function_call":
            yield self._about("content_part.added", content=True, part=dict(item["content"][0]))

    def _grown(self, piece: Piece) -> Event:
        item = self.response["output"][-1]
        if piece.call:
            item["arguments"] += piece.text
            return self._about("function_call_arguments.delta", content=False, delta=piece.text)
        part = item["content"][0]
        part["text"] += piece.text
        if piece.kind == "thinking":
            return self._about("reasoning_text.delta", content=True, delta=piece.text)
        logprobs = cost.logprobs(piece.logprobs)
        part["logprobs"] += logprobs
        return self._about("output_text.delta", content=True, delta=piece.text, logprobs=logprobs)

    def _close(self, status: str) -> Iterator[Event]:
        """End the item that is growing."""
        if self._open is None:
            return
        item = self.response["output"][-1]
        item["status"], self._open = status, None
        if item["type"] == "function_call":
            told = {"arguments": item["arguments"], "name": item["name"]}
            yield self._about("function_call_arguments.done", content=False, **told)
        else:
            part = item["content"][0]
            more = {"logprobs": part["logprobs"]} if item["type"] == "message" else {}
            yield self._about(f"{part['type']}.done", content=True, text=part["text"], **more)
            yield self._about("content_part.done", content=True, part=part)
        yield {"type": "response.output_item.done", "output_index": self._at, "item": item}


def _item(piece: Piece) -> dict[str, Any]:
    """The item that a piece begins."""
    named = secrets.token_hex(12)
    if piece.call:
        call = {"call_id": piece.call[1], "name": piece.call[2], "arguments": ""}
        return {"id": f"fc_{named}", "type": "function_call", "status": "in_progress", **call}
    if piece.kind == "thinking":
        content = [{"type": "reasoning_text", "text": ""}]
        return {
            "id": f"rs_{named}",
            "type": "reasoning",
            "status": "in_progress",
            "summary": [],
            "content": content,
        }
    said: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    content = [said]
    return {
        "id": f"msg_{named}",
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": content,
    }


def _empty(asked: ResponsesRequest, job: Job) -> dict[str, Any]:
    """A response before anything was said, with what was asked as it was understood."""
    text = asked.text.model_dump(by_alias=True, exclude_none=True) if asked.text else {}
    if "format" in text:
        text["format"].setdefault("name", "schema")
    reasoning = asked.reasoning or reading.Reasoning()
    return {
        "id": f"resp_{secrets.token_hex(12)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.effort, "summary": None},
        "store": False,
        "temperature": asked.temperature,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": asked.tool_choice or "auto",
        "tools": reading.told(job.tools),
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": asked.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def _usage(done: Done) -> dict[str, Any]:
    return {
        "input_tokens": done.n_prompt,
        "input_tokens_details": {"cached_tokens": done.n_cached, "cache_write_tokens": 0},
        "output_tokens": done.n_generated,
        "output_tokens_details": {"reasoning_tokens": done.n_thinking},
        "total_tokens": done.n_prompt + done.n_generated,
    }


ROUTES = (Asked("/v1/responses", responses, ResponsesRequest, streams=True),)
