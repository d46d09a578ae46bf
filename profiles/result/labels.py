"""What to call a run: its model's name, and of the rest only what tells it from the model's other runs."""

from __future__ import annotations

from collections.abc import Sequence

from edgellm.profiles.result.result import Run


def labels(runs: Sequence[Run]) -> list[str]:
    """One a run, all different."""
    parts = [_parts(run) for run in runs]
    found = []
    for run, own in zip(runs, parts, strict=True):
        others = [
            theirs for other, theirs in zip(runs, parts, strict=True) if other.model.name == run.model.name
        ]
        varying = [text for name, text in own.items() if len({theirs[name] for theirs in others}) > 1]
        found.append(f"{run.model.name} ({', '.join(varying)})" if varying else run.model.name)
    return found


def _parts(run: Run) -> dict[str, str]:
    """Everything that may tell two runs of one model apart, in words."""
    settings, work = run.settings, run.workload
    return {
        "threads": f"{settings.n_threads} thread{'s' * (settings.n_threads != 1)}",
        "device": settings.device,
        "flash_attn": f"flash attention {settings.flash_attn}",
        "kv": f"cache {settings.type_k or 'f16'}/{settings.type_v or 'f16'}",
        "prompt": f"p{work.n_prompt}",
        "gen": f"n{work.n_gen}",
        "depth": f"d{work.n_depth}",
        "batch": f"b{work.n_batch or 'auto'}",
    }
