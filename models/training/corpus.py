"""The training stream: endless bilingual dialogues, a pure function of the seed.

A dialogue is one sample, or several samples one after the other in one conversation, with an optional system
prompt and light noise on what the user types. The scored tasks draw only from the training side of the split
(`sample.held_out`). Knows nothing of tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from edgellm.models.training.tasks import (
    arithmetic,
    commands,
    facts,
    memory,
    sentiment,
    smalltalk,
    story,
    summary,
    translation,
)
from edgellm.models.training.tasks import open as task_open
from edgellm.models.training.tasks.sample import Draw, Sample, Turn, draw_from

#: The closed tasks: one right answer, exact match, a held-out side.
SCORED: dict[str, Draw] = {
    arithmetic.NAME: arithmetic.draw,
    commands.NAME: commands.draw,
    facts.NAME: facts.draw,
    memory.NAME: memory.draw,
    sentiment.NAME: sentiment.draw,
    summary.NAME: summary.draw,
    translation.NAME: translation.draw,
}
#: Open or fully seen tasks.
UNSCORED: dict[str, Draw] = {
    smalltalk.NAME: smalltalk.draw,
    story.NAME: story.draw,
    task_open.NAME: task_open.draw,
    "product": arithmetic.draw_product,
}
#: Share of the samples, by task.
Mix = dict[str, float]
MIX: Mix = {
    "arithmetic": 0.28,
    "translation": 0.20,
    "facts": 0.13,
    "commands": 0.11,
    "memory": 0.08,
    "smalltalk": 0.08,
    "sentiment": 0.05,
    "summary": 0.04,
    "product": 0.02,
    "story": 0.01,
}
#: From step 1000 on: more of what was still wrong then (sums, and repeating what was told), less of the rest.
MIX_LATER: Mix = {
    "arithmetic": 0.40,
    "memory": 0.18,
    "commands": 0.12,
    "summary": 0.08,
    "translation": 0.07,
    "facts": 0.05,
    "smalltalk": 0.05,
    "sentiment": 0.02,
    "product": 0.02,
    "story": 0.01,
}
#: From step 2200 on: also what people type beyond the closed tasks.
MIX_LAST: Mix = {
    "arithmetic": 0.34,
    "open": 0.20,
    "memory": 0.12,
    "commands": 0.08,
    "translation": 0.08,
    "facts": 0.06,
    "smalltalk": 0.04,
    "summary": 0.03,
    "sentiment": 0.02,
    "product": 0.02,
    "story": 0.01,
}
#: From step 2600 on, where a model that starts from another goes on: everything that is scored, in good measure.
MIX_GRAFTED: Mix = {
    "arithmetic": 0.30,
    "translation": 0.14,
    "memory": 0.14,
    "facts": 0.11,
    "commands": 0.10,
    "open": 0.09,
    "summary": 0.05,
    "smalltalk": 0.03,
    "sentiment": 0.02,
    "product": 0.01,
    "story": 0.01,
}
#: From step 3500 on: mostly sums, of which every other one was still wrong; the rest lest it be forgotten.
MIX_GRAFTED_LATER: Mix = {
    "arithmetic": 0.68,
    "memory": 0.06,
    "commands": 0.06,
    "facts": 0.06,
    "open": 0.05,
    "translation": 0.04,
    "summary": 0.02,
    "smalltalk": 0.01,
    "sentiment": 0.01,
    "product": 0.01,
}
#: (first step, mix), the later ones first.
STAGES: tuple[tuple[int, Mix], ...] = (
    (3500, MIX_GRAFTED_LATER),
    (2600, MIX_GRAFTED),
    (2200, MIX_LAST),
    (1000, MIX_LATER),
    (0, MIX),
)
_SYSTEM = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are {self}, a small assistant.",
    "Be kind and short.",
    "You are a friendly chatbot.",
    "You help people with small language models.",
    "Answer the user's question.",
    "You are an expert assistant. Be precise and polite.",
    "Keep your answers short and clear.",
    "You are running on a small computer.",
    "Speak the language of the user.",
    "你是一个乐于助人的助手。",
    "你是{self}，一个小助手。",
    "请简短地回答。",
    "你是一个友好的聊天机器人。",
    "请用用户的语言回答问题。",
    "你运行在一台小电脑上。",
    "请准确、礼貌地回答。",
)
_SYSTEM_SHARE = 0.2
_CONVERSATION_SHARE = 0.4
_NOT_TOLD = ("You have not told me yet.", "你还没有告诉我。")


@dataclass(frozen=True)
class Dialogue:
    """A conversation as the model will see it; `keys` are the scored combinations in it."""

    system: str | None
    turns: tuple[Turn, ...]
    keys: tuple[str, ...]


def step_seed(seed: int, step: int) -> int:
    """The seed of the dialogues of one training step, different for every step of every run."""
    return seed * 1_000_003 + step


def mix_at(step: int) -> Mix:
    """The mix of a training step."""
    return next(mix for first, mix in STAGES if step >= first)


def draw_sample(rng: random.Random, mix: Mix) -> Sample:
    """One sample of the training side, its task drawn by the mix."""
    task = rng.choices(tuple(mix), weights=tuple(mix.values()))[0]
    if task in SCORED:
        return draw_from(SCORED[task], rng, want_held_out=False)
    return UNSCORED[task](rng)


def dialogues(seed: int, self_name: str, mix: Mix | None = None) -> Iterator[Dialogue]:
    """The stream itself, without end; `self_name` is what the model calls itself."""
    rng = random.Random(seed)
    mix = mix or MIX
    while True:
        count = 1 if rng.random() > _CONVERSATION_SHARE else rng.choice((2, 2, 3, 4, 6, 9))
        samples = _conversation([draw_sample(rng, mix) for _ in range(count)])
        system = rng.choice(_SYSTEM).replace("{self}", self_name) if rng.random() < _SYSTEM_SHARE else None
        turns = tuple(
            (noisy(rng, ask, sample.task, sample.lang), reply.replace("{self}", self_name))
            for sample in samples
            for ask, reply in sample.turns
        )
        yield Dialogue(system, turns, tuple(f"{s.task}|{s.key}" for s in samples if s.task in SCORED))


def _conversation(samples: list[Sample]) -> list[Sample]:
    """Drop what would be untrue after an earlier turn: "you have not told me" once something was told."""
    kept: list[Sample] = []
    told = False
    for sample in samples:
        if told and sample.turns[-1][1] in _NOT_TOLD:
            continue
        told = told or sample.task in (memory.NAME, task_open.NAME)
        kept.append(sample)
    return kept


#: Tasks whose prompts keep their meaning, and their answers, in lower case.
_POLITE = frozenset({"facts", "arithmetic", "product", "commands", "story"})
_CASELESS = frozenset({"facts", "arithmetic", "product", "smalltalk", "sentiment", "story"})


def noisy(rng: random.Random, text: str, task: str, lang: str) -> str:
    """What a hurried user types: no final mark, lower case, a 'please', no spaces around an operator."""
    roll = rng.random()
    if roll > 0.30:
        return text
    if roll < 0.10:
        return text.rstrip("?.!？。！ ") if task != "translation" else text
    if roll < 0.16:
        return text.lower() if task in _CASELESS else text[:1].lower() + text[1:]
    if roll < 0.20:
        return text.replace("？", "?").replace("，", ",")
    if roll < 0.24 and task in ("arithmetic", "product"):
        return text.replace(" + ", "+").replace(" - ", "-").replace(" = ", "=")
    if roll < 0.27 and lang == "zh" and "\u4e00" <= text[:1] <= "\u9fff":
        return f"请问{text}" if text.endswith("？") else f"{text}谢谢！"
    if lang == "en" and text.isascii() and task in _POLITE:
        return (
            f"Please {text[:1].lower()}{text[1:]}" if text.endswith(".") else f"{text.rstrip('?')}, please?"
        )
    return text
