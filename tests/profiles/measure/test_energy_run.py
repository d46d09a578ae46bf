"""Energy of real launches: two meters side by side, a log laid over the phases afterwards, an estimate apart."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_gguf
from click.testing import CliRunner
from constant_meter import ConstantMeter

from edgellm.cli import cli
from edgellm.profiles import energy
from edgellm.profiles.measure.launch import LaunchRequest, run_launch
from edgellm.profiles.result import derive
from edgellm.profiles.result.result import Launch
from edgellm.profiles.result.settings import Workload
from edgellm.session import EngineOptions

SMALL = Workload(n_prompt=16, n_gen=4, repetitions=1, launches=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_gguf.write(tmp_path_factory.mktemp("models") / "a.gguf")


def launched(model: Path, workload: Workload) -> Launch:
    return run_launch(LaunchRequest(str(model), workload, EngineOptions(n_threads=1)), lambda text: None)


def test_processor_and_gpu_stay_apart(model, monkeypatch):
    meters = (ConstantMeter(25.0, name="cpu"), ConstantMeter(70.0, name="gpu", covers="gpu", period=0.0005))
    monkeypatch.setattr(energy, "choose", lambda wanted: energy.Choice(meters))
    launch = launched(model, SMALL)
    assert [record.meter for record in (launch.energy, *launch.energy_beside)] == ["cpu", "gpu"]
    found = {m.name: m for m in derive.measurements([launch])}
    assert found["decode_watts"].samples == pytest.approx([25.0])
    assert found["decode_watts@gpu"].samples == pytest.approx([70.0])


@pytest.mark.wide
def test_no_meter_an_estimate_and_a_log_imported_later(model, tmp_path):
    """The log says 10 W whatever happens, so every watt is 10 W and net of idle is nothing."""
    out, plug = tmp_path / "run.json", tmp_path / "plug.csv"
    words = ["profile", str(model), "-p", "16", "-n", "4", "-r", "1", "--launches", "1", "-t", "1", "-q"]
    words += ["--energy", "csv", "--energy-seconds", "0.2", "--energy-estimate", "5,28", "--out", str(out)]
    CliRunner().invoke(cli, words, catch_exceptions=False)
    launch = json.loads(out.read_text())["runs"][0]["launches"][0]
    assert launch["energy"]["meter"] is None and "edgellm energy import" in launch["energy"]["reason"]
    assert {phase["phase"] for phase in launch["energy_estimate"]["phases"]} == {
        "load",
        "idle",
        "prefill",
        "decode",
    }
    spans = launch["spans"]
    begin, end = spans[0]["begin_unix"] - 1, spans[-1]["begin_unix"] + 60
    assert max(span["seconds"] for span in spans if span["phase"] == "decode") >= 0.2
    steps = int((end - begin) / 0.001)
    plug.write_text("".join(f"{begin + n * 0.001:.6f},10\n" for n in range(steps)))
    done = CliRunner().invoke(cli, ["energy", "import", str(out), str(plug)], catch_exceptions=False)
    assert "idle, prefill, decode" in done.output
    run = json.loads(out.read_text())["runs"][0]
    figures = {each["name"]: each["samples"] for each in run["measurements"]}
    assert (
        figures["decode_watts"] == pytest.approx([10.0] * len(figures["decode_watts"]))
        and figures["decode_watts"]
    )
    assert figures["decode_joules_per_token_net"] == pytest.approx(
        [0.0] * len(figures["decode_watts"]), abs=1e-9
    )


def test_an_estimate_alone_leaves_every_figure_open(model):
    launch = launched(model, replace(SMALL, energy="none", energy_estimate="5,28"))
    assert launch.energy_estimate is not None and launch.energy_estimate.max_watts == 28
    energies = [m for m in derive.measurements([launch]) if "joules" in m.name or "watts" in m.name]
    assert energies and not any(measurement.samples for measurement in energies)
