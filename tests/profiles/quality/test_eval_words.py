"""What `edgellm eval` shows and writes of known figures: llama-perplexity's names, each beside its own number."""

import json
import re

import pytest

from edgellm.profiles.quality import evaluation
from edgellm.profiles.quality.evaluation import Evaluation, Subject, TextResult
from edgellm.profiles.quality.quality import Divergence, Quality
from edgellm.profiles.quality.task_scores import Answer
from edgellm.profiles.quality.tasks import TaskItem
from edgellm.profiles.result.quality_stats import Estimate

SUBJECT = Subject("tiny", "Q4_K_M", "gguf", 12_340_000, "ab" * 32, "llamacpp", "0.3.36")
DIVERGENCE = Divergence(
    perplexity=Estimate(7.25, 0.125),
    perplexity_ratio=Estimate(1.0625, 0.0025),
    kld_mean=Estimate(0.031, 0.002),
    kld_median=Estimate(0.012, 0.001),
    kld_99=Estimate(0.41, 0.05),
    kld_999=Estimate(0.93, 0.2),
    kld_max=1.5,
    kld_max_error=None,
    same_top=Estimate(0.912, 0.004),
    delta_p_mean=Estimate(-0.0123, 0.0011),
    delta_p_rms=Estimate(0.0456, 0.0021),
)
#: As llama.cpp's tools/perplexity prints them: shares and probabilities in percent.
SHOWN = {
    "PPL": "7.7031 ± 0.1300",
    "bits per byte": "1.2346 ± 0.0200",
    "reference": "tiny F16",
    "PPL of reference": "7.2500 ± 0.1250",
    "PPL ratio": "1.06250 ± 0.00250",
    "Mean KLD": "0.031000 ± 0.002000",
    "Median KLD": "0.012000 ± 0.001000",
    "99% KLD": "0.410000 ± 0.050000",
    "99.9% KLD": "0.930000 ± 0.200000",
    "Maximum KLD": "1.500000",
    "Same top p": "91.200 ± 0.400 %",
    "Mean Δp": "-1.230 ± 0.110 %",
    "RMS Δp": "4.560 ± 0.210 %",
}


BITS = Estimate(1.23456, 0.02)


def quality(divergence: Divergence | None, bits: Estimate | None = BITS) -> Quality:
    return Quality(3, 1234, 4000, Estimate(7.7031, 0.13), bits, divergence)


def rows(text: str) -> dict[str, str]:
    return {
        name: value
        for name, value in (re.split(r"  +", line, maxsplit=1) for line in text.splitlines() if "  " in line)
    }


def test_every_figure_stands_beside_its_name():
    shown = evaluation.to_table(Evaluation(SUBJECT, TextResult("prose", "tiny F16", quality(DIVERGENCE)), ()))
    assert shown.splitlines()[0] == "tiny Q4_K_M, 12.3 MB, llamacpp (0.3.36)"
    assert rows(shown) == {"text": "prose: 3 chunks, 1,234 tokens scored", **SHOWN}


def test_without_a_reference_and_without_text_nothing_is_claimed():
    shown = rows(evaluation.to_table(Evaluation(SUBJECT, TextResult("x", None, quality(None, None)), ())))
    assert shown == {"text": "x: 3 chunks, 1,234 tokens scored", "PPL": SHOWN["PPL"], "bits per byte": "-"}
    plain = json.loads(evaluation.to_json(Evaluation(SUBJECT, None, ())))
    assert plain["text"] is None and plain["tasks"] is None and plain["schema"] == "edgellm.eval/1"


def answer(task: str, lang: str, want: str, got: str, stopped: bool = True) -> Answer:
    item = TaskItem(f"{task}-{want}-{got}", task, lang, ({"role": "user", "content": "?"},), want)
    return Answer(item, got, stopped)


ANSWERS = (
    answer("sum", "en", "4", " 4\n"),
    answer("sum", "en", "5", "6"),
    answer("sum", "zh", "7", "7", stopped=False),
    answer("capital", "zh", "Bern", "Bern"),
    answer("poem", "", "", "Roses"),
)


def test_tasks_are_counted_by_name_language_and_kind():
    table = evaluation.to_table(Evaluation(SUBJECT, None, ANSWERS))
    found = {
        cells[1].strip(): [c.strip() for c in cells[2:-1]]
        for cells in (line.split("|") for line in table.splitlines())
        if len(cells) > 4
    }
    # Wilson's interval, R: prop.test(2, 3, correct = FALSE) and so on.
    assert found["sum"] == ["3", "66.7%", "20.8% to 93.9%", "66.7%"]
    assert found["capital"] == ["1", "100.0%", "20.7% to 100.0%", "100.0%"]
    assert found["closed tasks"] == ["4", "75.0%", "30.1% to 95.4%", "75.0%"]
    assert found["closed tasks, en"][:2] == ["2", "50.0%"] and found["closed tasks, zh"][:2] == [
        "2",
        "100.0%",
    ]
    assert found["poem"] == found["open tasks"] == ["1", "-", "-", "100.0%"]


def test_the_json_names_every_miss_and_one_that_did_not_stop():
    tasks = json.loads(evaluation.to_json(Evaluation(SUBJECT, None, ANSWERS)))["tasks"]
    assert [(m["want"], m["got"], m["stopped"]) for m in tasks["misses"]] == [
        ("5", "6", True),
        ("7", "7", False),
    ]
    assert [(s["name"], s["exact"]["k"], s["exact"]["n"]) for s in tasks["scores"]] == [
        ("sum", 2, 3),
        ("capital", 1, 1),
        ("poem", 0, 0),
    ]
    assert tasks["scores"][2]["exact"]["value"] is None, "a share of nothing is no number"
    assert list(tasks["languages"]) == ["en", "zh"]
    assert [s["stopped"]["k"] for s in tasks["languages"]["zh"]] == [0, 1]


@pytest.mark.parametrize("lang", ["", "en"])
def test_one_language_needs_no_line_of_its_own(lang):
    table = evaluation.to_table(Evaluation(SUBJECT, None, (answer("sum", lang, "4", "4"),)))
    assert "closed tasks, " not in table and "open tasks" not in table
