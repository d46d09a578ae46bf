"""Tables as text: columns of one width for a terminal, lines of Markdown. Knows cells, no figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgellm import terminal

#: What begins a cell, an image or a link's target in Markdown.
_MARKS = re.compile(r"[\\|]|!(?=\[)|(?<=\])[(:]")


def aligned(table: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns of one width each; those in `left` begin at their left edge."""
    sides = "".join("<" if i in left else ">" for i in range(len(table[0])))
    return "\n".join(terminal.aligned(table, sides))


def markdown(table: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table of Markdown under its first line; columns in `left` begin at their left edge."""
    head, *body = table
    rule = ["---" if i in left else "---:" for i in range(len(head))]
    lines = (" | ".join(escape(cell) for cell in line) for line in (head, rule, *body))
    return "\n".join(f"| {line} |" for line in lines)


def escape(text: str) -> str:
    """Text in which nobody can begin a cell, a tag, an image or a link, or hide anything."""
    return _MARKS.sub(r"\\\g<0>", terminal.visible(" ".join(text.split()))).replace("<", "&lt;")
