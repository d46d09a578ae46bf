"""What every energy source promises, the choice among them, and the way from readings to joules."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from constant_meter import ConstantMeter

from edgellm.errors import UsageError
from edgellm.profiles import energy
from edgellm.profiles.energy import Choice, Reading
from edgellm.profiles.measure import energy_estimate
from edgellm.profiles.measure.energy_log import EnergyLog, Mark, Span
from edgellm.profiles.measure.energy_recorder import Recorder, integrate


@pytest.mark.parametrize("name", energy.sources())
def test_every_source_keeps_the_protocol(name, tmp_path):
    meter = energy.find(name, tmp_path)
    assert meter.name == name
    assert meter.kind in ("counter", "power") and meter.covers and meter.scope
    assert isinstance(meter.parts, frozenset)
    assert meter.update_period_seconds > 0
    why = meter.why_not()
    assert why and "\n" not in why, "an empty machine must be refused with a reason in one line"


def test_sources_are_the_files_of_the_package():
    assert set(energy.sources()) >= {"rapl", "battery"}
    assert not any(name.startswith("_") for name in energy.sources())
    assert [meter.name for meter in energy.meters()] == list(energy.sources())


def test_without_a_meter_there_is_every_source_s_reason(tmp_path):
    choice = energy.choose(root=tmp_path)
    assert choice.meters == () and choice.reason is not None
    assert all(name in choice.reason for name in energy.sources())
    assert energy.choose("none", tmp_path) == Choice(reason="not asked for (--energy none)")
    with pytest.raises(UsageError, match=r"no energy source is called 'nuclear'; there are: .*rapl"):
        energy.choose("nuclear", tmp_path)


def test_a_counter_is_chosen_before_a_gauge(tmp_path, monkeypatch):
    install(monkeypatch, ConstantMeter(5, "power", 0.1), ConstantMeter(5, "counter", 1.0, name="rapl"))
    assert [meter.name for meter in energy.choose(root=tmp_path).meters] == ["rapl"]


def install(monkeypatch: pytest.MonkeyPatch, *meters: ConstantMeter) -> None:
    """These are all the sources there are."""
    monkeypatch.setattr(energy, "sources", lambda: tuple(meter.name for meter in meters))
    monkeypatch.setattr(energy, "find", lambda name, root: next(m for m in meters if m.name == name))


def test_meters_of_different_scopes_run_side_by_side_and_those_of_the_same_do_not(tmp_path, monkeypatch):
    cpu, again = ConstantMeter(30, name="cpu"), ConstantMeter(30, period=1.0, name="cpu-again")
    gpu = ConstantMeter(70, name="gpu", covers="gpu", period=0.001)
    install(monkeypatch, again, gpu, cpu)
    choice = energy.choose(root=tmp_path)
    assert [meter.name for meter in choice.meters] == ["cpu", "gpu"]
    assert [meter.name for meter in energy.choose("cpu-again,cpu", tmp_path).meters] == ["cpu", "cpu-again"]
    with EnergyLog(choice, 2.0) as log:
        begin = log.mark()
        time.sleep(0.11)
        log.add("decode", begin, log.mark(), 10)
    for record, watts in zip(log.records(), (30, 70), strict=True):
        (window,) = record.windows
        assert sum(window.joules.values()) == pytest.approx(watts * window.seconds)


def readings(*pairs: tuple[float, float]) -> list[Reading]:
    return [Reading(seconds, {"a": watts}) for seconds, watts in pairs]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (readings((0, 10), (2, 10)), {"a": 20.0}),
        (readings((0, 0), (2, 10)), {"a": 10.0}),
        (readings((0, 4), (1, 8), (4, 8)), {"a": 30.0}),
        (readings((0, 4)), {"a": 0.0}),
        ([], {}),
    ],
)
def test_power_is_integrated_by_trapezoids(samples: Sequence[Reading], expected: dict[str, float]):
    assert integrate(list(samples)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["counter", "power"])
def test_a_recorder_gives_joules_between_marks(kind):
    with Recorder(ConstantMeter(50.0, kind)) as recorder:
        begin = recorder.mark()
        time.sleep(0.02)
        end = recorder.mark()
        assert begin and end
        assert recorder.joules(begin, end)["all"] == pytest.approx(50 * (end.seconds - begin.seconds))


def test_the_background_thread_samples_gauges_and_ends():
    before = threading.active_count()
    with Recorder(ConstantMeter(5.0, "power")) as recorder:
        until = time.monotonic() + 30  # it wakes every 0.1 s, on a machine that is not overloaded
        while len(recorder._readings) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        assert len(recorder._readings) >= 3
    assert threading.active_count() == before


def test_a_lost_meter_gives_a_reason_and_no_figure():
    with EnergyLog(Choice((ConstantMeter(50.0, fails_after=4),)), 2.0) as log:
        for _ in range(3):
            begin = log.mark()
            time.sleep(0.012)
            log.add("decode", begin, log.mark(), 10)
    record = log.records()[0]
    assert record.windows == () and record.reason == "the cable came off"


def test_windows_too_short_for_the_meter_are_filled_by_loops():
    calls = []
    with EnergyLog(Choice((ConstantMeter(50.0),)), 2.0) as log:
        begin = log.mark()
        log.add("prefill", begin, log.mark(), 8)  # far shorter than 100 updates
        log.fill("prefill", lambda: (time.sleep(0.001), calls.append(1), 8)[2], windows=3)
    record = log.records()[0]
    assert len(record.windows) == 3
    assert sum(window.tokens for window in record.windows) == 8 * (
        len(calls) - 1
    )  # the first call is outside
    for window in record.windows:
        assert window.seconds >= 0.01
        assert sum(window.joules.values()) == pytest.approx(50 * window.seconds)
    assert record.phase_reasons == {}


def test_long_windows_do_not_stand_for_the_short_ones_beside_them():
    """Of repetitions around the meter's limit only the slow ones would count: so none do, and loops are run."""
    with EnergyLog(Choice((ConstantMeter(50.0),)), 2.0) as log:
        begin = log.mark()
        log.add("decode", begin, log.mark(), 1)
        begin = log.mark()
        time.sleep(0.015)
        log.add("decode", begin, log.mark(), 2)
        log.fill("decode", lambda: 7, windows=1)
    assert [window.tokens % 7 for window in log.records()[0].windows] == [0]


def test_phases_measured_already_are_not_looped_over():
    with EnergyLog(Choice((ConstantMeter(50.0),)), 2.0) as log:
        begin = log.mark()
        time.sleep(0.015)
        log.add("decode", begin, log.mark(), 5)
        log.fill("decode", lambda: pytest.fail("needless work"), windows=3)
    assert [window.tokens for window in log.records()[0].windows] == [5]


def test_a_slow_gauge_says_how_much_time_it_would_need():
    with EnergyLog(Choice((ConstantMeter(5.0, "power", period=3.0),)), 2.0) as log:
        log.idle()
        log.fill("decode", lambda: pytest.fail("no budget for this"), windows=1)
    record = log.records()[0]
    assert record.windows == ()
    assert record.phase_reasons is not None
    assert "--energy-seconds 300" in record.phase_reasons["decode"]


def test_without_a_meter_nothing_is_run_and_the_reason_stays():
    with EnergyLog(Choice(reason="no meter"), 2.0) as log:
        log.idle()
        log.fill("decode", lambda: pytest.fail("no meter to fill"), windows=1)
        assert log.mark().readings == ()
    assert log.records()[0].reason == "no meter"


def test_the_root_of_a_source_is_honoured(tmp_path: Path):
    path = tmp_path / "sys/class/power_supply/BAT1"
    path.mkdir(parents=True)
    for name, value in {"type": "Battery", "status": "Discharging", "power_now": "6000000"}.items():
        (path / name).write_text(value)
    choice = energy.choose(root=tmp_path)
    assert choice.reason is None and [meter.name for meter in choice.meters] == ["battery"]


def test_parts_of_another_channel_are_kept_but_not_added():
    meter = ConstantMeter(50.0)
    meter.parts = frozenset({"all"})
    with EnergyLog(Choice((meter,)), 2.0) as log:
        begin = log.mark()
        time.sleep(0.012)
        log.add("decode", begin, log.mark(), 1)
    (window,) = log.records()[0].windows
    assert window.joules == {} and set(window.parts or {}) == {"all"}


def test_a_counters_error_is_what_its_pace_hides_at_both_ends():
    recorder = Recorder(ConstantMeter(60.0, period=0.1))
    begin, end = Reading(0.0, {"all": 0.0}), Reading(10.0, {"all": 600.0})
    assert recorder.error(begin, end, 600.0) == pytest.approx(60 * 0.1 / 6**0.5)


def test_a_gauges_error_grows_with_the_spread_of_its_samples():
    recorder = Recorder(ConstantMeter(60.0, "power", period=1.0))
    recorder._readings = [Reading(float(t), {"all": 50.0 + 20 * (t % 2)}) for t in range(101)]
    begin, end = recorder._readings[0], recorder._readings[-1]
    spread = 10.0 / 100**0.5 * 100
    assert recorder.error(begin, end, 6000.0) == pytest.approx(spread, rel=0.05)


def test_phases_have_a_place_on_the_wall_clock_without_any_meter():
    before = time.time()
    with EnergyLog(Choice(reason="no meter"), 2.0) as log:
        begin = log.mark()
        time.sleep(0.01)
        log.add("decode", begin, log.mark(), 7)
    (span,) = log.spans()
    assert (span.phase, span.tokens) == ("decode", 7)
    assert before - 0.05 <= span.begin_unix <= time.time() and span.seconds >= 0.01


def test_for_a_log_imported_later_phases_are_made_long_enough():
    with EnergyLog(energy.choose("csv"), 0.05) as log:
        log.fill("decode", lambda: 3, windows=4)
    assert log.records()[0].meter is None and "edgellm energy import" in str(log.records()[0].reason)
    assert all(span.seconds >= 0.05 for span in log.spans())


def test_an_estimate_is_idle_and_utilisation_of_the_rest():
    def at(seconds: float, cpu: float) -> Mark:
        return Mark(seconds, cpu, ())

    spans = [Span("idle", at(0, 0), at(2, 0), 0), Span("decode", at(2, 0), at(6, 4), 40)]
    found = energy_estimate.estimate(spans, energy_estimate.parse("5,25"), processors=2)
    assert [(p.phase, p.utilisation, p.joules) for p in found.phases] == [
        ("idle", 0, 10),
        ("decode", 0.5, 60),
    ]
    assert (found.idle_watts, found.max_watts) == (5, 25)
    many = os.cpu_count() + 3  # more than this machine has: what is named counts
    (idle, decode) = energy_estimate.estimate(spans, energy_estimate.parse("5,25"), processors=many).phases
    assert (idle.utilisation, decode.utilisation) == (0, pytest.approx(1 / many))
    assert decode.joules == pytest.approx(4 * (5 + 20 / many))
    (_, here) = energy_estimate.estimate(spans, energy_estimate.parse("5,25")).phases
    assert here.utilisation == pytest.approx(1 / os.cpu_count())


@pytest.mark.parametrize("text", ["5", "5,4", "a,b", "-1,3", "1,2,3", "1,inf"])
def test_an_estimate_needs_two_powers(text):
    with pytest.raises(UsageError, match="--energy-estimate"):
        energy_estimate.parse(text)


def test_an_estimate_takes_a_devices_powers_from_a_file_and_says_so(tmp_path):
    path = tmp_path / "pi5.toml"
    path.write_text(
        'name = "Raspberry Pi 5"\nsource = "measured at the plug"\nidle_watts = 2.7\nmax_watts = 12\n'
    )
    powers = energy_estimate.parse(str(path))
    assert (powers.idle_watts, powers.max_watts) == (2.7, 12)
    assert powers.origin == "device profile pi5.toml (Raspberry Pi 5, measured at the plug)"
    path.write_text("idle_watts = 2.7\nmax_wats = 12\n")
    with pytest.raises(UsageError, match=r"pi5\.toml is no device profile.*max_wa"):
        energy_estimate.parse(str(path))
    with pytest.raises(UsageError, match="no device profile"):
        energy_estimate.parse(str(tmp_path / "none.toml"))
