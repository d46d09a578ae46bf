"""Where the user's lines come from: an editing prompt in a terminal, plain lines elsewhere.

`read` raises EOFError at the end (Ctrl-D) and KeyboardInterrupt at Ctrl-C. Knows nothing of what is read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from edgellm.chat.terminal.pastes import Pastes

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document

Complete = Callable[[str], Iterable[str]]  # text before the cursor -> whole words that may end it
#: Commands whose argument is one path, blanks and all.
_TAKE_PATHS = ("/read ", "/model ")


class Reader(Protocol):
    """A source of lines."""

    interactive: bool  # a person is typing

    def read(self, prompt: str, default: str = "") -> str:
        """The next line, without its end; `default` is there to be edited, where the reader can do that."""
        ...

    def ask(self, question: str) -> str:
        """A short answer, which no history keeps."""
        ...


def open_reader(complete: Complete, history: Path | None) -> Reader:
    """The best reader for standard input and output. `history` None keeps none on disk."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal and os.environ.get("TERM", "dumb") != "dumb":
        return PromptReader(complete, history)
    return LineReader(sys.stdin)


class LineReader:
    """Plain lines from a stream. Bytes that are not UTF-8 become U+FFFD."""

    def __init__(self, stream: TextIO) -> None:
        self.interactive = stream.isatty()
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")

    def read(self, prompt: str, default: str = "") -> str:
        """The next line. The prompt is shown, on standard error, only to a person."""
        if self.interactive:
            print(prompt, end="", file=sys.stderr, flush=True)
        line = self._stream.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def ask(self, question: str) -> str:
        """As `read`."""
        return self.read(question)


class PromptReader:
    """prompt_toolkit: editing, history, completion, an external editor on Ctrl-X Ctrl-E, Alt-Enter for a new line.

    A long paste stands in the line as its length; the message gets all of it, and so does the history.
    """

    interactive = True

    def __init__(self, complete: Complete, history: Path | None) -> None:
        from prompt_toolkit import PromptSession

        self._pastes = Pastes()
        self._session: PromptSession[str] = PromptSession(
            history=_history(history, self._pastes),
            completer=_completer(complete),
            key_bindings=_keys(self._pastes),
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            enable_suspend=True,
            reserve_space_for_menu=4,
            prompt_continuation=lambda width, line, wrapped: "" if wrapped else "... ",
        )
        self._questions: PromptSession[str] = PromptSession()

    def read(self, prompt: str, default: str = "") -> str:
        """The next line, or lines when pasted or made with Alt-Enter."""
        text = self._pastes.unfolded(self._session.prompt(prompt, default=default))
        return text.encode("utf-8", "replace").decode()

    def ask(self, question: str) -> str:
        """A line that is kept nowhere."""
        return self._questions.prompt(question)


def _history(path: Path | None, pastes: Pastes) -> Any:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if path is None:
        return InMemoryHistory()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    class WholeHistory(FileHistory):
        def append_string(self, string: str) -> None:
            super().append_string(pastes.unfolded(string))

    return WholeHistory(str(path))


def _completer(complete: Complete) -> Any:
    from prompt_toolkit.completion import Completer, Completion

    class WordCompleter(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            text = document.text_before_cursor
            command = next((name for name in _TAKE_PATHS if text.startswith(name)), "")
            begun = text.removeprefix(command) if command else text.rpartition(" ")[2]
            for word in complete(text):
                yield Completion(word, start_position=-len(begun))

    return WordCompleter()


def _keys(pastes: Pastes) -> Any:
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.keys import Keys

    keys = KeyBindings()
    keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))

    @keys.add(Keys.BracketedPaste)
    def paste(event: Any) -> None:
        data = event.data.replace("\r\n", "\n").replace("\r", "\n")
        event.current_buffer.insert_text(pastes.folded(data))

    @keys.add("backspace", save_before=lambda event: False)
    def backspace(event: Any) -> None:
        buffer = event.current_buffer
        buffer.delete_before_cursor(pastes.n_before(buffer.document.text_before_cursor) or event.arg)

    return keys
