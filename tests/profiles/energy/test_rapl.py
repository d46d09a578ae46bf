"""RAPL on fake powercap trees: which zones count, wraps, twins, permission, death."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_vendors import FakeClock

from edgellm.profiles.energy import Choice, EnergyLostError, min_window_seconds
from edgellm.profiles.energy.rapl import UDEV_RULE, Rapl
from edgellm.profiles.measure.energy_log import EnergyLog
from edgellm.profiles.measure.energy_recorder import Recorder

WRAP = 262_143_328_850  # what an Intel server says


@pytest.fixture
def root() -> Iterator[Path]:
    """A world-readable root outside pytest's private folder, for another user must be able to look into it."""
    folder = Path(tempfile.mkdtemp(prefix="edgellm-rapl-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def zone(root: Path, directory: str, name: str, energy: int = 0, wrap: int | None = WRAP) -> Path:
    path = root / "sys/class/powercap" / directory
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy}\n")
    if wrap is not None:
        (path / "max_energy_range_uj").write_text(f"{wrap}\n")
    return path


def add(path: Path, micro_joules: int) -> None:
    """What the hardware does: count on, from 0 again beyond the range."""
    now = int((path / "energy_uj").read_text())
    wrap_file = path / "max_energy_range_uj"
    wrap = int(wrap_file.read_text()) if wrap_file.exists() else WRAP
    (path / "energy_uj").write_text(f"{(now + micro_joules) % wrap}\n")


def working(*zones: Path) -> Callable[[float], None]:
    """A sleep during which these counters move."""

    def sleep(seconds: float) -> None:
        for path in zones:
            add(path, int(seconds * 5e6))

    return sleep


def moving(root: Path, *zones: Path, period: float = 0.001) -> Rapl:
    """A meter of counters that rise by 5 W, every `period` of a clock that sleeping alone moves."""
    clock = FakeClock()
    done = {path: int(clock() / period) for path in zones}

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        for path in zones:
            updates = int(clock() / period)
            add(path, round((updates - done[path]) * period * 5e6))
            done[path] = updates

    return Rapl(root, sleep, clock)


def joules(meter: Rapl, *steps: tuple[Path, int]) -> dict[str, float]:
    before = meter.read().channels
    for path, micro_joules in steps:
        add(path, micro_joules)
    after = meter.read().channels
    return {name: after[name] - before[name] for name in after}


def test_package_and_dram_count_and_their_parts_do_not(root):
    package = zone(root, "intel-rapl:0", "package-0")
    parts = [zone(root, "intel-rapl:0:0", "core"), zone(root, "intel-rapl:0:1", "uncore")]
    dram = zone(root, "intel-rapl:0:2", "dram")
    meter = Rapl(root, working(package, dram, *parts))
    assert meter.why_not() is None
    assert joules(meter, (package, 7_000_000), (parts[0], 5_000_000), (dram, 1_500_000)) == {
        "package-0": pytest.approx(7.0),
        "package-0/dram": pytest.approx(1.5),
    }
    assert "package-0" in meter.scope and "dram" in meter.scope


def test_zones_are_known_by_name_and_not_by_number(root):
    """Here the first number is psys, and the package comes last."""
    psys = zone(root, "intel-rapl:0", "psys")
    dram = zone(root, "intel-rapl:7:0", "dram")
    package = zone(root, "intel-rapl:7", "package-0")
    meter = Rapl(root, working(psys, package, dram))
    assert meter.why_not() is None
    assert set(joules(meter)) == {"package-0", "package-0/dram"}


def test_several_packages_are_summed_and_the_tenth_is_not_the_first(root):
    packages = [zone(root, f"intel-rapl:{i}", f"package-{i}") for i in range(11)]
    dram = zone(root, "intel-rapl:10:0", "dram")
    meter = Rapl(root, working(*packages, dram))
    assert meter.why_not() is None
    seen = joules(meter, *((path, 1_000_000) for path in packages), (dram, 500_000))
    assert seen["package-10/dram"] == pytest.approx(0.5)
    assert sum(seen.values()) == pytest.approx(11.5)


def test_psys_beside_a_package_is_left_out_for_it_holds_the_package(root):
    package, psys = zone(root, "intel-rapl:0", "package-0"), zone(root, "intel-rapl:1", "psys")
    meter = Rapl(root, working(package, psys))
    assert meter.why_not() is None
    assert sum(joules(meter, (package, 3_000_000), (psys, 9_000_000)).values()) == pytest.approx(3.0)


def test_psys_alone_is_taken_and_said(root):
    psys = zone(root, "intel-rapl:0", "psys")
    meter = Rapl(root, working(psys))
    assert meter.why_not() is None
    assert joules(meter, (psys, 9_000_000)) == {"psys": pytest.approx(9.0)}
    assert meter.scope.startswith("psys: the whole platform")


def test_mmio_twins_are_the_same_packages_again(root):
    package = zone(root, "intel-rapl:0", "package-0")
    twin = zone(root, "intel-rapl-mmio:0", "package-0")
    meter = Rapl(root, working(package, twin))
    assert meter.why_not() is None
    assert sum(joules(meter, (package, 2_000_000), (twin, 2_000_000)).values()) == pytest.approx(2.0)


def test_two_dies_of_a_package_are_two_counters(root):
    dies = [zone(root, f"intel-rapl:{i}", f"package-0-die-{i}") for i in range(2)]
    meter = Rapl(root, working(*dies))
    assert meter.why_not() is None
    assert sum(joules(meter, (dies[0], 1_000_000), (dies[1], 2_000_000)).values()) == pytest.approx(3.0)


def test_wraps_are_undone_each_counter_by_its_own_range(root):
    package = zone(root, "intel-rapl:0", "package-0", WRAP - 1_000_000)
    dram = zone(root, "intel-rapl:0:0", "dram", 65_532_610_987 - 100_000, wrap=65_532_610_987)
    meter = Rapl(root, working(package, dram))
    assert joules(meter, (package, 4_000_000), (dram, 300_000)) == {
        "package-0": pytest.approx(4.0),
        "package-0/dram": pytest.approx(0.3),
    }
    for _ in range(3):  # once more around, seen often enough
        seen = joules(meter, (package, WRAP // 3))
        assert seen["package-0"] == pytest.approx(WRAP / 3 / 1e6)


def test_a_step_back_without_a_known_range_is_an_error_and_not_a_negative_energy(root):
    package = zone(root, "intel-rapl:0", "package-0", 5_000_000, wrap=None)
    meter = Rapl(root, working(package))
    meter.read()
    (package / "energy_uj").write_text("1000")
    with pytest.raises(EnergyLostError, match="does not say where it wraps"):
        meter.read()


def test_missing_permission_names_the_file_and_the_remedy(root):
    """The file really is closed to us: as root we step down to another user first, as the kernel sees it."""
    package = zone(root, "intel-rapl:0", "package-0")
    (package / "energy_uj").chmod(0o400 if os.geteuid() == 0 else 0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        why = Rapl(root).why_not()
    finally:
        os.seteuid(was)
    assert why is not None
    assert f"{package}/energy_uj" in why and "root only" in why and "udev" in why
    assert 'KERNEL=="intel-rapl:*"' in UDEV_RULE and "g+r" in UDEV_RULE


def test_a_dead_sensor_is_refused(root):
    zone(root, "intel-rapl:0", "package-0", 0)
    clock = FakeClock()
    why = Rapl(root, clock.sleep, clock).why_not()
    assert why is not None and "do not move" in why


def test_a_dead_dram_beside_a_live_package_is_left_out_and_said(root):
    package, _ = zone(root, "intel-rapl:0", "package-0"), zone(root, "intel-rapl:0:0", "dram")
    meter = moving(root, package)
    assert meter.why_not() is None
    assert set(joules(meter)) == {"package-0"}
    assert "dead: package-0/dram" in meter.scope and "without memory" in meter.scope


def test_live_dram_under_a_dead_package_is_refused(root):
    _, dram = zone(root, "intel-rapl:0", "package-0"), zone(root, "intel-rapl:0:0", "dram")
    assert "do not move" in str(moving(root, dram).why_not())


@pytest.mark.parametrize("period", [0.1, 0.5])
def test_a_counter_that_moves_seldom_is_slow_and_not_dead(root, period):
    package, dram = zone(root, "intel-rapl:0", "package-0"), zone(root, "intel-rapl:0:0", "dram")
    meter = moving(root, package, dram, period=period)
    assert meter.why_not() is None and set(joules(meter)) == {"package-0", "package-0/dram"}
    assert meter.update_period_seconds == pytest.approx(period, rel=0.05)
    assert min_window_seconds(meter) == pytest.approx(100 * period, rel=0.05)


class Ticking:
    """What firmware does: every `period` of real time the counter in a file is as high as `watts` made it."""

    def __init__(self, path: Path, watts: float, period: float) -> None:
        self._path, self._watts, self._period = path, watts, period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        begin = time.perf_counter()
        while not self._stop.wait(self._period - (time.perf_counter() - begin) % self._period):
            fresh = self._path.with_name("fresh")  # replaced at once: nobody reads half a number
            fresh.write_text(f"{round((time.perf_counter() - begin) * self._watts * 1e6)}\n")
            fresh.replace(self._path)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


def test_the_interval_of_a_slow_counter_holds_the_power_that_was_drawn(root):
    """In real time: 20 W, told every 10 ms; windows of no whole number of updates, as phases are."""
    package = zone(root, "intel-rapl:0", "package-0")
    with Ticking(package / "energy_uj", 20.0, 0.01):
        meter = Rapl(root)
        assert meter.why_not() is None and 0.008 < meter.update_period_seconds < 0.05
        with EnergyLog(Choice((meter,)), 10.0) as log:
            log.fill("decode", lambda: time.sleep(0.013) or 1, windows=1)
    (window,) = log.records()[0].windows
    assert window.seconds >= 100 * meter.update_period_seconds
    off = sum(window.joules.values()) / window.seconds - 20.0
    assert abs(off) < 4 * window.error_joules / window.seconds < 1.0


def test_a_reset_and_a_power_that_nothing_draws_lose_the_meter(root):
    """A counter that begins anew looks like one that wrapped: 262 kJ in no time."""
    for value in (1000, 200_000_000_000):
        shutil.rmtree(root / "sys", ignore_errors=True)
        package = zone(root, "intel-rapl:0", "package-0", 5_000_000)
        with Recorder(Rapl(root)) as recorder:
            (package / "energy_uj").write_text(str(value))
            assert recorder.mark() is None
        assert "which nothing draws" in str(recorder.lost)


def test_no_tree_and_an_empty_tree_say_so(root):
    assert "is missing" in str(Rapl(root).why_not())
    (root / "sys/class/powercap/dtpm").mkdir(parents=True)
    assert "no package" in str(Rapl(root).why_not())


def test_a_counter_that_vanishes_is_lost(root):
    package = zone(root, "intel-rapl:0", "package-0")
    meter = Rapl(root)
    meter.read()
    (package / "energy_uj").unlink()
    with pytest.raises(EnergyLostError, match="no longer"):
        meter.read()
