"""One talk in a terminal: ask, show the answer as it streams, keep what was said. What commands work on.

Knows the conversation, the screen, the reader and the store; knows no command and nothing of engines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from edgellm.chat import state, words
from edgellm.chat.conversation import Conversation, Reply, Template
from edgellm.chat.store import Saved, Store
from edgellm.chat.talk import calls
from edgellm.chat.talk.attachments import Attachment
from edgellm.chat.terminal import interrupt, render
from edgellm.chat.terminal.reader import Reader
from edgellm.chat.tools import Toolbox
from edgellm.errors import EdgellmError, UsageError
from edgellm.prompt.messages import History
from edgellm.session import EngineOptions, Session

PROMPT = ">>> "
_SHOWN_LINES = 12  # of a message that is shown again


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
            raise UsageError(words.say("no_energy"))
        self.meter = self._open() if wanted and self._open else None


#: The line after an answer: short, with everything, or none.
Stats = Literal["short", "all", "off"]


@dataclass(frozen=True)
class Opening:
    """A model that was found and can be opened."""

    name: str  # what opens it again, from anywhere
    template: Template
    open: Callable[[], Session]


Find = Callable[[str, EngineOptions], Opening]


@dataclass
class Talk:
    """One chat in a terminal, or over pipes."""

    conversation: Conversation
    reader: Reader
    screen: render.Screen
    model: str  # as given: what opens it again
    store: Store | None = None  # None: nothing is kept
    saved: Saved | None = None  # None: nothing was said yet
    stats: Stats = "short"  # the line after an answer
    save_state: bool = False  # keep the engine's state beside the conversation
    single_turn: bool = False  # leave after one answer
    energy: EnergySwitch = field(default_factory=EnergySwitch)
    tools: Toolbox | None = None
    find: Find | None = None  # None: there is no other model to be had
    engine: EngineOptions = field(default_factory=EngineOptions)
    done: bool = False
    exit_code: int = 0
    attachments: list[Attachment] = field(default_factory=list)
    n_thinking: int = 0  # tokens of the last answer
    energy_of_last: str = ""  # what was measured of it, as /stats shows it
    _about: str = ""  # what the conversation is named by

    def begin(self, saved: Saved | None = None, system: str | None = None) -> None:
        """Greet, and go on with `saved`, under `system` where it is given."""
        artifact = self.conversation.session.artifact
        self.conversation.on_summary = self._show_summary
        if self.reader.interactive:
            name, n_ctx = artifact.name, self.conversation.n_ctx
            self.screen.note(words.say("greeting", name=name, type=artifact.quantization, n_ctx=n_ctx))
            if self.tools:
                self.screen.note(
                    words.say("offers", n=len(self.tools.names), names=", ".join(self.tools.names))
                )
        if saved:
            history = saved.history if system is None else replace(saved.history, system=system)
            self.load(replace(saved, history=history))
        else:
            self.start_over()

    def close(self) -> None:
        """Free the engine."""
        self.conversation.session.close()

    def ask(self, text: str) -> None:
        """Send a message, with the files that wait for it, and show the answer.

        What is still unanswered, after a crash, is answered with it.
        """
        message = "\n\n".join([*(attachment.framed for attachment in self.attachments), text])
        self._about = self._about or text
        conversation = self.conversation
        if conversation.unanswered and conversation.messages[-1].role == "tool":
            self.answer(conversation.regenerate)
        if conversation.unanswered:
            self.screen.note(words.say("answers_both"))
            owed = conversation.messages[-1].content
            if message == owed:
                self.answer(conversation.regenerate)
            else:
                self.answer(lambda: conversation.edit(f"{owed}\n\n{message}"))
        else:
            self.answer(lambda: conversation.ask(message))
        self.attachments.clear()

    def answer(self, start: Callable[[], Reply]) -> None:
        """Show a reply, and those that follow from the tools it calls."""
        reply = self._one(start)
        while self.tools and reply.finish_reason == "tool_calls":
            results = calls.carried_out(self.conversation.pending, self.tools, self.reader, self.screen)
            reply = self._one(lambda results=results: self.conversation.respond(results))  # type: ignore[misc]
        self.done = self.done or self.single_turn
        if reply.completion.finish_reason == "cancelled" and not self.reader.interactive:
            raise KeyboardInterrupt

    def _one(self, start: Callable[[], Reply]) -> Reply:
        """Show a reply as it comes, what ended it, and what it took."""
        reply = start()
        if reply.n_dropped:
            self.screen.note(words.say("dropped", n=reply.n_dropped, n_ctx=self.conversation.n_ctx))
        self.keep()
        joules = self._stream(reply)
        self._epilogue(reply, joules)
        if self.reader.interactive:
            self.screen.print("")
        self._keep_state()  # first: a state that knows more than the text serves, one that knows less does not
        name = self.saved.name if self.saved else None
        self.keep()
        if self.saved and self.saved.name != name:
            self._keep_state()
        return reply

    def _stream(self, reply: Reply) -> float | None:
        """Show the reply while it comes; its joules, where they are measured."""
        if meter := self.energy.meter:
            meter.start()
        with interrupt.quiet_keyboard(), interrupt.interruptible(reply):
            try:
                self.screen.answer(reply.parts(), lambda: render.reading(*reply.read))
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
        self.screen.note(words.say("sums_up", n=reply.n_dropped, n_ctx=self.conversation.n_ctx))
        self._stream(reply)
        self.screen.note(words.say("end_of_summary"))

    def _epilogue(self, reply: Reply, joules: float | None) -> None:
        done, conversation = reply.completion, self.conversation
        if done.finish_reason == "cancelled":
            self.screen.note(words.say("stopped") if done.tokens else words.say("stopped_before"))
        elif done.finish_reason == "length":
            full = conversation.messages[-1].truncated and conversation.n_used >= conversation.n_ctx - 1
            n_ctx = conversation.n_ctx
            self.screen.note(words.say("cut_full", n_ctx=n_ctx) if full else words.say("cut_limit"))
        if done.valid is False and done.finish_reason != "cancelled":
            self.screen.note(f"({render.why_not_whole(done)})")
        self.n_thinking, self.energy_of_last = reply.n_thinking, self._joules(joules)
        if self.stats == "off" or not done.tokens:
            return
        share = conversation.n_used / conversation.n_ctx
        if self.stats == "all":
            line = (
                render.stats_line(done.usage, render.resident_bytes(), self.n_thinking) + self.energy_of_last
            )
        else:
            line = render.short_stats(done.usage) + self.energy_of_last
        self.screen.note(" · ".join(filter(None, (line, words.say("full", share=share)))))

    def _joules(self, joules: float | None) -> str:
        if not self.energy.meter:
            return ""
        figure = words.say("energy_too_short") if joules is None else f"{joules:.2f} J"
        return f" · {figure} ({self.energy.meter.name})"

    def keep(self) -> None:
        """Save the conversation; its first message names it. A full disk must not end the chat."""
        conversation = self.conversation
        if self.store is None or not (conversation.messages or (self.saved and self.store.has(self.saved))):
            return
        saved = self.saved or self.store.new(self.model, self._about)
        try:
            self.saved = self.store.write(saved, conversation.history)
        except (EdgellmError, OSError) as error:
            self.saved = saved
            self.screen.error(words.say("not_saved", why=error))
        if self.saved.name != saved.name:
            self.screen.note(words.say("written_by_another", name=saved.name, now=self.saved.name))

    def _keep_state(self) -> None:
        """Put the engine's state beside the conversation, where that was asked for."""
        if not self.save_state or self.store is None or self.saved is None:
            return
        try:
            path = self.store.state_path(self.saved.name)
            state.write(path, self.conversation.session, self.conversation.spans)
        except (EdgellmError, OSError) as error:
            self.screen.error(words.say("state_not_saved", why=error))

    def _restore_state(self) -> None:
        """Take up the engine's state of the loaded conversation; without it, the text is read again."""
        path = self.store.state_path(self.saved.name) if self.store and self.saved else None
        if path is None or not path.exists():
            return
        self.save_state = True
        try:
            n = state.restore(path, self.conversation.session, self.conversation.spans)
            self.screen.note(words.say("state_back", n=n))
        except state.StateError as error:
            self.screen.note(words.say("read_again", why=error))

    def load(self, saved: Saved) -> None:
        """Go on with a saved conversation, showing where it stood."""
        self.conversation.restore(saved.history)
        self.saved = saved
        n_turns = words.say("turns", n=saved.n_turns)
        self.screen.note(words.say("loaded", name=saved.name, turns=n_turns, model=saved.model))
        self._restore_state()
        self.show_end()

    def show_end(self) -> None:
        """Where the conversation stands: its last turn, and whether an answer is owed."""
        for message in self.conversation.messages[-2:] if self.reader.interactive else ():
            text = message.content
            if message.role == "user" and (n := text.count("\n") + 1 - _SHOWN_LINES) > 1:
                text = "\n".join([*text.split("\n")[:_SHOWN_LINES], words.say("more_lines", n=n)])
            self.screen.message((PROMPT if message.role == "user" else "") + text)
        if self.conversation.unanswered:
            self.screen.note(words.say("owed"))

    def attach(self, attachment: Attachment) -> None:
        """Send a file's text with the next message. Raises UsageError where it does not fit the window."""
        conversation = self.conversation
        n = len(conversation.session.tokenize(attachment.text, special=False))
        if n > conversation.n_ctx:
            over = words.say("file_over_window", name=attachment.name, n=n, n_ctx=conversation.n_ctx)
            raise UsageError(over + conversation.larger_window)
        self.attachments.append(attachment)
        self.screen.note(words.say("attached", name=attachment.name, n=n))

    def start_over(self) -> None:
        """Begin a new conversation; the old one stays saved."""
        self.conversation.clear()
        self.attachments.clear()
        self.saved, self._about = None, ""

    def reopen(self, model: str, engine: EngineOptions) -> None:
        """Have another model, or the same otherwise opened, go on with what was said.

        Raises EdgellmError, and the old one goes on then: it is given up only for one that was found.
        """
        if self.find is None:
            raise UsageError(words.say("no_other_model"))
        now = self.find(self.model, self.engine)
        new = self.find(model, engine)
        self.close()  # before: there may not be room for both
        try:
            self._go_on(new, engine)
        except EdgellmError:
            self._go_on(now, self.engine)
            raise
        self.model, self.engine = new.name, engine
        if self.saved:
            self.saved = replace(self.saved, model=new.name)
        if self.conversation.messages:
            self.screen.note(words.say("read_by_the_new"))

    def _go_on(self, opening: Opening, engine: EngineOptions) -> None:
        old = self.conversation
        session = opening.open()
        try:
            new = Conversation(
                session,
                opening.template,
                options=replace(old.options, drafter=None),  # it is the other model's
                on_full=old.on_full,
                tools=self.tools.schemas if self.tools else (),
                think=None if session.artifact.foreign else old.think,
            )
        except EdgellmError:
            session.close()
            raise
        kept = old.history
        n_hidden = kept.summary.n_messages if kept.summary else 0  # what is left out is decided anew
        new.restore(History(kept.messages, kept.system, n_hidden, kept.summary, kept.branches))
        new.on_summary = self._show_summary
        self.conversation = new
