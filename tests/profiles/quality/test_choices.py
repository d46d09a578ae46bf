"""Quality of models that know nothing of edgellm's dialogues: likeliest endings, and general text in passages.

Likelihoods are llama-cpp-python's own, of the whole text at once.
"""

import collections

import llama_cpp
import numpy as np
import pytest

from edgellm import backends
from edgellm.catalog import first_use
from edgellm.profiles.quality import child, task_scores, tasks, texts
from edgellm.profiles.quality.child import QualityRequest
from edgellm.session import EngineOptions

ITEMS = tasks.choices()


@pytest.fixture(scope="module")
def model():
    return first_use.resolve("tiny-llama3")


def test_every_question_has_its_answer_among_its_choices():
    found = collections.Counter(item.task for item in ITEMS)
    assert set(found.values()) == {24} and len(found) == 8
    for item in ITEMS:
        assert len(set(item.choices)) == len(item.choices) >= 2
        assert item.choices.count(item.answer) == 1
        assert not any(item.answer.startswith(c) for c in item.choices if c != item.answer), item
    assert len({(item.messages[0]["content"], item.answer) for item in ITEMS}) == len(ITEMS)
    assert list(dict.fromkeys(item.task for item in ITEMS[:8])) == list(found), "all tasks take turns"
    positions = collections.Counter(item.choices.index(item.answer) for item in ITEMS)
    assert max(positions.values()) < 0.6 * len(ITEMS), "no place is the right one"


def test_the_answer_is_the_ending_that_llama_cpp_python_finds_likeliest(model):
    asked = ITEMS[:24]
    with backends.open_session(model, EngineOptions(n_ctx=256, n_threads=1)) as session:
        answers = task_scores.answer(session, None, asked)
        add_bos = session.info.add_bos
    peer = llama_cpp.Llama(str(model.path), n_ctx=256, n_threads=1, logits_all=True, verbose=False)

    def likelihood(text: str, ending: str) -> float:
        before = peer.tokenize(text.encode(), add_bos=add_bos, special=False)
        after = peer.tokenize(ending.encode(), add_bos=False, special=False)
        peer.reset()
        peer.eval([*before, *after])
        rows = peer.scores[len(before) - 1 : len(before) - 1 + len(after)].astype(np.float64)
        logs = rows - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True))
        return float((logs - rows.max(1, keepdims=True))[np.arange(len(after)), after].sum())

    for item, given in zip(asked, answers, strict=True):
        found = {choice: likelihood(item.messages[0]["content"], choice) for choice in item.choices}
        best, second = sorted(found.values(), reverse=True)[:2]
        if best - second > 0.01:
            assert given.text == max(found, key=lambda choice: found[choice]), (item, found)


def test_passages_are_the_whole_text_in_pieces_of_one_size():
    for language in texts.LANGUAGES:
        pieces = texts.passages(language)
        assert "\n\n".join(pieces) == texts.load(language).strip()
        assert len(pieces) > 3 and all(400 < len(each.encode()) < 1600 for each in pieces[:-1])


def test_a_record_on_general_text_has_each_language_and_no_dialogue(model, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    path = str(model.path)
    record = child.measure(QualityRequest(path, path, 0, 2, ("language",), text="general"))
    assert record.text == texts.NAME and record.axes and record.axes.language
    assert set(record.axes.language) == {"en", "zh", "code"}
    assert all(each.bits_per_byte for each in record.axes.language.values())
    assert record.total and record.total.n == 16 and record.right and len(record.right) == 16
    assert record.dialogue_bytes and sum(record.dialogue_bytes) == pytest.approx(
        sum(len(texts.load(each).encode()) for each in texts.LANGUAGES), rel=0.05
    )
    assert record.kld_mean and record.kld_mean.value == pytest.approx(0, abs=2e-4)
