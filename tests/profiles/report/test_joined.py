"""Studies of many runs, results of several machines on one page, and what is refused with which words."""

import json
import re
from dataclasses import replace

import profile_samples as samples
import pytest
import study_samples
from click.testing import CliRunner
from html_balance import Balance

from edgellm.cli.report import command
from edgellm.errors import UsageError
from edgellm.profiles import report as reports
from edgellm.profiles.report import html_
from edgellm.profiles.report.figures.machines import places, ratio_over, shared
from edgellm.profiles.report.figures.quality_cost import front
from edgellm.profiles.report.findings.findings import findings
from edgellm.profiles.report.words import LANGUAGES
from edgellm.profiles.result.quality_stats import Estimate
from edgellm.profiles.result.result import to_json
from edgellm.profiles.result.settings import Workload

FEW = ("F16", "Q8_0", "Q4_K_M", "Q2_K")


def elsewhere(report, cpu: str, created: str):
    return replace(report, created=created, machine=replace(report.machine, cpu_model=cpu))


@pytest.fixture(scope="module")
def study():
    return study_samples.study()


@pytest.fixture(scope="module")
def machines():
    laptop = study_samples.study(types=FEW, threads=(1, 2))
    board = study_samples.study(types=FEW[1:], threads=(4,), speed=5.0, metered=True, seed=3)
    return {"laptop.json": laptop, "board.json": elsewhere(board, "Board <A76>", "2026-01-03")}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_study_is_one_page_under_a_megabyte(study, lang):
    page = html_.render(study, lang)
    balance = Balance()
    balance.feed(page)
    assert balance.open == [] and len(page.encode()) < 600_000
    assert len(re.findall(r'<tr><th data-v="', page)) == len(study.runs) == 48
    assert not [v for k, v in balance.attributes if k in ("src", "href") and not (v or "").startswith("#")]
    ids = [v for k, v in balance.attributes if k == "id"]
    assert len(ids) == len(set(ids))
    for drawn in ("point hollow", 'class="front"', 'class="ceiling"', "cross m0", "bar m1 s3"):
        assert drawn in page, drawn


def test_every_metered_phase_is_drawn_and_depth_is_a_line():
    report = study_samples.study(types=FEW, threads=(2,), depths=(0, 512), metered=True)
    page = html_.render(report)
    assert page.count('class="line m') == 8 and "tokens in the cache" in page
    assert 'class="gap"' not in page and "joules to decode 1 kB" in page


def test_the_best_value_is_the_fastest_of_the_good(study):
    found = findings(study, "en")
    first, *rest = found.sentences
    assert "tiny-qwen3-Q5_K_M (2 threads) is the <b>best value</b> here" in first
    assert "0.523 bits per byte, by a test the same as the best (0.520, tiny-qwen3-F16" in first
    bytes_per_second = {run.model.name: run.summary("decode_bytes_per_second").median for run in study.runs}
    good = [f"tiny-qwen3-{kind}" for kind, (_, kld) in study_samples.TYPES.items() if kld / 2 <= 0.0052]
    assert max(good, key=bytes_per_second.__getitem__) == "tiny-qwen3-Q5_K_M"
    text = " ".join(rest)
    assert "tiny-qwen3-Q2_K (2 threads) needs <b>the least memory</b>" in text or "Q2_K" in text
    assert "<b>2 threads decode 1.7" in text
    assert found.pair and [line.family for line in found.pair] == ["tiny-qwen3", "tiny-llama3"]
    rows = {row.title: row.verdict for row in found.aspects}
    assert rows["Decode"].startswith("<b>tiny-qwen3</b> is faster ×1.5")
    assert "Energy was not measured" in rows["Energy for 1,000 characters"]


def test_without_quality_no_one_is_called_worth_more():
    text = " ".join(findings(study_samples.study(types=FEW, quality=False), "en").sentences)
    assert "best value" not in text and "add --quality" in text
    assert "tiny-qwen3-Q2_K (2 threads) <b>decodes text fastest</b>" in text


def test_qwen_and_llama_as_good_as_each_other_are_called_so():
    report = study_samples.study(types=FEW)
    assert report.quality is not None
    equal = {name: replace(q, bits_per_byte=Estimate(0.55, 0.011)) for name, q in report.quality.items()}
    (row,) = [
        row for row in findings(replace(report, quality=equal), "en").aspects if "0.550" in str(row.figures)
    ]
    assert (row.title, row.verdict) == ("Bits per byte", "The same within 10%")


def test_the_front_is_what_nothing_beats():
    assert front([(1, 5), (2, 3), (3, 4), (4, 1), (2, 2), (5, 1)]) == [0, 4, 3]
    assert front([]) == []


def test_machines_are_joined_by_the_hashes_of_their_models(machines):
    found = places(machines, "en")
    models = shared(found)
    assert [m.name for m in models if m.by_place[1] is None] == []
    assert len(models) == 6, "F16 ran on one of them only"
    speed, n = ratio_over(models, 1, "decode_bytes_per_second")  # type: ignore[misc]
    assert n == 6 and speed.value == pytest.approx(0.35, rel=0.05)  # 5 times slower, 4 threads against 2
    assert all(m.by_place[0] and m.by_place[0].run.settings.n_threads == 2 for m in models), (
        "the fastest settings"
    )
    page = reports.render_all(machines, "html")
    balance = Balance()
    balance.feed(page)
    assert balance.open == [] and len(page.encode()) < 1_000_000 and "Board &lt;A76&gt;" in page
    ids = [v for k, v in balance.attributes if k == "id"]
    assert len(ids) == len(set(ids))
    targets = [(v or "")[1:] for k, v in balance.attributes if k == "href"]
    assert set(targets) <= set(ids)
    for name in ("md", "table"):
        assert "tiny-qwen3-Q4_K_M" in reports.render_all(machines, name, "zh")
    rows = reports.render_all(machines, "jsonl").splitlines()
    assert {json.loads(row)["cpu_info"] for row in rows} == {"Example CPU <2.5 GHz> & co", "Board <A76>"}
    assert len(reports.render_all(machines, "csv").splitlines()) == len(rows) + 1


def alone(name="m", n_prompt=512, **changes):
    return samples.report(samples.run(name, workload=Workload(n_prompt, 128), **changes))


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (
            elsewhere(alone(sha256="ff" * 32), "Other", "1"),
            r"m is not the same model on a .*1212.*b \(Other\) .*ffff",
        ),
        (
            elsewhere(alone("n", sha256="ff" * 32), "Other", "1"),
            "have no model in common; measure the same files",
        ),
        (elsewhere(alone(n_prompt=64), "Other", "1"), r"m did different work on a .*pp512.* and b .*pp64"),
        (alone(), "are the same result; leave one out"),
        (samples.report(samples.run("bad", launches=())), "b has no run with figures"),
    ],
    ids=["another file of that name", "nothing shared", "other work", "twice the same", "all failed"],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(second, told):
    with pytest.raises(UsageError, match=told):
        reports.render_all({"a.json": alone(), "b.json": second}, "html")


def test_a_format_that_cannot_join_says_which_can():
    with pytest.raises(UsageError, match="cannot be joined as json; there are: csv, html, jsonl, md, table"):
        reports.render_all({"a.json": alone(), "b.json": alone("n")}, "json")


def test_the_command_reads_files_and_writes_pages(machines, tmp_path):
    for name, report in machines.items():
        (tmp_path / name).write_text(to_json(report))
    out = tmp_path / "page.html"
    arguments = [str(tmp_path / name) for name in machines]
    done = CliRunner().invoke(command, [*arguments, "--out", str(out), "--lang", "zh"])
    assert done.exit_code == 0, done.output
    assert "2 台机器" in out.read_text()
    again = CliRunner().invoke(command, [*arguments, "--out", str(out)])
    assert "exists; give --force" in str(again.exception)
    alone_ = CliRunner().invoke(command, [arguments[0]])
    assert alone_.exit_code == 0 and "tiny-llama3-Q2_K" in alone_.output
    (tmp_path / "broken.json").write_text("{}")
    assert "not an edgellm result" in str(
        CliRunner().invoke(command, [str(tmp_path / "broken.json")]).exception
    )
