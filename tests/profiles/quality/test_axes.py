"""Axes beside likelihood: changes of questions, figures by language, the server's pace, energy of right answers."""

import re
import unicodedata
from dataclasses import replace

import pytest
from constant_meter import ConstantMeter

from edgellm.catalog import first_use
from edgellm.errors import UsageError
from edgellm.profiles.energy import Choice
from edgellm.profiles.quality import (
    answer_energy,
    axes,
    child,
    languages,
    perturbations,
    response,
    robustness,
    tasks,
)
from edgellm.profiles.quality.child import QualityRequest
from edgellm.profiles.quality.quality import Quality
from edgellm.profiles.quality.task_scores import Answer
from edgellm.profiles.report import table
from edgellm.profiles.result.axes_record import AnswerEnergy
from edgellm.profiles.result.quality_stats import Estimate, Share

ITEMS = tasks.load()
LAST = {item.id: item.messages[-1]["content"] for item in ITEMS}


@pytest.mark.parametrize("kind", perturbations.KINDS)
def test_a_change_is_the_same_each_time_and_leaves_numbers_code_and_the_answers_words(kind):
    found = perturbations.changed(ITEMS, kind)
    assert found == perturbations.changed(ITEMS, kind) and len(found) > 100
    for item in found:
        text, before = item.messages[-1]["content"], LAST[item.id]
        assert text != before and item.messages[:-1] == replace(item).messages[:-1]
        assert re.findall(r"\d+", text) == re.findall(r"\d+", before)
        assert re.findall(r"`[^`]*`", text) == re.findall(r"`[^`]*`", before)
        if kind in ("typos", "homophones"):
            copied = [w for w in re.findall(r"[A-Za-z']+", item.answer) if re.search(rf"\b{w}\b", before)]
            assert all(re.search(rf"\b{word}\b", text) for word in copied), (before, text)


def test_other_spaces_are_spaces_and_other_marks_are_the_same_to_unicode():
    for item in perturbations.changed(ITEMS, "spacing"):
        assert "".join(item.messages[-1]["content"].split()) == "".join(LAST[item.id].split())

    def plain(text: str) -> str:
        return unicodedata.normalize("NFKC", text).translate({0x3002: ".", 0x201C: '"', 0x201D: '"'})

    for item in perturbations.changed(ITEMS, "punctuation"):
        assert plain(item.messages[-1]["content"]) == plain(LAST[item.id])


def test_another_seed_is_another_change():
    one, other = (perturbations.changed(ITEMS, "typos", seed) for seed in (0, 1))
    texts = {item.id: item.messages[-1]["content"] for item in one}
    assert sum(texts.get(item.id) != item.messages[-1]["content"] for item in other) > 50


def test_kept_is_of_those_that_were_right_before(monkeypatch):
    """A model that reads letters only: typos break it, spaces and marks do not."""
    letters = lambda text: "".join(re.findall(r"\w", text))  # noqa: E731
    known = {letters(LAST[item.id]): item.answer for item in ITEMS[:60]}

    def answer(session, render, items):
        said = [known.get(letters(item.messages[-1]["content"]), "?") for item in items]
        return [Answer(item, text, True) for item, text in zip(items, said, strict=True)]

    monkeypatch.setattr(robustness.task_scores, "answer", answer)
    plain = answer(None, None, ITEMS[:120])
    found = robustness.measure(None, None, plain)
    assert found["spacing"].kept.value == found["punctuation"].kept.value == 1.0
    assert found["paraphrase"].kept == Share(0, 60)
    changed = {item.id for item in perturbations.changed(ITEMS[:120], "spacing")}
    assert found["spacing"].right == Share(len(changed & {item.id for item in ITEMS[:60]}), len(changed))


def test_bits_by_language_are_sums_over_its_dialogues():
    quality = Quality(3, 9, 60, Estimate(1, None), None, None, (10.0, 40.0, 20.0), (10, 20, 30))
    answers = [Answer(item, item.answer if item.lang == "zh" else "?", True) for item in ITEMS[:40]]
    found = languages.measure(quality, ["en", "zh", "en"], answers)
    assert found["en"].bits_per_byte.value == pytest.approx(30 / 40)
    assert found["zh"].bits_per_byte.value == pytest.approx(2.0)
    n = sum(item.lang == "zh" for item in ITEMS[:40] if item.answer)
    assert found["zh"].right == Share(n, n) and found["en"].right.k == 0


def test_joules_of_right_answers_are_the_meters_over_their_number():
    import time

    done, found = answer_energy.measured(lambda: time.sleep(0.05) or 4, int, Choice((ConstantMeter(20.0),)))
    assert done == 4 and isinstance(found, AnswerEnergy)
    assert found.joules_per_right == pytest.approx(20.0 * found.seconds / 4) and found.seconds >= 0.05
    assert replace(found, right=0).joules_per_right is None
    slow = Choice((ConstantMeter(20.0, period=0.5),))
    assert "needs 50 s" in answer_energy.measured(lambda: 1, int, slow)[1]
    assert answer_energy.measured(lambda: 1, int, Choice(reason="no meter"))[1] == "no meter"


def test_axes_are_named():
    assert axes.check(("all",)) == ("language", "robustness", "response", "energy")
    with pytest.raises(UsageError, match="no axis is called 'speed'"):
        axes.check(("speed",))


@pytest.mark.wide
def test_a_models_axes_are_in_its_record_and_in_the_table(monkeypatch):
    import profile_samples as samples

    monkeypatch.setattr(response, "N_PROMPT", 64)
    monkeypatch.setattr(response, "N_ANSWER", 8)
    artifact = first_use.resolve("tiny-qwen3:Q8_0")
    record = child.measure(
        QualityRequest(str(artifact.path), None, 14, 2, ("language", "robustness", "response", "energy"))
    )
    found = record.axes
    assert found and set(found.language) == {"en", "zh"} and set(found.robustness) == set(perturbations.KINDS)
    dialogue = sum(record.dialogue_bits) / sum(record.dialogue_bytes)
    assert min(l.bits_per_byte.value for l in found.language.values()) <= dialogue  # noqa: E741
    assert sum(l.right.n for l in found.language.values()) == record.total.n  # noqa: E741
    assert found.response and found.response.ttft_seconds > 0 and found.response.n_prompt == 64
    assert found.response.loaded_ttft_seconds <= found.response.loaded_ttft_p95_seconds
    assert found.energy or found.reasons["energy"]
    text = table.render(replace(samples.report(samples.run("m")), quality={"m": record}))
    assert "kept under typos" in text and "bits per byte, zh over en" in text
