"""The page that lists every command and option, made from the commands themselves.

python -m edgellm.cli.shared.reference > docs/commands.md
"""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Iterator

import click

_HEAD = """# Commands

Every command and option, as `edgellm COMMAND --help` says them. Made by
`python -m edgellm.cli.shared.reference > docs/commands.md`; a test holds this page against the code.

MODEL is a GGUF file, an ONNX folder, a checkpoint folder, a bundled name or a hub id such as `Qwen/Qwen3-0.6B`;
`NAME:TYPE` picks another type. Exit codes: 0 done, 1 failed, 2 usage, 3 a check not met.
"""


def page() -> str:
    """The whole page, as Markdown."""
    group: click.Group = importlib.import_module("edgellm.cli").cli
    root = click.Context(group, info_name="edgellm")
    names = group.list_commands(root)
    links = " · ".join(f"[{name}](#edgellm-{name})" for name in names)
    parts = [_HEAD, links + "\n"]
    for name in names:
        command = group.get_command(root, name)
        assert command
        parts += _command(command, click.Context(command, parent=root, info_name=name))
    return "\n".join(parts)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    """Heading, usage, help and options; a group's commands after it."""
    yield f"## {context.command_path}\n"
    yield f"```console\n$ {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield from _text(command.help or command.short_help or "")
    options = [p for p in command.params if isinstance(p, click.Option)]  # all but --help
    rows = [record for option in options if (record := option.get_help_record(context))]
    if rows:
        yield "| option | meaning |\n|---|---|"
        yield "\n".join(f"| `{_cell(names)}` | {_cell(meaning)} |" for names, meaning in rows) + "\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            yield from _command(below, click.Context(below, parent=context, info_name=name))


def _text(help_: str) -> Iterator[str]:
    """Paragraphs; those that click must not wrap (after \\b) as blocks of code."""
    for paragraph in help_.replace("\f", "").split("\n\n"):
        first, _, rest = paragraph.strip("\n").partition("\n")
        if first.strip() == "\b":
            yield f"```console\n{textwrap.dedent(rest).strip()}\n```\n"
        elif paragraph.strip():
            yield " ".join(paragraph.split()).replace("<", "&lt;") + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(page(), end="")
