"""`edgellm chats`: the saved conversations - list, show, delete, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.terminal import aligned, columns, cut, emit, fit, note, say
from edgellm.units import count

if TYPE_CHECKING:
    from edgellm.chat.store import Saved, Store


@click.group(short_help="List, show, delete or export saved conversations.", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Saved conversations. Without a subcommand they are listed, the newest first; a number there names one, too.

    Go on with one: edgellm chat --resume [NAME|NUMBER]
    """
    if context.invoked_subcommand is None:
        context.invoke(list_)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each conversation.")
def list_(as_json: bool) -> None:
    """List the conversations, newest first."""
    store = _store()
    found = store.all()
    if as_json:
        import json

        for saved in found:
            emit(json.dumps(_facts(store, saved), ensure_ascii=False))
        return
    if not found:
        note(f"no saved conversations in {store.folder}")
        return
    room = columns() - 1 if sys.stdout.isatty() else sys.maxsize
    rows = [
        (
            f"{number}",
            s.name,
            s.updated[:16].replace("T", " "),
            count(s.n_turns, "turn"),
            Path(s.model).name,
            fit(s.title, room),
        )
        for number, s in enumerate(found, 1)
    ]
    say(*(cut(line, room) for line in aligned(rows, "><")))


@command.command()
@click.argument("name", metavar="NAME|NUMBER")
def show(name: str) -> None:
    """Print a conversation as Markdown."""
    emit(_markdown(_store().load(name)))


@command.command()
@click.argument("names", metavar="NAME|NUMBER...", nargs=-1, required=True)
def delete(names: tuple[str, ...]) -> None:
    """Delete conversations and their saved states."""
    store = _store()
    for name in [store.named(name) for name in names]:  # first: numbers change with each that goes
        store.delete(name)
        say(f"deleted {name}")


@command.command()
@click.argument("name", metavar="NAME|NUMBER")
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice(("md", "json", "openai")),
    default="md",
    show_default=True,
    help="Markdown, the file as it is saved, or OpenAI's list of messages.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]"
)
@click.option("--force", is_flag=True, help="Replace the output.")
def export(name: str, kind: str, output: Path | None, force: bool) -> None:
    """Write a conversation to a file or to standard output."""
    from edgellm import files

    store = _store()
    saved = store.load(name)
    if kind == "md":
        text = _markdown(saved)
    else:
        text = _openai(saved) if kind == "openai" else store.path(saved.name).read_text(encoding="utf-8")
    if output is None:
        emit(text)
    else:
        files.write_text(output, text, force=force)


def _store() -> Store:
    from edgellm.chat.store import Store

    return Store()


def _facts(store: Store, saved: Saved) -> dict[str, object]:
    state = store.state_path(saved.name)
    return {
        "name": saved.name,
        "model": saved.model,
        "created": saved.created,
        "updated": saved.updated,
        "turns": saved.n_turns,
        "branches": len(saved.history.branches),
        "title": saved.title,
        "path": str(store.path(saved.name)),
        "state_bytes": state.stat().st_size if state.exists() else None,
    }


def _markdown(saved: Saved) -> str:
    """The conversation for people: what was said, under who said it."""
    lines = [f"# {saved.name}", "", f"{saved.model}, {saved.updated[:16].replace('T', ' ')} UTC", ""]
    if saved.system:
        lines += ["## system", "", saved.system, ""]
    for message in saved.messages:
        lines += [f"## {message.role}", ""]
        lines += [f"> {line}" for line in (message.thinking or "").splitlines()] + (
            [""] if message.thinking else []
        )
        lines += [f"`{call.name}({call.arguments})`" for call in message.calls]
        lines += [message.content, ""]
    return "\n".join(lines)


def _openai(saved: Saved) -> str:
    import json

    from edgellm.prompt.messages import for_template

    told = for_template(saved.messages, lambda text: text, one_call_each=False)
    if saved.system:
        told.insert(0, {"role": "system", "content": saved.system})
    return json.dumps(told, ensure_ascii=False, indent=1) + "\n"
