"""How often each source brings a new value, as its maker says and docs/energy.md repeats, and how long a phase must be.

RAPL: "updates every ~1 ms", Intel SDM volume 3, 16.10; perf and Windows' EMI read the same counters. A Pi's PMIC and
hwmon's averaging chips are read ten times a second; a battery's fuel gauge moves every few seconds.
"""

import pytest
from places import ROOT

from edgellm.profiles import energy

TABLE = (ROOT / "docs" / "energy.md").read_text(encoding="utf-8").split("## Sources")[1].split("\n\n")[1]
KINDS = {"counter": "counter", "gauge": "power"}
SECONDS = {"1 ms": 0.001, "0.1 s": 0.1, "3 s": 3.0}
ROWS = {
    cells[1].strip().strip("`"): cells[4].strip().split(", ")
    for cells in (line.split("|") for line in TABLE.splitlines()[2:])
}
FIXED = {name: pace for name, pace in ROWS.items() if len(pace) == 2 and pace[1] in SECONDS}


def test_the_page_tells_of_every_source():
    assert set(ROWS) == {*energy.sources(), "csv"} and set(FIXED) >= {
        "rapl",
        "perf",
        "emi",
        "pmic",
        "battery",
    }


@pytest.mark.parametrize("name", FIXED)
def test_a_source_is_as_fast_as_its_maker_says(name, tmp_path):
    kind, pace = FIXED[name]
    meter = energy.find(name, tmp_path)
    assert (meter.kind, meter.update_period_seconds) == (KINDS[kind], SECONDS[pace])
