"""The held-out split: no held-out combination, and no held-out prompt, occurs anywhere in the training stream."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from edgellm.models.training import corpus, heldout
from edgellm.models.training.corpus import SCORED, Dialogue
from edgellm.models.training.tasks.sample import draw_from, held_out
from edgellm.profiles.quality import tasks

#: Steps of the shipped training run, and at least as many dialogues as one step takes.
STEPS = 2600
DIALOGUES_PER_STEP = 100


#: Half-width marks count as full-width ones, and spaces not at all.
SAME = str.maketrans({"?": "？", ",": "，", " ": None})


def normal(text: str) -> str:
    """Case, spaces and closing marks aside: what noise can change."""
    return text.lower().translate(SAME).rstrip("？.!。！")


def polite(text: str) -> str:
    """The same, and what noise can put around a prompt."""
    without = re.sub(r"^please |^请问|谢谢！$|, please\?$", "", text.lower())
    return normal(without)


def training_dialogues() -> itertools.chain[Dialogue]:
    return itertools.chain.from_iterable(
        itertools.islice(
            corpus.dialogues(corpus.step_seed(1, step), "tiny-qwen3", corpus.mix_at(step)), DIALOGUES_PER_STEP
        )
        for step in range(STEPS)
    )


@pytest.mark.wide
def test_a_full_pass_over_training_holds_no_held_out_key_and_no_held_out_prompt() -> None:
    forbidden: dict[tuple[str, ...], str] = {}
    for item in tasks.load():
        forbidden[tuple(normal(each["content"]) for each in item.messages)] = item.id
    last_prompts = {said[-1] for said in forbidden}
    keys = set()
    for dialogue in training_dialogues():
        keys.update(dialogue.keys)
        said: list[str] = []
        for ask, reply in dialogue.turns:
            said.append(ask)
            if normal(ask) in last_prompts:
                for length in (1, 3, 5, 7):
                    assert tuple(normal(text) for text in said[-length:]) not in forbidden, dialogue
            said.append(reply)
    assert len(keys) > 40_000
    assert not [key for key in keys if held_out(key)]


def test_noise_never_turns_a_training_prompt_into_another_prompt() -> None:
    rng = random.Random(3)
    for task, draw in SCORED.items():
        for _ in range(500):
            sample = draw_from(draw, rng, want_held_out=False)
            ask = sample.turns[-1][0]
            noisy = corpus.noisy(rng, ask, task, sample.lang)
            assert polite(noisy) == polite(ask)


def test_the_stream_is_a_function_of_the_seed() -> None:
    first, again, other = (list(itertools.islice(corpus.dialogues(seed, "m"), 50)) for seed in (4, 4, 5))
    assert first == again
    assert first != other


def test_every_fact_of_the_suite_is_seen_under_other_phrasings() -> None:
    from edgellm.models.training.tasks.facts import FACTS, NAME

    for fact in FACTS:
        relation, subject = fact.relation, fact.row[0]
        for lang, asks in (("en", relation.ask_en), ("zh", relation.ask_zh)):
            keys = [f"{NAME}|{lang}|{relation.name}|{subject}|{index}" for index in range(len(asks))]
            assert not all(held_out(key) for key in keys)


@pytest.mark.parametrize("task", sorted(SCORED))
def test_the_shipped_items_are_what_the_program_draws(task: str) -> None:
    drawn = heldout.items(task)
    shipped = tasks.load(task)
    assert [record["messages"] for record in drawn] == [list(item.messages) for item in shipped]
    assert [record["answer"] for record in drawn] == [item.answer for item in shipped]
    assert len(shipped) == heldout.ITEMS_PER_TASK
    assert all(item.messages[-1]["role"] == "user" for item in shipped)
    assert {item.lang for item in shipped} == {"en", "zh"}


def test_the_suite_has_enough_items_with_unique_ids_and_never_asks_for_a_models_name() -> None:
    items = tasks.load()
    assert len(items) >= 400
    assert len({item.id for item in items}) == len(items)
    assert not [item for item in items if "{self}" in item.answer]


def test_arithmetic_answers_are_right() -> None:
    for item in tasks.load("arithmetic"):
        a, b = (int(number) for number in re.findall(r"\d+", item.messages[-1]["content"]))
        assert int(item.answer) in (a + b, a - b)


def test_nothing_told_is_not_said_after_something_was_told() -> None:
    for dialogue in itertools.islice(corpus.dialogues(9, "m"), 5000):
        told = [index for index, (_, reply) in enumerate(dialogue.turns) if "Nice to meet you" in reply]
        denied = [index for index, (_, reply) in enumerate(dialogue.turns) if "not told me" in reply]
        assert not told or not denied or max(denied) < min(told)
