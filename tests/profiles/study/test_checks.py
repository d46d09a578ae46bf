"""At which figure a reader is warned: just under it nothing is said, just over it the caveat with the figure.

Thresholds are written out here as the pages of the report state them; the figures come from records made up so that
each is known without the code under test.
"""

from dataclasses import replace

import profile_samples as samples
import pytest

from edgellm.machine.noise import NoiseRecord
from edgellm.profiles.result.result import EnergyRecord, EnergyWindow
from edgellm.profiles.study import checks


def said(*runs, machine=None, **more) -> dict[str, dict]:
    """code -> values."""
    here = machine or samples.machine()
    found = checks.check(here, runs, planned=more.pop("planned", 0), complete=more.pop("complete", True))
    return {caveat.code: dict(caveat.values) for caveat in found}


def noisy(*records: NoiseRecord):
    launches = tuple(replace(samples.launch(i), noise=record) for i, record in enumerate(records))
    return samples.run(launches=launches)


def quiet(**changes) -> NoiseRecord:
    return replace(NoiseRecord(4.0, 0.0, 0.0, 0, 0), **changes)


def test_the_quiet_run_is_clean():
    assert said(noisy(quiet(), quiet())) == {}


@pytest.mark.parametrize(("code", "field"), [("foreign-load", "foreign_share"), ("steal", "steal_share")])
def test_others_may_use_two_of_a_hundred_and_two_ticks(code, field):
    """4 s: 0.02 / 4 = 0.005 may be the kernel's tick in the wrong place."""
    assert code not in said(noisy(quiet(**{field: 0.0249}), quiet(**{field: None})))
    found = said(noisy(quiet(**{field: 0.0251}), quiet(**{field: 0.3}), quiet()))[code]
    assert found == {"share": 0.3, "count": 2, "n": 3}


@pytest.mark.parametrize(
    ("code", "field"), [("throttled", "throttle_events"), ("cpu-quota", "quota_throttled")]
)
def test_every_throttling_counts_and_what_is_not_told_is_none(code, field):
    assert code not in said(noisy(quiet(**{field: None}), quiet(**{field: 0})))
    assert said(noisy(quiet(**{field: 2}), quiet(**{field: 3}), quiet(**{field: None})))[code] == {"count": 5}


def test_swapping_is_told_with_the_most():
    def swapping(nbytes: int | None):
        launch = samples.launch(0)
        phases = tuple(
            replace(p, swap=nbytes if p.phase == "repetitions" else 99) for p in launch.memory.phases
        )
        return replace(launch, memory=replace(launch.memory, phases=phases))

    assert "swapping" not in said(samples.run(launches=(swapping(0), swapping(None))))
    found = said(samples.run(launches=(swapping(7), swapping(4096))))["swapping"]
    assert found == {"bytes": 4096, "phase": "repetitions"}


def test_idle_power_may_change_by_a_twentieth():
    def metered(before: float, after: float, *, beside: bool = False):
        windows = tuple(
            EnergyWindow(phase, 2.0, n, {"a": 2 * watts})
            for phase, n, watts in (("idle", 0, before), ("decode", 100, 50.0), ("idle", 0, after))
        )
        record = EnergyRecord("rapl", "counter", "package", 0.001, windows)
        if beside:
            return replace(samples.launch(0), energy_beside=(record,))
        return samples.launch(0, record=record)

    assert "idle-differs" not in said(samples.run(launches=(metered(10.0, 10.49),)))
    for beside in (False, True):
        launches = (metered(10.0, 10.0), metered(10.0, 9.0, beside=beside))
        assert said(samples.run(launches=launches))["idle-differs"] == {"percent": pytest.approx(10.0)}
    assert "idle-differs" not in said(samples.run(launches=(metered(0.0, 5.0),))), (
        "a meter that showed nothing"
    )


def test_a_meter_that_saw_more_at_idle_than_at_work_is_doubted():
    def metered(idle: float, decode: float):
        windows = (
            EnergyWindow("idle", 2.0, 0, {"a": 2 * idle}),
            EnergyWindow("decode", 2.0, 9, {"a": 2 * decode}),
        )
        return samples.launch(0, record=EnergyRecord("csv", "imported", "plug", 1.0, windows))

    assert "idle-above-decode" not in said(samples.run(launches=(metered(10.0, 10.1),)))
    doubted = samples.run(launches=(metered(30.0, 12.0),))
    assert said(doubted)["idle-above-decode"] == {"meter": "csv", "idle": 30.0, "decode": 12.0}
    before = samples.report(doubted, caveats=(checks.Caveat("governor", "", {"governor": "powersave"}),))
    codes = [caveat.code for caveat in checks.with_energy(checks.with_energy(before)).caveats]
    assert codes == ["governor", "idle-above-decode"]


def test_an_interval_wider_than_a_twentieth_is_wide_from_three_launches_on():
    """Three launches m - d, m, m + d: half the interval is 4.303 d / sqrt(3), of the median."""

    def wide(d: float, n: int = 3) -> dict:
        gaps = (10 * (1 + d), 10.0, 10 * (1 - d))[:n]
        launches = [
            samples.launch(i, gap_ms=(gap,) * 2, prefill_ms=(100.0,) * 2) for i, gap in enumerate(gaps)
        ]
        return said(samples.run(launches=tuple(launches)))

    edge = 0.05 * 3**0.5 / 4.303
    assert "wide" not in wide(edge * 0.99)
    assert wide(edge * 1.02)["wide"]["percent"] == pytest.approx(5.1, abs=0.05)
    assert "wide" not in wide(0.5, n=2)


def test_drift_is_worth_a_word_from_two_of_a_hundred_over_a_launch():
    def drifting(total: float) -> dict:
        gaps = tuple(10 / (1 + total * (i / 7 - 0.5)) for i in range(8))  # tokens a second grow evenly
        return said(samples.run(launches=(samples.launch(gap_ms=gaps, prefill_ms=(100.0,) * 8),)))

    assert "drift" not in drifting(0.0199) and "drift" not in drifting(-0.0199)
    assert drifting(0.0202)["drift"]["percent"] == pytest.approx(2.02, abs=0.01)
    assert drifting(-0.0202)["drift"]["percent"] == pytest.approx(-2.02, abs=0.01)


def test_launches_differ_from_three_of_a_hundred_and_beyond_what_is_inside_them():
    def differing(d: float, spread: float = 0.0) -> dict:
        gaps = [(10 / f, 10 / f / (1 + spread), 10 / f / (1 - spread)) for f in (1.0, 1.0 + d)]
        return said(samples.run(launches=tuple(samples.launch(i, gap_ms=g) for i, g in enumerate(gaps))))

    assert "launches-differ" not in differing(0.0299)
    assert differing(0.0302)["launches-differ"]["percent"] == pytest.approx(3.02, abs=0.01)
    assert "launches-differ" not in differing(0.04, spread=0.02), "repetitions differ as much"


def test_a_note_for_all_models_is_made_once_and_one_of_each_model_for_each():
    first = samples.run("a", (samples.launch(notes=("slow kernels", "a's own")),))
    second = samples.run("b", (samples.launch(notes=("slow kernels", "b's own")),))
    found = list(checks.check(samples.machine(), [first, second], planned=2, complete=True))
    notes = [(caveat.subject, caveat.values["note"]) for caveat in found if caveat.code == "engine-note"]
    assert notes == [("a", "slow kernels"), ("a", "a's own"), ("b", "b's own")]


def test_what_was_not_done_is_counted():
    one, cut = samples.run("a"), replace(samples.run("b"), ended="budget")
    assert said(one, planned=6, complete=False)["incomplete"] == {"done": 2, "planned": 6}
    assert said(one, cut)["budget-spent"] == {"count": 1, "n": 2}
    assert not {"incomplete", "budget-spent"} & set(said(one))


def test_more_threads_than_processors_and_a_battery_are_said():
    run = samples.run(launches=(samples.launch(threads=9),))
    assert said(run)["too-many-threads"] == {"threads": 9, "cores": 8}
    assert "too-many-threads" not in said(samples.run(launches=(samples.launch(threads=8),)))
    assert "on-battery" in said(samples.run(), machine=samples.machine(power_source="battery"))
    assert "on-battery" not in said(samples.run(), machine=samples.machine(power_source="mains"))
