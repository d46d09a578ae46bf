"""Devices: every figure has a source, and what was published there lies under what memory allows."""

import pytest

from edgellm.errors import UsageError
from edgellm.profiles import energy
from edgellm.profiles.devices import device, devices, read

#: Bits that a weight takes in a file of these types, head and scales included.
_BITS = {"Q4_0": 4.9, "Q4_K_M": 4.9}


@pytest.mark.parametrize("found", devices(), ids=lambda found: found.name)
def test_figures_are_possible(found):
    assert found.read_gb_per_second <= found.peak_gb_per_second
    assert found.n_ctx >= 2048 and found.types and min(found.ram_gib) > found.system_gib
    for each in found.published:
        read_per_second = (each.decode or 0.0) * each.n_params * _BITS[each.type] / 8
        assert read_per_second < 1.1 * found.read_bytes_per_second, "more than its memory gives"
        assert 2 * each.n_params * (each.prefill or 0.0) < found.int8_operations_per_second * (
            1 if "Metal" not in each.engine else 9
        )


def test_meters_are_ours():
    sources = set(energy.sources())
    assert {name for found in devices() for name in found.energy} <= sources


def test_a_device_is_known_by_its_short_names_too():
    assert device("rpi5") is device("Raspberry_Pi_5") is device("raspberry-pi-5")
    with pytest.raises(UsageError, match="did you mean raspberry-pi-5"):
        device("rasberry-pi-5")
    names = [name for found in devices() for name in (found.name, *found.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("cores = 4", "cores = 4\nwings = 2"), "unknown wings"),
        (('ram_gib = "', 'other = "'), "no source for ram_gib"),
    ],
)
def test_a_file_is_read_strictly(change, told):
    from importlib import resources

    text = (resources.files("edgellm.profiles.devices") / "n100.toml").read_text()
    assert change[0] in text
    with pytest.raises(ValueError, match=told):
        read(text.replace(*change), "n100")
