"""The chat loop: read a line, carry out a command or stream an answer, keep what was said.

Knows the conversation, the screen, the reader and the store; knows nothing of engines.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import FrameType

from edgellm.chat import commands, render
from edgellm.chat.conversation import Conversation, Reply
from edgellm.chat.reader import Reader
from edgellm.chat.store import Saved, Store
from edgellm.errors import EdgellmError, UsageError

PROMPT, CONTINUATION = ">>> ", "... "
QUOTES = '"""'
_METER_FROM = 0.75  # of the window: from here on every answer's line shows how full it is
_LONG_PROMPT = 256  # tokens to evaluate before it is worth saying so


@dataclass(frozen=True)
class Attachment:
    """A file read with /read, waiting for the next message."""

    name: str
    text: str


@dataclass
class Repl:
    """One chat in a terminal, or over pipes."""

    conversation: Conversation
    reader: Reader
    screen: render.Screen
    model: str  # as given: what opens it again
    store: Store | None = None  # None: nothing is kept
    saved: Saved | None = None
    show_stats: bool = True
    done: bool = False
    exit_code: int = 0
    attachments: list[Attachment] = field(default_factory=list)

    def begin(self, saved: Saved | None = None, system: str | None = None) -> None:
        """Greet, and go on with `saved`, under `system` where it is given."""
        artifact = self.conversation.session.artifact
        if self.reader.interactive:
            window = f"{self.conversation.n_ctx:,} tokens of context"
            self.screen.note(
                f"{artifact.name} · {artifact.quantization} · {window} · /? for help, Ctrl-D leaves"
            )
        if saved:
            self.load(replace(saved, history=replace(saved.history, system=system or saved.history.system)))
        else:
            self.start_over()

    def run(self) -> int:
        """Serve until the user leaves. The exit code is that of the last error when nobody was watching."""
        while not self.done:
            try:
                line = self.read_message()
                self.handle(line)
            except EOFError:
                break
            except KeyboardInterrupt:
                if not self.reader.interactive:
                    raise
                self.screen.note("(Ctrl-D or /bye leaves)")
            except EdgellmError as error:
                self.screen.error(str(error))
                self.exit_code = error.exit_code
        return 0 if self.reader.interactive else self.exit_code

    def read_message(self) -> str:
        """One message: a line, or the lines between two \"\"\"."""
        names = "".join(f"[{attachment.name}] " for attachment in self.attachments)
        text = self.reader.read(names + PROMPT)
        if not text.lstrip().startswith(QUOTES):
            return text
        text = text.lstrip().removeprefix(QUOTES)
        while not text.rstrip().endswith(QUOTES):
            try:
                text += "\n" + self.reader.read(CONTINUATION)
            except EOFError:
                if self.reader.interactive:
                    self.screen.note('(unfinished: the message had no closing """ and was not sent)')
                    return ""
                return _escaped(text)
        return _escaped(text.rstrip().removesuffix(QUOTES))

    def handle(self, line: str) -> None:
        """Carry out one line."""
        text = line.strip()
        command = text.split(maxsplit=1)[0] if text.startswith("/") else ""
        if not text:
            return
        if text.startswith("//"):
            self.ask(text[1:])
        elif command and "/" not in command[1:]:
            commands.find(command).run(self, text[len(command) :].strip())
        else:
            self.ask(text)

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
        waiting = f"reading {n_new:,} tokens…" if n_new > _LONG_PROMPT else ""
        interrupted = False
        with render.quiet_keyboard(), interruptible(reply):
            try:
                self.screen.answer(reply.parts(), waiting)
            except KeyboardInterrupt:
                reply.close()
            except EdgellmError:
                self.keep()
                raise
            interrupted = reply.completion.finish_reason == "cancelled"
        self._epilogue(reply)
        if self.reader.interactive:
            self.screen.print("")
        self.keep()
        if interrupted and not self.reader.interactive:
            raise KeyboardInterrupt

    def _epilogue(self, reply: Reply) -> None:
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
        if self.show_stats and done.tokens:
            share = conversation.n_used / conversation.n_ctx
            meter = f" · window {share:.0%} full" if share >= _METER_FROM else ""
            stats = render.stats_line(done.usage, render.resident_bytes(), reply.n_thinking)
            self.screen.note(stats + meter)

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

    def load(self, saved: Saved) -> None:
        """Go on with a saved conversation, showing where it stood."""
        self.conversation.restore(saved.history)
        self.saved = saved
        self.screen.note(f"({saved.name}: {_count(saved.n_turns, 'turn')} with {saved.model})")
        for message in saved.messages[-2:] if self.reader.interactive else ():
            self.screen.print((PROMPT if message.role == "user" else "") + message.content)
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

    def complete(self, text: str) -> list[str]:
        """Words that may end the line `text`."""
        if not text.startswith("/"):
            return []
        name, blank, rest = text.partition(" ")
        if not blank:
            return [word for command in commands.COMMANDS for word in command.names if word.startswith(name)]
        with contextlib.suppress(UsageError):
            return sorted(commands.find(name).complete(self, rest))
        return []


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


def _escaped(text: str) -> str:
    """Quoted text is never a command."""
    return "/" + text.lstrip() if text.lstrip().startswith("/") else text


def _framed(attachment: Attachment) -> str:
    fence = "```"
    while fence in attachment.text:
        fence += "`"
    return f"{attachment.name}:\n{fence}\n{attachment.text.rstrip()}\n{fence}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
