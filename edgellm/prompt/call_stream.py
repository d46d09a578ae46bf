"""A tool call told while it is written: its name as soon as its arguments open, then their JSON text in pieces.

    found = head(block, known)        # after every piece, until it says (once for each call)
    arguments = Arguments()
    told, closed = arguments.read(rest)

Only one form can be told so: a JSON object with the name before the arguments, both its own members, the arguments
an object - what both families' templates ask for. Pieces end between JSON's own characters, never within an escape,
and all of them together are always a beginning of JSON: at the first character that cannot belong to it, reading
ends. Knows no tags and no parts of an answer; see markup.py for these.
"""

from __future__ import annotations

import json
import re
from typing import Final

from edgellm.prompt.call_syntax import Known

_STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_PLAIN = rf"(?:{_NUMBER}|true|false|null)"
_ = r"[ \t\r\n]*"
_HEAD = re.compile(
    rf'{_}(\{{(?:{_}{_STRING}{_}:{_}(?:{_STRING}|{_PLAIN}){_},)+){_}"(?:arguments|parameters)"{_}:{_}(?=\{{)'
)
HEAD_MOST: Final = 1024  # characters before the arguments

_BLANKS = re.compile(r"[ \t\r\n]+")
_SCALAR = re.compile(_PLAIN)
_SCALAR_TEXT = re.compile(r"[^ \t\r\n,\]}]+")
_HEX = "[0-9a-fA-F]"
_INSIDE = re.compile(  # half a pair of surrogates is no character: strict readers refuse it
    rf'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F]){_HEX}{{4}}'
    rf"|\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}})+"
)
_HALF_ESCAPE = re.compile(
    rf"\\(?:u(?![dD][c-fC-F]){_HEX}{{0,3}}|u[dD][89abAB]{_HEX}{{2}}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}?)?)?)?)?)?"
)
_CLOSERS: Final = {"{": "}", "[": "]"}


class NoJson(ValueError):
    """What follows is not the JSON that was being read. `n_read`: characters before it that are."""

    def __init__(self, n_read: int) -> None:
        super().__init__(f"no JSON after {n_read} characters")
        self.n_read = n_read


def head(block: str, known: Known) -> tuple[str, int] | None:
    """The name in the head of the call that `block` begins with, and where its arguments begin.

    None where that is not certain yet, or never will be: the call has another form, or is none of a known tool.
    """
    found = _HEAD.match(block, 0, HEAD_MOST)
    if not found:
        return None
    name = json.loads(f'{found[1]}"":0}}').get("name")
    return (name, found.end()) if isinstance(name, str) and name in known else None


class Arguments:
    """Reads a call from its arguments on to the end of the object that holds both."""

    def __init__(self) -> None:
        self._open = ["{"]  # the call's own object
        self._next = (
            "value"  # "value" | "item": value or "]" | "key" | "member": key or "}" | "colon" | "comma"
        )
        self._inside = ""  # a string: what follows it
        self._seen = False

    @property
    def complete(self) -> bool:
        """Whether the arguments are whole."""
        return self._seen and len(self._open) < 2

    @property
    def closed(self) -> bool:
        """Whether the call's own object is whole, too."""
        return not self._open

    def read(self, text: str) -> int:
        """How many characters of `text` are read; give the rest again, with what follows it.

        Stops behind the arguments, and behind the call. Raises NoJson.
        """
        at, complete = 0, self.complete
        while not self.closed and self.complete == complete:
            end = self._step(text, at)
            if end is None:
                raise NoJson(at)
            if end == at:
                break
            at = end
        return at

    def _step(self, text: str, at: int) -> int | None:
        """Where the next bit of JSON ends; `at` where it is not whole yet, None where there is none."""
        if self._inside:
            return self._in_string(text, at)
        if blanks := _BLANKS.match(text, at):
            return blanks.end()
        if at == len(text):
            return at
        char = text[at]
        if self._next in ("value", "item") and char not in '"{[]},:':
            return self._scalar(text, at)
        return at + 1 if self._sign(char) else None

    def _in_string(self, text: str, at: int) -> int | None:
        if found := _INSIDE.match(text, at):
            return found.end()
        if at == len(text) or _HALF_ESCAPE.fullmatch(text, at):
            return at
        if text[at] != '"':
            return None
        self._next, self._inside = self._inside, ""
        return at + 1

    def _scalar(self, text: str, at: int) -> int | None:
        found = _SCALAR_TEXT.match(text, at)
        if not found or found.end() == len(text):  # the next piece may go on with it
            return at
        self._next = "comma"
        return found.end() if _SCALAR.fullmatch(found[0]) else None

    def _sign(self, char: str) -> bool:
        """Take one of JSON's signs; whether it may stand here."""
        wanted = self._next
        if char == '"' and wanted in ("value", "item", "key", "member"):
            self._inside = "comma" if wanted in ("value", "item") else "colon"
        elif char in _CLOSERS and wanted in ("value", "item"):
            self._open.append(char)
            self._next, self._seen = {"{": "member", "[": "item"}[char], True
        elif char == _CLOSERS[self._open[-1]] and wanted in ("comma", "item", "member"):
            self._open.pop()
            self._next = "comma"
        elif char == "," and wanted == "comma":
            self._next = "key" if self._open[-1] == "{" else "value"
        elif char == ":" and wanted == "colon":
            self._next = "value"
        else:
            return False
        return True
