"""A pytest plugin that tells `coverage` which test is running, and writes down how long each took.

Wants `COVERAGE_PROCESS_START` in the environment, so that child processes are measured too: those take their
context from pytest's `PYTEST_CURRENT_TEST` (coverage's setting `context`), this process from `switch_context`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

SECONDS: dict[str, float] = {}
FAILED: set[str] = set()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """All that happens from here on is this test's."""
    measuring = coverage.Coverage.current()
    assert measuring is not None, "COVERAGE_PROCESS_START is not set"
    measuring.switch_context(item.nodeid)
    yield
    measuring.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Time of setup, call and teardown together."""
    SECONDS[report.nodeid] = SECONDS.get(report.nodeid, 0.0) + report.duration
    if report.outcome != "passed":  # a skipped test kills nothing either
        FAILED.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """To the file that `EDGELLM_TEST_TIMES` names."""
    good = {test: seconds for test, seconds in SECONDS.items() if test not in FAILED}
    Path(os.environ["EDGELLM_TEST_TIMES"]).write_text(json.dumps(good), encoding="utf-8")
