"""What of a conversation goes into the prompt: all of it while it fits, else the younger part.

Knows the model's template, token counts and the window; decides nothing about what the user wants dropped.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgellm.chat.spans import OverWindowError, Span, SpanCache
from edgellm.errors import UsageError
from edgellm.prompt import markup
from edgellm.prompt import messages as chat_messages
from edgellm.prompt.messages import Message, Summary
from edgellm.prompt.template import lost_words
from edgellm.prompt.tools import Tool

_SUMMARY = "Summary of the conversation so far:\n"
#: What the model is told when it must make room. The summary stands in the system prompt afterwards.
REQUEST = (
    "Summarize our conversation so far for yourself: names, numbers, decisions, open questions. "
    "Write only the summary, in the language of the conversation, in at most {n_words} words."
)


class Template(Protocol):
    """Turns messages into the text a model was trained on (edgellm.prompt.template.ChatTemplate)."""

    source: str

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **extra: Any,
    ) -> str:
        """The prompt text of `messages`."""
        ...

    def for_tools(self) -> Template:
        """The template for prompts with tools."""
        ...


class ContextFullError(UsageError):
    """The window has no room for the message, or for more history under `on_full="stop"`."""


@dataclass(frozen=True)
class Prompt:
    """A rendered conversation: the spans that make it up, and how many of the oldest messages are left out.

    One that is far over the window has no spans, and only `n_least`, the tokens it has at least.
    """

    spans: tuple[Span, ...]
    n_hidden: int
    n_least: int = 0
    prefill: str = ""  # the beginning of the answer, which it ends with

    @property
    def tokens(self) -> list[int]:
        """All token ids."""
        return [token for span in self.spans for token in span.tokens]

    @property
    def n_tokens(self) -> int:
        """How many there are."""
        return max(self.n_least, sum(len(span.tokens) for span in self.spans))

    @property
    def text(self) -> str:
        """The rendered text, guards of message bodies included."""
        return "".join(span.text for span in self.spans)


class Renderer:
    """Messages to prompts, for one session and template."""

    def __init__(self, template: Template, spans: SpanCache, tools: Sequence[Tool]) -> None:
        self._template, self._spans = template, spans
        self._tools = chat_messages.guarded(tuple(tools), spans.guard)
        self._one_call_each = "single tool-calls" in template.source  # Llama 3's template raises on more
        if tools and "tools" not in template.source:
            raise UsageError(
                "this model's chat template has no place for tools; take a model trained to call them"
            )

    @property
    def thinks_on_request(self) -> bool:
        """Whether the template can be told to think or not."""
        return "enable_thinking" in self._template.source

    def render(
        self,
        messages: Sequence[Message],
        n_hidden: int = 0,
        *,
        system: str | None,
        summary: Summary | None = None,
        think: bool | None = None,
        offer_tools: bool = True,
        prefill: str = "",
    ) -> Prompt:
        """The prompt for an answer to `messages`, the oldest `n_hidden` left out, that begins with `prefill`."""
        guard = self._spans.guard
        told = chat_messages.for_template(messages[n_hidden:], guard, one_call_each=self._one_call_each)
        head = [] if system is None else [guard(system)]
        if summary and summary.n_messages == n_hidden:
            head.append(_SUMMARY + guard(summary.text))
        if head:  # an empty system prompt is one: without it, templates put their own
            told.insert(0, {"role": "system", "content": "\n\n".join(filter(None, head))})
        extra = {} if think is None or not self.thinks_on_request else {"enable_thinking": think}
        tools = self._tools if self._tools and offer_tools else None
        text = self._template.render(told, add_generation_prompt=True, tools=tools, **extra)
        if words := lost_words(text, told):
            raise UsageError(
                f"this model's chat template leaves out what the user says ({self._spans.unguarded(words)[:40]!r}); "
                "it is broken or made for something else than chats"
            )
        if prefill and markup.thinking_is_open(text):
            raise UsageError(
                "this model thinks before it answers, so an answer cannot be begun for it; give think=False if it "
                "knows how, or leave the last message out"
            )
        try:
            return Prompt(tuple(self._spans.split(text + guard(prefill))), n_hidden, prefill=prefill)
        except OverWindowError as error:
            return Prompt((), n_hidden, error.n_least, prefill)


def fit(
    render: Callable[[int], Prompt], starts: Sequence[int], n_hidden: int, limit: int, target: int
) -> Prompt | None:
    """The prompt that leaves out as little as possible; None when even the last turn alone is over `limit`.

    `render(n)` leaves out n messages; `starts` are the places it may be cut at. Nothing is dropped while the
    prompt keeps to `limit` tokens. Then so much goes that it keeps to `target`: each drop costs the evaluation
    of the whole prompt, so it must not come with every turn.
    """
    prompt = render(n_hidden)
    starts = [start for start in starts if start > n_hidden]
    if prompt.n_tokens > limit and starts:
        found = bisect.bisect_left(starts, True, key=lambda i: render(i).n_tokens <= target)
        prompt = render(starts[min(found, len(starts) - 1)])
    return prompt if prompt.n_tokens <= limit else None
