"""Every word of the chat's own on a terminal, by language: a language is one file beside this one.

`[words]` are texts with places for values; where one speaks of `n` things, `ONE || MANY` has both. `[settings]` says
what a setting of generation does, where that is not said with the setting itself (in English it is). Knows no chat.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from edgellm import toml

LANGUAGES = ("en", "zh")
_EITHER = " || "


def language() -> str:
    """The user's, by the locale's variables in their POSIX order; English where it is none of ours."""
    names = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, names), "").lower()
    return next((lang for lang in LANGUAGES if locale.startswith(lang)), "en")


@cache
def table(lang: str) -> dict[str, Any]:
    """All words of a language as its file has them."""
    return toml.packaged(__name__, f"{lang}.toml")


def say(key: str, /, **values: object) -> str:
    """The words for `key` in the user's language, filled in."""
    text: str = table(language())["words"][key]
    if _EITHER in text:
        one, _, many = text.partition(_EITHER)
        text = one if values["n"] == 1 else many
    return text.format(**values)


def setting(name: str, otherwise: str) -> str:
    """What the setting `name` does; `otherwise` is what it says of itself."""
    said: str = table(language())["settings"].get(name, otherwise)
    return said
