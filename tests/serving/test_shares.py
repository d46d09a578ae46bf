"""Each answer's share of what a counter counts, on meters whose every reading is known."""

from dataclasses import dataclass

import pytest
from constant_meter import ConstantMeter

from edgellm.profiles import energy
from edgellm.profiles.energy import Reading
from edgellm.serving.shares import Shares


class Driven(ConstantMeter):
    """A counter that stands where the test has put it."""

    joules = 0.0

    def read(self) -> Reading:
        super().read()
        return Reading(0.0, {"package": self.joules, "core": self.joules / 2})

    parts = frozenset({"core"})


@dataclass
class Evaluated:
    """An answer of which `n` tokens were in the last evaluation."""

    n: int
    joules: float = 0.0

    def newly_evaluated(self) -> int:
        return self.n


@pytest.fixture
def meter(monkeypatch):
    meter = Driven(0.0, period=0.001)
    monkeypatch.setattr(energy, "choose", lambda wanted: energy.Choice((meter,)))
    return meter


def test_an_evaluation_is_divided_by_tokens(meter):
    shares, reader, writer, waiting = Shares("auto"), Evaluated(30), Evaluated(10), Evaluated(0)
    meter.joules = 7.0  # idling, nobody's
    shares.mark()
    for joules in (15.0, 19.0):
        meter.joules = joules
        shares.stepped([reader, writer, waiting])
    assert (reader.joules, writer.joules, waiting.joules) == pytest.approx((9.0, 3.0, 0.0))
    assert shares.total == pytest.approx(12.0)
    assert shares.of(reader.joules, 1.0) == (reader.joules, meter.scope)


def test_what_is_too_short_for_the_counter_is_not_told(meter):
    joules, why = Shares("auto").of(5.0, 0.05)  # under 100 updates of a millisecond
    assert joules is None
    assert "0.1 s" in why


def test_a_gauge_of_power_is_no_counter(monkeypatch):
    gauge = ConstantMeter(5.0, kind="power")
    monkeypatch.setattr(energy, "choose", lambda wanted: energy.Choice((gauge,)))
    shares = Shares("auto")
    shares.mark()
    assert shares.total is None
    assert shares.of(1.0, 10.0)[0] is None


def test_a_meter_that_is_lost(monkeypatch):
    meter = Driven(0.0, period=0.001, fails_after=1)
    monkeypatch.setattr(energy, "choose", lambda wanted: energy.Choice((meter,)))
    shares, answer = Shares("auto"), Evaluated(1)
    shares.mark()
    shares.stepped([answer])
    assert answer.joules == 0.0
    assert shares.of(3.0, 10.0) == (None, "not measured: the cable came off")


def test_none_is_asked_for():
    joules, why = Shares("none").of(1.0, 10.0)
    assert joules is None
    assert why.startswith("not measured")
