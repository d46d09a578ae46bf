"""/show and /stats: what the talk is made of, and what it took."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgellm.chat import words
from edgellm.chat.talk import setting
from edgellm.chat.terminal import render
from edgellm.errors import UsageError
from edgellm.terminal import bar
from edgellm.units import format_size

if TYPE_CHECKING:
    from edgellm.chat.talk.talk import Talk


def show(talk: Talk, arg: str) -> None:
    """/show [TOPIC]. Raises UsageError."""
    topic = arg.lower() or "model"
    if topic not in TOPICS:
        raise UsageError(words.say("no_topic", topic=arg, known=", ".join(TOPICS)))
    TOPICS[topic](talk)


def stats(talk: Talk, arg: str) -> None:
    """/stats: the window, the last answer, memory."""
    conversation, memory = talk.conversation, render.resident_bytes()
    share = conversation.n_used / conversation.n_ctx
    used = words.say("used", n_used=conversation.n_used, n=conversation.n_ctx, share=share)
    rows = [(words.say("row_context"), f"{bar(share, 20)} {used}")]
    if conversation.n_hidden:
        rows.append((words.say("row_left_out"), words.say("left_out", n=conversation.n_hidden)))
    if last := conversation.last:
        line = f"{render.stats_line(last.usage, n_thinking=talk.n_thinking)}{talk.energy_of_last}"
        rows.append((words.say("row_last"), f"{line} · {words.say('ended_by', reason=last.finish_reason)}"))
        rows.append((words.say("row_prefill"), f"{last.usage.prefill_rate or 0:,.0f} tok/s"))
    if conversation.messages and (seed := conversation.messages[-1].seed) is not None:
        rows.append((words.say("row_seed"), str(seed)))
    rows.append((words.say("row_memory"), format_size(memory)))
    talk.screen.table(rows)


def _model(talk: Talk) -> None:
    session = talk.conversation.session
    artifact, info = session.artifact, session.info
    cache = f"{info.options.type_k}/{info.options.type_v}, flash attention {info.options.flash_attn}"
    talk.screen.table(
        (
            (words.say("row_model"), artifact.name),
            *(((words.say("row_family"), words.say("family_unknown")),) if artifact.foreign else ()),
            (words.say("row_file"), f"{artifact.path} ({format_size(artifact.size_bytes)})"),
            (words.say("row_architecture"), f"{artifact.architecture}, {artifact.quantization}"),
            (
                words.say("row_context"),
                words.say("trained_on", n_ctx=info.n_ctx, n_train=artifact.n_ctx_train),
            ),
            (words.say("row_engine"), f"{info.backend} {info.version}"),
            (words.say("row_threads"), f"{info.options.n_threads}"),
            (words.say("row_kv"), cache),
            *(((words.say("row_tools"), ", ".join(talk.tools.names)),) if talk.tools else ()),
        )
    )


def _messages(talk: Talk) -> None:
    conversation = talk.conversation
    if not conversation.messages:
        talk.screen.note(words.say("nothing_said"))
    if conversation.summary:
        talk.screen.note(words.say("summary_of", n=conversation.summary.n_messages))
        talk.screen.message(conversation.summary.text)
    turn = 0
    roles = {"user": words.say("user"), "assistant": words.say("assistant"), "tool": words.say("tool")}
    for i, message in enumerate(conversation.messages):
        turn += message.role == "user"
        number = f"#{turn} " if message.role == "user" else ""
        unseen = f" {words.say('unseen')}" if i < conversation.n_hidden else ""
        talk.screen.note(f"{number}{roles[message.role]}{unseen}")
        for call in message.calls:
            talk.screen.note(words.say("calls", name=call.name, arguments=call.arguments_json()))
        talk.screen.message(message.content)


TOPICS: dict[str, Callable[[Talk], None]] = {
    "model": _model,
    "settings": lambda talk: talk.screen.table(setting.rows(talk)),
    "system": lambda talk: talk.screen.print(talk.conversation.system or words.say("no_system")),
    "template": lambda talk: talk.screen.print(
        talk.conversation.session.artifact.chat_template or words.say("no_template")
    ),
    "messages": _messages,
}
