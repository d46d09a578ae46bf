"""What an answer is made of besides text: thinking and tool calls, told apart while it streams.

    parser = MarkupParser(Markup.of(template, tools))
    for piece in generation:
        for part in parser.feed(piece): ...

Tags may come split over pieces; text that could begin one waits for the next piece, nothing else waits. Where
a tag is a control token, which has no text, `spelled` gives it its text. Knows templates by their source alone,
and no engine.

Calls come whole, or, with `stream_calls`, as they are written: "call" (its id and name, no arguments yet), any number
of "arguments" with pieces of their JSON text, "end" with the whole call. What is not written as `call_stream.py` can
tell it is told in the same three parts, all at once. What has been told stays told, for it cannot be taken back: where
a call then turns out malformed or the answer is cut, its "end" has no call, the pieces stay a beginning of JSON that
its reader will find incomplete, and what follows the fault is text. An answer that was cut so ends for its length, not
for a call; both are llama-server's ways. The words after a told call are text, even where they show that it was only
talked about. As a server's pieces (serving/job.py): "call" and "arguments" with the call's place, id and name, and
nothing for "end"; calls are what finished the answer where any was told and it was not cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from edgellm.prompt import call_stream, call_syntax
from edgellm.prompt import tools as tool_calls
from edgellm.prompt.call_stream import HEAD_MOST, Arguments, NoJson
from edgellm.prompt.call_syntax import FENCE, FUNCTION, Known
from edgellm.prompt.tools import Tool, ToolCall
from edgellm.session import Session

THINK, THINK_END = "<think>", "</think>"
CALL, CALL_END = "<tool_call>", "</tool_call>"
PYTHON = "<|python_tag|>"
_SEPARATORS = " \t\r\n;,"  # between calls
_OPENERS = (CALL, PYTHON, FUNCTION, FENCE, "\n{", "\n[")


@dataclass(frozen=True)
class Part:
    """A stretch of an answer."""

    kind: str  # "text" | "thinking" | "call"; of a streamed call "call" | "arguments" | "end"
    text: str = ""
    call: ToolCall | None = None  # None at the end of a streamed call that is none


@dataclass(frozen=True)
class Markup:
    """What to look for in a model's answers."""

    thinks: bool = False  # between <think> and </think>
    calls: str | None = None  # "tags": Qwen's | "json": Llama 3's | None: no tools were given
    known: Known = field(default_factory=dict, hash=False)  # the tools that were given

    @classmethod
    def of(cls, template: str, tools: Sequence[Tool] | None = None) -> Markup:
        """What a model with this chat template writes when it is given these tools."""
        calls = None if not tools else "tags" if CALL in template else "json"
        return cls(THINK_END in template, calls, call_syntax.known_tools(tools or ()))

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags an answer may have."""
        think = (THINK, THINK_END) if self.thinks else ()
        return (*think, *{"tags": (CALL, CALL_END), "json": (PYTHON,), None: ()}[self.calls])


class MarkupParser:
    """Takes an answer apart as it comes. After `finish`, the fields hold the whole."""

    def __init__(self, markup: Markup, *, thinking: bool = False, stream_calls: bool = False) -> None:
        """`thinking`: the prompt has opened the block already. `stream_calls`: tell calls as they are written."""
        self.markup, self._stream_calls = markup, stream_calls
        self.calls: list[ToolCall] = []
        self.malformed: list[str] = []  # blocks that are no calls; they stand in the text, too
        self._parts: dict[str, list[str]] = {"text": [], "thinking": []}
        self._held = ""
        self._blanks = ""  # before what may be a call; dropped with it
        self._block: list[str] = []  # of a call that has not ended
        self._told: ToolCall | None = None  # the call being streamed, and its arguments so far
        self._arguments, self._written = Arguments(), ""
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
        self._conclude(out, cut=cut)
        return self._keep(out)

    def _conclude(self, out: list[Part], *, cut: bool) -> None:
        block, rest, self._held = "".join(self._block), self._held, ""
        if self._state == self._tagged:
            self._end_block(out, block + rest, end="", cut=cut)
        elif self._state == self._python:
            self._end_answer(out, block + rest, cut=cut)
        elif self._state == self._streamed:
            self._end_streamed(out)
        elif self._state in (self._candidate, self._bare) and not cut:
            self._last_candidates(out, rest)
        elif self._state != self._between_calls or rest.strip(_SEPARATORS):
            self._emit(out, "thinking" if self._state == self._thinking else "text", self._blanks + rest)

    # Each state takes what it can from `_held` and says whether the next one should go on at once.

    def _beginning(self, out: list[Part]) -> bool:
        """Nothing but blanks has come: thinking and a Llama's JSON can only begin here."""
        text = self._held.lstrip()
        if not text or (self.markup.thinks and THINK.startswith(text) and text != THINK):
            return False
        if self.markup.thinks and text.startswith(THINK):
            self._held, self._state = text[len(THINK) :], self._thinking
        elif self.markup.calls and text[0] in "{[":
            self._blanks = self._held[: len(self._held) - len(text)]
            self._held, self._state = text, self._bare
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
        if not self._until(out, "text", _OPENERS if self.markup.calls else ()):
            return False
        text = self._held.lstrip()
        self._blanks = self._held[: len(self._held) - len(text)]
        tag = next((tag for tag in (CALL, PYTHON) if text.startswith(tag)), "")
        self._held = text.removeprefix(tag)
        self._state = {CALL: self._tagged, PYTHON: self._python}.get(tag, self._candidate)
        return True

    def _bare(self, out: list[Part]) -> bool:
        """A candidate with no words before it: it may be told at once."""
        return self._begins_call(out) or self._candidate(out)

    def _candidate(self, out: list[Part]) -> bool:
        """What may be a call without a tag of its own, and may as well be text."""
        found = call_syntax.look(self._held, self.markup.known, final=False)
        if found is None:
            return False
        self._settle(out, *found)
        return True

    def _settle(self, out: list[Part], n: int, calls: Sequence[ToolCall]) -> None:
        """The first `n` characters held are these calls, or text where there are none."""
        if calls:
            self._emit_calls(out, calls)
        else:
            self._emit(out, "text", self._blanks + self._held[:n])
        self._blanks, self._held = "", self._held[n:]
        self._state = self._between_calls if calls else self._text

    def _last_candidates(self, out: list[Part], rest: str) -> None:
        """Settle what the end of the answer decides, and whatever may begin in what is left of it."""
        self._held = rest
        while self._state in (self._candidate, self._bare):
            found = call_syntax.look(self._held, self.markup.known, final=True)
            self._settle(out, *(found or (1, ())))
            while self._held and self._state(out):
                pass
        self._conclude(out, cut=False)

    def _tagged(self, out: list[Part]) -> bool:
        if self._begins_call(out):
            return True
        before, found, after = self._held.partition(CALL_END)
        if not found:
            self._hold_block(CALL_END)
            return False
        block, self._block, self._held = "".join(self._block) + before, [], after
        self._end_block(out, block, end=CALL_END)
        self._state = self._between_calls
        return True

    def _between_calls(self, out: list[Part]) -> bool:
        text = self._held.lstrip(_SEPARATORS)
        if CALL_END.startswith(text) and text != CALL_END:
            return False
        if text.startswith(CALL_END):  # of a call whose opening tag was left out
            self._held = text.removeprefix(CALL_END)
        elif text[0] in "{[":
            self._held, self._state = text, self._bare
        else:
            self._held, self._state = self._held.lstrip(), self._text
        return True

    def _python(self, out: list[Part]) -> bool:
        if self._begins_call(out):
            return True
        self._hold_block("")
        return False

    def _begins_call(self, out: list[Part]) -> bool:
        """Whether what is held is a call whose arguments have begun; it is told from here on."""
        found = None
        if self._stream_calls and not self._block:
            found = call_stream.head(self._held, self.markup.known)
        if found:
            name, at = found
            self._told, self._held, self._blanks = ToolCall(name, {}), self._held[at:], ""
            self._arguments, self._written = Arguments(), ""
            self._state = self._streamed
            out.append(Part("call", call=self._told))
        return found is not None

    def _streamed(self, out: list[Part]) -> bool:
        fault = False
        try:
            n = self._arguments.read(self._held)
        except NoJson as error:
            n, fault = error.n_read, True
        piece, self._held = self._held[:n], self._held[n:]
        if self._told:
            self._written += piece
            out += [Part("arguments", piece, self._told)] if piece else []
            if self._arguments.complete or fault:
                self._end_streamed(out)
                self._state = self._text if fault else self._streamed
                return True
        elif fault or self._arguments.closed:
            self._state = self._between_calls
            return True
        return False

    def _end_streamed(self, out: list[Part]) -> None:
        """Close the call that is being told, unless it is closed."""
        if self._told:
            whole = tool_calls.parse_block(f'{{"name": "x", "arguments": {self._written}}}')
            call = replace(self._told, arguments=whole.arguments) if whole else None
            if call:
                self.calls.append(call)
            else:
                self.malformed.append(self._written)
            out.append(Part("end", call=call))
        self._told = None

    def _hold_block(self, end: str) -> None:
        """Put all but a possible beginning of `end` aside, so that it is not searched again."""
        if self._stream_calls and not self._block and len(self._held) < HEAD_MOST:
            return  # it may still become a call to tell
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
        self._held = self._held[cut:]
        return at >= 0

    def _end_block(self, out: list[Part], block: str, *, end: str, cut: bool = False) -> None:
        calls = () if cut else call_syntax.parse_block(block, self.markup.known)
        if calls:
            self._emit_calls(out, calls)
        else:
            self.malformed.append(block)
            self._emit(out, "text", self._blanks + CALL + block + end)
        self._blanks = ""

    def _end_answer(self, out: list[Part], block: str, *, cut: bool) -> None:
        """What came after Llama's tag."""
        known = self.markup.known
        calls = () if cut else call_syntax.parse(block, known)
        if not calls and not cut and (call := tool_calls.parse_code(block, frozenset(known))):
            calls = (call,)
        if calls:
            self._emit_calls(out, calls)
            return
        self.malformed.append(block)
        self._emit(out, "text", self._blanks + block)

    def _emit(self, out: list[Part], kind: str, text: str) -> None:
        if text:
            out.append(Part(kind, text))

    def _emit_calls(self, out: list[Part], calls: Sequence[ToolCall]) -> None:
        self.calls += calls
        for call in calls:
            if not self._stream_calls:
                out.append(Part("call", call=call))
                continue
            told = replace(call, arguments={})
            out += (
                Part("call", call=told),
                Part("arguments", call.arguments_json(), told),
                Part("end", call=call),
            )

    def _keep(self, out: list[Part]) -> list[Part]:
        for part in out:
            if part.kind in self._parts:
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
