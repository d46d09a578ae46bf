"""Every renderer on every kind of report: complete, several, one, failed, without energy, with."""

import csv
import io
import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import profile_samples as samples
import pytest
import study_samples
from html_balance import Balance

from edgellm.errors import UsageError
from edgellm.profiles import report as reports
from edgellm.profiles.report.figures.pairs import differs
from edgellm.profiles.report.findings.findings import findings
from edgellm.profiles.report.plots import svg
from edgellm.profiles.report.words import LANGUAGES
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import (
    EnergyRecord,
    EnergyWindow,
    Measurement,
    MemoryPhase,
    MemoryRecord,
    Report,
    from_json,
    read,
)
from edgellm.profiles.result.settings import Workload

HOSTILE = '<script>alert("x")</script>&"\'|`'


def with_energy() -> Report:
    launch = samples.launch(record=samples.energy())
    return samples.report(samples.run("a", (launch,)), samples.run("b", (launch,)))


def without_memory_split() -> Report:
    import dataclasses

    phases = (
        MemoryPhase("start", 50_000_000, 40_000_000),
        MemoryPhase("repetitions", 90_000_000, 80_000_000),
    )
    memory = MemoryRecord(phases, "process", "darwin tells neither the peak of a phase nor its parts")
    launch = dataclasses.replace(samples.launch(), memory=memory)
    return samples.report(samples.run("a", (launch,)), samples.run("b", (launch,)))


CASES = {
    "two": samples.report(caveats=(Caveat("foreign-load", "", {"share": 0.4, "count": 2, "n": 4}),)),
    "one": samples.report(samples.run("alone")),
    "eight": samples.report(*(samples.run(f"model-{i}") for i in range(8))),
    "one failed": samples.report(samples.run("good"), samples.run("bad", launches=())),
    "all failed": samples.report(samples.run("bad", launches=())),
    "energy": with_energy(),
    "no decode": samples.report(samples.run(launches=(samples.launch(n_gaps=0),))),
    "no memory split": without_memory_split(),
    "one sample": samples.report(
        samples.run("a", (samples.launch(prefill_ms=(9.0,), gap_ms=(1.0,)),)),
        samples.run("b", (samples.launch(prefill_ms=(9.0,), gap_ms=(2.0,)),)),
    ),
    "hostile": samples.report(
        samples.run(HOSTILE, architecture=HOSTILE, quantization=HOSTILE, tensor_types={HOSTILE: 1}),
        samples.run("b", (samples.launch(notes=(HOSTILE,)),)),
        caveats=(Caveat("engine-note", HOSTILE, {"note": HOSTILE}),),
    ),
    "unfinished": samples.report(
        complete=False, caveats=(Caveat("incomplete", "", {"done": 1, "planned": 4}),)
    ),
}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("format_", reports.formats())
def test_every_format_renders_every_report(format_, case, lang):
    text = reports.render(CASES[case], format_, lang)
    assert isinstance(text, str) and "None" not in text.replace("NoneType", "")
    assert "nan" not in text.split() and text.count("{") == text.count("}")


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("case", CASES)
def test_the_page_is_well_formed_self_contained_and_small(case, lang):
    page = reports.render(CASES[case], "html", lang)
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert not balance.tags & {"link", "img", "iframe", "object", "form"}
    assert page.count("<script") == 1
    assert not [v for k, v in balance.attributes if k in ("src", "href") and not (v or "").startswith("#")]
    assert "http" not in page and "url(" not in page and "@import" not in page
    assert len(page.encode()) < 150_000


def test_what_comes_from_files_makes_no_markup_in_markdown():
    markdown = reports.render(CASES["hostile"], "md")
    assert "<script" not in markdown
    for line in markdown.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 14, "a pipe in a name must not make a column"


def test_missing_energy_is_a_gap_with_its_reason():
    page = reports.render(CASES["two"], "html")
    assert 'class="gap"' in page and "no energy counter works here" in page
    table = reports.render(CASES["two"], "table")
    assert "Energy: not measured (edgellm doctor says why)" in table
    with_meter = reports.render(CASES["energy"], "html")
    assert "500 mJ/tok" in with_meter and "package-0" in with_meter
    assert with_meter.count('class="gap"') == 2 and "Load: not measured (load took 0.01 s" in with_meter


def test_json_is_the_whole_report():
    assert from_json(reports.render(CASES["two"], "json")) == CASES["two"]


def test_rows_have_llama_bench_s_names_and_both_tests():
    rows = [json.loads(line) for line in reports.render(CASES["two"], "jsonl").splitlines()]
    assert [(r["model_name"], r["n_prompt"], r["n_gen"], r["n_depth"]) for r in rows] == [
        ("model-a-Q8_0", 512, 0, 0),
        ("model-a-Q8_0", 0, 128, 512),
        ("model-b-Q8_0", 512, 0, 0),
        ("model-b-Q8_0", 0, 128, 512),
    ]
    named = (  # tools/llama-bench/llama-bench.cpp, test::get_fields
        "build_commit build_number cpu_info gpu_info backends model_filename model_type model_size model_n_params "
        "n_batch n_ubatch n_threads cpu_mask cpu_strict poll type_k type_v n_gpu_layers n_cpu_moe split_mode "
        "main_gpu no_kv_offload flash_attn devices tensor_split tensor_buft_overrides load_mode lazy_mode embeddings "
        "no_op_offload no_host repack fit_target fit_min_ctx n_prompt n_gen n_depth test_time avg_ns stddev_ns "
        "avg_ts stddev_ts samples_ns samples_ts"
    )
    assert set(named.split()) <= set(rows[0])
    assert rows[0]["model_type"] == "qwen3 100.0M Q8_0"
    assert rows[0]["avg_ts"] == pytest.approx(5120, rel=0.01)
    assert rows[0]["samples_ns"] == [100_000_000, 101_000_000, 99_000_000] * 2
    assert rows[1]["test"] == "tg128 @ d512"
    assert rows[1]["joules_per_token"] is None and "no energy counter" in rows[1]["energy_reason"]


@pytest.mark.skipif(
    not os.environ.get("EDGELLM_COMPARE_LLAMA_BENCH"),
    reason="set EDGELLM_COMPARE_LLAMA_BENCH to llama.cpp's scripts/compare-llama-bench.py (needs tabulate, GitPython)",
)
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_llama_cpp_s_own_script_compares_our_rows(tmp_path, suffix):
    """Two builds of the engine, the second 10% faster at decoding."""
    old = samples.report(samples.run("m", deep(10.0, "1.0.0")), samples.run("n", deep(10.0, "1.0.0")))
    new = samples.report(samples.run("m", deep(10 / 1.1, "1.1.0")), samples.run("n", deep(10.0, "1.1.0")))
    texts = [reports.render(each, suffix) for each in (old, new)]
    if suffix == "csv":  # several files, or one with one header
        texts[1] = texts[1].partition("\n")[2]
    rows = tmp_path / f"rows.{suffix}"
    rows.write_text("".join(texts))
    script = os.environ["EDGELLM_COMPARE_LLAMA_BENCH"]
    command = [
        sys.executable,
        script,
        "-t",
        "llama-bench",
        "-i",
        str(rows),
        "-b",
        "engine-1.0.0",
        "-c",
        "engine-1.1.0",
        "-o",
        "tsv",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("\t")] for line in done.stdout.splitlines()]
    speedups = {tuple(line[:-3][-1:]): line[-1] for line in lines}
    assert speedups[("pp512",)] == "1.00" and speedups[("tg128@d512",)] == "1.05"  # mean of m and n


@pytest.mark.skipif(
    not os.environ.get("EDGELLM_COMPARE_LLAMA_BENCH"),
    reason="set EDGELLM_COMPARE_LLAMA_BENCH to llama.cpp's scripts/compare-llama-bench.py (needs tabulate, GitPython)",
)
@pytest.mark.parametrize("model", ["tiny-qwen3", "tiny-qwen3:onnx-int4"])
def test_llama_cpp_s_own_script_compares_rows_of_a_profile_by_defaults(tmp_path, model):
    """What was left to the engine has a value: the script joins on equal ones, and no null equals another."""
    command = [
        sys.executable,
        "-m",
        "edgellm",
        "profile",
        model,
        "-p",
        "16",
        "-n",
        "4",
        "-r",
        "2",
        "--launches",
        "1",
    ]
    subprocess.run([*command, "--out", str(tmp_path / "a.json"), "-q"], check=True, capture_output=True)
    report = read(tmp_path / "a.json")
    (row, *_) = [json.loads(line) for line in reports.render(report, "jsonl").splitlines()]
    assert (row["backends"], row["gpu_info"]) == ("CPU", "")
    another = "x" * len(row["build_commit"])  # builds of one length, as commits are
    launches = (replace(x, engine=replace(x.engine, version=another)) for x in report.runs[0].launches)
    other = replace(report, runs=(replace(report.runs[0], launches=tuple(launches)),))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(reports.render(report, "jsonl") + reports.render(other, "jsonl"))
    builds = ["-b", row["build_commit"], "-c", another, "-o", "tsv"]
    command = [
        sys.executable,
        os.environ["EDGELLM_COMPARE_LLAMA_BENCH"],
        "-t",
        "llama-bench",
        "-i",
        str(rows),
        *builds,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[-1].strip() for line in done.stdout.splitlines()[-2:]] == ["1.00", "1.00"]


def deep(gap: float, version: str):
    launches = (samples.launch(0, gap_ms=(gap,) * 3), samples.launch(1, gap_ms=(gap,) * 3))
    engine = replace(launches[0].engine, version=f"engine {version}")
    return tuple(replace(launch, engine=engine) for launch in launches)


def test_csv_has_a_line_per_test_and_empty_cells_where_nothing_was_measured():
    lines = list(csv.DictReader(io.StringIO(reports.render(CASES["two"], "csv"))))
    assert len(lines) == 4
    assert lines[0]["samples_ns"].split()[0] == "100000000"
    assert lines[0]["joules_per_token"] == ""
    assert reports.render(CASES["all failed"], "csv") == ""


def test_the_table_is_aligned_in_chinese_too():
    from edgellm.terminal import width

    report = study_samples.study(types=("Q8_0",))
    _, *lines = reports.render(report, "table", "zh").splitlines()[: len(report.runs) + 3]
    names, _, *runs = lines
    assert {width(line) for line in runs} == {width(names)} and "解码" in names


def test_formats_by_suffix():
    assert reports.format_for(Path("x/report.HTML")) == "html"
    assert reports.format_for(Path("report.txt")) == "table"
    assert reports.format_for(Path("report"), "md") == "md"
    with pytest.raises(UsageError, match=r"report\.pdf: the suffix does not tell"):
        reports.format_for(Path("report.pdf"))
    with pytest.raises(UsageError, match="unknown format 'pdf'; there are: csv, html"):
        reports.check_format("pdf")


def text_of(report: Report, lang: str = "en") -> str:
    """Sentences, and the first table's rows as `title: verdict`."""
    found = findings(report, lang)
    return " ".join([*found.sentences, *(f"{row.title}: {row.verdict};" for row in found.aspects)])


def test_a_difference_is_claimed_only_when_the_samples_carry_it():
    fast = samples.run("fast")
    slow = samples.run("slow", tuple(samples.launch(i, gap_ms=(12.0, 12.1, 11.9)) for i in range(2)))
    for pair in ((slow, fast), (fast, slow)):
        assert "Decode: <b>fast</b> is faster ×1.20" in text_of(samples.report(*pair))
    assert "Decode: The same within 1%;" in text_of(samples.report(fast, samples.run("same")))


def test_what_the_table_shows_is_what_its_ratio_is_of():
    """The figures stand beside their ratio: a reader who divides them finds it."""
    rng = random.Random(5)
    for _ in range(20):
        runs = [
            samples.run(
                name,
                tuple(
                    samples.launch(i, gap_ms=tuple(base * rng.uniform(0.8, 1.3) for _ in range(3)))
                    for i in range(4)
                ),
            )
            for name, base in (("slow", 30.0), ("fast", 10.0))
        ]
        row = next(row for row in findings(samples.report(*runs), "en").aspects if row.title == "Decode")
        slow, fast = (float(figure.split()[0]) for figure, _ in row.figures)
        told = re.search(r"×([\d.]+) .*95%: ([\d.]+) to ([\d.]+)", row.verdict)
        assert told, row.verdict
        value, low, high = map(float, told.groups())
        assert value == pytest.approx(fast / slow, rel=0.01) and low <= value <= high


def test_launches_that_overlap_carry_no_claim():
    """Nine repetitions agree, the processes do not: the difference is not the model's."""
    a = samples.run(
        "a", (samples.launch(0, gap_ms=(10.0, 10.1, 9.9)), samples.launch(1, gap_ms=(13.0, 13.1, 12.9)))
    )
    b = samples.run(
        "b", (samples.launch(0, gap_ms=(12.0, 12.1, 11.9)), samples.launch(1, gap_ms=(14.0, 14.1, 13.9)))
    )
    text = text_of(samples.report(a, b))
    assert re.search(r"Decode: Cannot tell \(×0\.\d\d to ×\d\.\d\d; \d+ launches each would\);", text), text


def test_one_launch_each_carries_no_claim_but_of_memory():
    fast, slow = (
        samples.run("fast", (samples.launch(0),)),
        samples.run("slow", (samples.launch(0, gap_ms=(99.0,) * 3),)),
    )
    text = text_of(samples.report(fast, slow))
    assert "Decode: Cannot tell: too few launches;" in text
    assert "Peak memory: The same within 1%;" in text


def claims(rng: random.Random, factor: float, launch_noise: float, drift: float, trials: int) -> float:
    """Share of simulated A B, B A, ... runs of four launches by five repetitions that claim a difference."""

    def measurement(places: tuple[int, ...], scale: float) -> Measurement:
        values = []
        for place in places:
            base = scale * 100 * (1 + rng.gauss(0, launch_noise)) * (1 + drift * place)
            values += [base * (1 + rng.gauss(0, 0.01)) for _ in range(5)]
        return Measurement("x", "B/s", tuple(values), tuple(i // 5 for i in range(20)))

    found = 0
    for _ in range(trials):
        a, b = measurement((0, 3, 4, 7), 1.0), measurement((1, 2, 5, 6), factor)
        found += differs(*sorted((a, b), key=lambda m: -sum(m.samples)))
    return found / trials


def test_equal_models_are_seldom_told_apart_and_a_slowdown_is_found():
    rng = random.Random(1)
    assert (
        claims(rng, 1.0, launch_noise=0.03, drift=0.0, trials=600) <= 0.065
    )  # 5% and the chance of 1500 trials
    assert claims(rng, 1.0, launch_noise=0.0, drift=0.0, trials=600) <= 0.05
    assert claims(rng, 1.0, launch_noise=0.005, drift=-0.05, trials=300) <= 0.02, (
        "drift must not make a winner"
    )
    assert claims(rng, 0.9, launch_noise=0.005, drift=0.0, trials=300) >= 0.9


def test_a_busy_machine_comes_first():
    assert (
        findings(CASES["two"], "en")
        .sentences[0]
        .startswith("<b>The machine was busy</b>: other programs used up to 40%")
    )
    assert "busy" not in text_of(samples.report())


def test_findings_name_energy_or_its_absence():
    assert "Energy was not measured" in text_of(samples.report())
    assert re.search(r"Energy for 1,000 characters: Cannot tell", text_of(CASES["energy"]))
    assert "bad did not run" in text_of(CASES["one failed"])


@pytest.mark.parametrize(
    ("largest", "top"), [(0, 1), (0.9, 1), (1, 1), (1.01, 2), (2.2, 2.5), (3, 5), (70, 100)]
)
def test_axes_end_at_round_numbers(largest, top):
    assert svg.axis_top(largest) == pytest.approx(top)


def test_bars_are_drawn_to_scale():
    chart = svg.bars("t", [svg.Bar("a", 50.0, "50", "m0"), svg.Bar("b", 100.0, "100", "m1")])
    widths = [float(w) for w in re.findall(r'class="bar m\d" x="0" y="[\d.]+" width="([\d.]+)"', chart)]
    assert widths[1] == pytest.approx(2 * widths[0]) and widths[1] <= svg.WIDTH


def test_long_names_give_way_in_the_middle():
    assert svg.shorten("a" * 60 + "-Q4_K_M").endswith("-Q4_K_M")
    assert len(svg.shorten("x" * 60)) <= 30
    assert svg.shorten("short") == "short"


@pytest.mark.parametrize("name", ["table", "html", "json"])
def test_a_second_meter_is_shown_beside_the_first_and_not_added(name):
    gpu = EnergyRecord("nvml", windows=(EnergyWindow("decode", 2.0, 100, {"GPU-1": 80.0}),))
    launch = replace(samples.launch(record=samples.energy()), energy_beside=(gpu,))
    text = reports.render(samples.report(samples.run(launches=(launch,))), name)
    assert "nvml" in text
    if name == "table":
        names, units, run = text.splitlines()[1:4]
        assert names.endswith("decode energy (nvml)") and units.endswith("mJ/tok") and run.endswith("800.0")


def test_columns_of_one_model_are_told_apart():
    report = study_samples.study(types=("Q8_0",), threads=(1, 2), depths=(0, 512))
    names = [re.split("  +", line)[0] for line in reports.render(report, "table").splitlines()[3:11]]
    assert len(names) == len(set(names)) == len(report.runs) == 8


def test_the_table_is_short_and_says_what_the_models_are_worth():
    report = study_samples.study(types=("Q8_0", "Q4_0"))
    text = reports.render(report, "table")
    assert len(text.splitlines()) <= 20
    assert "bits per byte" in text and "tasks right" in text
    total = report.quality["tiny-qwen3-Q8_0"].total
    assert f"{total.value:.1%}" in text and f"{total.k}/{total.n}" in reports.render(report, "md")


def test_the_table_has_twenty_lines_at_most_and_every_models_fastest_is_in_it():
    runs = [
        samples.run(name, launches=(samples.launch(gap_ms=(gap + d,) * 3),), workload=Workload(n_depth=d))
        for name, gap in (("slow", 50.0), ("fast", 10.0))
        for d in range(20)
    ]
    text = reports.render(samples.report(*runs), "table")
    assert len(text.splitlines()) <= 20
    assert "slow · d0" in text and "fast · d0" in text and "28 more runs" in text
