"""Tables as text: columns of one width for a terminal, lines of Markdown. Knows cells, no figures."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def aligned(table: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns of one width each; those in `left` begin at their left edge."""
    widths = [max(width(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [[_pad(cell, widths[i], left=i in left) for i, cell in enumerate(line)] for line in table]
    return "\n".join("  ".join(cells).rstrip() for cells in lines)


def _pad(text: str, size: int, *, left: bool) -> str:
    space = " " * (size - width(text))
    return text + space if left else space + text


def width(text: str) -> int:
    """Columns a text takes on a terminal, where Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def markdown(table: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table of Markdown under its first line; columns in `left` begin at their left edge."""
    head, *body = table
    rule = ["---" if i in left else "---:" for i in range(len(head))]
    lines = (" | ".join(escape(cell) for cell in line) for line in (head, rule, *body))
    return "\n".join(f"| {line} |" for line in lines)


def escape(text: str) -> str:
    """Text that makes no column, no tag and no line of its own."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
