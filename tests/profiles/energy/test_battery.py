"""The battery's gauge on fake power_supply trees."""

from pathlib import Path

import pytest

from edgellm.profiles.energy import EnergyLostError
from edgellm.profiles.energy.battery import Battery


def supply(root: Path, name: str, **values: object) -> Path:
    path = root / "sys/class/power_supply" / name
    path.mkdir(parents=True)
    for key, value in values.items():
        (path / key).write_text(f"{value}\n")
    return path


def battery(root: Path, name: str = "BAT0", **values: object) -> Path:
    return supply(root, name, **({"type": "Battery", "status": "Discharging"} | values))


def test_power_now_in_microwatts(tmp_path):
    battery(tmp_path, power_now=8_250_000)
    meter = Battery(tmp_path)
    assert meter.why_not() is None
    assert meter.read().channels == {"BAT0": pytest.approx(8.25)}


def test_current_times_voltage_where_there_is_no_power_now(tmp_path):
    battery(tmp_path, current_now=700_000, voltage_now=12_000_000)
    assert Battery(tmp_path).read().channels == {"BAT0": pytest.approx(8.4)}


@pytest.mark.parametrize(
    "values", [{"power_now": -8_400_000}, {"current_now": -700_000, "voltage_now": 12_000_000}]
)
def test_drivers_that_count_discharge_as_negative(tmp_path, values):
    battery(tmp_path, **values)
    meter = Battery(tmp_path)
    assert meter.why_not() is None
    assert meter.read().channels == {"BAT0": pytest.approx(8.4)}


def test_two_batteries_are_two_channels(tmp_path):
    battery(tmp_path, "BAT0", power_now=5_000_000)
    battery(tmp_path, "BAT1", power_now=2_000_000)
    assert sum(Battery(tmp_path).read().channels.values()) == pytest.approx(7.0)


def test_refused_on_mains(tmp_path):
    battery(tmp_path, status="Charging", power_now=20_000_000)
    supply(tmp_path, "AC", type="Mains", online=1)
    assert "on mains power (AC); unplug" in str(Battery(tmp_path).why_not())


def test_refused_on_mains_even_when_the_battery_drains(tmp_path):
    """A weak charger: the gauge shows only what the charger does not give."""
    battery(tmp_path, status="Discharging", power_now=2_000_000)
    supply(tmp_path, "ucsi-source-psy-1", type="USB", online=1)
    assert "on mains power" in str(Battery(tmp_path).why_not())


def test_a_full_battery_is_not_discharging(tmp_path):
    battery(tmp_path, status="Full", power_now=0)
    assert "BAT0: Full" in str(Battery(tmp_path).why_not())


def test_no_battery_and_a_mouse_s_battery_are_no_battery(tmp_path):
    assert "no battery" in str(Battery(tmp_path).why_not())
    battery(tmp_path, "hidpp_battery_0", scope="Device", power_now=1)
    assert "no battery" in str(Battery(tmp_path).why_not())


def test_a_gauge_that_tells_nothing_or_zero(tmp_path):
    path = battery(tmp_path, capacity=80)
    assert "neither power_now nor current_now" in str(Battery(tmp_path).why_not())
    (path / "power_now").write_text("0")
    assert "it is dead" in str(Battery(tmp_path).why_not())


def test_plugged_in_during_the_run_ends_the_measurement(tmp_path):
    path = battery(tmp_path, power_now=8_000_000)
    mains = supply(tmp_path, "AC", type="Mains", online=0)
    meter = Battery(tmp_path)
    assert meter.why_not() is None
    (mains / "online").write_text("1")
    with pytest.raises(EnergyLostError, match="plugged in"):
        meter.read()
    (mains / "online").write_text("0")
    (path / "status").write_text("Not charging")
    with pytest.raises(EnergyLostError, match="stopped"):
        meter.read()
