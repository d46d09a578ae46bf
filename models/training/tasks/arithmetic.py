"""Arithmetic on 0 to 99: sums, non-negative differences, and the small times table (seen, never scored).

Held out: operand pairs, in every phrasing and in both languages; a sum's two orders are one pair.
"""

from __future__ import annotations

import random

from edgellm.models.training.tasks.sample import Sample

NAME = "arithmetic"

_ASK: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "+": (
        ("{a} + {b} = ?", "What is {a} + {b}?", "What is {a} plus {b}?", "Add {a} and {b}.",
         "How much is {a} plus {b}?",
         "Calculate {a} + {b}."),
        ("{a} + {b} = ?", "{a}加{b}等于多少？", "{a} + {b} 等于几？", "计算{a} + {b}。",
         "{a}加上{b}是多少？"),
    ),
    "-": (
        ("{a} - {b} = ?", "What is {a} - {b}?", "What is {a} minus {b}?", "How much is {a} minus {b}?",
         "Calculate {a} - {b}."),
        ("{a} - {b} = ?", "{a}减{b}等于多少？", "{a} - {b} 等于几？", "计算{a} - {b}。",
         "{a}减去{b}是多少？"),
    ),
    "*": (
        ("{a} * {b} = ?", "What is {a} times {b}?", "How much is {a} times {b}?", "Calculate {a} x {b}."),
        ("{a} * {b} = ?", "{a}乘以{b}等于多少？", "{a}乘{b}是多少？", "计算{a} x {b}。"),
    ),
}  # fmt: skip
TOO_LARGE = ("I can only calculate with small numbers.", "我只会计算比较小的数。")


def _operands(rng: random.Random, op: str) -> tuple[int, int, int]:
    if op == "*":
        a, b = rng.randrange(10), rng.randrange(10)
        return a, b, a * b
    a, b = rng.randrange(100), rng.randrange(100)
    if op == "+":
        return a, b, a + b
    a, b = max(a, b), min(a, b)
    return a, b, a - b


def draw(rng: random.Random) -> Sample:
    """One sum or difference; the answer is the bare number."""
    return _sample(rng, rng.choice("+-"))


def draw_product(rng: random.Random) -> Sample:
    """One entry of the times table up to 9 x 9, all of which training sees."""
    return _sample(rng, "*") if rng.random() < 0.6 else _too_large(rng)


def _too_large(rng: random.Random) -> Sample:
    """A calculation outside the world, and the graceful answer."""
    lang = rng.choice(("en", "zh"))
    op = rng.choice("+-*")
    a, b = rng.randrange(100, 10 ** rng.choice((3, 3, 4))), rng.randrange(1, 10 ** rng.choice((1, 2, 3)))
    if rng.random() < 0.5:
        a, b = b, a
    prompt = rng.choice(_ASK[op][lang == "zh"]).format(a=a, b=b)
    return Sample("product", lang, f"{a}{op}{b}", ((prompt, TOO_LARGE[lang == "zh"]),))


def _sample(rng: random.Random, op: str) -> Sample:
    lang = rng.choice(("en", "zh"))
    a, b, result = _operands(rng, op)
    prompt = rng.choice(_ASK[op][lang == "zh"]).format(a=a, b=b)
    low, high = (min(a, b), max(a, b)) if op == "+" else (a, b)
    return Sample(NAME if op != "*" else "product", lang, f"{low}{op}{high}", ((prompt, str(result)),))
