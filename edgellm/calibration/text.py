"""Our own calibration text: English, Chinese, code and dialogue, made by a program from word tables.

A pure function of the seed, so nothing large is stored and every machine sees the same text. Passages of all
kinds alternate: any beginning of the text holds all of them. Knows no tokens; a chat template is handed in.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence

from edgellm.calibration import code
from edgellm.calibration.words import (
    CHINESE,
    CHINESE_CITIES,
    CHINESE_NAMES,
    CITIES,
    ENGLISH,
    MONTHS,
    NAMES,
    Field,
)

NAME = "edgellm calibration text 1"
#: Bytes of UTF-8 made by default: about 45,000 tokens of a large vocabulary.
DEFAULT_BYTES = 160_000
_SEED = 20_260

Message = dict[str, str]
#: Chat messages to the text a model sees.
Render = Callable[[Sequence[Message]], str]

_ENGLISH = (
    "The {quality} {thing} in the {place} near {city} was {verb} by a {person} in {year}.",
    "{name}, a {person} from {city}, {verb} the {thing} and wrote {count} pages about {idea}.",
    "Why does {idea} matter? Because without it no {thing} would last longer than {count} months.",
    "At first the {person} doubted that a {quality} {thing} could be {verb} in the {place}; {percent}% of the "
    "earlier attempts had failed.",
    "According to the {person}, {idea} explains why the {thing} costs {price} more than it did in {year}.",
    "If the {thing} is {quality}, it should be {verb} again before anyone enters the {place}.",
    "Neither the {person} nor {name} knew how the {thing} had been brought to the {place}.",
    '"Have you {verb} the {thing} yet?" asked {name}. "Not before {idea} has been understood," said the {person}.',
    "There are three reasons to study {idea}: it is {quality}, it can be taught in a {place}, and it helps every "
    "{person} to work with a {thing}.",
    "On {day} {month} {year}, {count} visitors came to the {place}, which is {percent} km from {city}.",
    "Compared with a {quality} {thing}, the new one weighs {count} kg less and needs only {percent} watts.",
    "The {person} {verb} it slowly, step by step, while {name} took notes on {idea}.",
)
_CHINESE = (
    "{year}年，{name}在{city}的{place}里第一次{verb}了{quality}{thing}。",
    "{person}认为，{idea}之所以重要，是因为它影响到每一个{thing}。",
    "这个{quality}{thing}比{year}年的便宜{count}元，但是需要{verb}{percent}次。",
    "“你{verb}过{thing}吗？”{name}问。{person}回答说：“还没有，我想先弄清楚{idea}。”",
    "如果{thing}是{quality}，就应该在离开{place}之前再{verb}一遍。",
    "{city}有{count}位{person}，其中百分之{percent}的人每天都要去{place}。",
    "关于{idea}，书上有三种说法；{name}只同意其中一种。",
    "无论是{person}还是{name}，都不知道{thing}是怎么来到{place}的。",
    "{month}月{day}日，{place}来了{count}名客人，他们都想看一看那个{quality}{thing}。",
    "学习{idea}并不难：先{verb}，再总结，最后把结果告诉{person}。",
)
_QUESTIONS = (
    ("Can you explain {idea} in simple words?", _ENGLISH),
    ("Tell me something about the {thing}.", _ENGLISH),
    ("Write a short paragraph with the words: {quality}, {thing}, {place}.", _ENGLISH),
    ("请用简单的话解释一下{idea}。", _CHINESE),
    ("{person}为什么要{verb}{thing}？", _CHINESE),
)


def text(n_bytes: int = DEFAULT_BYTES, render: Render | None = None, seed: int = _SEED) -> str:
    """At least `n_bytes` of text, in whole passages. Dialogues are written by `render` or, without, as a script."""
    parts: list[str] = []
    size = -2  # no blank line before the first
    for passage in _passages(random.Random(seed), render or _script):
        parts.append(passage)
        size += len(passage.encode()) + 2
        if size >= n_bytes:
            break
    return "\n\n".join(parts)


def _passages(rng: random.Random, render: Render) -> Iterator[str]:
    from edgellm.models.training import corpus

    own = corpus.dialogues(
        _SEED, "edgellm"
    )  # short exchanges, the training side of the bundled models' tasks
    while True:
        yield _paragraph(rng, ENGLISH, _ENGLISH, 5)
        yield render(_messages(next(own).turns))
        yield _paragraph(rng, CHINESE, _CHINESE, 4)
        yield code.snippet(rng)
        yield render([*_exchange(rng), *_exchange(rng)])
        for _ in range(3):
            yield render(_messages(next(own).turns))


def _paragraph(rng: random.Random, fields: Sequence[Field], templates: Sequence[str], n: int) -> str:
    """`n` sentences of one subject area; Chinese sentences stand without spaces."""
    field = rng.choice(fields)
    sentences = [_fill(rng, template, field) for template in rng.sample(templates, n)]
    return ("" if fields is CHINESE else " ").join(sentences)


def _exchange(rng: random.Random) -> list[Message]:
    """A question and an answer of two sentences."""
    question, templates = rng.choice(_QUESTIONS)
    field = rng.choice(CHINESE if templates is _CHINESE else ENGLISH)
    answer = [_fill(rng, template, field) for template in rng.sample(templates, 2)]
    joined = ("" if templates is _CHINESE else " ").join(answer)
    return _messages([(_fill(rng, question, field), joined)])


def _fill(rng: random.Random, template: str, field: Field) -> str:
    chinese = field in CHINESE
    month = rng.randrange(12)
    filled = template.format(
        person=rng.choice(field.people),
        thing=rng.choice(field.things),
        place=rng.choice(field.places),
        verb=rng.choice(field.verbs),
        quality=rng.choice(field.qualities),
        idea=rng.choice(field.ideas),
        name=rng.choice(CHINESE_NAMES if chinese else NAMES),
        city=rng.choice(CHINESE_CITIES if chinese else CITIES),
        year=rng.randint(1480, 2025),
        month=month + 1 if chinese else MONTHS[month],
        day=rng.randint(1, 28),
        count=rng.choice((rng.randint(2, 12), rng.randint(13, 9_999))),
        percent=rng.randint(1, 99),
        price=f"${rng.randint(1, 900):,}.{rng.randint(0, 99):02d}",
    )
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", filled)


def _messages(turns: Sequence[tuple[str, str]]) -> list[Message]:
    return [
        {"role": role, "content": said}
        for turn in turns
        for role, said in zip(("user", "assistant"), turn, strict=True)
    ]


def _script(messages: Sequence[Message]) -> str:
    """Messages as plain text, for models without a chat template."""
    return "\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)
