"""How runs are asked for, as data: engine settings, and the plan that says in which order and how often.

Knows no file format and no clock; plan.py reads plans, run.py carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgellm.errors import UsageError
from edgellm.machine import hardware
from edgellm.session import EngineOptions


@dataclass(frozen=True)
class Workload:
    """What is run: one prompt of `n_prompt` tokens, then `n_gen` tokens decoded after it, EOS ignored.

    `n_depth` tokens are in the cache before the prompt; they are read before the clock starts.
    """

    n_prompt: int = 512
    n_gen: int = 128
    n_depth: int = 0
    n_batch: int | None = None  # tokens of a prompt evaluated at once; None: the engine's choice
    repetitions: int = 5
    launches: int = 3  # the least; more where `Plan.until` asks for them
    seed: int = 0
    temperature: float = 0.0  # greedy
    energy: str = "auto"  # auto | none | names of sources, separated by commas
    energy_seconds: float = 2.0  # longest extra loop for a phase too short for the meter
    energy_estimate: str | None = None  # idle and full power in watts, "5,28": only where asked for

    @property
    def label_prefill(self) -> str:
        """llama-bench's name of the prompt test."""
        return f"pp{self.n_prompt}" + (f" @ d{self.n_depth}" if self.n_depth else "")

    @property
    def label_decode(self) -> str:
        """llama-bench's name of the generation test at the depth of our prompt."""
        return f"tg{self.n_gen} @ d{self.n_depth + self.n_prompt}"

    @property
    def n_total(self) -> int:
        """Tokens of context it fills."""
        return self.n_depth + self.n_prompt + self.n_gen


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
class QualityPlan:
    """How quality is measured."""

    dialogues: int = 224  # of edgellm's held-out ones
    items: int = 64  # of each task
    references: Mapping[str, str] = field(default_factory=dict)  # model's name -> path of its reference
    axes: tuple[str, ...] = ()  # "language" | "robustness" | "response" | "energy"
    text: str = "dialogues"  # and tasks of edgellm's; "general": text and choices for any model


@dataclass(frozen=True)
class Plan:
    """How the launches were chosen: enough to go on with an unfinished report."""

    seed: int = 0  # of the order of launches
    max_launches: int = 3  # where `until` asks for more than the workload's
    until: float | None = None  # 95% half-width over the mean that is narrow enough
    budget_seconds: float | None = None
    quality: QualityPlan | None = None  # None: not asked for
    spent_seconds: float = 0.0  # so far, all sittings together


def engine_options(settings: Settings, workload: Workload) -> EngineOptions:
    """What a launch opens its engine with: just enough context for prompt and answer, unless asked for more.

    Raises UsageError when the context asked for is too small.
    """
    need = workload.n_total + 1
    if settings.n_ctx is not None and settings.n_ctx < need:
        raise UsageError(f"-d, -p and -n need {need} tokens of context, -c gives {settings.n_ctx}")
    ubatch = settings.n_ubatch
    if workload.n_batch is not None:
        ubatch = min(workload.n_batch, ubatch or workload.n_batch)
    return EngineOptions(
        n_ctx=settings.n_ctx or need,
        n_threads=settings.n_threads,
        n_threads_batch=settings.n_threads_batch,
        n_batch=workload.n_batch,
        n_ubatch=ubatch,
        n_gpu_layers=settings.n_gpu_layers,
        flash_attn=settings.flash_attn,
        type_k=settings.type_k,
        type_v=settings.type_v,
        use_mmap=settings.use_mmap,
        repack=settings.repack,
        device=settings.device,
    )


def settings_of(options: EngineOptions, format_: str) -> Settings:
    """The other way round: what `options` ask of the engine for models of a format."""
    return Settings(
        backend="llamacpp" if format_ == "gguf" else "onnxruntime",
        n_threads=hardware.threads(options.n_threads),
        device=options.device,
        flash_attn=options.flash_attn,
        type_k=options.type_k,
        type_v=options.type_v,
        n_threads_batch=options.n_threads_batch,
        n_ctx=options.n_ctx,
        n_ubatch=options.n_ubatch,
        n_gpu_layers=options.n_gpu_layers,
        use_mmap=options.use_mmap,
        repack=options.repack,
    )
