"""Code in colours, line by line as it ends. Pygments knows the languages; it is imported at the first block of code.

Colours are the terminal's own sixteen, so that they suit its background. Knows no terminal and no Markdown.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_MOST, _LONGEST = 20_000, 1_000  # characters of a block, of a line: behind them, code keeps one colour
#: Kinds of tokens, as Pygments names them -> parameters of SGR. The nearest ancestor counts.
_STYLES = {
    "Keyword": "35",
    "Operator.Word": "35",
    "Literal.String": "32",
    "Literal.Number": "36",
    "Comment": "2",
    "Name.Function": "34",
    "Name.Class": "34",
    "Name.Tag": "34",
    "Name.Builtin": "36",
    "Name.Decorator": "33",
    "Name.Attribute": "33",
    "Generic.Deleted": "31",
    "Generic.Inserted": "32",
    "Generic.Heading": "1",
}


class Code:
    """A block of code in a language, by the name that stands behind its fence."""

    def __init__(self, language: str) -> None:
        self._lexer = _lexer(language) if language else None
        self._text = ""

    @property
    def known(self) -> bool:
        """Whether its next line can be coloured."""
        return self._lexer is not None

    def line(self, text: str) -> list[str] | None:
        """The style of each character of the next line; None where it is not known."""
        start = len(self._text)
        self._text += f"{text}\n"
        if self._lexer is None or len(text) > _LONGEST or len(self._text) > _MOST:
            self._lexer = None
            return None
        styles = [""] * len(text)
        for index, kind, value in self._lexer.get_tokens_unprocessed(self._text):
            if style := _style(kind):
                for i in range(max(index, start), min(index + len(value), start + len(text))):
                    styles[i - start] = style
        return styles


def _lexer(language: str) -> Any:
    try:
        from pygments.lexers import get_lexer_by_name
        from pygments.util import ClassNotFound
    except ModuleNotFoundError:  # bundles for boards go without it
        return None
    try:
        return get_lexer_by_name(language)
    except ClassNotFound:
        return None


@cache
def _style(kind: Any) -> str:
    names = [str(kind).removeprefix("Token.")]
    while "." in names[-1]:
        names.append(names[-1].rpartition(".")[0])
    return next((_STYLES[name] for name in names if name in _STYLES), "")
