"""What an answer is made of besides text: thinking and tool calls, told apart while it streams.

    parser = MarkupParser(Markup.of(template, tools))
    for piece in generation:
        for part in parser.feed(piece): ...

Tags may come split over pieces; text that could begin one waits for the next piece, nothing else waits. Where
a tag is a control token, which has no text, `spelled` gives it its text. Knows templates by their source alone,
and no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from edgellm.prompt import tools as tool_calls
from edgellm.prompt.tools import Tool, ToolCall
from edgellm.session import Session

THINK, THINK_END = "<think>", "</think>"
CALL, CALL_END = "<tool_call>", "</tool_call>"
PYTHON = "<|python_tag|>"


@dataclass(frozen=True)
class Part:
    """A stretch of an answer."""

    kind: str  # "text" | "thinking" | "call"
    text: str = ""
    call: ToolCall | None = None


@dataclass(frozen=True)
class Markup:
    """What to look for in a model's answers."""

    thinks: bool = False  # between <think> and </think>
    calls: str | None = None  # "tags": Qwen's | "json": Llama 3's | None: no tools were given
    tool_names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, template: str, tools: Sequence[Tool] | None = None) -> Markup:
        """What a model with this chat template writes when it is given these tools."""
        calls = None if not tools else "tags" if CALL in template else "json"
        return cls(THINK_END in template, calls, tool_calls.names(tools or ()))

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags an answer may have."""
        think = (THINK, THINK_END) if self.thinks else ()
        return (*think, *{"tags": (CALL, CALL_END), "json": (PYTHON,), None: ()}[self.calls])


class MarkupParser:
    """Takes an answer apart as it comes. After `finish`, the fields hold the whole."""

    def __init__(self, markup: Markup, *, thinking: bool = False) -> None:
        """`thinking`: the prompt has opened the block already."""
        self.markup = markup
        self.calls: list[ToolCall] = []
        self.malformed: list[str] = []  # blocks that are no calls; they stand in the text, too
        self._parts: dict[str, list[str]] = {"text": [], "thinking": []}
        self._held = ""
        self._block: list[str] = []  # of a call that has not ended
        self._state = self._thinking if thinking else self._beginning

    @property
    def text(self) -> str:
        """The answer proper: without thinking and calls."""
        return "".join(self._parts["text"])

    @property
    def thinking(self) -> str:
        """What was thought, without the tags."""
        return "".join(self._parts["thinking"]).strip()

    def feed(self, piece: str) -> list[Part]:
        """The parts that are certain after this piece."""
        self._held += piece
        out: list[Part] = []
        while self._state(out):
            pass
        return self._keep(out)

    def finish(self, *, cut: bool = False) -> list[Part]:
        """What was held back, at the end; `cut` where the answer did not end by itself."""
        out: list[Part] = []
        block, rest, self._held = "".join(self._block), self._held, ""
        if self._state == self._tagged:
            self._end_block(out, block + rest, end="", cut=cut)
        elif self._state in (self._json, self._python):
            self._end_answer(out, block + rest, code=self._state == self._python, cut=cut)
        elif rest:
            self._emit(out, "thinking" if self._state == self._thinking else "text", rest)
        return self._keep(out)

    # Each state takes what it can from `_held` and says whether the next one should go on at once.

    def _beginning(self, out: list[Part]) -> bool:
        """Nothing but blanks has come: thinking and a Llama's JSON can only begin here."""
        text = self._held.lstrip()
        if not text or (self.markup.thinks and THINK.startswith(text) and text != THINK):
            return False
        if self.markup.thinks and text.startswith(THINK):
            self._held, self._state = text[len(THINK) :], self._thinking
        elif self.markup.calls == "json" and text[0] in "{[":
            self._state = self._json
        else:
            self._state = self._text
        return True

    def _thinking(self, out: list[Part]) -> bool:
        if not self._until(out, "thinking", (THINK_END,)):
            return False
        self._held, self._state = self._held.removeprefix(THINK_END), self._after_thinking
        return True

    def _after_thinking(self, out: list[Part]) -> bool:
        """The blank lines between thinking and answer belong to neither."""
        self._held = self._held.lstrip("\n")
        if self._held:
            self._state = self._beginning
        return bool(self._held)

    def _text(self, out: list[Part]) -> bool:
        openers = {"tags": (CALL,), "json": (PYTHON,), None: ()}[self.markup.calls]
        if not self._until(out, "text", openers):
            return False
        tag = CALL if self.markup.calls == "tags" else PYTHON
        self._held = self._held.removeprefix(tag)
        self._state = self._tagged if tag == CALL else self._python
        return True

    def _tagged(self, out: list[Part]) -> bool:
        before, found, after = self._held.partition(CALL_END)
        if not found:
            self._hold_block(CALL_END)
            return False
        block, self._block, self._held = "".join(self._block) + before, [], after
        self._end_block(out, block, end=CALL_END)
        self._state = self._between_calls
        return True

    def _between_calls(self, out: list[Part]) -> bool:
        self._held = self._held.lstrip()
        if self._held:
            self._state = self._text
        return bool(self._held)

    def _json(self, out: list[Part]) -> bool:
        self._hold_block("")
        return False

    def _python(self, out: list[Part]) -> bool:
        self._hold_block("")
        return False

    def _hold_block(self, end: str) -> None:
        """Put all but a possible beginning of `end` aside, so that it is not searched again."""
        keep = _begun(self._held, (end,)) if end else 0
        cut = len(self._held) - keep
        self._block.append(self._held[:cut])
        self._held = self._held[cut:]

    def _until(self, out: list[Part], kind: str, tags: Sequence[str]) -> bool:
        """Emit what comes before the first of `tags`; whether it was found. It is then what `_held` begins with."""
        at = min((i for tag in tags if (i := self._held.find(tag)) >= 0), default=-1)
        cut = at if at >= 0 else len(self._held) - _begun(self._held, tags)
        if kind == "text" and self.markup.calls:  # blanks before a call belong to it
            cut = len(self._held[:cut].rstrip())
        self._emit(out, kind, self._held[:cut])
        self._held = self._held[at if at >= 0 else cut :]
        return at >= 0

    def _end_block(self, out: list[Part], block: str, *, end: str, cut: bool = False) -> None:
        if not cut and (call := tool_calls.parse_block(block)):
            self._emit_calls(out, (call,))
        else:
            self.malformed.append(block)
            self._emit(out, "text", CALL + block + end)

    def _end_answer(self, out: list[Part], block: str, *, code: bool, cut: bool) -> None:
        known = self.markup.tool_names
        calls = () if cut else tool_calls.parse_answer(block, known)
        if not calls and code and not cut and (call := tool_calls.parse_code(block, known)):
            calls = (call,)
        if calls:
            self._emit_calls(out, calls)
            return
        if code:
            self.malformed.append(block)
        self._emit(out, "text", block)

    def _emit(self, out: list[Part], kind: str, text: str) -> None:
        if text:
            out.append(Part(kind, text))

    def _emit_calls(self, out: list[Part], calls: Sequence[ToolCall]) -> None:
        self.calls += calls
        out += (Part("call", call=call) for call in calls)

    def _keep(self, out: list[Part]) -> list[Part]:
        for part in out:
            if part.kind != "call":
                self._parts[part.kind].append(part.text)
        return out


def _begun(text: str, tags: Sequence[str]) -> int:
    """Length of the longest ending of `text` that begins one of `tags`."""
    longest = max(map(len, tags), default=1) - 1
    for n in range(min(longest, len(text)), 0, -1):
        if any(tag.startswith(text[-n:]) for tag in tags):
            return n
    return 0


def thinking_is_open(prompt: str) -> bool:
    """Whether a rendered prompt ends inside a thinking block (some templates begin the answer with the tag)."""
    return prompt.rstrip().endswith(THINK)


def count_thinking(pieces: Sequence[bytes], *, thinking: bool = False) -> int:
    """Of the tokens with these bytes, those spent on thinking, tags included."""
    whole = b"".join(pieces)
    if not thinking and not whole.lstrip().startswith(THINK.encode()):
        return 0
    end, at = whole.find(THINK_END.encode()), 0
    end = len(whole) if end < 0 else end + len(THINK_END)
    for n, piece in enumerate(pieces):
        if at >= end:
            return n
        at += len(piece)
    return len(pieces)


def spelled(session: Session, markup: Markup) -> Session:
    """`session`, with text for those tags of `markup` that are control tokens in its vocabulary."""
    found: dict[int, bytes] = {}
    for tag in markup.tags:
        ids = session.tokenize(tag, special=True)
        if len(ids) == 1 and not session.piece(ids[0]):
            found[ids[0]] = tag.encode()
    return cast("Session", _Spelled(session, found)) if found else session


class _Spelled:
    """A session whose control tokens have text. All but `piece` is the session's own."""

    def __init__(self, session: Session, found: Mapping[int, bytes]) -> None:
        self._session, self._found = session, found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def piece(self, token: int) -> bytes:
        """The bytes of a token, a tag's among them."""
        return self._found.get(token) or self._session.piece(token)
