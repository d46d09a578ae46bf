"""Chat templates: a model's own Jinja program that turns messages into the prompt it was trained on.

A template comes with the model and is a stranger's program. The sandbox keeps it from the machine but not from
looping or growing without end, so it runs in a child process (template_child.py) with bounds on time and
memory. One child serves the whole program and is started while the model loads; a rendering then takes about
a millisecond.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from edgellm.errors import ArtifactError

MAX_SOURCE_CHARS = 1 << 20  # real templates have up to 20,000
RENDER_SECONDS = 2.0
START_SECONDS = 60.0  # of the child, on a busy machine
_LENGTH = struct.Struct("<I")
_BOUNDS = "ran into its bounds"  # how such a failure begins, here and in the child


class ChatTemplate:
    """One model's template. `render` raises ArtifactError, in one line, when it fails or exceeds its bounds."""

    def __init__(
        self, source: str, names: Mapping[str, str] | None = None, tool_source: str | None = None
    ) -> None:
        """`names` are the special tokens a template may write, e.g. `bos_token`; those it lacks are empty.

        `tool_source` is the model's other template, for prompts with tools.
        """
        for text in filter(None, (source, tool_source)):
            if len(text) > MAX_SOURCE_CHARS:
                raise ArtifactError(
                    f"the chat template has {len(text):,} characters, over {MAX_SOURCE_CHARS:,}; it is refused"
                )
        self.source = source
        self._names, self._tool_source = dict(names or {}), tool_source
        self._wants_parts = False
        _shared.start()

    def for_tools(self) -> ChatTemplate:
        """The template for prompts with tools: the model's `tool_use`, where it has one (as transformers)."""
        return ChatTemplate(self._tool_source, self._names) if self._tool_source else self

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **extra: Any,
    ) -> str:
        """The prompt of `messages` (each with `role` and `content`), as transformers' apply_chat_template.

        `extra` are further variables a template knows, e.g. `enable_thinking=False`. All must be plain JSON.
        """
        variables = {
            **self._names,
            "tools": None if tools is None else list(tools),
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **extra,
        }
        ok, text = self._render(messages, variables)
        if not ok:
            raise ArtifactError(f"the model's chat template {text}")
        return text

    def _render(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> tuple[bool, str]:
        """Render; where a template loses the user's words, it wants content in parts (Llama Guard), so it gets it."""

        def ask(told: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
            return _shared.ask(self.source, {**variables, "messages": told})

        plain, parts = list(map(dict, messages)), list(map(in_parts, messages))
        if self._wants_parts:
            return ask(parts)
        found = ask(plain)
        if _shows(found, messages) or found[1].startswith(_BOUNDS):
            return found
        other = ask(parts)
        self._wants_parts = _shows(other, messages)
        return other if self._wants_parts else found


def in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message whose content is a list of typed parts, as models for images have it."""
    content = message.get("content")
    return (
        {**message, "content": [{"type": "text", "text": content}]}
        if isinstance(content, str)
        else dict(message)
    )


def lost_words(prompt: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """The words of the last user's message, where a prompt lacks them; else empty."""
    users = [message.get("content") for message in messages if message.get("role") == "user"]
    words = users[-1].strip() if users and isinstance(users[-1], str) else ""
    return "" if words in prompt else words


def _shows(found: tuple[bool, str], messages: Sequence[Mapping[str, Any]]) -> bool:
    return found[0] and not lost_words(found[1], messages)


class _Renderer:
    """The child process, started when first needed and again after it had to be stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = False

    def start(self) -> None:
        """Have a child starting, without waiting for it."""
        with self._lock:
            self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._stop()  # the pipes of one that died
            self._child = subprocess.Popen(
                [sys.executable, "-m", "edgellm.prompt.template_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._ready = False
        return self._child

    def ask(self, source: str, variables: Mapping[str, Any]) -> tuple[bool, str]:
        """Render; (True, text) or (False, what went wrong)."""
        try:
            request = json.dumps({"source": source, "variables": variables}).encode()
        except (TypeError, ValueError) as error:
            return False, f"was given something that is not plain data ({error})"
        with self._lock:
            child = self._start()
            assert child.stdin and child.stdout
            if not self._ready and not self._exchange(child, START_SECONDS, b"{}"):
                return False, "cannot be run: its process does not start; is there memory left?"
            self._ready = True
            reply = self._exchange(child, RENDER_SECONDS, request)
            if reply is None:
                return False, f"{_BOUNDS} ({RENDER_SECONDS:g} s, 256 MB); it is broken or hostile"
        found = json.loads(reply)
        return bool(found["ok"]), str(found["text"])

    def _exchange(self, child: subprocess.Popen[bytes], seconds: float, request: bytes) -> bytes | None:
        """Send and receive; None, and the child gone, when it died or took longer than `seconds`."""
        assert child.stdin and child.stdout
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        try:
            send(child.stdin, request)
            return receive(child.stdout)
        except (OSError, EOFError, ValueError):
            self._stop()
            return None
        except BaseException:  # an interrupt leaves the exchange half done
            self._stop()
            raise
        finally:
            timer.cancel()

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.wait()

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._stop()


def send(pipe: IO[bytes], data: bytes) -> None:
    """Write one message: its length in four bytes, then its bytes."""
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """Read one message. Raises EOFError when the other side is gone."""
    head = pipe.read(_LENGTH.size)
    size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    data = pipe.read(size)
    if len(head) < _LENGTH.size or len(data) < size:
        raise EOFError
    return data


_shared = _Renderer()
atexit.register(_shared.close)
