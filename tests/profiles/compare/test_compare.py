"""Comparisons of models: equals are seldom told apart, a slowdown is found, drift makes no winner."""

import json
import random
import re
from dataclasses import replace

import noise_model
import profile_samples as samples
import pytest
import study_samples
from click.testing import CliRunner
from html_balance import Balance
from noise_model import Noise

from edgellm.cli.compare import command
from edgellm.errors import CheckFailedError, UsageError
from edgellm.profiles.compare.comparison import compare
from edgellm.profiles.compare.verdict import AXES, UNPAIRED_MARGIN, judge
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import Measurement, to_json
from edgellm.profiles.result.settings import Workload
from edgellm.profiles.study.order import schedule


def verdicts(rng: random.Random, slowdown: tuple[float, ...], launches: int = 8, **noise: float):
    order = schedule(len(slowdown), launches)
    return judge(AXES, noise_model.measure(rng, order, slowdown, noise=Noise(**noise)), paired=True)


def share(seed: int, trials: int, slowdown: tuple[float, ...], claim, **more: float) -> float:
    rng = random.Random(seed)
    return sum(claim(verdicts(rng, slowdown, **more)) for _ in range(trials)) / trials


def any_difference(found) -> bool:
    return any(pair.differs for verdict in found for pair in verdict.pairs)


def decode(found):
    return next(v for v in found if v.axis.metric == "decode_tokens_per_second")


@pytest.mark.parametrize(
    "world",
    [
        {},
        {"launches": 3},
        {"launch": 0.003, "machine": 0.005, "outlier_chance": 0.0},
        {"machine": 0.1, "machine_memory": 0.95},
        {"launch": 0.05, "outlier_chance": 0.1, "outlier_factor": 3.0},
    ],
    ids=["shared laptop", "three launches", "quiet", "wandering", "heavy outliers"],
)
def test_of_equals_at_most_one_comparison_in_twenty_names_any_difference(world):
    """Over all axes together, not each."""
    assert share(11, 500, (1.0, 1.0), any_difference, **world) <= 0.05


def test_three_equals_are_three_pairs_and_still_one_in_twenty():
    assert share(2, 200, (1.0, 1.0, 1.0), any_difference) <= 0.05


@pytest.mark.parametrize("drift", [0.01, 0.03, -0.02])
@pytest.mark.parametrize("launches", [5, 8])
def test_drift_in_run_order_makes_no_winner(drift, launches):
    found = share(3, 150, (1.0, 1.0), any_difference, launches=launches, drift=drift)
    assert found <= 0.05


def test_a_slowdown_of_ten_percent_is_found():
    assert share(4, 100, (1.0, 1.1), lambda v: decode(v).winner == 0) >= 0.95
    assert share(4, 100, (1.1, 1.0), lambda v: decode(v).winner == 1) >= 0.95
    assert share(5, 100, (1.1, 1.0, 1.1), lambda v: decode(v).winner == 1) >= 0.9


def test_the_interval_covers_the_truth_in_95_of_100():
    def covers(found) -> bool:
        ratio = decode(found).pairs[0].ratio
        return ratio.ci95_low <= 1.2 <= ratio.ci95_high

    assert 0.92 <= share(6, 300, (1.0, 1.2), covers) <= 0.98


def measured(metric: str, values: dict[int, float]) -> dict[str, Measurement]:
    return {metric: Measurement(metric, "", tuple(values.values()), tuple(values))}


def test_a_slow_minute_that_hits_both_leaves_the_ratio():
    a = measured("decode_tokens_per_second", {0: 110, 1: 55, 2: 111, 3: 109})
    b = measured("decode_tokens_per_second", {0: 100, 1: 50, 2: 100, 3: 100})
    (found,) = judge(AXES, [a, b], paired=True)
    assert found.winner == 0 and found.pairs[0].ratio.value == pytest.approx(1.1, rel=0.01)
    (apart,) = judge(AXES, [a, b], paired=False)
    assert apart.winner is None


def test_two_that_lead_together_are_no_winner():
    rows = [measured("load_seconds", {i: v + 0.001 * i for i in range(5)}) for v in (1.0, 1.0, 2.0)]
    (found,) = judge(AXES, rows, paired=True)
    assert found.winner is None
    pair = found.pair(2, 0)
    assert pair is not None and pair.differs and pair.ratio.value == pytest.approx(2, rel=0.01)
    assert found.pair(0, 1) is not None and not found.pair(0, 1).differs  # type: ignore[union-attr]


def test_what_one_launch_says_is_a_value_and_no_claim():
    (found,) = judge(
        AXES, [measured("load_seconds", {0: 1.0}), measured("load_seconds", {0: 9.0})], paired=True
    )
    assert found.winner is None and found.pairs[0].ratio.ci95_low is None
    none_shared = [measured("load_seconds", {0: 1.0, 2: 1.1}), measured("load_seconds", {1: 9.0, 3: 9.1})]
    assert judge(AXES, none_shared, paired=True)[0].pairs[0].adjusted_p is None


def test_the_unmeasured_takes_no_part():
    empty = {"load_seconds": Measurement("load_seconds", "s", (), (), "no launch succeeded")}
    assert judge(AXES, [measured("load_seconds", {0: 1.0, 1: 1.0}), empty, {}], paired=True) == ()


def test_what_was_not_measured_in_turns_needs_more_to_be_apart():
    def run(value: float) -> dict[str, Measurement]:
        return measured("ttft_seconds", {i: value * (1 + 0.001 * i) for i in range(6)})

    def winner(factor: float) -> int | None:
        return judge(AXES, [run(1.0), run(factor)], paired=False)[0].winner

    assert winner(1 + 0.9 * UNPAIRED_MARGIN) is None
    assert winner(1 + 1.1 * UNPAIRED_MARGIN) == 0
    peaks = [measured("peak_bytes", {i: v + i for i in range(4)}) for v in (1e9, 1.1e9)]
    assert judge(AXES, peaks, paired=False)[0].winner == 0, "memory does not follow the machine's pace"


def test_many_axes_are_judged_together():
    """One axis with p = 0.02 alone is a difference; among four others of equals it is not."""
    values = {0: 1.05, 1: 1.02, 2: 1.03, 3: 1.00, 4: 1.06, 5: 1.01}
    one = dict.fromkeys(range(6), 1.0)
    same = {i: 1 + 0.01 * (-1) ** i for i in range(6)}
    alone = [measured("load_seconds", values), measured("load_seconds", one)]
    assert judge(AXES, alone, paired=True)[0].pairs[0].differs
    others = ("ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second", "peak_bytes")
    for name in others:
        alone[0] |= measured(name, same)
        alone[1] |= measured(name, one)
    assert not any_difference(judge(AXES, alone, paired=True))


def results(**runs):
    return samples.report(*(samples.run(name, launches) for name, launches in runs.items()))


def launches(gap: float, wobble: float = 0.002, n: int = 8):
    rng = random.Random(round(gap * 1000))
    return tuple(samples.launch(i, gap_ms=(gap * (1 + rng.gauss(0, wobble)),) * 3) for i in range(n))


def test_runs_of_one_result_are_paired_and_of_several_are_not():
    one = compare({"x.json": results(fast=launches(9.0), slow=launches(10.0))})
    assert len(one) == 1 and one[0].paired and one[0].same_tokenizer
    verdict = one[0].verdict("decode_tokens_per_second")
    assert verdict and verdict.winner == 0
    assert one[0].verdict("decode_bytes_per_second") is None, "the same tokenizer: per byte says the same"
    two = compare({"x.json": results(a=launches(9.0)), "y.json": results(a=launches(10.0))})
    verdict = two[0].verdict("decode_tokens_per_second")
    assert not two[0].paired and verdict and verdict.winner is None, (
        "10% is within what two days may differ by"
    )


def test_different_tokenizers_are_compared_per_byte_too():
    longer = tuple(replace(one, prompt=replace(one.prompt, bytes_per_token=4.0)) for one in launches(10.0))
    (found,) = compare({"x.json": results(a=longer, b=launches(9.0))})
    token, byte = found.verdict("decode_tokens_per_second"), found.verdict("decode_bytes_per_second")
    assert token and byte and token.winner == 1 and byte.winner == 0


def test_quality_takes_part_and_equals_are_equal():
    report = study_samples.study(types=("Q8_0", "Q2_K"), threads=(2,), launches=3)
    (found,) = compare({"x.json": report})
    bits = found.verdict("bits_per_byte")
    names = [c.run.model.name for c in found.candidates]
    assert bits and names[0] == "tiny-qwen3-Q8_0"
    pair = bits.pair(names.index("tiny-qwen3-Q2_K"), 0)
    assert pair and pair.differs and pair.ratio.value == pytest.approx(0.72 / 0.5202, rel=1e-6)
    assert report.quality is not None
    same = dict.fromkeys(report.quality, report.quality["tiny-qwen3-Q8_0"])
    (equal,) = compare({"x.json": replace(report, quality=same)})
    for metric in ("bits_per_byte", "tasks_right"):
        verdict = equal.verdict(metric)
        assert verdict and verdict.winner is None and verdict.pairs[0].ratio.value == 1


def test_what_differs_in_machine_and_model_is_refused():
    here, there = results(a=launches(9.0)), results(b=launches(9.0))
    board = replace(there, machine=replace(there.machine, cpu_model="Board"))
    other = replace(
        board, runs=(replace(board.runs[0], model=replace(board.runs[0].model, sha256="ff" * 32)),)
    )
    with pytest.raises(UsageError, match=r"y of Board, and they ran different models \(a, b\)"):
        compare({"x": here, "y": other})
    assert compare({"x": here, "y": board}), "one model on two machines"
    with pytest.raises(UsageError, match="only one run has figures"):
        compare({"x": here})
    short = replace(there, runs=(replace(there.runs[0], workload=Workload(64, 32)),))
    with pytest.raises(UsageError, match=r"no two runs did the same work \(x: pp512.*; y: pp64"):
        compare({"x": here, "y": short})


@pytest.fixture
def files(tmp_path):
    doubt = Caveat("foreign-load", "", {"share": 0.4, "count": 2, "n": 4})
    both = replace(results(a=launches(9.0), b=launches(10.0)), caveats=(doubt,))
    names = {"ab.json": both, "c.json": results(a=launches(13.0))}
    for name, report in names.items():
        (tmp_path / name).write_text(to_json(report))
    return tmp_path


def invoke(*arguments: object):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_the_command_on_results(files):
    done = invoke(
        files / "ab.json", "--out", files / "x.html", "--out", files / "x.json", "--out", files / "x.md"
    )
    assert done.exit_code == 0 and re.search(r"Decode .* ×0\.90 \[.* a is better", done.output)
    plain = json.loads((files / "x.json").read_text())
    assert plain["schema"] == "edgellm.compare/1" and plain["comparisons"][0]["paired"] is True
    axes = {each["metric"]: each for each in plain["comparisons"][0]["axes"]}
    assert axes["decode_tokens_per_second"]["winner"] == "a" and axes["load_seconds"]["winner"] is None
    balance = Balance()
    balance.feed((files / "x.html").read_text())
    assert balance.open == []
    assert "| a | b |" in (files / "x.md").read_text()
    chinese = invoke(files / "ab.json", "-o", "md", "--lang", "zh").output
    assert "1% 以内相同" in chinese and "a 更优" in chinese
    assert re.search(r"^! other programs used up to 40%", done.output, re.M), "what to doubt is said here too"
    apart = invoke(files / "ab.json", files / "c.json").output
    assert "measured at different times" in apart


def test_a_limit_on_slowness_is_a_check(files):
    slow = invoke(files / "ab.json", "--fail-if-slower", "5%")
    assert isinstance(slow.exception, CheckFailedError) and slow.exception.exit_code == 3
    assert re.search(r"b is slower than a: decode by 1[01]\.\d%", str(slow.exception))
    assert invoke(files / "ab.json", "--fail-if-slower", "0.15").exit_code == 0
    assert "is no share; write 5%" in invoke(files / "ab.json", "--fail-if-slower", "five").output


def test_requests_that_make_no_sense_are_refused(files):
    assert "models only, or results only" in str(invoke("tiny-qwen3", files / "c.json").exception)
    assert "name another to compare it with" in str(invoke("tiny-qwen3").exception)
    assert "does not tell the form" in str(invoke(files / "ab.json", "--out", files / "x.pdf").exception)
    assert "is named twice" in str(invoke(files / "c.json", files / "c.json").exception)
