"""One talk in a terminal: ask, show the answer as it streams, keep what was said. What commands work on.

Knows the conversation, the screen, the reader and the store; knows no command and nothing of engines.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Protocol

from edgellm.chat import state
from edgellm.chat.conversation import Conversation, Reply
from edgellm.chat.store import Saved, Store
from edgellm.chat.terminal import render
from edgellm.chat.terminal.reader import Reader
from edgellm.errors import EdgellmError, UsageError

PROMPT = ">>> "
_LONG_PROMPT = 256  # tokens to evaluate before it is worth saying so


@dataclass(frozen=True)
class Attachment:
    """A file read with /read, waiting for the next message."""

    name: str
    text: str


class Energy(Protocol):
    """Measures the joules of an answer."""

    name: str

    def start(self) -> None:
        """Begin to measure."""
        ...

    def stop(self) -> float | None:
        """Joules since `start`; None where they could not be measured."""
        ...


class EnergySwitch:
    """Turns the measuring of joules on and off."""

    def __init__(self, open_energy: Callable[[], Energy] | None = None) -> None:
        self._open = open_energy
        self.meter: Energy | None = None

    @property
    def on(self) -> bool:
        """Whether joules are measured."""
        return self.meter is not None

    @on.setter
    def on(self, wanted: bool) -> None:
        if wanted and self._open is None:
            raise UsageError("energy cannot be measured here")
        self.meter = self._open() if wanted and self._open else None


@dataclass
class Talk:
    """One chat in a terminal, or over pipes."""

    conversation: Conversation
    reader: Reader
    screen: render.Screen
    model: str  # as given: what opens it again
    store: Store | None = None  # None: nothing is kept
    saved: Saved | None = None
    show_stats: bool = True
    save_state: bool = False  # keep the engine's state beside the conversation
    single_turn: bool = False  # leave after one answer
    energy: EnergySwitch = field(default_factory=EnergySwitch)
    done: bool = False
    exit_code: int = 0
    attachments: list[Attachment] = field(default_factory=list)

    def begin(self, saved: Saved | None = None, system: str | None = None) -> None:
        """Greet, and go on with `saved`, under `system` where it is given."""
        artifact = self.conversation.session.artifact
        self.conversation.on_summary = self._show_summary
        if self.reader.interactive:
            window = f"{self.conversation.n_ctx:,} tokens of context"
            self.screen.note(
                f"{artifact.name} · {artifact.quantization} · {window} · /? for help, Ctrl-D leaves"
            )
        if saved:
            history = saved.history if system is None else replace(saved.history, system=system)
            self.load(replace(saved, history=history))
        else:
            self.start_over()

    def ask(self, text: str) -> None:
        """Send a message, with the files that wait for it, and show the answer."""
        message = "\n\n".join([*(_framed(attachment) for attachment in self.attachments), text])
        self.answer(lambda: self.conversation.ask(message))
        self.attachments.clear()

    def answer(self, start: Callable[[], Reply]) -> None:
        """Show a reply as it comes, what ended it, and what it took."""
        reply = start()
        if reply.n_dropped:
            oldest = "oldest turn" if reply.n_dropped == 1 else f"{reply.n_dropped} oldest turns"
            self.screen.note(
                f"(the window of {self.conversation.n_ctx:,} tokens is full: the model no longer sees the "
                f"{oldest}; what is saved keeps all)"
            )
        self.keep()
        n_new = reply.n_prompt - self.conversation.n_used
        joules = self._stream(reply, f"reading {n_new:,} tokens…" if n_new > _LONG_PROMPT else "")
        self._epilogue(reply, joules)
        if self.reader.interactive:
            self.screen.print("")
        self._keep_state()  # first: a state that knows more than the text serves, one that knows less does not
        name = self.saved.name if self.saved else None
        self.keep()
        if self.saved and self.saved.name != name:
            self._keep_state()
        self.done = self.done or self.single_turn
        if reply.completion.finish_reason == "cancelled" and not self.reader.interactive:
            raise KeyboardInterrupt

    def _stream(self, reply: Reply, waiting: str) -> float | None:
        """Show the reply while it comes; its joules, where they are measured."""
        if meter := self.energy.meter:
            meter.start()
        with render.quiet_keyboard(), interruptible(reply):
            try:
                self.screen.answer(reply.parts(), waiting)
            except KeyboardInterrupt:
                reply.close()
            except EdgellmError:
                self.keep()
                raise
            finally:
                joules = meter.stop() if meter else None
        return joules

    def _show_summary(self, reply: Reply) -> None:
        """Show what will stand in the place of the oldest turns, as the model writes it."""
        oldest = "the oldest turn" if reply.n_dropped == 1 else f"the {reply.n_dropped} oldest turns"
        self.screen.note(
            f"(the window of {self.conversation.n_ctx:,} tokens is full: the model sums up {oldest}; "
            f"what is saved keeps all)"
        )
        self._stream(reply, "")
        self.screen.note("(end of the summary)")

    def _epilogue(self, reply: Reply, joules: float | None) -> None:
        done, conversation = reply.completion, self.conversation
        if done.finish_reason == "cancelled":
            taken = "" if done.tokens else " before the answer began; your message was taken back"
            self.screen.note(f"(stopped{taken})")
        elif done.finish_reason == "length":
            full = conversation.messages[-1].truncated and conversation.n_used >= conversation.n_ctx - 1
            why = (
                f"the window of {conversation.n_ctx:,} tokens is full"
                if full
                else "the limit of -n is reached"
            )
            self.screen.note(f"(cut short: {why})")
        if done.valid is False and done.finish_reason != "cancelled":
            self.screen.note(f"({render.why_not_whole(done)})")
        if self.show_stats and done.tokens:
            stats = render.stats_line(done.usage, render.resident_bytes(), reply.n_thinking)
            share = conversation.n_used / conversation.n_ctx
            self.screen.note(f"{stats}{self._joules(joules)} · window {share:.0%} full")

    def _joules(self, joules: float | None) -> str:
        if not self.energy.meter:
            return ""
        figure = "energy not measured, too short" if joules is None else f"{joules:.2f} J"
        return f" · {figure} ({self.energy.meter.name})"

    def keep(self) -> None:
        """Save the conversation. A full disk must not end the chat."""
        conversation = self.conversation
        if (
            self.store is None
            or self.saved is None
            or not (conversation.messages or self.store.has(self.saved))
        ):
            return
        name = self.saved.name
        try:
            self.saved = self.store.write(self.saved, conversation.history)
        except (EdgellmError, OSError) as error:
            self.screen.error(f"the conversation is not saved: {error}")
        if self.saved.name != name:
            self.screen.note(
                f"(another program has written to {name}: this conversation is now {self.saved.name})"
            )

    def _keep_state(self) -> None:
        """Put the engine's state beside the conversation, where that was asked for."""
        if not self.save_state or self.store is None or self.saved is None:
            return
        try:
            path = self.store.state_path(self.saved.name)
            state.write(path, self.conversation.session, self.conversation.spans)
        except (EdgellmError, OSError) as error:
            self.screen.error(f"the state is not saved: {error}")

    def _restore_state(self) -> None:
        """Take up the engine's state of the loaded conversation; without it, the text is read again."""
        path = self.store.state_path(self.saved.name) if self.store and self.saved else None
        if path is None or not path.exists():
            return
        self.save_state = True
        try:
            n = state.restore(path, self.conversation.session, self.conversation.spans)
            self.screen.note(f"(its state is back: {n:,} tokens need not be read again)")
        except state.StateError as error:
            self.screen.note(f"(the text is read again: {error})")

    def load(self, saved: Saved) -> None:
        """Go on with a saved conversation, showing where it stood."""
        self.conversation.restore(saved.history)
        self.saved = saved
        self.screen.note(f"({saved.name}: {_count(saved.n_turns, 'turn')} with {saved.model})")
        self._restore_state()
        self.show_end()

    def show_end(self) -> None:
        """Where the conversation stands: its last turn, and whether an answer is owed."""
        for message in self.conversation.messages[-2:] if self.reader.interactive else ():
            self.screen.message((PROMPT if message.role == "user" else "") + message.content)
        if self.conversation.unanswered:
            self.screen.note("(the last message has no answer yet; /regen answers it, /undo takes it back)")

    def attach(self, name: str, text: str) -> None:
        """Send a text with the next message."""
        self.attachments.append(Attachment(name, text))

    def start_over(self) -> None:
        """Begin a new conversation; the old one stays saved."""
        self.conversation.clear()
        self.attachments.clear()
        if self.store:
            self.saved = self.store.new(self.model, self.conversation.session.artifact.name)


@contextlib.contextmanager
def interruptible(reply: Reply) -> Iterator[None]:
    """Ctrl-C ends the reply after the current token; before the first one, or a second time, at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if reply.cancelled or not reply.started:
            raise KeyboardInterrupt
        reply.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _framed(attachment: Attachment) -> str:
    fence = "```"
    while fence in attachment.text:
        fence += "`"
    return f"{attachment.name}:\n{fence}\n{attachment.text.rstrip()}\n{fence}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
