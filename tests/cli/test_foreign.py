"""Models outside the verified families on the command line: they run, and one line says that they were not checked."""

import json
import subprocess
import sys
from pathlib import Path

import foreign_gguf
import pytest

LINE = "outside the verified families: runs, but edgellm did not check it"


def edgellm(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=text, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("foreign")
    for name in ("gemma3", "mamba", "gpt2"):
        foreign_gguf.write(where / f"{name}.gguf", foreign_gguf.CASES[name])
    return where


COMMANDS = {
    "run": ("run", "MODEL", "hello", "-n", "4", "-t", "1"),
    "chat": ("chat", "MODEL", "-n", "4", "-t", "1", "--no-save"),
    "profile": ("profile", "MODEL", "-p", "8", "-n", "4", "-r", "2", "-t", "1", "-q", "--no-roofline"),
    "eval": ("eval", "MODEL", "--chunks", "1", "-c", "64", "-t", "1"),
    "embed": ("embed", "MODEL", "hello", "-t", "1"),
    "doctor": ("doctor", "MODEL"),
}


@pytest.mark.parametrize("model", ["gemma3", "mamba"])
@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_is_said_once(folder, name, model):
    path = folder / f"{model}.gguf"
    given = [str(path) if word == "MODEL" else word for word in COMMANDS[name]]
    run = edgellm(*given, text="Hello\nAnd again\n")
    assert run.returncode == 0, run.stderr
    assert run.stderr.count(LINE) == 1 and run.stderr.startswith(f"edgellm: {path.name}: {LINE}\n")
    assert LINE not in run.stdout


def test_the_line_is_said_once_though_the_model_is_asked_for_twice(folder):
    path = str(folder / "gemma3.gguf")
    run = edgellm("eval", path, "--ref", path, "--chunks", "1", "-c", "64", "-t", "1")
    assert run.returncode == 0 and run.stderr.count(LINE) == 1


def test_unknown_memory_is_said_to_be_unknown(folder):
    run = edgellm("doctor", str(folder / "gemma3.gguf"), "--json")
    found = {f["name"]: f["value"] for f in json.loads(run.stdout)}
    assert (
        found["memory"].startswith("unknown: what a gemma3 model keeps")
        and "size unknown" in found["KV cache"]
    )


def test_a_report_foretells_nothing_of_it(folder, tmp_path):
    out = tmp_path / "report.json"
    run = edgellm(
        "profile", str(folder / "gemma3.gguf"), "-p", "8", "-n", "4", "-t", "1", "-q", "--out", str(out)
    )
    assert run.returncode == 0, run.stderr
    (measured,) = json.loads(out.read_text())["runs"]
    assert measured["model"]["n_params"] > 0
    unknown = ("n_params_active", "n_params_head", "weight_bytes_per_token")
    assert [measured["model"][name] for name in unknown] == [None] * 3
    memory = measured["launches"][0]["memory"]
    assert memory["predicted"] is None and memory["engine"]["source"] == "engine log"


def test_without_a_template_the_remedy_is_named_and_works(folder):
    path = str(folder / "gpt2.gguf")
    run = edgellm("chat", path, "--no-save")
    assert run.returncode == 2
    assert "has no chat template: it only continues text; use edgellm run --raw MODEL PROMPT" in run.stderr
    assert edgellm("run", "--raw", path, "hello", "-n", "3", "-t", "1").returncode == 0


def test_conversion_and_calibration_stay_with_the_verified_families(folder, tmp_path):
    path = str(folder / "gemma3.gguf")
    run = edgellm("convert", path, "--quant", "Q8_0", "-o", str(tmp_path / "out.gguf"))
    assert run.returncode == 2 and "is a gemma3 model; only llama, " in run.stderr
    assert run.stderr.count("\n") == 1 and not (tmp_path / "out.gguf").exists()
    other = foreign_gguf.write(tmp_path / "other.gguf", foreign_gguf.CASES["smollm"])
    run = edgellm("convert", str(other), "--quant", "Q8_0", "-o", str(tmp_path / "out.gguf"))
    assert (
        run.returncode == 2 and "has the tokenizer gpt2 smollm, outside the verified families" in run.stderr
    )
    assert run.stderr.count("\n") == 1 and not (tmp_path / "out.gguf").exists()
    run = edgellm("calibrate", path, "-o", str(tmp_path / "imatrix.gguf"))
    assert run.returncode == 2 and "importance matrices are for conversions" in run.stderr


def test_inspect_says_what_is_known(folder):
    facts = json.loads(edgellm("inspect", str(folder / "mamba.gguf"), "--json").stdout)["facts"]
    assert facts["runs here"] == "if the engine knows it: outside the verified families"


def test_a_wish_to_think_is_refused_in_one_line(folder):
    run = edgellm("run", str(folder / "gemma3.gguf"), "hello", "--think", "-t", "1")
    assert run.returncode == 2 and "whether and how it thinks: unknown" in run.stderr.splitlines()[-1]


def test_nothing_is_said_of_a_verified_family():
    run = edgellm("run", "tiny-qwen3", "hello", "-n", "2", "-t", "1")
    assert run.returncode == 0 and LINE not in run.stderr


def test_a_conversation_goes_on_edits_and_says_what_is_unknown(folder):
    lines = "/set think on\n/show model\nhello\nmore\n/regen\n/undo\nagain\n"
    run = edgellm(
        "chat", str(folder / "mamba.gguf"), "-n", "4", "-t", "1", "--temp", "0", "--no-save", text=lines
    )
    assert run.returncode == 2 and run.stderr.count(LINE) == 1, run.stderr  # for the first line, in a pipe
    assert run.stderr.count("tok/s") == 4
    assert "whether and how it thinks: unknown" in run.stderr
    assert "outside the verified families: tools, thinking and memory are unknown" in run.stderr + run.stdout
