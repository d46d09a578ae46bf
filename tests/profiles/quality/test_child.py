"""The process that measures a model's quality, from request to record, on real small models.

Held against the same figures worked out here: the text rendered by jinja2 and cut by `tokenizers`, the logits of the
engine's own `eval_all`, their logarithms and divergence by numpy.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import jinja2
import numpy as np
import pytest
import tiny_gguf
import tinymodels
from tokenizers import Tokenizer

from edgellm import backends, files
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.formats.artifact import Artifact
from edgellm.profiles.quality import child, tasks
from edgellm.profiles.quality.child import QualityRequest
from edgellm.profiles.result.settings import QualityPlan
from edgellm.session import EngineOptions

N_DIALOGUES, N_ITEMS = 6, 2


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    case = tinymodels.variant("qwen3-f32", n_ctx_train=1024)
    return tinymodels.write(case, tmp_path_factory.mktemp("quality") / "source")


@pytest.fixture(scope="module")
def models(source):
    made = {
        kind: convert(ConvertRequest(source, kind, source.parent / f"{kind}.gguf"))
        for kind in ("F32", "Q8_0")
    }
    return {kind: str(artifact.path) for kind, artifact in made.items()}


def by_turns() -> list[tasks.TaskItem]:
    every = [tasks.load(name) for name in tasks.names()]
    return [own[i] for i in range(min(map(len, every))) for own in every]


def texts(source) -> list[str]:
    settings = json.loads((source / "tokenizer_config.json").read_text())
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(settings["chat_template"])
    names = {"bos_token": settings["bos_token"] or "", "eos_token": settings["eos_token"]}
    return [
        template.render(messages=[*item.messages, {"role": "assistant", "content": item.answer}], **names)
        for item in by_turns()[:N_DIALOGUES]
    ]


def log_probs(path: str, ids: list[int]) -> np.ndarray:
    """Of every next token, in float64: [len(ids) - 1, n_vocab]."""
    with backends.open_session(Artifact.open(path), EngineOptions(n_ctx=1024, n_threads=1)) as session:
        logits = np.array(session.eval_all(ids), np.float64)[:-1]
    return (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )


def test_the_record_is_what_numpy_makes_of_the_same_text(source, models):
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    rendered = texts(source)
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in rendered]
    control = {t["id"] for t in json.loads((source / "tokenizer.json").read_text())["added_tokens"]}
    scored, n_bytes, kld, same = [], 0, [], []
    for own in ids:
        p, q = log_probs(models["F32"], own), log_probs(models["Q8_0"], own)
        scored += q[np.arange(len(own) - 1), own[1:]].tolist()
        kld += (np.exp(p) * (p - q)).sum(1).tolist()
        same += (p.argmax(1) == q.argmax(1)).tolist()
        # Byte-level tokens are written with one character a byte; a control token stands for no text.
        n_bytes += sum(len(tokenizer.id_to_token(i)) for i in own[1:] if i not in control)
    record = child.measure(QualityRequest(models["Q8_0"], models["F32"], N_DIALOGUES, N_ITEMS))
    assert record.n_tokens == len(scored) == sum(map(len, ids)) - N_DIALOGUES
    assert record.perplexity and record.bits_per_byte and record.kld_mean and record.same_top
    assert record.perplexity.value == pytest.approx(np.exp(-np.mean(scored)), rel=1e-4)
    assert record.bits_per_byte.value == pytest.approx(-np.sum(scored) / np.log(2) / n_bytes, rel=1e-4)
    assert record.kld_mean.value == pytest.approx(np.mean(kld), rel=0.02, abs=1e-6)
    assert record.kld_max == pytest.approx(np.max(kld), rel=0.05)
    assert record.same_top.value == pytest.approx(np.mean(same), abs=2 / len(same))
    assert record.reason is None and record.reference and record.reference.endswith(" F32")
    assert record.tasks is not None and set(record.tasks) <= set(tasks.names())
    assert record.total is not None and record.total.n == sum(share.n for share in record.tasks.values())
    assert record.total.k == sum(share.k for share in record.tasks.values())
    assert {share.n for share in record.tasks.values()} == {N_ITEMS}


def test_a_reference_is_evaluated_once_and_is_no_distance_from_itself(models, monkeypatch):
    request = QualityRequest(models["F32"], models["F32"], 3, 0)
    record = child.measure(request)
    assert record.kld_mean and record.kld_mean.value == pytest.approx(0, abs=2e-4)
    assert record.same_top and record.same_top.value == 1.0
    assert record.tasks is None and record.total is None, "no questions were asked"
    (kept,) = (files.cache_dir() / "references").iterdir()
    stamp = kept.stat().st_mtime_ns
    assert child.measure(request).perplexity == record.perplexity
    assert kept.stat().st_mtime_ns == stamp
    child.measure(replace(request, dialogues=2))
    assert len(list((files.cache_dir() / "references").iterdir())) == 2


def test_a_model_without_a_template_reads_a_script_and_answers_nothing(tmp_path):
    path = tiny_gguf.write(tmp_path / "plain.gguf")
    record = child.in_child(QualityRequest(str(path), None, 2, 2))
    assert record.perplexity and record.n_tokens and record.tasks is None and record.kld_mean is None
    assert record.reason == "no reference was named: there is no divergence" and record.reference is None
    assert record.seconds and record.seconds > 0
    spoken = [
        "\n".join(
            f"{m['role'].capitalize()}: {m['content']}"
            for m in (*item.messages, {"role": "assistant", "content": item.answer})
        )
        for item in by_turns()[:2]
    ]
    merged = sum(text.count("th") for text in spoken)  # the only merge of that tokenizer
    assert record.n_tokens == sum(len(text.encode()) for text in spoken) - merged - 2


def test_a_model_that_can_think_is_asked_without_thinking(source, tmp_path):
    """As Qwen3's cards turn it off; this template refuses to go on otherwise."""
    folder = shutil.copytree(source, tmp_path / "thinks")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    asked = "add_generation_prompt and enable_thinking is not false"
    refusal = f"{{% if {asked} %}}{{{{ raise_exception('thinks') }}}}{{% endif %}}"
    settings["chat_template"] = refusal + settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    path = convert(ConvertRequest(folder, "F32", tmp_path / "thinks.gguf")).path
    record = child.measure(QualityRequest(str(path), None, 2, 1))
    assert record.tasks is not None and record.total is not None


def test_what_fails_in_the_child_is_a_record_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    record = child.in_child(QualityRequest(str(tmp_path / "x.gguf"), None, 1, 0))
    assert record.perplexity is None and record.reason and "x.gguf" in record.reason
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    record = child.in_child(QualityRequest("x", None, 1, 0))
    assert record.reason == "the process that measured it failed (FileNotFoundError)"
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert child.in_child(QualityRequest("x", None, 1, 0)).reason == (
        "the process that measured it failed (IndexError)"
    )


def test_each_model_is_held_against_its_own_reference(models, monkeypatch):
    asked: list[QualityRequest] = []
    monkeypatch.setattr(child, "in_child", asked.append)
    plan = QualityPlan(dialogues=5, items=3, references={"b": "~/ref.gguf"})
    meters = child.meters({"a": "/a.gguf", "b": "/b.gguf"}, plan)
    for name, meter in meters.items():
        meter(name)
    monkeypatch.undo()
    home = subprocess.run(["sh", "-c", "echo ~"], capture_output=True, text=True, check=True).stdout.strip()
    assert asked == [
        QualityRequest("/a.gguf", None, 5, 3),
        QualityRequest("/b.gguf", f"{home}/ref.gguf", 5, 3),
    ]
