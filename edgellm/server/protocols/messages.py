"""Anthropic's messages: /v1/messages, streamed or whole, and /v1/messages/count_tokens."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pydantic_core
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgellm.server import cost, running, sse
from edgellm.server.agents import skipped
from edgellm.server.agents.anthropic import Counted, MessagesRequest
from edgellm.server.errors import Told
from edgellm.server.schema import Asked
from edgellm.serving.job import Done, Job, Piece, Started

_ERRORS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    501: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_SIGNATURE = "edgellm"  # of thinking, which nobody checks when it comes back; clients drop blocks without one


def error_body(told: Told) -> dict[str, Any]:
    """An error in Anthropic's form."""
    kind = _ERRORS.get(told.status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": told.message}}


async def messages(request: Request, asked: MessagesRequest) -> Response:
    """Answer a conversation, as Anthropic's clients ask for it."""
    job, passed_over = asked.read()
    headers = skipped.headers(request, passed_over)
    if asked.stream:
        quiet = running.settings_of(request).quiet_seconds
        events = _streamed(request, asked, job)
        return sse.EventStream(events, quiet_seconds=quiet, on_error=_failed, headers=headers)
    async with running.engine_of(request, asked.model) as engine:
        (answer,) = await running.collect(request, engine, [job])
    blocks = _Blocks(one_call=asked.one_call)
    for piece in answer.pieces:
        list(blocks.take(piece))
    list(blocks.close())
    assert answer.done is not None
    message = _message(request, asked, blocks.content, _usage(answer.done))
    return JSONResponse({**message, **_end(asked, answer.done), **cost.ended(answer.done)}, headers=headers)


async def count_tokens(request: Request, asked: Counted) -> Response:
    """Count a conversation's tokens, as the model's template writes it."""
    job, passed_over = asked.read()
    async with running.engine_of(request, asked.model) as engine:
        _, ids = await sse.while_connected(request, engine.render(job))
    return JSONResponse({"input_tokens": len(ids)}, headers=skipped.headers(request, passed_over))


async def _streamed(request: Request, asked: MessagesRequest, job: Job) -> AsyncGenerator[bytes, None]:
    blocks = _Blocks(one_call=asked.one_call)
    async with (
        running.engine_of(request, asked.model) as engine,
        contextlib.aclosing(running.events(request, engine, [job])) as events,
    ):
        async for _, event in events:
            if isinstance(event, Started):
                message = _message(request, asked, [], _usage(event))
                yield _event({"type": "message_start", "message": message})
                yield _event({"type": "ping"})
            elif isinstance(event, Piece):
                for told in blocks.take(event):
                    yield _event(told)
            elif isinstance(event, Done):
                for told in blocks.close():
                    yield _event(told)
                end = {"type": "message_delta", "delta": _end(asked, event), "usage": _usage(event)}
                yield _event({**end, **cost.ended(event)})
    yield _event({"type": "message_stop"})


class _Blocks:
    """Content blocks as pieces come: the events that tell of them, and in `content` the blocks themselves."""

    def __init__(self, *, one_call: bool) -> None:
        self.content: list[dict[str, Any]] = []
        self._one_call = one_call
        self._open: tuple[str, int] | None = None  # kind and, of a call, its place
        self._arguments = ""

    def take(self, piece: Piece) -> Iterator[dict[str, Any]]:
        place = piece.call[0] if piece.call else 0
        if (self._one_call and place > 0) or not (piece.text or piece.call):
            return
        this = ("tool_use" if piece.call else piece.kind, place)
        if this != self._open:
            yield from self.close()
            self._open = this
            self.content.append(_opened(piece))
            yield {
                "type": "content_block_start",
                "index": self._index,
                "content_block": dict(self.content[-1]),
            }
        if piece.text:
            yield {"type": "content_block_delta", "index": self._index, "delta": self._grown(piece)}

    def close(self) -> Iterator[dict[str, Any]]:
        """End the block that is open."""
        if self._open is None:
            return
        block = self.content[-1]
        if block["type"] == "thinking":
            block["signature"] = _SIGNATURE
            delta = {"type": "signature_delta", "signature": _SIGNATURE}
            yield {"type": "content_block_delta", "index": self._index, "delta": delta}
        elif block["type"] == "tool_use":
            # What a call that was cut has of its arguments, as the official client reads the same stream.
            block["input"] = pydantic_core.from_json(self._arguments or "{}", allow_partial=True)
            self._arguments = ""
        self._open = None
        yield {"type": "content_block_stop", "index": self._index}

    @property
    def _index(self) -> int:
        return len(self.content) - 1

    def _grown(self, piece: Piece) -> dict[str, Any]:
        if piece.call:
            self._arguments += piece.text
            return {"type": "input_json_delta", "partial_json": piece.text}
        self.content[-1][piece.kind] += piece.text
        return {"type": f"{piece.kind}_delta", piece.kind: piece.text}


def _opened(piece: Piece) -> dict[str, Any]:
    """The block that a piece begins."""
    if piece.call:
        return {"type": "tool_use", "id": piece.call[1], "name": piece.call[2], "input": {}}
    if piece.kind == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _message(
    request: Request, asked: Counted, content: list[dict[str, Any]], usage: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": asked.model or running.record_of(request).model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _end(asked: MessagesRequest, done: Done) -> dict[str, Any]:
    """Why it ended. An answer that ends before its limit for its length has filled the context."""
    reason = {"tool_calls": "tool_use", "length": "max_tokens"}.get(done.finish_reason, "end_turn")
    if done.stop is not None:
        reason = "stop_sequence"
    elif reason == "max_tokens" and done.n_generated < asked.max_tokens:
        reason = "model_context_window_exceeded"
    return {"stop_reason": reason, "stop_sequence": done.stop}


def _usage(event: Started | Done) -> dict[str, Any]:
    """Tokens; those read from the cache are not among `input_tokens`."""
    told = {
        "input_tokens": event.n_prompt - event.n_cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": event.n_cached,
        "output_tokens": 0,
    }
    if isinstance(event, Done):
        details = {"thinking_tokens": event.n_thinking}
        return {**told, "output_tokens": event.n_generated, "output_tokens_details": details}
    return told


def _event(data: dict[str, Any]) -> bytes:
    return sse.event(data, data["type"])


def _failed(told: Told) -> bytes:
    return _event(error_body(told))


ROUTES = (
    Asked("/v1/messages", messages, MessagesRequest, streams=True),
    Asked("/v1/messages/count_tokens", count_tokens, Counted),
)
