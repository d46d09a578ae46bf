"""A meter's log over the phases of a profile: units, clocks that differ, gaps, restarts, and what cannot be said."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import profile_samples as samples
import pytest
from click.testing import CliRunner

from edgellm.cli import cli
from edgellm.profiles.measure import energy_import
from edgellm.profiles.measure.energy_import import MeterLogError
from edgellm.profiles.result.result import EnergyWindow, PhaseSpan, from_json, to_json

T0 = 1_700_000_000.0
#: idle 150 s at 10 W, prefill 150 s at 40 W, decode 150 s at 30 W, idle 150 s at 10 W; half a second between
SPANS = (
    PhaseSpan("idle", T0 + 100, 150, 0),
    PhaseSpan("prefill", T0 + 250.5, 150, 3000),
    PhaseSpan("decode", T0 + 401, 150, 600),
    PhaseSpan("idle", T0 + 551.5, 150, 0),
)
WATTS = {"idle": 10.0, "prefill": 40.0, "decode": 30.0}


def power(when: float) -> float:
    for span in SPANS:
        if span.begin_unix <= when < span.begin_unix + span.seconds:
            return WATTS[span.phase]
    return 12.0


def energy_until(when: float) -> float:
    """Joules from T0, exactly."""
    at, total = T0, 0.0
    for span in SPANS:
        for until, watts in ((span.begin_unix, 12.0), (span.begin_unix + span.seconds, WATTS[span.phase])):
            total += watts * max(0.0, min(when, until) - at)
            at = max(at, min(when, until))
    return total + 12.0 * max(0.0, when - at)


def times(period: float = 1.0, first: float = 0.0, last: float = 800.0) -> list[float]:
    return [T0 + first + n * period for n in range(int((last - first) / period) + 1)]


def log(path: Path, rows: list[tuple[object, object]], header: str = "") -> Path:
    path.write_text((f"{header}\n" if header else "") + "".join(f"{a},{b}\n" for a, b in rows))
    return path


def gross(record, phase):
    return [sum(w.joules.values()) for w in record.windows if w.phase == phase]


def test_watts_are_integrated_over_each_phase(tmp_path):
    meter = energy_import.read(log(tmp_path / "plug.csv", [(t, power(t)) for t in times()]))
    record = energy_import.record(meter, SPANS)
    assert gross(record, "prefill") == [pytest.approx(6000, rel=0.005)]
    assert gross(record, "decode") == [pytest.approx(4500, rel=0.005)]
    assert gross(record, "idle") == [pytest.approx(1500, rel=0.02)] * 2
    assert (record.meter, record.kind, record.update_period_seconds) == ("csv", "imported", 1.0)
    (decode,) = (w for w in record.windows if w.phase == "decode")
    assert (
        decode.error_joules is not None and abs(4500 - gross(record, "decode")[0]) < 3 * decode.error_joules
    )


def test_watt_hours_are_subtracted_and_their_step_is_an_error(tmp_path):
    rows = [(int(t * 1000), round(energy_until(t) / 3600, 1)) for t in times()]
    meter = energy_import.read(log(tmp_path / "plug.csv", rows, "time,total energy (Wh)"))
    assert meter.counts and meter.step == pytest.approx(360)
    record = energy_import.record(meter, SPANS)
    (decode,) = (w for w in record.windows if w.phase == "decode")
    assert decode.error_joules is not None and decode.error_joules > 100
    assert abs(sum(decode.joules.values()) - 4500) < 3 * decode.error_joules


@pytest.mark.parametrize(
    ("header", "unit", "scale"),
    [
        ("timestamp;Power [kW]", None, 1e-3),
        ("when\tactive_power_mw", None, 1e3),
        ("", "W", 1.0),
        ("a,b", "kW", 1e-3),
    ],
)
def test_units_and_separators(tmp_path, header, unit, scale):
    separator = next((c for c in ";\t" if c in header), ",")
    lines = ([header] if header else []) + [f"{t}{separator}{power(t) * scale}" for t in times()]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(lines))
    assert energy_import.read(path, unit).joules(T0 + 410, T0 + 510)[0] == pytest.approx(3000)


def test_iso_times_comments_a_mark_at_the_start_and_repeated_lines(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(
        b"\xef\xbb\xbftime,watts\n# a plug\n2023-11-14T22:13:20Z,10\n2023-11-14T22:13:21+00:00,10\n"
        b"2023-11-14T23:13:22+01:00,10\n2023-11-14T22:13:22Z,10\n2023-11-14T22:13:23Z,10\n"
    )
    meter = energy_import.read(path)
    assert meter.seconds == (T0, T0 + 1, T0 + 2, T0 + 3)
    assert meter.joules(T0, T0 + 3)[0] == pytest.approx(30)


def test_a_gap_leaves_the_phase_it_falls_into_without_a_figure(tmp_path):
    rows = [(t, power(t)) for t in times() if not T0 + 450 < t < T0 + 470]
    record = energy_import.record(energy_import.read(log(tmp_path / "x.csv", rows)), SPANS)
    assert {w.phase for w in record.windows} == {"idle", "prefill"}
    assert record.phase_reasons and "gap of 20 s" in record.phase_reasons["decode"]


def test_a_counter_that_began_anew_leaves_its_phase_without_a_figure(tmp_path):
    reset = energy_until(T0 + 300)
    rows = [(t, (energy_until(t) - (reset if t > T0 + 300 else 0)) / 3600) for t in times()]
    record = energy_import.record(energy_import.read(log(tmp_path / "x.csv", rows, "t,Wh")), SPANS)
    assert record.phase_reasons and "began anew" in record.phase_reasons["prefill"]
    assert gross(record, "decode") == [pytest.approx(4500)]


def test_a_log_that_ends_early_and_phases_too_short_for_it(tmp_path):
    rows = [(t, power(t)) for t in times(last=500)]
    record = energy_import.record(energy_import.read(log(tmp_path / "x.csv", rows)), SPANS)
    assert record.phase_reasons and "covers" in record.phase_reasons["decode"]
    slow = energy_import.read(log(tmp_path / "y.csv", [(t, power(t)) for t in times(10)]))
    record = energy_import.record(slow, SPANS)
    assert record.windows == () and "--energy csv --energy-seconds 1e+03" in str(record.reason)


@pytest.mark.parametrize("offset", [-37.3, 0.0, 63.6])
def test_the_offset_of_clocks_is_found_by_idle_and_busy_phases(tmp_path, offset):
    rng = random.Random(1)
    rows = [(t - offset, power(t) + rng.gauss(0, 0.5)) for t in times(first=-200, last=1000)]
    meter = energy_import.read(log(tmp_path / "x.csv", rows))
    found = energy_import.align(meter, SPANS)
    assert found == pytest.approx(offset, abs=1.5)
    record = energy_import.record(meter.shifted(found), SPANS)
    assert gross(record, "decode") == [pytest.approx(4500, rel=0.01)]


def test_a_log_that_does_not_rise_is_not_aligned(tmp_path):
    flat = energy_import.read(log(tmp_path / "x.csv", [(t, 10.0) for t in times()]))
    with pytest.raises(MeterLogError, match="does not rise"):
        energy_import.align(flat, SPANS)
    with pytest.raises(MeterLogError, match="busy and idle"):
        energy_import.align(flat, SPANS[1:3])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("1700000000,1\n1700000001,nan\n", "line 2 is no time and number"),
        ("t,W\n1700000000,1\nx,2\n", "line 3 is no time and number"),
        ("1700000000\n", "line 1 is no time and number"),
        ("", "0 readings"),
        ("1700000000,1\n", "1 readings"),
    ],
)
def test_files_that_are_no_log(tmp_path, text, wrong):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(MeterLogError, match=wrong):
        energy_import.read(tmp_path / "x.csv")
    with pytest.raises(MeterLogError, match="unit 'hp' is not known"):
        energy_import.read(log(tmp_path / "y.csv", [(T0, 1)] * 3), "hp")


def test_the_command_adds_the_log_to_a_result(tmp_path):
    launch = replace(samples.launch(), spans=SPANS)
    report = samples.report(samples.run(launches=(launch,)))
    result = tmp_path / "run.json"
    result.write_text(to_json(report))
    rows = [(t - 30, power(t)) for t in times(first=-200, last=1000)]
    plug = log(tmp_path / "plug.csv", rows)
    done = CliRunner().invoke(
        cli, ["energy", "import", str(result), str(plug), "--align"], catch_exceptions=False
    )
    assert done.exit_code == 0 and "idle, prefill, decode" in done.output
    read = from_json(result.read_text())
    run = read.runs[0]
    gross, net = (run.measurement(f"decode_joules_per_token{end}").samples[0] for end in ("", "_net"))
    assert (gross, net) == (pytest.approx(7.5, rel=0.01), pytest.approx(5.0, rel=0.02))
    assert run.launches[0].energy.kind == "imported"
    assert math.isclose(json.loads(to_json(read))["runs"][0]["launches"][0]["spans"][2]["seconds"], 150)


def test_beside_a_meter_that_was_there_the_log_is_a_second_one(tmp_path):
    launch = replace(samples.launch(record=samples.energy()), spans=SPANS)
    report = samples.report(samples.run(launches=(launch,)))
    meter = energy_import.read(log(tmp_path / "plug.csv", [(t, power(t)) for t in times()]))
    (run,) = energy_import.apply(report, meter).runs
    assert run.launches[0].energy == launch.energy
    assert run.measurement("decode_joules_per_token@csv").samples == (pytest.approx(7.5, rel=0.01),)
    again = energy_import.apply(replace(report, runs=(run,)), meter)
    assert len(again.runs[0].launches[0].energy_beside) == 1, "a second import takes the place of the first"
    bare = replace(launch, spans=())
    with pytest.raises(MeterLogError, match="--energy csv"):
        energy_import.apply(replace(report, runs=(replace(run, launches=(bare,)),)), meter)
    assert isinstance(run.launches[0].energy_beside[0].windows[0], EnergyWindow)
