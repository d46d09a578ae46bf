"""What every energy source promises, the choice among them, and the way from readings to joules."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from constant_meter import ConstantMeter

from edgellm.errors import UsageError
from edgellm.profiles import energy
from edgellm.profiles.energy import Reading
from edgellm.profiles.energy._log import EnergyLog
from edgellm.profiles.energy._recorder import Recorder, integrate


@pytest.mark.parametrize("name", energy.sources())
def test_every_source_keeps_the_protocol(name, tmp_path):
    meter = energy.find(name, tmp_path)
    assert meter.name == name
    assert meter.kind in ("counter", "power", "imported")
    assert meter.update_period_seconds > 0
    why = meter.why_not()
    assert why and "\n" not in why, "an empty machine must be refused with a reason in one line"


def test_sources_are_the_files_of_the_package():
    assert set(energy.sources()) >= {"rapl", "battery"}
    assert not any(name.startswith("_") for name in energy.sources())
    assert [meter.name for meter in energy.meters()] == list(energy.sources())


def test_without_a_meter_there_is_every_source_s_reason(tmp_path):
    meter, why = energy.choose(root=tmp_path)
    assert meter is None and why is not None
    assert all(name in why for name in energy.sources())
    assert energy.choose("none", tmp_path) == (None, "not asked for (--energy none)")
    with pytest.raises(UsageError, match=r"no energy source is called 'nuclear'; there are: .*rapl"):
        energy.choose("nuclear", tmp_path)


def test_a_counter_is_chosen_before_a_gauge(tmp_path, monkeypatch):
    gauge, counter = ConstantMeter(5, "power", 0.1), ConstantMeter(5, "counter", 1.0)
    monkeypatch.setattr(energy, "meters", lambda root: [gauge, counter])
    assert energy.choose(root=tmp_path) == (counter, None)


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
    with EnergyLog(ConstantMeter(50.0, fails_after=4), None, 2.0) as log:
        for _ in range(3):
            begin = log.mark()
            time.sleep(0.012)
            log.add("decode", begin, log.mark(), 10)
    record = log.record()
    assert record.windows == () and record.reason == "the cable came off"


def test_windows_too_short_for_the_meter_are_filled_by_loops():
    calls = []
    with EnergyLog(ConstantMeter(50.0), None, 2.0) as log:
        begin = log.mark()
        log.add("prefill", begin, log.mark(), 8)  # far shorter than 100 updates
        log.fill("prefill", lambda: (time.sleep(0.001), calls.append(1), 8)[2], windows=3)
    record = log.record()
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
    with EnergyLog(ConstantMeter(50.0), None, 2.0) as log:
        begin = log.mark()
        log.add("decode", begin, log.mark(), 1)
        begin = log.mark()
        time.sleep(0.015)
        log.add("decode", begin, log.mark(), 2)
        log.fill("decode", lambda: 7, windows=1)
    assert [window.tokens % 7 for window in log.record().windows] == [0]


def test_phases_measured_already_are_not_looped_over():
    with EnergyLog(ConstantMeter(50.0), None, 2.0) as log:
        begin = log.mark()
        time.sleep(0.015)
        log.add("decode", begin, log.mark(), 5)
        log.fill("decode", lambda: pytest.fail("needless work"), windows=3)
    assert [window.tokens for window in log.record().windows] == [5]


def test_a_slow_gauge_says_how_much_time_it_would_need():
    with EnergyLog(ConstantMeter(5.0, "power", period=3.0), None, 2.0) as log:
        log.idle()
        log.fill("decode", lambda: pytest.fail("no budget for this"), windows=1)
    record = log.record()
    assert record.windows == ()
    assert record.phase_reasons is not None
    assert "--energy-seconds 300" in record.phase_reasons["decode"]


def test_without_a_meter_nothing_is_run_and_the_reason_stays():
    with EnergyLog(None, "no meter", 2.0) as log:
        log.idle()
        log.fill("decode", lambda: pytest.fail("no meter to fill"), windows=1)
        assert log.mark() is None
    assert log.record().reason == "no meter"


def test_the_root_of_a_source_is_honoured(tmp_path: Path):
    path = tmp_path / "sys/class/power_supply/BAT1"
    path.mkdir(parents=True)
    for name, value in {"type": "Battery", "status": "Discharging", "power_now": "6000000"}.items():
        (path / name).write_text(value)
    meter, why = energy.choose(root=tmp_path)
    assert why is None and meter is not None and meter.name == "battery"
