"""Settings of the whole test run: folders of its own, nothing of the developer's seen or touched."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import fault_rows
import pytest
from hypothesis import HealthCheck, settings

from edgellm import backends, privacy
from edgellm.catalog import conversion

# No test is timed: a busy machine is no fault of what is tested. And the same run draws the same cases.
settings.register_profile(
    "untimed", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

_FOLDER = pytest.StashKey[Path]()
#: Cases of a parametrized test in a run of everything that did not ask for `--all`.
_SPREAD = 3
_SAMPLED = "EDGELLM_TESTS_SAMPLED"  # xdist's processes are told what was asked for by the environment


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all`, as `make test` has it."""
    parser.addoption("--all", action="store_true", help="every case of every test, and those marked `wide`")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Plain `pytest`: of each test a spread of its cases, for an answer in minutes. Whoever names tests gets all."""
    if _SAMPLED not in os.environ:
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("wide") is None:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {item.nodeid for of_a_test in cases.values() for item in _spread(of_a_test)}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def _spread(cases: list[pytest.Item]) -> list[pytest.Item]:
    """The first, the last and those midway."""
    steps = min(_SPREAD, len(cases)) - 1
    return [cases[round(step * (len(cases) - 1) / max(steps, 1))] for step in range(steps + 1)]


def pytest_configure(config: pytest.Config) -> None:
    """A cache that begins empty, so that what today's code writes is what its tests read.

    One for the whole run: converting the bundled models anew for each test would take minutes, and nothing in it
    is older than the run. Tests that look at the cache itself give themselves another.
    """
    if not hasattr(config, "workerinput"):
        named = config.args_source is pytest.Config.ArgsSource.ARGS or config.option.keyword
        if config.option.all or named or fault_rows.FULL or config.option.markexpr != "not slow":
            os.environ.pop(_SAMPLED, None)
        else:
            os.environ[_SAMPLED] = "1"
    privacy.refuse_telemetry()
    folder = Path(tempfile.mkdtemp(prefix="edgellm-tests-"))
    config.stash[_FOLDER] = folder
    os.environ["EDGELLM_CACHE"], os.environ["EDGELLM_DATA"] = str(folder / "cache"), str(folder / "data")
    os.environ["EDGELLM_NO_TUNE"] = "1"  # a search would measure this machine, not test the code
    os.environ["EDGELLM_NO_TRIAL"] = (
        "1"  # a second process for each of a thousand files; it has tests of its own
    )
    for name in ("COLUMNS", "LINES", "LC_ALL"):  # of the developer's terminal, not of those that tests open
        os.environ.pop(name, None)
    os.environ["LC_MESSAGES"] = "C.UTF-8"  # whatever LANG is, messages are English
    # A shell without job control starts background jobs with Ctrl-C ignored; tests of Ctrl-C need it back.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, and programs under test inherit that


@pytest.fixture(autouse=True)
def proof_in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion's proof opens its engine here: a process for each of some hundred conversions is half their time.

    But for `@pytest.mark.own_process`, and in commands that tests start.
    """
    if request.node.get_closest_marker("own_process") is None:
        monkeypatch.setattr(conversion, "open_engine", backends.open_session)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the folders away."""
    if _FOLDER in config.stash:
        shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.fault(row, trials)`: the test is so many trials of a row of fault_rows."""
    for mark in item.iter_markers("fault"):
        row, count = (*mark.args, 1)[:2]
        item.user_properties.append(("fault", (row, count)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After `make faults`, what was tried how often."""
    counts: dict[int, int] = {}
    failed: dict[int, int] = {}
    for outcome, into in (("passed", counts), ("failed", failed)):
        for report in terminalreporter.getreports(outcome):
            for _, (row, count) in (p for p in report.user_properties if p[0] == "fault"):
                into[row] = into.get(row, 0) + (count if outcome == "passed" else 1)
    if fault_rows.FULL:
        terminalreporter.write_line(fault_rows.table(counts, failed))
