"""Power monitors of boards: Jetson rails by their own names, and a Raspberry Pi's power chip behind a real process."""

from pathlib import Path

import pytest

from edgellm.errors import UsageError
from edgellm.profiles import energy
from edgellm.profiles.energy import EnergyLostError
from edgellm.profiles.energy.hwmon import Hwmon
from edgellm.profiles.energy.pmic import Pmic, rails

#: As a Raspberry Pi 5 prints it, shortened.
ADC = """\
 3V7_WL_SW_A current(0)=0.08685744A
   1V8_SYS_A current(2)=0.17371490A
  VDD_CORE_A current(7)=1.23400000A
 3V7_WL_SW_V volt(8)=3.70744900V
   1V8_SYS_V volt(10)=1.80316900V
  VDD_CORE_V volt(15)=0.87500000V
     EXT5V_V volt(24)=5.14950500V
      BATT_V volt(25)=0.00000000V
"""
ADC_WATTS = 0.08685744 * 3.707449 + 0.1737149 * 1.803169 + 1.234 * 0.875


def files(folder: Path, **values: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def orin_nano(root: Path, **changes: object) -> Path:
    values = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 1400}
    values |= {"in2_label": "VDD_CPU_GPU_CV", "in2_input": 5000, "curr2_input": 500}
    values |= {"in3_label": "VDD_SOC", "in3_input": 5000, "curr3_input": 300}
    values |= {"in7_label": "Sum of shunt voltages", "in7_input": 12, "curr4_input": 2200}
    return files(root / "sys/class/hwmon/hwmon1", **(values | changes))


def test_rails_keep_their_names_and_the_input_rail_is_the_total(tmp_path):
    orin_nano(tmp_path)
    meter = Hwmon(tmp_path)
    assert meter.why_not() is None
    assert meter.read().channels == {
        "VDD_IN": pytest.approx(7.0),
        "VDD_CPU_GPU_CV": pytest.approx(2.5),
        "VDD_SOC": pytest.approx(1.5),
    }
    assert meter.parts == {"VDD_CPU_GPU_CV", "VDD_SOC"}
    assert "VDD_IN" in meter.scope and "VDD_SOC apart" in meter.scope


def test_the_same_chip_in_two_places_counts_once(tmp_path):
    real = orin_nano(tmp_path)
    driver = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon"
    driver.mkdir(parents=True)
    (driver / "hwmon1").symlink_to(real)
    assert len(Hwmon(tmp_path).read().channels) == 3


def test_a_board_without_an_input_rail_adds_rails_that_hold_the_others(tmp_path):
    agx = {"in1_label": "VDD_GPU_SOC", "in2_label": "VDD_CPU_CV", "in3_label": "VIN_SYS_5V0"}
    orin_nano(tmp_path, **agx)
    other = {"name": "ina3221", "in1_label": "NC", "in1_input": 0, "curr1_input": 0}
    other |= {"in2_label": "VDDQ_VDD2_1V8AO", "in2_input": 1800, "curr2_input": 400}
    files(tmp_path / "sys/class/hwmon/hwmon2", **other)
    meter = Hwmon(tmp_path)
    assert meter.why_not() is None
    assert meter.parts == {"VDDQ_VDD2_1V8AO"} and "NC" not in meter.read().channels


def test_rails_nobody_knows_have_no_total_until_they_are_named(tmp_path):
    orin_nano(tmp_path, in1_label="CORE", in2_label="DDR", in3_label="IO")
    assert "--energy hwmon:CORE+..." in str(Hwmon(tmp_path).why_not())
    meter = energy.find("hwmon:CORE+DDR", tmp_path)
    assert meter.why_not() is None and meter.parts == {"IO"}
    assert "there is no rail 'GPU'" in str(energy.find("hwmon:GPU", tmp_path).why_not())
    with pytest.raises(UsageError, match="battery takes nothing after its name"):
        energy.find("battery:BAT0", tmp_path)


def test_jetpack_4_tells_milliwatts(tmp_path):
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    values = {
        "rail_name_0": "POM_5V_IN",
        "in_power0_input": 3450,
        "rail_name_1": "POM_5V_GPU",
        "in_power1_input": 90,
    }
    files(folder, name="ina3221x", **values)
    meter = Hwmon(tmp_path)
    assert meter.why_not() is None and meter.parts == {"POM_5V_GPU"}
    assert meter.read().channels["POM_5V_IN"] == pytest.approx(3.45)


def test_a_power_register_in_microwatts_and_a_slow_chip(tmp_path):
    files(tmp_path / "sys/class/hwmon/hwmon0", name="ina226", power1_input=4_200_000, update_interval=140)
    files(tmp_path / "sys/class/hwmon/hwmon3", name="coretemp", power1_input=1)
    meter = Hwmon(tmp_path)
    assert meter.why_not() is None and meter.update_period_seconds == pytest.approx(0.14)
    assert list(meter.read().channels.values()) == [pytest.approx(4.2)]


def test_dead_and_lost_rails(tmp_path):
    folder = orin_nano(tmp_path, curr1_input=0)
    assert "dead" in str(Hwmon(tmp_path).why_not())
    (folder / "curr1_input").write_text("no data\n")
    assert "cannot be read" in str(Hwmon(tmp_path).why_not())
    with pytest.raises(EnergyLostError, match="VDD_IN"):
        Hwmon(tmp_path).read()


def vcgencmd(folder: Path, script: str) -> None:
    """An executable of that name, first on the PATH."""
    path = folder / "vcgencmd"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def answer(folder: Path, text: str) -> None:
    (folder / "adc.txt").write_text(text)
    vcgencmd(folder, f'[ "$1" = pmic_read_adc ] && cat "{folder}/adc.txt"')


def test_a_raspberry_pi_s_rails_are_volts_times_amperes(on_path):
    answer(on_path, ADC)
    meter = Pmic()
    assert meter.why_not() is None
    channels = meter.read().channels
    assert set(channels) == {"3V7_WL_SW", "1V8_SYS", "VDD_CORE"}, "rails without a current have no power"
    assert sum(channels.values()) == pytest.approx(ADC_WATTS)


@pytest.mark.parametrize(
    "garbage", ["", 'error=1 error_msg="Command not registered"\n', "VDD_CORE_A current(7)=A\n", "\x00\xff"]
)
def test_garbage_is_no_rail(on_path, garbage):
    assert rails(garbage) == {}
    answer(on_path, garbage)
    assert "names no rail" in str(Pmic().why_not())
    with pytest.raises(EnergyLostError, match="stopped naming rails"):
        Pmic().read()


def test_a_command_that_fails_says_what_it_said(on_path):
    vcgencmd(on_path, "echo 'VCHI initialization failed' >&2; exit 255")
    assert "failed with code 255: VCHI initialization failed" in str(Pmic().why_not())
    assert "group `video`" in str(Pmic().why_not())


def test_rails_without_power_and_no_command_at_all(on_path, tmp_path_factory):
    answer(
        on_path,
        ADC.replace("=0.08685744A", "=0.0A")
        .replace("=0.17371490A", "=0.0A")
        .replace("=1.23400000A", "=0.0A"),
    )
    assert "dead" in str(Pmic().why_not())
    assert "not on the PATH" in str(Pmic(tmp_path_factory.mktemp("empty")).why_not())
