"""A report as flat rows: llama-bench's field names where it has them, ours beside, one row per test.

llama-bench (tools/llama-bench in llama.cpp) writes a row for the prompt test and one for the generation test;
so do we. `samples_ts` of the generation test are (n - 1) / (t_last - t_first), and it starts at the depth of
the prompt (`n_depth`), because that is how it was measured. Its comparison script (scripts/compare-llama-bench.py)
joins rows on most fields, and in SQL no null equals another: those fields have a value for every engine.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.result import EngineRecord, ModelRecord, PromptRecord, Report, Run

Row = dict[str, Any]

#: Measurements whose means stand in both rows, under their own names.
_SHARED = (
    "load_seconds",
    "ttft_seconds",
    "peak_bytes",
    "peak_weights_bytes",
    "peak_kv_bytes",
    "peak_compute_bytes",
    "peak_rest_bytes",
    "gpu_bytes",
    "anonymous_bytes",
    "file_bytes",
    "pss_bytes",
    "needed_bytes",
)


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


#: llama-bench's number for what it calls flash_attn.
_FLASH_ATTN = {"auto": -1, "off": 0, "on": 1}


def _row(report: Report, run: Run, phase: str) -> Row:
    engine, prompt = run.launches[0].engine, run.launches[0].prompt
    rate = run.measurement(f"{phase}_tokens_per_second")
    byte_rate = run.summary(f"{phase}_bytes_per_second")
    energy = run.measurement(f"{phase}_joules_per_token")
    per_token = energy.summary()
    return {
        **_llama_bench_head(report, run, engine),
        **_test(run, phase),
        "test_time": run.launches[0].started,
        **_timings(_nanoseconds(run, phase), rate.samples),
        "schema": report.schema,
        "engine": engine.backend,
        "model_name": run.model.name,
        "model_sha256": run.model.sha256,
        "model_quantization": run.model.quantization,
        "launches": list(rate.launches),
        "avg_bytes_per_second": byte_rate.mean if byte_rate else None,
        "median_ts": _median(run, rate.name),
        "median_bytes_per_second": byte_rate.median if byte_rate else None,
        **{name: _median(run, name) for name in _SHARED},
        "decode_bandwidth_share": _median(run, "decode_bandwidth_share"),
        "prefill_arithmetic_share": _median(run, "prefill_arithmetic_share"),
        **_quality(report, run.model.name),
        "energy_meter": run.launches[0].energy.meter,
        "joules_per_token": per_token.median if per_token else None,
        "joules_per_token_net": _median(run, f"{phase}_joules_per_token_net"),
        "joules_per_byte": _median(run, f"{phase}_joules_per_byte"),
        "energy_reason": energy.reason,
        **_prompt(prompt),
    }


def _llama_bench_head(report: Report, run: Run, engine: EngineRecord) -> Row:
    model, device = run.model, str(engine.options.get("device", run.settings.device))
    return {
        "build_commit": engine.version.replace(" ", "-").replace("'", ""),
        "build_number": 0,
        "cpu_info": report.machine.cpu_model or "",
        "gpu_info": "" if device == "cpu" else device,
        "backends": device.upper(),
        "model_filename": model.path,
        "model_type": model_type(model),
        "model_size": model.tensor_bytes or model.size_bytes,
        "model_n_params": model.n_params,
        **_llama_bench_settings(run, engine),
    }


def _llama_bench_settings(run: Run, engine: EngineRecord) -> Row:
    """What the engine ran with, in llama-bench's order; its own defaults where an engine has no such thing."""
    told = {name: value for name, value in asdict(run.settings).items() if value is not None}
    used = told | {name: value for name, value in engine.options.items() if value is not None}
    return {
        "n_batch": used.get("n_batch", run.workload.n_batch or 0),
        "n_ubatch": used.get("n_ubatch", run.workload.n_batch or 0),
        "n_threads": used["n_threads"],
        "cpu_mask": "0x0",
        "cpu_strict": False,
        "poll": 50,
        "type_k": used.get("type_k", "f16"),
        "type_v": used.get("type_v", "f16"),
        "n_gpu_layers": used.get("n_gpu_layers", 0),
        "n_cpu_moe": 0,
        "split_mode": "layer",
        "main_gpu": 0,
        "no_kv_offload": False,
        "flash_attn": _FLASH_ATTN.get(used["flash_attn"], -1),
        "devices": "auto",
        "tensor_split": "0.00",
        "tensor_buft_overrides": "none",
        "load_mode": "mmap" if used.get("use_mmap", True) else "none",
        "lazy_mode": "auto",
        "embeddings": False,
        "no_op_offload": 0,
        "no_host": False,
        "repack": used.get("repack", True),
        "fit_target": 0,
        "fit_min_ctx": 0,
    }


def _test(run: Run, phase: str) -> Row:
    work = run.workload
    if phase == "prefill":
        own = {"n_prompt": work.n_prompt, "n_gen": 0, "n_depth": work.n_depth}
        return {"test": work.label_prefill, **own}
    own = {"n_prompt": 0, "n_gen": work.n_gen, "n_depth": work.n_depth + work.n_prompt}
    return {"test": work.label_decode, **own}


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


def _quality(report: Report, name: str) -> Row:
    """The model's worth; the same in all rows of a model."""
    found = (report.quality or {}).get(name) or QualityRecord()
    named = {
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
        "kld_mean": found.kld_mean,
        "same_top": found.same_top,
    }
    row: Row = {}
    for field, estimate in named.items():
        row[field] = estimate.value if estimate else None
        row[f"{field}_error"] = estimate.error if estimate else None
    total = found.total
    return row | {
        "tasks_exact": total.k if total else None,
        "tasks": total.n if total else None,
        "quality_reference": found.reference,
    }


def _prompt(prompt: PromptRecord) -> Row:
    return {"prompt_sha256": prompt.sha256, "bytes_per_token": prompt.bytes_per_token}


def _nanoseconds(run: Run, phase: str) -> list[int]:
    repetitions = [r for launch in run.launches for r in launch.repetitions]
    return [r.prefill_ns if phase == "prefill" else sum(r.gaps_ns) for r in repetitions]


def _median(run: Run, name: str) -> float | None:
    summary = run.summary(name)
    return summary.median if summary else None


def model_type(model: ModelRecord) -> str:
    """llama-bench's way to say what a model is: `qwen3 0.6B Q8_0`."""
    parts = [model.architecture, params(model.n_params), model.quantization]
    return " ".join(part for part in parts if part)


def params(n: int | None) -> str:
    """A number of parameters as people say it: 7.2M, 0.6B."""
    if n is None:
        return ""
    return f"{n / 1e9:.1f}B" if n >= 0.5e9 else f"{n / 1e6:.1f}M"
