"""Settings of the whole test run: folders of its own, nothing of the developer's seen or touched."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import fault_rows
import pytest

from edgellm import backends, privacy
from edgellm.catalog import conversion

_FOLDER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """A cache that begins empty, so that what today's code writes is what its tests read.

    One for the whole run: converting the bundled models anew for each test would take minutes, and nothing in it
    is older than the run. Tests that look at the cache itself give themselves another.
    """
    privacy.refuse_telemetry()
    folder = Path(tempfile.mkdtemp(prefix="edgellm-tests-"))
    config.stash[_FOLDER] = folder
    os.environ["EDGELLM_CACHE"], os.environ["EDGELLM_DATA"] = str(folder / "cache"), str(folder / "data")
    os.environ["EDGELLM_NO_TUNE"] = "1"  # a search would measure this machine, not test the code
    os.environ["EDGELLM_NO_TRIAL"] = (
        "1"  # a second process for each of a thousand files; it has tests of its own
    )
    for name in ("COLUMNS", "LINES"):  # of the developer's terminal, not of those that tests open
        os.environ.pop(name, None)
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
