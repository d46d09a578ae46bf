"""`--fail-if-slower` looks at the interval's near end: held against a paired t interval worked out here.

The interval is the textbook's (e.g. G. Snedecor, W. Cochran, Statistical Methods, chapter 6): mean of the paired
differences of logarithms, plus or minus t(0.975; n - 1) times their standard error; t from the printed table.
"""

import math
import re
import statistics

import profile_samples as samples
import pytest
from click.testing import CliRunner

from edgellm.cli.compare import command
from edgellm.errors import CheckFailedError
from edgellm.profiles.result.result import to_json

T_975 = {3: 3.182, 7: 2.365}
#: Quotients of time, second over first, of launches side by side: about a tenth slower, with some spread.
QUOTIENTS = {
    4: (1.08, 1.12, 1.10, 1.14),
    8: (1.05, 1.16, 1.09, 1.12, 1.07, 1.13, 1.10, 1.11),
}


def slowdown(quotients: tuple[float, ...]) -> tuple[float, float]:
    """How much longer the second takes: at least (95%), and in the mean."""
    logs = [math.log(q) for q in quotients]
    half = T_975[len(logs) - 1] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(statistics.fmean(logs) - half) - 1, math.exp(statistics.fmean(logs)) - 1


def pairs(phase: str, quotients: tuple[float, ...]):
    """Two runs whose phase differs by these quotients, launch by launch, and in nothing else."""
    a = tuple(samples.launch(i) for i in range(len(quotients)))
    times = {"gap_ms": (10.0, 10.1, 9.9), "prefill_ms": (100.0, 101.0, 99.0)}[phase]
    b = tuple(
        samples.launch(i, **{phase: tuple(t * quotient for t in times)})
        for i, quotient in enumerate(quotients)
    )
    return samples.report(samples.run("a", a), samples.run("b", b))


@pytest.fixture
def check(tmp_path):
    def run(report, limit: float):
        (tmp_path / "ab.json").write_text(to_json(report))
        done = CliRunner().invoke(command, [str(tmp_path / "ab.json"), "--fail-if-slower", f"{limit:.6f}"])
        assert done.exit_code == 0 or isinstance(done.exception, CheckFailedError), done.exception
        return done

    return run


@pytest.mark.parametrize("n", QUOTIENTS)
@pytest.mark.parametrize(
    ("phase", "metric"),
    [("gap_ms", "decode"), ("prefill_ms", "(?:ttft|prefill)")],
)
def test_the_limit_is_held_against_the_near_end_of_the_interval(check, phase, metric, n):
    report = pairs(phase, QUOTIENTS[n])
    least, middle = slowdown(QUOTIENTS[n])
    assert least < middle - 0.01, "the end and the middle have to be told apart"
    # 2 ms of tokenizing beside 100 ms of prefill, and t to four digits: half a thousandth either side.
    assert check(report, least + 0.002).exit_code == 0, "inside the interval: the samples do not carry it"
    failed = check(report, least - 0.002)
    assert isinstance(failed.exception, CheckFailedError) and failed.exception.exit_code == 3
    said = re.match(
        rf"b is slower than a: {metric} by ([\d.]+)% \(95%: at least ([\d.]+)%\)", str(failed.exception)
    )
    assert said and float(said[1]) / 100 == pytest.approx(middle, abs=0.003)
    assert float(said[2]) / 100 == pytest.approx(least, abs=0.002)


def test_who_is_faster_or_as_fast_never_fails(check):
    faster = pairs("gap_ms", tuple(1 / q for q in QUOTIENTS[8]))
    assert check(faster, 0.0).exit_code == 0
    level = pairs("gap_ms", (1.05, 0.95, 1.04, 0.97, 1.03, 0.96, 1.02, 0.99))
    assert check(level, 0.0).exit_code == 0, (
        "a spread over both sides is no slowdown, however small the limit"
    )
