"""The order of launches, when they end, and what runs are called."""

from dataclasses import replace

import profile_samples as samples
import pytest

from edgellm.profiles.result.labels import labels
from edgellm.profiles.result.result import LaunchFailure
from edgellm.profiles.result.settings import Plan, Settings, Workload
from edgellm.profiles.study import order


def test_two_runs_take_turns_and_turn_around():
    assert order.schedule(2, 4) == [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1), (3, 1), (3, 0)]


def test_every_block_holds_every_run_and_is_turned_around_by_the_next():
    for index in range(0, 10, 2):
        first, second = order.block(7, index, 3), order.block(7, index + 1, 3)
        assert sorted(first) == list(range(7)) and second == first[::-1]
    assert len({tuple(order.block(7, index, 3)) for index in range(0, 20, 2)}) > 5
    assert order.block(7, 4, 3) == order.block(7, 4, 3) != order.block(7, 4, 8)


def run(n_launches: int, spread: float, n_failures: int = 0):
    gaps = [10.0, 10.0 + spread, 10.0 - spread, 10.0 + spread / 2, 10.0 - spread / 2]
    launches = tuple(
        samples.launch(i, gap_ms=(gaps[i],) * 3, prefill_ms=(100.0,) * 3) for i in range(n_launches)
    )
    failures = tuple(LaunchFailure(n_launches + i, 0, "no") for i in range(n_failures))
    return replace(samples.run(launches=launches, workload=Workload(launches=3)), failures=failures)


@pytest.mark.parametrize(
    ("done", "plan", "expected"),
    [
        (run(2, 0.1), Plan(), None),
        (run(3, 5.0), Plan(), "launches"),
        (run(2, 0.1, n_failures=1), Plan(), "launches"),
        (run(3, 0.001), Plan(until=0.02, max_launches=5), "interval"),
        (run(3, 2.0), Plan(until=0.02, max_launches=5), None),
        (run(5, 2.0), Plan(until=0.02, max_launches=5), "launches"),
        (run(2, 0.0), Plan(until=0.02, max_launches=5), None),
        (run(0, 0.0, n_failures=1), Plan(), None),
        (run(0, 0.0, n_failures=2), Plan(), "failed"),
    ],
)
def test_a_run_ends_when_it_has_enough(done, plan, expected):
    assert order.ending(done, plan) == expected


def test_runs_are_called_by_what_tells_them_apart():
    same = samples.run("a")
    assert labels([same, samples.run("b")]) == ["a", "b"]
    other = samples.run("a", settings=Settings("llamacpp", 1), workload=Workload(n_depth=64))
    assert labels([same, samples.run("b"), other]) == ["a (4 threads, d0)", "b", "a (1 thread, d64)"]
