"""A batch's input: OpenAI's batch lines, and plain ones, read as requests to the server.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...]}}
    {"prompt": "What is the capital of France?", "max_tokens": 20}

A line that cannot be asked stays a row, with the reason, so that one bad line fails no run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from edgellm.errors import UsageError

#: What may be asked: paths that answer, and change nothing in the server.
URLS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/responses",
    "/v1/messages",
)
_CHAT, _TEXT, _EMBED, _RERANK, *_ = URLS
#: What a plain row is, by the first of these fields that it has; with `--raw` a prompt is continued as it is.
_PLAIN = {"messages": _CHAT, "prompt": _CHAT, "input": _EMBED, "query": _RERANK}
_DRAWN = (_CHAT, _TEXT)  # what the command line's settings are for
MAX_LINE = 9 * 2**20  # bytes; the server takes bodies of 8 MiB


@dataclass(frozen=True)
class Refusal:
    """Why a row is not asked, in the form of OpenAI's `error`."""

    code: str
    message: str  # one line


@dataclass(frozen=True)
class Row:
    """A line of the input."""

    line: int  # from 1
    custom_id: str
    id: str  # a digest of what is asked of which model
    url: str = ""
    body: bytes = b""  # JSON
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Manner:
    """How rows are asked: of which model, and what holds for plain rows that do not say it themselves."""

    model: str  # digest of its file
    settings: Mapping[str, Any] = field(default_factory=dict)  # fields of a body
    system: str | None = None
    think: bool | None = None  # whether a reasoning model thinks first; None: its own habit
    raw: bool = False  # a plain prompt is continued as it is, without a chat template


class _RefusedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message)


def rows(path: Path, manner: Manner) -> Iterator[Row]:
    """Every row of a file, in order; empty lines are none."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            whole = line.endswith(b"\n") or len(line) <= MAX_LINE
            while not whole:
                whole = (rest := file.readline(MAX_LINE)).endswith(b"\n") or not rest
            if line.strip():
                yield read(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, number, manner)


def check(path: Path, manner: Manner) -> dict[str, str]:
    """The ids of all rows by their custom ids, in order. Raises UsageError where one is there twice, or none."""
    lines: dict[str, int] = {}
    ids: dict[str, str] = {}
    for row in rows(path, manner):
        if (first := lines.setdefault(row.custom_id, row.line)) != row.line:
            raise UsageError(
                f"the custom_id {row.custom_id[:120]!r} is on line {first} and on line {row.line} of {path}: answers "
                "are told apart by it; make it unique, or leave it out"
            )
        ids[row.custom_id] = row.id
    if not ids:
        raise UsageError(f'{path} holds no rows; a row is a line such as: {{"prompt": "Hello"}}')
    return ids


def read(line: bytes, number: int, manner: Manner) -> Row:
    """The row of a line; `number` counts lines from 1, and names a row that has no `custom_id`."""
    custom_id = f"line-{number}"
    try:
        given = _parsed(line, number)
        custom_id = _custom_id(given, custom_id, number)
        url, asked = _request(given, number, manner)
    except _RefusedError as error:
        return Row(number, custom_id, _id(manner, "", line), refusal=error.refusal)
    body = dumps(asked)
    return Row(number, custom_id, _id(manner, url, body), url, body)


def dumps(data: Any) -> bytes:
    """JSON on one line; halves of surrogate pairs stay as JSON escapes them."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _id(manner: Manner, url: str, body: bytes) -> str:
    digest = hashlib.sha256(f"{manner.model}\n{url}\n".encode("utf-8", "surrogatepass") + body).hexdigest()
    return f"batch_req_{digest[:24]}"


def _parsed(line: bytes, number: int) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise _RefusedError("invalid_line", f"line {number} is over {MAX_LINE:,} bytes")
    try:
        given = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _RefusedError("invalid_line", f"line {number} is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise _RefusedError("invalid_line", f"line {number} is no JSON object")
    return given


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number there")


def _custom_id(given: Mapping[str, Any], otherwise: str, number: int) -> str:
    custom_id = given.get("custom_id", otherwise)
    if not isinstance(custom_id, str):
        raise _RefusedError("invalid_custom_id", f"the custom_id of line {number} is no string")
    return custom_id


def _request(given: dict[str, Any], number: int, manner: Manner) -> tuple[str, dict[str, Any]]:
    """Where a line's request goes, and its body."""
    given = {name: value for name, value in given.items() if name != "custom_id"}
    url, body = _as_it_is(given, number) if "body" in given else _plain(given, number, manner)
    if body.get("stream"):
        raise _RefusedError("stream", f"line {number} asks for a stream: answers of a batch come whole")
    return url, body


def _as_it_is(given: dict[str, Any], number: int) -> tuple[str, dict[str, Any]]:
    """OpenAI's form."""
    if unknown := sorted(given.keys() - {"method", "url", "body"}):
        raise _RefusedError("unknown_field", f"line {number} has a field {unknown[0]!r:.80} beside its body")
    url, body = given.get("url"), given["body"]
    if given.get("method", "POST") != "POST":
        raise _RefusedError("invalid_method", f"the method of line {number} is not POST")
    if url not in URLS:
        raise _RefusedError("invalid_url", f"line {number} asks {url!r:.80}; there are: {', '.join(URLS)}")
    if not isinstance(body, dict):
        raise _RefusedError("invalid_body", f"the body of line {number} is no JSON object")
    return url, body


def _plain(given: dict[str, Any], number: int, manner: Manner) -> tuple[str, dict[str, Any]]:
    """A body without an envelope, with the command line's settings where it has none of its own."""
    kind = next((name for name in _PLAIN if name in given), None)
    if kind is None:
        known = ", ".join(("body", *_PLAIN))
        raise _RefusedError("nothing_asked", f"line {number} asks nothing; it needs one of: {known}")
    url = _TEXT if kind == "prompt" and manner.raw else _PLAIN[kind]
    body = {**manner.settings, **given} if url in _DRAWN else given
    if url == _CHAT and kind == "prompt":
        body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
    if url == _CHAT and manner.think is not None:
        body.setdefault("chat_template_kwargs", {"enable_thinking": manner.think})
    if url == _CHAT and manner.system is not None:
        body["messages"] = _with_system(body["messages"], manner.system)
    return url, body


def _with_system(messages: Any, system: str) -> Any:
    """With a system prompt in front, where messages bring none. What is no list is the server's to refuse."""
    if not isinstance(messages, list) or any(
        isinstance(one, dict) and one.get("role") in ("system", "developer") for one in messages
    ):
        return messages
    return [{"role": "system", "content": system}, *messages]
