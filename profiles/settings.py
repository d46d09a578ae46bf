"""How runs are asked for, as data: engine settings, and the plan that says in which order and how often.

Knows no file format and no clock; plan.py reads plans, run.py carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How the engine is asked to run. What it made of that is in each launch's `EngineRecord`."""

    backend: str  # "llamacpp" | "onnxruntime"
    n_threads: int
    device: str = "auto"
    flash_attn: str = "auto"
    type_k: str | None = None  # None, here and below: the engine's choice
    type_v: str | None = None
    n_threads_batch: int | None = None
    n_ctx: int | None = None  # None: just enough
    n_ubatch: int | None = None
    n_gpu_layers: int | None = None
    use_mmap: bool | None = None
    repack: bool | None = None


@dataclass(frozen=True)
class Plan:
    """How the launches were chosen: enough to go on with an unfinished report."""

    seed: int = 0  # of the order of launches
    max_launches: int = 3
    until: float | None = None  # 95% half-width over the mean that is narrow enough
    budget_seconds: float | None = None
    quality: bool = False
    spent_seconds: float = 0.0
