"""Questions written otherwise, as people write them: typos, homophones, spaces, width of punctuation, other words.

Each kind takes the last message of the user and leaves its meaning to a reader: what stands in the answer (words to
be copied, numbers) is never touched, nor is code. Seeded: an item has the same change on every machine.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from edgellm.profiles.quality.tasks import TaskItem

#: A change of a text: language, generator, and the words that must stay.
Change = Callable[[str, str, random.Random, frozenset[str]], str]

#: Words of four letters or more have a typo at this rate.
TYPO_RATE = 0.25
HOMOPHONE_RATE = 0.5
SPACE_RATE = 0.2

_WORD = re.compile(r"[A-Za-z']+|[\u4e00-\u9fff]")
#: Sets of words that sound alike and are commonly mixed up.
_EN_HOMOPHONES = (
    ("their", "there"), ("to", "too"), ("your", "you're"), ("its", "it's"), ("know", "no"), ("here", "hear"),
    ("see", "sea"), ("write", "right"), ("weather", "whether"), ("by", "buy"), ("for", "four"), ("one", "won"),
    ("week", "weak"), ("son", "sun"), ("wear", "where"), ("hour", "our"), ("new", "knew"), ("than", "then"),
    ("which", "witch"), ("would", "wood"), ("piece", "peace"), ("meet", "meat"), ("read", "reed"), ("who's", "whose"),
    ("of", "off"), ("were", "where"), ("mean", "mien"), ("some", "sum"), ("tail", "tale"), ("be", "bee"),
)  # fmt: skip
_ZH_HOMOPHONES = (
    "的地得", "在再", "他她它", "做作", "是事", "有又", "以已", "那哪", "没每", "时十", "吗嘛", "呢哪", "请情", "问文",
    "什甚", "么末", "解介", "情请", "这着", "话化", "意义", "句具", "用永", "中钟", "文闻", "说硕", "住主", "里理",
    "记计", "多朵", "少绍", "年念", "知之", "道到",
)  # fmt: skip
_FULL_WIDTH = {ord(a): b for a, b in zip(",.?!:;()", "，．？！：；（）", strict=True)}
_HALF_WIDTH = {ord(a): b for a, b in zip("，。？！：；（）“”", ',.?!:;()""', strict=True)}
_EN_FRAMES = (
    "I have a question. {}",
    "Please help me with this: {}",
    "{} Please answer.",
    "Hello! {} Thanks.",
)
_ZH_FRAMES = ("请问，{}", "麻烦你回答一下：{}", "我有个问题。{}", "{}谢谢。")


def typos(text: str, lang: str, rng: random.Random, keep: frozenset[str]) -> str:
    """Two neighbouring letters inside a word change places, or one is left out; Chinese has no letters."""

    def mistyped(word: str) -> str:
        if len(word) < 4 or word.lower() in keep or rng.random() > TYPO_RATE:
            return word
        at = rng.randrange(1, len(word) - 2)
        if rng.random() < 0.5:
            return word[:at] + word[at + 1 :]
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    return _words(text, mistyped)


def homophones(text: str, lang: str, rng: random.Random, keep: frozenset[str]) -> str:
    """Words and characters that sound like those meant."""
    alike = _alike()

    def other(word: str) -> str:
        known = alike.get(word.lower())
        if not known or word.lower() in keep or rng.random() > HOMOPHONE_RATE:
            return word
        found = rng.choice(known)
        return found.capitalize() if word[0].isupper() else found

    return _words(text, other)


def spacing(text: str, lang: str, rng: random.Random, keep: frozenset[str]) -> str:
    """Spaces doubled or between Chinese characters, one before a mark, one at each end."""

    def spaced(match: re.Match[str]) -> str:
        return match[0] + " " if rng.random() < SPACE_RATE else match[0]

    between = re.sub(r" (?=\S)|[\u4e00-\u9fff](?=[\u4e00-\u9fff])", spaced, text)
    return " " + re.sub(r"(?<=\w)(?=[?!？！]$)", " ", between) + " "


def punctuation(text: str, lang: str, rng: random.Random, keep: frozenset[str]) -> str:
    """Marks of the other width: full in English, half in Chinese. A dot between digits is no mark."""
    if lang == "zh":
        return text.translate(_HALF_WIDTH)
    return re.sub(r"[,.?!:;()](?!\d)", lambda match: match[0].translate(_FULL_WIDTH), text)


def paraphrase(text: str, lang: str, rng: random.Random, keep: frozenset[str]) -> str:
    """The same question with polite words around it."""
    return rng.choice(_ZH_FRAMES if lang == "zh" else _EN_FRAMES).format(text)


KINDS: dict[str, Change] = {
    each.__name__: each for each in (typos, homophones, spacing, punctuation, paraphrase)
}


def changed(items: Iterable[TaskItem], kind: str, seed: int = 0) -> list[TaskItem]:
    """Those of `items` that `kind` changes, changed."""
    found = []
    for item in items:
        last = item.messages[-1]
        keep = frozenset(word.lower() for word in _WORD.findall(item.answer))
        text = KINDS[kind](last["content"], item.lang, random.Random(f"{seed} {kind} {item.id}"), keep)
        if text != last["content"]:
            messages = (*item.messages[:-1], {**last, "content": text})
            found.append(replace(item, messages=messages))
    return found


def _words(text: str, of: Callable[[str], str]) -> str:
    """Every word and Chinese character through `of`; code, options and names with digits stay."""
    parts = re.split(r"(`[^`]*`|\S*[\d_/\\-]\S*)", text)
    return "".join(
        part if index % 2 else _WORD.sub(lambda m: of(m[0]), part) for index, part in enumerate(parts)
    )


def _alike() -> dict[str, list[str]]:
    groups = [*_EN_HOMOPHONES, *_ZH_HOMOPHONES]
    found: dict[str, list[str]] = {}
    for group in groups:
        for word in group:
            found.setdefault(word, []).extend(other for other in group if other != word)
    return found
