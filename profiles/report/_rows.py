"""A report as flat rows: llama-bench's field names where it has them, ours beside, one row per test.

llama-bench (tools/llama-bench in llama.cpp) writes a row for the prompt test and one for the generation test;
so do we. `samples_ts` of the generation test are (n - 1) / (t_last - t_first), and it starts at the depth of
the prompt (`n_depth`), because that is how it was measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from edgellm.profiles.result import EngineRecord, ModelRecord, PromptRecord, Report, Run

Row = dict[str, Any]

#: Ours -> the measurement whose mean fills it, in both rows.
_SHARED = {
    "load_seconds": "load_seconds",
    "ttft_seconds": "ttft_seconds",
    "peak_bytes": "peak_bytes",
    "anonymous_bytes": "anonymous_bytes",
    "file_bytes": "file_bytes",
    "pss_bytes": "pss_bytes",
}


def rows(report: Report) -> list[Row]:
    """Two rows for each model that ran: the prompt test, then the generation test if there was one."""
    found: list[Row] = []
    for run in report.runs:
        if not run.launches:
            continue
        found.append(_row(report, run, "prefill"))
        if run.launches[0].repetitions[0].gaps_ns:
            found.append(_row(report, run, "decode"))
    return found


def _row(report: Report, run: Run, phase: str) -> Row:
    engine, prompt = run.launches[0].engine, run.launches[0].prompt
    rate = run.measurement(f"{phase}_tokens_per_second")
    byte_rate = run.summary(f"{phase}_bytes_per_second")
    energy = run.measurement(f"{phase}_joules_per_token")
    per_token = energy.summary()
    return {
        **_llama_bench_head(report, run.model, engine),
        **_test(run, phase),
        "test_time": run.launches[0].started,
        **_timings(_nanoseconds(run, phase), rate.samples),
        "schema": report.schema,
        "model_name": run.model.name,
        "model_sha256": run.model.sha256,
        "model_quantization": run.model.quantization,
        "launches": list(rate.launches),
        "avg_bytes_per_second": byte_rate.mean if byte_rate else None,
        **{ours: _mean(run, name) for ours, name in _SHARED.items()},
        "energy_meter": run.launches[0].energy.meter,
        "joules_per_token": per_token.mean if per_token else None,
        "joules_per_token_net": _mean(run, f"{phase}_joules_per_token_net"),
        "joules_per_byte": _mean(run, f"{phase}_joules_per_byte"),
        "energy_reason": energy.reason,
        **_prompt(prompt),
    }


def _llama_bench_head(report: Report, model: ModelRecord, engine: EngineRecord) -> Row:
    options = engine.options
    return {
        "build_commit": engine.version,
        "build_number": 0,
        "cpu_info": report.machine.cpu_model or "",
        "gpu_info": "",
        "backends": engine.backend,
        "model_filename": model.path,
        "model_type": model_type(model),
        "model_size": model.tensor_bytes or model.size_bytes,
        "model_n_params": model.n_params,
        "n_batch": options.get("n_batch"),
        "n_ubatch": options.get("n_ubatch"),
        "n_threads": options.get("n_threads"),
        "type_k": options.get("type_k"),
        "type_v": options.get("type_v"),
        "n_gpu_layers": options.get("n_gpu_layers"),
        "flash_attn": options.get("flash_attn"),
        "load_mode": "mmap" if options.get("use_mmap") else "none",
        "repack": options.get("repack"),
    }


def _test(run: Run, phase: str) -> Row:
    work = run.workload
    if phase == "prefill":
        return {"test": work.label_prefill, "n_prompt": work.n_prompt, "n_gen": 0, "n_depth": 0}
    return {"test": work.label_decode, "n_prompt": 0, "n_gen": work.n_gen, "n_depth": work.n_prompt}


def _timings(nanoseconds: Sequence[int], rates: Sequence[float]) -> Row:
    several = len(rates) > 1
    return {
        "avg_ns": round(statistics.fmean(nanoseconds)),
        "stddev_ns": round(statistics.stdev(nanoseconds)) if several else 0,
        "avg_ts": statistics.fmean(rates),
        "stddev_ts": statistics.stdev(rates) if several else 0.0,
        "samples_ns": list(nanoseconds),
        "samples_ts": list(rates),
    }


def _prompt(prompt: PromptRecord) -> Row:
    return {"prompt_sha256": prompt.sha256, "bytes_per_token": prompt.bytes_per_token}


def _nanoseconds(run: Run, phase: str) -> list[int]:
    repetitions = [r for launch in run.launches for r in launch.repetitions]
    return [r.prefill_ns if phase == "prefill" else sum(r.gaps_ns) for r in repetitions]


def _mean(run: Run, name: str) -> float | None:
    summary = run.summary(name)
    return summary.mean if summary else None


def model_type(model: ModelRecord) -> str:
    """llama-bench's way to say what a model is: `qwen3 0.6B Q8_0`."""
    parts = [model.architecture, params(model.n_params), model.quantization]
    return " ".join(part for part in parts if part)


def params(n: int | None) -> str:
    """A number of parameters as people say it: 7.2M, 0.6B."""
    if n is None:
        return ""
    return f"{n / 1e9:.1f}B" if n >= 0.5e9 else f"{n / 1e6:.1f}M"
