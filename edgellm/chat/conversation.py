"""A conversation with a model: messages in, streamed answers out, and never more history than the window holds.

    conversation = Conversation(session, template, system="Be brief.")
    for piece in conversation.ask("Why is the sky blue?"):
        print(piece, end="", flush=True)

Knows messages, the model's template and token counts. Knows no terminal and no file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from edgellm.chat import window
from edgellm.chat.reply import Reply, seeded
from edgellm.chat.spans import SpanCache
from edgellm.chat.window import ContextFullError, Prompt, Renderer, Template
from edgellm.errors import EngineError, UsageError, option
from edgellm.generation.generate import Completion, GenerateOptions
from edgellm.prompt import markup, tool_choice
from edgellm.prompt import messages as chat_messages
from edgellm.prompt.markup import Markup
from edgellm.prompt.messages import History, Message, Summary
from edgellm.prompt.tool_choice import ToolChoice
from edgellm.prompt.tools import Tool, ToolCall
from edgellm.session import GREEDY, Session

__all__ = ["ContextFullError", "Conversation", "Message", "OnFull", "Reply", "Template", "seeded"]

OnFull = Literal["drop", "stop", "summarise"]
_DEFAULTS = GenerateOptions()
_UNKNOWN = "{}: unknown of {}, which is outside the verified families; leave it out"


def must_call(options: GenerateOptions, choice: str, looks: Markup) -> GenerateOptions:
    """`options` by the grammar of calls, where `choice` (tool_choice.read) asks for one. Raises UsageError."""
    if choice in (tool_choice.AUTO, tool_choice.NONE):
        return options
    if options.grammar is not None:
        raise UsageError("an answer that must call a tool has no room for a schema or grammar: leave one out")
    from edgellm.generation.constraints import Grammar

    word = "arguments" if looks.calls == "tags" else "parameters"
    grammar = Grammar.json_schema(tool_choice.schema(choice, looks.known, word))
    return dataclasses.replace(options, grammar=grammar)


class Conversation:
    """Messages with one model in one session. Not thread-safe, as the session is not.

    `messages` is all that was said; the model sees the system prompt and, once the window is full, the
    younger part of it: `n_hidden` messages are left out. An answer that calls tools waits for `respond`.
    """

    def __init__(
        self,
        session: Session,
        template: Template,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        options: GenerateOptions = _DEFAULTS,
        on_full: OnFull = "drop",
        tools: Sequence[Tool] = (),
        think: bool | None = None,
        choice: ToolChoice = tool_choice.AUTO,
    ) -> None:
        """`think` None leaves the choice to the template; it means nothing to a model that does not think.

        `choice` "none" does not offer the tools; "required" or a tool's name makes a call of the answer to a
        user's message. Raises UsageError.
        """
        template = template.for_tools() if tools else template
        self._choice = tool_choice.read(choice, tools)
        foreign = session.artifact.foreign
        if foreign and tools:
            raise UsageError(_UNKNOWN.format("how tools are called", session.artifact.name))
        self._markup = markup.Markup() if foreign else markup.Markup.of(template.source, tools)
        self.session = markup.spelled(session, self._markup)
        self.options, self.on_full, self.think = options, on_full, think
        self.system = system
        self.messages = list(messages)
        self.branches: list[tuple[Message, ...]] = []  # what edits and new answers took the place of
        self.n_hidden = 0
        self.summary: Summary | None = None
        self.last: Completion | None = None
        self.on_summary: Callable[[Reply], None] | None = None  # is shown the summary as it is written
        self.spans = SpanCache(self.session)
        self._renderer = Renderer(template, self.spans, tools)
        self._reply: Reply | None = None
        self._n_regenerated = 0

    @property
    def n_ctx(self) -> int:
        """Tokens the window holds."""
        return self.session.info.n_ctx

    @property
    def n_used(self) -> int:
        """Tokens of the window in use."""
        return len(self.session.tokens)

    @property
    def larger_window(self) -> str:
        """The end of a message about too little room; empty where the model has seen no longer text."""
        most = self.session.artifact.n_ctx_train
        return (
            f", or take a larger {option('n_ctx')} (this model: up to {most:,})" if most > self.n_ctx else ""
        )

    @property
    def thinks(self) -> bool:
        """Whether the model's template knows of thinking; False where that is unknown."""
        return self._markup.thinks

    @property
    def think(self) -> bool | None:
        """Whether the model is to think first; None leaves it to the template."""
        return self._think

    @think.setter
    def think(self, value: bool | None) -> None:
        if value is not None and self.session.artifact.foreign:
            raise UsageError(_UNKNOWN.format("whether and how it thinks", self.session.artifact.name))
        self._think = value

    @property
    def thinks_on_request(self) -> bool:
        """Whether `think` means something to the model."""
        return self._renderer.thinks_on_request

    @property
    def unanswered(self) -> bool:
        """Whether the last word is not the model's (an answer was lost or taken back)."""
        return bool(self.messages) and self.messages[-1].role != "assistant"

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The calls of the last answer, which `respond` takes results for."""
        return () if not self.messages else self.messages[-1].calls

    @property
    def history(self) -> History:
        """What `restore` goes on from."""
        branches = tuple(self.branches)
        return History(tuple(self.messages), self.system, self.n_hidden, self.summary, branches)

    def ask(self, text: str) -> Reply:
        """Put a message; iterate over the reply to get the answer.

        Raises ContextFullError when the message does not fit, and leaves the conversation as it was.
        """
        self._settle()
        if self.unanswered:
            raise UsageError("the last message has no answer yet: regenerate() or undo() first")
        self._n_regenerated = 0
        return self._answer([*self.messages, Message("user", text)])

    def respond(self, results: Mapping[str, str]) -> Reply:
        """Give the tools' results, by the calls' ids, and have the model go on."""
        self._settle()
        missing = [f"{call.name} ({call.id})" for call in self.pending if call.id not in results]
        if missing or not self.pending:
            raise UsageError(
                f"results are missing for: {', '.join(missing)}" if missing else "no tool was called"
            )
        told = [Message("tool", results[call.id], call_id=call.id) for call in self.pending]
        self._n_regenerated = 0
        return self._answer([*self.messages, *told], free=True)

    def regenerate(self, prefill: str = "") -> Reply:
        """Answer the last message anew, from `prefill` on. With a fixed seed the n-th time draws with seed + n."""
        self._settle()
        messages = self.messages[:-1] if self.messages and not self.unanswered else self.messages
        if not messages:
            raise UsageError("there is no message to answer yet")
        self._n_regenerated += not self.unanswered
        return self._answer(list(messages), prefill=prefill)

    def edit(self, text: str, turn: int | None = None) -> Reply:
        """Put `text` in the place of the user's last message, or of an earlier turn's (1 is the first); answer it.

        What followed stays in `branches`. The model evaluates only what comes after the common part.
        """
        self._settle()
        return self._answer([*self.messages[: self._turn(turn)], Message("user", text)])

    def undo(self) -> Message:
        """Take back the last message and its answer; returns the message."""
        self._settle()
        start = self._turn(None)
        taken = self.messages[start]
        self._replace(self.messages[:start])
        return taken

    def switch(self, branch: int) -> None:
        """Go over to another branch (1 is the first); the present one takes its place in `branches`."""
        self._settle()
        if not 1 <= branch <= len(self.branches):
            raise UsageError(f"there is no branch {branch}; there are {len(self.branches)}")
        target = self.branches.pop(branch - 1)
        if self.messages:
            self.branches.insert(branch - 1, tuple(self.messages))
        self._replace(list(target))

    def clear(self) -> None:
        """Forget all messages; the system prompt stays."""
        self.restore(History(system=self.system))

    def restore(self, history: History) -> None:
        """Go on from what was kept."""
        self._settle()
        self.system, self.last, self.branches = history.system, None, list(history.branches)
        self.messages, self.summary = list(history.messages), history.summary
        self.n_hidden = min(max(history.n_hidden, 0), len(self.messages))

    def _turn(self, turn: int | None) -> int:
        """The index of the user's message that begins a turn, the last one for None."""
        starts = chat_messages.turns(self.messages)
        if not starts:
            raise UsageError("there is no message yet")
        if turn is not None and not 1 <= turn <= len(starts):
            raise UsageError(f"there is no turn {turn}; there are {len(starts)}")
        return starts[-1 if turn is None else turn - 1]

    def _replace(self, messages: list[Message]) -> None:
        """Go on with other messages. Older turns may fit again, the next prompt decides; a summary stays true."""
        self._forget_summary_unless(chat_messages.n_common(messages, self.messages))
        self.messages = messages
        self.n_hidden = self.summary.n_messages if self.summary else 0

    def _forget_summary_unless(self, n_common: int) -> None:
        """The summary holds while the messages it stands for, and one more, stay as they were."""
        if self.summary and self.summary.n_messages >= n_common:
            self.summary = None

    def _settle(self) -> None:
        """End a reply that the caller walked away from."""
        if self._reply:
            self._reply.close()

    def choose(self, choice: ToolChoice, tools: Sequence[Tool]) -> None:
        """Set which of the `tools` it has been made with may or must be called. Raises UsageError."""
        self._choice = tool_choice.read(choice, tools)

    def _options(self, *, free: bool) -> GenerateOptions:
        """For the next answer; one that must be a call is written by the grammar of calls. Raises UsageError."""
        options = seeded(self.options, self._n_regenerated)
        return options if free else must_call(options, self._choice, self._markup)

    def _answer(self, messages: list[Message], *, free: bool = False, prefill: str = "") -> Reply:
        """`free`: it goes on with tools' results, and need not call again."""
        options = self._options(free=free)
        n_common = chat_messages.n_common(messages, self.messages)
        if n_common < self.n_hidden:  # an early turn is edited: what is left out is decided anew
            self._forget_summary_unless(n_common)
            self.n_hidden = 0
        prompt = self._fit(messages, prefill)
        if (
            prompt.n_hidden > self.n_hidden
            and self.on_full == "summarise"
            and self._summarise(messages, prompt.n_hidden)
        ):
            self.n_hidden = prompt.n_hidden
            prompt = self._fit(messages, prefill)
        n_dropped = len(chat_messages.turns(messages[self.n_hidden : prompt.n_hidden]))
        before = self.history
        self.messages, self.n_hidden = messages, prompt.n_hidden

        def end(reply: Reply) -> None:
            self._reply = None
            self._record(reply, prompt, before)

        self._reply = self._start(prompt, options, n_dropped, end)
        return self._reply

    def _start(
        self,
        prompt: Prompt,
        options: GenerateOptions,
        n_dropped: int = 0,
        end: Callable[[Reply], None] | None = None,
    ) -> Reply:
        return Reply(
            self.session,
            prompt.tokens,
            options,
            look_for=self._markup if self._offers_tools else dataclasses.replace(self._markup, calls=None),
            # What a grammar shapes is the answer, even where the template has opened a thought.
            thinking=self._markup.thinks and markup.thinking_is_open(prompt.text) and options.grammar is None,
            n_hidden=prompt.n_hidden,
            n_dropped=n_dropped,
            prefill=prompt.prefill,
            end=end,
        )

    def _record(self, reply: Reply, prompt: Prompt, before: History) -> None:
        """Keep the answer. A turn that ended before its first token, by failure or request, is taken back."""
        try:
            done = reply.completion
        except EngineError:
            done = None
        if done is None or (done.finish_reason == "cancelled" and not done.tokens):
            self.restore(before)
            return
        self.last = done
        answer = Message(
            "assistant",
            prompt.prefill + reply.text,
            reply.finish_reason,
            reply.truncated,
            reply.seed,
            reply.thinking or None,
            reply.calls,
        )
        self.messages = [*self.messages, answer]
        if chat_messages.n_common(before.messages, self.messages) < len(before.messages):
            self.branches.append(before.messages)
        self.spans.keep(prompt.spans, done, has_markup=reply.text != done.text)

    def _fit(self, messages: list[Message], prefill: str = "") -> Prompt:
        """The prompt for `messages`, a quarter of the window free when it had to leave some out."""
        room = min(self.options.max_tokens or self.n_ctx, max(self.n_ctx // 8, 1), 512)
        limit = self.n_ctx - room
        target = limit - self.n_ctx // 8 - (self._n_summary if self.on_full == "summarise" else 0)
        starts = chat_messages.turns(messages)
        render = partial(self._render, messages, prefill=prefill)
        if self.on_full == "stop" and starts[-1] > self.n_hidden:
            n_tokens = render(self.n_hidden).n_tokens
            if n_tokens > limit:
                raise ContextFullError(
                    f"the window is full: {n_tokens:,} tokens of history and message, {self.n_ctx:,} in the "
                    f"window, {room:,} kept for the answer; drop old turns, start anew{self.larger_window}"
                )
        prompt = window.fit(render, starts, self.n_hidden, limit, target)
        if prompt is None:
            n_tokens = render(starts[-1]).n_tokens
            raise ContextFullError(
                f"the message with the system prompt is {n_tokens:,} tokens; the window of {self.n_ctx:,} "
                f"takes at most {limit:,} and an answer: shorten it{self.larger_window}"
            )
        return prompt

    @property
    def _n_summary(self) -> int:
        """Tokens a summary may have."""
        return max(min(self.n_ctx // 8, 512), 1)

    def _summarise(self, messages: list[Message], n_hidden: int) -> bool:
        """Have the model sum up what it will no longer see. False when it cannot: then it is just dropped.

        The prompt begins as the cache does, so only the request itself is evaluated.
        """
        request = Message("user", window.REQUEST.format(n_words=self._n_summary // 2))
        oldest = [*messages[:n_hidden], request]
        prompt = self._render(oldest, self.n_hidden, think=False)
        if prompt.n_tokens + self._n_summary > self.n_ctx:
            return False
        options = dataclasses.replace(
            _DEFAULTS, max_tokens=self._n_summary, sampling=GREEDY, exact=self.options.exact
        )
        reply = self._start(prompt, options, len(chat_messages.turns(messages[self.n_hidden : n_hidden])))
        if self.on_summary:
            self.on_summary(reply)
        if reply.completion.finish_reason == "cancelled":
            raise ContextFullError(
                f"the summary was stopped and the message not sent; {option('on_full_drop')} does without"
            )
        text = reply.text.strip()
        self.summary = Summary(text, n_hidden) if text else self.summary
        return bool(text)

    def _render(
        self, messages: Sequence[Message], n_hidden: int, *, think: bool | None = None, prefill: str = ""
    ) -> Prompt:
        think = self.think if think is None else think
        if self.options.exact:
            self.spans.known.clear()  # the prompt's tokens are its text's, not those that were drawn
        return self._renderer.render(
            messages,
            n_hidden,
            system=self.system,
            summary=self.summary,
            think=think,
            offer_tools=self._offers_tools,
            prefill=prefill,
        )

    @property
    def _offers_tools(self) -> bool:
        return self._choice != tool_choice.NONE
