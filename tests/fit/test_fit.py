"""`fit` and `recommend`: what is foretold against converter, engine and kernel; what is fetched of a hub."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import tinymodels
from hub_server import serve

from edgellm.catalog import first_use, subjects
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.onnx import is_onnx
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.errors import CheckFailedError, UsageError
from edgellm.fit import builds, figures, places, probe, recommend, table
from edgellm.fit.figures import Beside, Figures, Kernel
from edgellm.fit.model import USUAL, chosen
from edgellm.machine import hardware

TYPES = ("F16", "Q8_0", "Q4_K_M", "IQ4_NL", "onnx-int4")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tinymodels.write(tinymodels.CASES["qwen3moe-256"], tmp_path_factory.mktemp("fit") / "source")


@pytest.mark.parametrize("type_", TYPES)
def test_a_files_size_is_told_before_it_is_written(source, tmp_path, type_):
    build = builds.of_checkpoint(source, "m", [type_]).types[type_]
    if is_onnx(type_):
        convert_onnx(OnnxRequest(source, type_, tmp_path / "out"))
        written = sum(path.stat().st_size for path in (tmp_path / "out").glob("model.onnx*"))
        assert build.file_bytes == pytest.approx(written, rel=0.02)
    else:
        convert(ConvertRequest(source, type_, tmp_path / "m.gguf", n_threads=1))
        assert build.exact and build.file_bytes == (tmp_path / "m.gguf").stat().st_size


def test_what_a_checkpoint_would_be_is_what_its_file_is(source, tmp_path):
    """Matrices, experts and numbers from the plan alone and from the header of what was written."""
    from edgellm.formats.artifact import Artifact

    foretold = builds.of_checkpoint(source, "m", ["Q4_K_M"]).types["Q4_K_M"]
    convert(ConvertRequest(source, "Q4_K_M", tmp_path / "m.gguf", n_threads=1))
    (found,) = builds.of_artifact(Artifact.open(tmp_path / "m.gguf")).types.values()
    assert (found.numbers, set(found.matrices)) == (foretold.numbers, set(foretold.matrices))
    assert found.bytes_per_token == foretold.bytes_per_token < found.weight_bytes, (
        "experts that are not asked"
    )


def test_of_a_hubs_model_headers_alone_are_fetched(source, tmp_path):
    script = (
        "import sys, json; from edgellm.catalog import subjects; "
        "s = subjects.open_subject('someone/Tiny-MoE', ['Q8_0', 'Q4_K_M']); "
        "print(json.dumps({t: b.weight_bytes for t, b in s.types.items()}))"
    )
    weights = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    with serve("someone/Tiny-MoE", source) as (hub, address):
        own = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env={**os.environ, **own},
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    here = builds.of_checkpoint(source, "m", ["Q8_0", "Q4_K_M"]).types
    assert json.loads(done.stdout) == {type_: build.weight_bytes for type_, build in here.items()}
    assert not [line for line in hub.requests if "tokenizer" in line]
    assert hub.bytes_sent < min(weights, 250_000)


def place(**kernels: float) -> places.Place:
    """A machine whose kernels take so many picoseconds a weight to decode, and a tenth of it in a prompt."""
    beside = Beside(1e-4, 0, 0, 0, 0, 0, 0, 80 << 20)
    known = {name: Kernel(each * 1e-12, 0, each * 1e-13, 0) for name, each in kernels.items()}
    return places.Place(
        "there", 1 << 30, 2, {"llamacpp": Figures("llamacpp", 2, "m", "b", "", known, beside)}, 0.1
    )


@pytest.fixture(scope="module")
def choices(source):
    """A table in which Q4_0 is fast and Q8_0 is slow."""
    subject = builds.of_checkpoint(source, "m", ["Q8_0", "Q4_0", "F16"])
    return table.make(subject, place(Q8_0=500, Q4_0=100, F16=900, F32=1000))


def test_types_that_are_as_fast_and_closer_are_named(source):
    subject = builds.of_checkpoint(source, "m", ["Q8_0", "Q4_0", "IQ4_NL", "F16"])
    kernels = place(Q8_0=500, Q6_K=300, Q4_0=100, IQ4_NL=101, F16=900, F32=1000)
    [(better, why)] = recommend.rivals(table.make(subject, kernels), "Q4_0")
    assert better.type == "IQ4_NL" and "KLD" in why and "as fast" in why
    assert recommend.rivals(table.make(subject, kernels), "F16") == []  # none is closer
    assert recommend.rivals(table.make(subject, kernels), "Q8_0") == []  # F16 is, and slower


def test_the_choice_follows_what_is_wanted(choices):
    losses = {row.type: row.loss.kld for row in choices.rows}
    assert losses["F16"] < losses["Q8_0"] < losses["Q4_0"]
    assert recommend.choose(choices, recommend.Wish("speed")).best.type == "Q4_0"
    between = (losses["Q8_0"] + losses["Q4_0"]) / 2
    choice = recommend.choose(choices, recommend.Wish("balance", max_kld=between))
    assert choice.best.type == "Q8_0" and choice.losers["Q4_0"].startswith("KLD")
    assert "slower" in choice.losers["F16"]
    with pytest.raises(CheckFailedError, match="no type will do"):
        recommend.choose(choices, recommend.Wish(min_tokens_per_second=1e9))


def test_a_machine_too_small_is_told_what_is_missing(source):
    subject = builds.of_checkpoint(source, "m", ["Q8_0"])
    with pytest.raises(CheckFailedError, match=r"needs .* is there"):
        recommend.choose(table.make(subject, place(Q8_0=1, F32=1), ram=1 << 20), recommend.Wish())


def test_another_device_is_slower_by_its_memory(source):
    """By bytes over bandwidth alone where arithmetic is plenty."""
    subject = builds.of_checkpoint(source, "m", ["Q8_0"])
    local = place(Q8_0=1, F32=1)
    speeds = [
        table.make(subject, places.elsewhere(local, "board", 1 << 30, bandwidth, None, 4))
        .rows[0]
        .speed.decode
        for bandwidth in (1e8, 2e8)
    ]
    assert 1.5 < speeds[1] / speeds[0] < 2.01
    assert "nothing was measured there" in " ".join(places.named(local, "rpi5").notes)
    with pytest.raises(UsageError, match="did you mean"):
        places.named(local, "rpi55")


def test_a_result_file_stands_for_the_machine_it_is_from(source):
    """The study's own: its memory, and its bandwidth as the bound of what this machine's kernels would do."""
    path = Path(__file__).parents[2] / "docs" / "study" / "real.json"
    machine = json.loads(path.read_text())["machine"]
    there = places.named(place(Q8_0=1, F32=1), str(path))
    assert there.ram in (machine["memory_limit_bytes"], machine["memory_bytes"])
    ceiling = max(machine["ceilings"], key=lambda each: each["n_threads"])
    build = builds.of_checkpoint(source, "m", ["Q8_0"]).types["Q8_0"]
    (row,) = table.make(builds.of_checkpoint(source, "m", ["Q8_0"]), there).rows
    assert 0 < row.speed.decode < ceiling["read_bytes_per_second"] / build.bytes_per_token
    assert "from the ceilings measured there" in " ".join(there.notes)


def test_types_are_read_as_people_write_them():
    assert chosen(["q4_k_m", "ONNX-INT4"]) == ("Q4_K_M", "onnx-int4") and chosen(None) == USUAL
    with pytest.raises(UsageError):
        chosen(["Q4_X"])


def test_a_first_use_takes_what_is_recommended_and_asks_once(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    known = place(Q8_0=500, Q4_0=100, F16=900, F32=1000).figures["llamacpp"]
    figures.write(replace(known, n_threads=hardware.default_threads(), build=probe.build("llamacpp")))
    first = first_use.resolve(str(source))
    assert f"{first.quantization} is recommended here" in capsys.readouterr().err
    again = first_use.resolve(str(source))
    assert again.path == first.path and "recommended" not in capsys.readouterr().err


def test_what_is_here_is_told_without_its_weights():
    subject = subjects.open_subject("tiny-llama3", ["Q8_0"], offline=True)
    assert subject.types["Q8_0"].exact and subjects.is_here("tiny-llama3")


@pytest.mark.wide
def test_predictions_are_held_against_what_is_measured(tmp_path):
    """Kernels timed, then a profile: the memory that was said is within a tenth of the kernel's own mark."""
    own = {**os.environ, "EDGELLM_CACHE": str(tmp_path / "cache")}

    def edgellm(*arguments: str) -> str:
        command = [sys.executable, "-m", "edgellm", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=own, check=True, timeout=600
        ).stdout

    found = json.loads(edgellm("fit", "tiny-qwen3", "--type", "Q8_0", "--json", "-c", "512"))
    assert found["types"][0]["decode_tokens_per_second"] > 0
    edgellm(
        "profile", "tiny-qwen3:Q8_0", "--launches", "1", "-r", "1", "-p", "64", "-n", "8", "--no-roofline"
    )
    errors = json.loads(edgellm("fit", "--record", "--json"))
    assert len(errors["peak"]) == 1 and abs(errors["peak"][0]) < 0.1 and len(errors["decode"]) == 1
    assert "peak" in edgellm("fit", "--record")


def test_models_that_a_killed_run_left_are_removed(tmp_path, monkeypatch):
    """A run that is killed removes nothing; the next one does."""
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    (tmp_path / "kernels" / "probe-x" / "model").mkdir(parents=True)
    with probe._bench("llamacpp", 1, print) as bench:
        assert {folder.name for folder in (tmp_path / "kernels").iterdir()} == {bench.folder.name}
    assert not bench.folder.exists()


def test_a_living_run_keeps_its_models_and_others_wait(tmp_path, monkeypatch):
    """Two at once would time each other, and neither may take away what the other uses."""
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path))
    told, entered = threading.Event(), threading.Event()

    def other():
        with probe._bench("llamacpp", 1, lambda _: told.set()):
            entered.set()

    with probe._bench("llamacpp", 1, print) as bench:
        thread = threading.Thread(target=other)
        thread.start()
        assert told.wait(10)
        assert bench.folder.exists() and not entered.is_set()
    thread.join(10)
    assert entered.is_set()


def test_of_two_times_of_a_kernel_the_less_disturbed_counts():
    """Decode and prefill each by themselves; a weight's time and an output's, found together, stay together."""
    slow_decode = Kernel(decode=4e-11, decode_output=1e-9, prefill=1e-11, prefill_output=5e-9)
    slow_prefill = Kernel(decode=2e-11, decode_output=8e-9, prefill=3e-11, prefill_output=1e-9)
    best = Kernel(2e-11, 8e-9, 1e-11, 5e-9)
    assert slow_decode.best(slow_prefill) == slow_prefill.best(slow_decode) == best


def test_of_two_times_beside_the_matrices_the_mean_counts():
    """They are differences: the lesser is no less disturbed."""
    one = Beside(1e-5, 2e-6, 3e-9, 1e-8, 2e-10, 1e-10, 9e-11, 70)
    other = replace(one, token=3e-5, head=0.0, prefill_head_value=1e-11, runtime_bytes=60)
    found = one.mean(other)
    assert found == other.mean(one)
    assert (found.token, found.layer, found.head) == pytest.approx((2e-5, 2e-6, 5e-9))
    assert found.prefill_head_value == pytest.approx(5e-11) and found.runtime_bytes == 60
