"""`edgellm run`: one prompt, one answer, for people and for scripts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared.model_argument import model_option
from edgellm.cli.shared.sampling import model_options, valid_text
from edgellm.cli.shared.view import stats_option, view_options
from edgellm.errors import CheckFailedError, UsageError
from edgellm.terminal import emit, note

if TYPE_CHECKING:
    from edgellm.chat.conversation import Reply
    from edgellm.chat.terminal.answer import View
    from edgellm.generation.generate import GenerateOptions
    from edgellm.session import EngineOptions, Session

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@click.command(short_help="Answer one prompt, from the command line or standard input.")
@click.argument("model", required=False)
@click.argument("prompt", required=False, callback=valid_text)
@click.option(
    "-p",
    "--prompt",
    "prompt_option",
    metavar="TEXT",
    callback=valid_text,
    help="The prompt, where MODEL is left out.",
)
@click.option("-sys", "--system", metavar="TEXT", callback=valid_text, help="System prompt.")
@click.option("--raw", is_flag=True, help="Continue the text as it is, without a chat template.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object: text, thinking, finish_reason, valid, usage.",
)
@stats_option
@model_option
@view_options
@model_options
def command(
    model: str | None,
    prompt: str | None,
    prompt_option: str | None,
    system: str | None,
    raw: bool,
    as_json: bool,
    stats: bool | None,
    think: bool | None,
    view: View,
    offline: bool,
    options: GenerateOptions,
    engine: EngineOptions,
) -> int:
    """Answer PROMPT with MODEL. Text on standard input goes before the prompt.

    \b
      edgellm run tiny-qwen3 "What is the capital of France?"
      edgellm run "What is the capital of France?"
      cat notes.txt | edgellm run -p "Summarize this."
    """
    from edgellm.chat.conversation import Conversation, Reply, seeded
    from edgellm.cli.shared import guided, model_argument, open_model

    if prompt is None and prompt_option is None and model is not None and _is_prose(model):
        model, prompt = None, model
    text = _prompt(prompt if prompt_option is None else prompt_option)
    if prompt is not None and prompt_option is not None:
        raise UsageError("the prompt is given twice: as PROMPT and as -p")
    if raw and system:
        raise UsageError("--raw has no place for a system prompt: write it into the prompt")
    artifact = model_argument.resolve(model, offline=offline)
    template = None if raw else open_model.template(artifact)
    with open_model.session(artifact, engine) as session:
        if template is None:
            tokens = session.tokenize(text, add_bos=session.info.add_bos)
            reply = Reply(session, tokens, seeded(options))
        else:
            conversation = Conversation(session, template, system=system, options=options, think=think)
            reply = conversation.ask(text)
        if warning := guided.too_little_room(options, session, reply.n_prompt):
            note(warning)
        return _show(session, reply, view, as_json=as_json, stats=stats)


def _is_prose(text: str) -> bool:
    """Whether a lone argument is a prompt rather than a model: words with blanks between, and no file of that name."""
    return len(text.split()) > 1 and not Path(text).exists()


def _prompt(given: str | None) -> str:
    """Standard input, when it is no terminal, then the prompt. A person who gives neither may type it."""
    typing = sys.stdin is not None and sys.stdin.isatty()
    if typing and given is None:
        note("type the prompt and end it with Ctrl-D on a line of its own")
    nothing = sys.stdin is None or (typing and given is not None)
    piped = "" if nothing else sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    text = "\n\n".join(part for part in (piped, given) if part)
    if not text.strip():
        raise UsageError("there is nothing to answer: give a PROMPT, -p TEXT, or text on standard input")
    return text


def _show(session: Session, reply: Reply, view: View, *, as_json: bool, stats: bool | None) -> int:
    """Print the answer as it comes, or the whole result as JSON. Returns the exit code."""
    from edgellm.chat.terminal import render
    from edgellm.chat.terminal.interrupt import interruptible
    from edgellm.chat.terminal.render import Screen

    screen = Screen(notes=sys.stderr, view=view)
    with interruptible(reply):
        if as_json:
            emit(_json(session, reply))
        else:
            screen.answer(reply.parts(), lambda: render.reading(*reply.read))
    done = reply.completion
    if reply.cut:
        screen.note(f"(cut short: the window of {session.info.n_ctx:,} tokens is full; -c sets a larger one)")
    if stats is not False and not as_json:
        usage = done.usage
        line = (
            render.stats_line(usage, render.resident_bytes(), reply.n_thinking)
            if stats
            else render.short_stats(usage)
        )
        if line:
            screen.note(line)
    if done.finish_reason == "cancelled":
        return _INTERRUPTED
    if done.valid is False:
        note(render.why_not_whole(done))
        return CheckFailedError.exit_code
    return 0


def _json(session: Session, reply: Reply) -> str:
    import dataclasses
    import json

    from edgellm.chat.terminal.render import resident_bytes

    done = reply.completion
    usage: dict[str, Any] = dataclasses.asdict(done.usage)
    usage |= {
        "n_thinking": reply.n_thinking,
        "prefill_rate": done.usage.prefill_rate,
        "decode_rate": done.usage.decode_rate,
    }
    result = {
        "model": session.artifact.name,
        "quantization": session.artifact.quantization,
        "text": reply.text,
        "thinking": reply.thinking or None,
        "finish_reason": reply.finish_reason,
        "valid": done.valid,
        "truncated": reply.truncated,
        "seed": reply.seed,
        "usage": usage,
        "memory_bytes": resident_bytes(),
    }
    return json.dumps(result, ensure_ascii=False, indent=1)
