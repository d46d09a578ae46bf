"""Every word of a report, by language: a language is one file beside this one. Knows no figure.

`[words]` are texts with places for values; some hold `<b>` or `<small>`, and only `sentence` reads those. `[terms]`
name the measurements, and what else a reader may not know, and say what each means: the glossary. `[caveats]` are
facts and advice (in English they come with the result itself), `[doubts]` what they are called in short.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from markupsafe import Markup

from edgellm import toml
from edgellm.profiles.result.caveats import TEXT, Caveat, words

LANGUAGES = ("en", "zh")


@cache
def table(lang: str) -> dict[str, Any]:
    """All words of a language as its file has them."""
    return toml.packaged(__name__, f"{lang}.toml")


def say(key: str, lang: str, /, **values: object) -> str:
    """The words for `key` in a language, filled in: plain text."""
    text: str = table(lang)["words"][key]
    return text.format(**values)


def sentence(key: str, lang: str, /, **values: object) -> Markup:
    """The same as markup: the words' own tags stay, what comes in as plain text is escaped."""
    return Markup(table(lang)["words"][key]).format(**values)


def metric_name(name: str, lang: str) -> str:
    """What people call a measurement; one of a meter beside the headline's (`NAME@METER`) with the meter's name."""
    base, _, meter = name.partition("@")
    known = table(lang)["terms"].get(base)
    called: str = known["name"] if known else base
    return f"{called} ({meter})" if meter else called


def doubt_name(code: str, lang: str) -> str:
    """What a kind of caveat is called where many are counted; its code where another version made it."""
    name: str = table(lang)["doubts"].get(code, code)
    return name


def caveat_words(caveat: Caveat, lang: str) -> tuple[str, str]:
    """(fact, advice) with the measurement called by its name."""
    values = dict(caveat.values)
    if "metric" in values:
        names = [metric_name(name, lang) for name in str(values["metric"]).split(",")]
        values["metric"] = say("and", lang).join(names)
    found = table(lang).get("caveats", {})
    texts = {code: (own["fact"], own["advice"]) for code, own in found.items()} or TEXT
    return words(texts, caveat.code, values)
