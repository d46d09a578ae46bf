"""`edgellm profile` on a real, small model: fresh processes, crashes, outputs, and figures that hang together."""

import json
import mmap
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_gguf
from click.testing import CliRunner
from constant_meter import ConstantMeter
from places import HELPERS

from edgellm.cli.profile import command
from edgellm.errors import CheckFailedError, EngineCrashError, EngineError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.profiles import energy
from edgellm.profiles import report as reports
from edgellm.profiles.measure import child
from edgellm.profiles.measure.launch import LaunchRequest, run_launch
from edgellm.profiles.result import derive
from edgellm.profiles.result.codec import to_plain
from edgellm.profiles.result.model_files import display_name
from edgellm.profiles.result.result import Report, from_json, to_json
from edgellm.profiles.result.settings import Plan, Workload, settings_of
from edgellm.profiles.study import order, resume, run
from edgellm.session import EngineOptions

SMALL = Workload(n_prompt=32, n_gen=8, repetitions=2, launches=2)
ONE_THREAD = EngineOptions(n_threads=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return tiny_gguf.write(folder / "a.gguf"), tiny_gguf.write(folder / "b.gguf", n_layer=1, seed=1)


@pytest.fixture(autouse=True)
def openers_are_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))


def profile(
    *paths: Path, workload: Workload = SMALL, options: EngineOptions = ONE_THREAD, **more: str
) -> Report:
    return run.profile(
        request_for(*paths, workload=workload, options=options, **more), lambda text: None, lambda r: None
    )


def request_for(
    *paths: Path, workload: Workload = SMALL, options: EngineOptions = ONE_THREAD, **more: object
) -> run.ProfileRequest:
    specs = tuple(run.RunSpec(Artifact.open(path), settings_of(options, "gguf"), workload) for path in paths)
    return run.ProfileRequest(specs, **{"ceilings": False, **more})


@pytest.fixture(scope="module")
def report(models) -> Report:
    return profile(*models)


def test_every_figure_is_there_and_they_hang_together(report):
    for one in report.runs:
        ttft, decode = one.summary("ttft_seconds"), one.summary("decode_tokens_per_second")
        tpot, answer = one.summary("tpot_seconds"), one.summary("answer_seconds")
        assert ttft and decode and tpot and answer and one.summary("load_seconds")
        assert answer.mean == pytest.approx(ttft.mean + 7 * tpot.mean, rel=1e-6)
        for launch in one.launches:
            assert len(launch.repetitions) == 2
            assert all(
                len(r.gaps_ns) == 7 and min(r.gaps_ns) > 0 and r.prefill_ns > 0 for r in launch.repetitions
            )
            assert launch.engine.options["n_threads"] == 1
            assert launch.engine.n_ctx >= 41
            assert launch.prompt.n_tokens == 32


def test_models_take_turns_and_turn_around(report):
    positions = {one.model.name: [launch.position for launch in one.launches] for one in report.runs}
    assert positions == {"a": [0, 3], "b": [1, 2]}


def test_the_model_is_known_exactly(report, models):
    record = report.runs[0].model
    data = models[0].read_bytes()
    import hashlib

    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert record.size_bytes == len(data)
    assert record.tensor_types == {"F32": 5, "Q8_0": 15}
    assert record.n_params == 258 * 64 + 2 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 64 * 128 + 2 * 64) + 64
    assert (record.quantization, record.architecture) == ("Q8_0", "llama")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_holds_the_weights_and_more(report):
    for one in report.runs:
        phases = {phase.phase: phase for phase in one.launches[0].memory.phases}
        assert list(phases) == ["start", "load", "prefill", "decode", "repetitions"]
        assert phases["start"].weights_mapped == 0
        mapped, load = phases["load"].weights_mapped, phases["load"]
        assert mapped <= one.model.size_bytes + mmap.PAGESIZE
        # Where this processor's kernels want them repacked, copies take the place of what was mapped.
        copied = load.anonymous - phases["start"].anonymous
        assert 0.9 * one.model.tensor_bytes < mapped + copied
        assert phases["repetitions"].anonymous >= phases["start"].anonymous
        assert all(phase.peak >= phase.resident for phase in phases.values())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own peak, from /proc and wait4")
def test_our_peak_is_the_kernel_s_peak_for_the_process(models):
    """An observer outside: wait4 tells the highest the process ever rose to, where we do not set the mark back."""
    request = LaunchRequest(str(models[0]), SMALL, ONE_THREAD)
    ours = child.launch(request, lambda text: None).memory
    unreset = (
        "from edgellm.profiles.measure import launch, memory\n"
        "memory.MemoryWatch._reset = lambda watch: False\n"
        "launch.main()\n"
    )
    observer = (  # a small process of its own: a child's maximum begins with that of the process that forked it
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {unreset!r}], stdin=sys.stdin)\n"
        "print(os.wait4(child.pid, 0)[2].ru_maxrss)\n"
    )
    watched = subprocess.run(
        [sys.executable, "-c", observer], input=json.dumps(to_plain(request)), capture_output=True, text=True
    )
    kernel_kib = watched.stdout.splitlines()[-1]
    # 1% of a real model; of this tiny one, whose process is all Python, half a megabyte is enough to differ
    assert max(p.peak for p in ours.phases) == pytest.approx(int(kernel_kib) * 1024, rel=0.03)


def test_clocks_agree_with_an_outside_observer(models):
    """All timed spans of a launch, and its load, fit into the launch's own duration."""
    begin = time.perf_counter()
    launch = child.launch(LaunchRequest(str(models[0]), SMALL, ONE_THREAD), lambda text: None)
    outside = time.perf_counter() - begin
    inside = launch.load_ns + launch.prepare_ns
    inside += sum(r.tokenize_ns + r.prefill_ns + sum(r.gaps_ns) for r in launch.repetitions)
    assert 0 < inside * 1e-9 < outside


@pytest.mark.wide
@pytest.mark.parametrize(
    "period", [1e-7, 0.0005]
)  # fast: each repetition is a window; slow: loops are needed
def test_energy_of_a_machine_of_constant_power(models, monkeypatch, period):
    """25 W all the time: joules per token follow from the window's own duration, and net of idle is nothing."""
    monkeypatch.setattr(energy, "choose", lambda wanted: energy.Choice((ConstantMeter(25.0, period=period),)))
    launch = run_launch(LaunchRequest(str(models[0]), SMALL, ONE_THREAD), lambda text: None)
    found = {m.name: m for m in derive.measurements([launch])}
    assert found["idle_watts"].samples == pytest.approx([25.0, 25.0])
    assert found["decode_watts"].samples == pytest.approx([25.0] * 2)
    for phase in ("prefill", "decode"):
        windows = [w for w in launch.energy.windows if w.phase == phase]
        assert len(windows) == 2 and all(w.tokens > 0 for w in windows)
        assert found[f"{phase}_joules_per_token"].samples == pytest.approx(
            [25 * w.seconds / w.tokens for w in windows]
        )
        assert found[f"{phase}_joules_per_token_net"].samples == pytest.approx([0, 0], abs=1e-9)
    if period < 1e-6:  # the repetition's own window
        decode = next(w for w in launch.energy.windows if w.phase == "decode")
        assert decode.tokens == 7
        assert decode.seconds >= sum(launch.repetitions[0].gaps_ns) * 1e-9


def test_a_seed_and_a_temperature_are_honoured(models):
    sampled = Workload(n_prompt=8, n_gen=4, repetitions=1, launches=1, temperature=0.7, seed=5)
    report = profile(models[0], workload=sampled)
    assert report.runs[0].workload == sampled
    assert len(report.runs[0].launches[0].repetitions[0].gaps_ns) == 3


def test_the_same_model_twice_is_told_apart(models):
    one = Workload(n_prompt=8, n_gen=2, repetitions=1, launches=1)
    report = profile(models[0], models[0], workload=one)
    assert [r.model.name for r in report.runs] == ["a", "a (2)"]


def test_a_crash_is_an_error_that_names_the_signal_and_the_last_word(models):
    request = LaunchRequest(str(models[0]), SMALL, ONE_THREAD, opener="profile_openers:crash")
    with pytest.raises(EngineCrashError, match=r"died of SIGABRT \(a last word\)"):
        child.launch(request, lambda text: None)


def test_a_refusal_is_the_engine_s_own_words(models):
    with pytest.raises(EngineError, match=r"^a: no launch succeeded: this model is refused$"):
        profile(models[0], opener="profile_openers:refuse")


def test_a_library_that_prints_does_not_spoil_the_result(models):
    request = LaunchRequest(str(models[0]), SMALL, ONE_THREAD, opener="profile_openers:chatty")
    assert len(child.launch(request, lambda text: None).repetitions) == 2


def test_what_was_measured_survives_a_later_crash(models, tmp_path):
    path = tiny_gguf.write(tmp_path / "fragile.gguf")
    saved: list[Report] = []
    request = request_for(path, models[1], opener="profile_openers:crash_on_second")
    models[1].with_suffix(".seen").unlink(missing_ok=True)
    report = run.profile(request, lambda text: None, saved.append)
    assert [(len(r.runs[0].launches), len(r.runs[1].launches)) for r in saved[:4]] == [
        (1, 0),
        (1, 1),
        (1, 1),
        (1, 1),
    ]
    assert [r.complete for r in saved[:4]] == [False, False, False, True]
    # The second block's launches are the third and the fourth of all, the second model's first.
    assert [[(f.index, f.position) for f in r.failures] for r in report.runs] == [[(1, 3)], [(1, 2)]]
    failures = [c for c in report.caveats if c.code == "launch-failed"]
    assert {c.subject for c in failures} == {"fragile", "b"} and "SIGABRT" in failures[0].fact
    assert "fragile" in reports.render(report, "html")


def test_a_context_too_small_is_refused_before_anything_runs(models):
    with pytest.raises(UsageError, match="need 41 tokens of context, -c gives 16"):
        profile(models[0], options=EngineOptions(n_ctx=16))


def invoke(*arguments: object):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=True)


QUICK = ("-p", 16, "-n", 4, "-r", 2, "--launches", 1, "-t", 1, "--no-roofline")


def test_several_outputs_from_one_run(models, tmp_path):
    html, js, odd = tmp_path / "report.html", tmp_path / "report.json", tmp_path / "notes"
    result = invoke(*models, *QUICK, "-o", "md", "--out", html, "--out", js, "--out", odd)
    assert result.exit_code == 0, result.output
    assert html.read_text().startswith("<!doctype html>")
    report = from_json(js.read_text())
    assert report.complete and [r.model.name for r in report.runs] == ["a", "b"]
    assert odd.read_text().splitlines()[2].startswith("| model | size |")
    assert "pp16" in result.stdout and "[2/2] b: warm-up" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "report.html", "report.json"]


def test_an_output_that_exists_is_refused_before_measuring(models, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("precious")
    result = invoke(models[0], *QUICK, "--out", out)
    assert "exists; give --force" in str(result.exception)
    assert out.read_text() == "precious"
    assert invoke(models[0], *QUICK, "--out", out, "--force").exit_code == 0
    assert out.read_text() != "precious"


def test_formats_go_to_standard_output_alone(models):
    result = invoke(models[0], *QUICK, "-o", "jsonl", "-q")
    assert result.stderr == ""
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["test"] for row in rows] == ["pp16", "tg4 @ d16"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-o", "pdf"), "unknown format 'pdf'"),
        (("--out", "x.pdf"), "does not tell the format"),
        (("--energy", "nuclear"), "no energy source is called 'nuclear'"),
        (("-c", "8"), "-c gives 8"),
    ],
)
def test_requests_that_make_no_sense_are_usage_errors(models, arguments, told):
    result = invoke(models[0], *QUICK, *arguments)
    assert isinstance(result.exception, UsageError) and told in str(result.exception)


def test_a_folder_keeps_the_dots_of_its_name(tmp_path):
    folder = tmp_path / "Qwen2.5-0.5B-onnx-int8"
    folder.mkdir()
    artifact = Artifact(folder, "onnx", "qwen2", "Qwen2.5", "onnx-int8", 0, 0, None)
    assert display_name(artifact) == "Qwen2.5-0.5B-onnx-int8"


@pytest.mark.wide
def test_a_study_makes_a_run_for_each_combination(models, tmp_path):
    out = tmp_path / "r.json"
    result = invoke(
        models[0], "-p", "8,16", "-n", 4, "-d", "0,32", "-r", 1, "--launches", 1, "-t", 1, "--out", out
    )
    assert result.exit_code == 0, result.output
    report = from_json(out.read_text())
    points = [(r.workload.n_prompt, r.workload.n_depth) for r in report.runs]
    assert points == [(8, 0), (8, 32), (16, 0), (16, 32)]
    assert [r.workload.label_prefill for r in report.runs[:2]] == ["pp8", "pp8 @ d32"]
    assert report.runs[3].launches[0].engine.n_ctx >= 53
    (ceiling,) = report.machine.ceilings
    assert ceiling.read_bytes_per_second > 1e8 and ceiling.operations_per_second["int8"] > 1e8
    assert "a (p16, d32)" in result.stderr


def test_an_interrupted_report_is_gone_on_with(models, tmp_path):
    class Killed(Exception):
        pass

    saved: list[Report] = []

    def die(report: Report) -> None:
        saved.append(report)
        if len(saved) == 3:
            raise Killed

    with pytest.raises(Killed):
        run.profile(request_for(*models, plan=Plan(seed=4)), lambda text: None, die)
    path = tmp_path / "r.json"
    path.write_text(to_json(saved[-1]))
    assert not saved[-1].complete
    result = invoke("--resume", path, "--no-roofline")
    assert result.exit_code == 0, result.output
    report = from_json(path.read_text())
    assert report.complete and report.plan.spent_seconds > saved[-1].plan.spent_seconds
    whole = [(launch.index, place) for place, r in enumerate(report.runs) for launch in r.launches]
    assert sorted(whole) == sorted(order.schedule(2, 2, 4))
    for before, after in zip(saved[-1].runs, report.runs, strict=True):
        assert after.launches[: len(before.launches)] == before.launches
    assert sorted(launch.position for r in report.runs for launch in r.launches) == [0, 1, 2, 3]


@pytest.mark.wide
@pytest.mark.skipif(sys.platform == "win32", reason="sends an interrupt")
def test_after_an_interrupt_the_command_that_goes_on_is_told_and_renews_the_page_too(models, tmp_path):
    """By a shell, as somebody would: what stands on the line is pasted."""
    flags = (
        f"-p 8 -n 4 -r 1 --launches 3 -t 1 --no-roofline --out 'my study.json' --out page.html {models[0]}"
    )
    command = shlex.split(f"{sys.executable} -m edgellm profile {flags}")
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as begun:
        until = time.monotonic() + 60
        while not (tmp_path / "my study.json").exists() and time.monotonic() < until:
            time.sleep(0.01)
        begun.send_signal(signal.SIGINT)
        told = begun.stderr.read()
    assert begun.returncode == 130
    before = from_json((tmp_path / "my study.json").read_text())
    assert not before.complete and 1 <= len(before.runs[0].launches) < 3
    pasted = told.partition("go on with: edgellm ")[2].splitlines()[0]
    subprocess.run(
        f"{sys.executable} -m edgellm {pasted} -q", shell=True, cwd=tmp_path, check=True, capture_output=True
    )
    after = from_json((tmp_path / "my study.json").read_text())
    assert after.complete and len(after.runs[0].launches) == 3
    assert (tmp_path / "page.html").read_text() == reports.render(after, "html", "en")


def test_a_report_of_another_machine_or_model_is_not_gone_on_with(models, tmp_path):
    path = tiny_gguf.write(tmp_path / "m.gguf")
    saved: list[Report] = []
    run.profile(request_for(path), lambda text: None, saved.append)
    half = saved[0]
    assert resume.request(half, half.plan, "x").begun is half
    other = replace(half, machine=replace(half.machine, cpu_model="another"))
    with pytest.raises(CheckFailedError, match="cpu_model was another"):
        resume.request(other, half.plan, "x")
    tiny_gguf.write(path, seed=9)
    with pytest.raises(CheckFailedError, match="is not the model the report was begun with"):
        resume.request(half, half.plan, "x")
    result = invoke("--resume", models[0], "-p", 3)
    assert "--resume goes on with the report's own plan" in str(result.exception)


def test_a_budget_that_is_spent_ends_the_report_and_says_so(models, monkeypatch):
    """What launches take is not left to the clock: the first fits into any budget, a second into none."""
    expected = lambda study, number: float("inf") if study._seconds else 0.0  # noqa: E731
    monkeypatch.setattr(run._Profile, "_expected", expected)
    report = run.profile(
        request_for(*models, plan=Plan(budget_seconds=1e6)), lambda text: None, lambda r: None
    )
    assert report.complete
    assert [(len(r.launches), r.ended) for r in report.runs] == [(1, "budget"), (0, "budget")]
    assert "budget-spent" in {c.code for c in report.caveats}
