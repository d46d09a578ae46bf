"""Standard tasks: log-likelihoods against lm-evaluation-harness's own model on transformers, and one of its tasks."""

import json
import sys

import pytest
from click.testing import CliRunner

from edgellm.cli.eval import command
from edgellm.errors import MissingExtraError
from edgellm.profiles.quality import harness

QUESTIONS = (
    ("Which of these is an animal?", ["swan", "stone", "spoon", "lamp"], "A"),
    ("How much is 45 + 9?", ["12", "54", "90", "3"], "B"),
    ("What color is snow?", ["green", "red", "white", "black"], "C"),
)
PAIRS = (
    ("A swan is", " white."),
    ("Question: What is 45 + 9? ", "54"),
    ("", "The days of the week"),
    ("中国的首都", "在北京。"),
)


@pytest.fixture
def data(tmp_path):
    """ARC's easy questions as they are cloned from the hub, with questions of ours in them."""
    folder = tmp_path / "allenai" / "ai2_arc"
    folder.mkdir(parents=True)
    rows = [
        {"id": str(i), "question": q, "choices": {"text": c, "label": list("ABCD")}, "answerKey": key}
        for i, (q, c, key) in enumerate(QUESTIONS)
    ]
    (folder / "all.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    files = "".join(f"\n  - split: {split}\n    path: all.jsonl" for split in ("train", "validation", "test"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: ARC-Easy\n  data_files:{files}\n---\n")
    return tmp_path


@pytest.mark.wide
def test_likelihoods_are_those_of_the_harnesss_own_model_on_transformers():
    pytest.importorskip("lm_eval")
    pytest.importorskip("torch")
    from lm_eval.models.huggingface import HFLM

    from edgellm import backends
    from edgellm.catalog import first_use
    from edgellm.models import bundled
    from edgellm.session import EngineOptions

    reference = HFLM(pretrained=str(bundled.path("tiny-llama3")), device="cpu", dtype="float32")
    artifact = first_use.resolve("tiny-llama3:F32")
    expected = [
        reference._loglikelihood_tokens([(pair, *reference._encode_pair(*pair))])[0] for pair in PAIRS[:2]
    ]
    with backends.open_session(artifact, EngineOptions(n_ctx=256, n_threads=1)) as session:
        found = [harness.continuation(session, *pair) for pair in PAIRS[:2]]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=0.02)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


@pytest.mark.wide
def test_a_task_of_the_harness_is_run_as_it_is(data, monkeypatch, tmp_path):
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    arguments = ["tiny-qwen3", "--harness", "arc_easy", "--harness-data", str(data), "-t", "1", "-o", "json"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    found = json.loads(done.stdout)["harness"]
    assert found["n-samples"]["arc_easy"]["effective"] == len(QUESTIONS)
    assert found["results"]["arc_easy"]["acc,none"] in [pytest.approx(k / len(QUESTIONS)) for k in range(4)]


def test_without_the_harness_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    done = CliRunner().invoke(command, ["tiny-qwen3", "--harness", "arc_easy", "-t", "1"])
    assert isinstance(done.exception, MissingExtraError) and "edgellm[eval]" in str(done.exception)
