"""What to profile, as a grid: models x types x settings x points of the workload, from a TOML file or from flags.

Names are llama-bench's. Knows no model: names are turned into artifacts by the caller.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm import backends, toml
from edgellm.errors import UsageError
from edgellm.profiles.result.axes_names import TEXTS
from edgellm.profiles.result.codec import from_plain
from edgellm.profiles.result.settings import Plan, Workload, settings_of
from edgellm.profiles.study.run import RunSpec
from edgellm.session import EngineOptions

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact

#: Where `until` asks for more launches than `launches`, this many at most.
MAX_LAUNCHES = 20
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Further:
    """Points measured besides a grid's own, of some of its types: what is left empty is as the grid has it."""

    types: tuple[str, ...] = ()
    n_prompt: tuple[int, ...] = ()
    n_gen: tuple[int, ...] = ()
    n_depth: tuple[int, ...] = ()
    n_threads: tuple[int, ...] = ()
    launches: int | None = None


@dataclass(frozen=True)
class Grid:
    """A plan as it is written: every tuple is a list of values to go through. Empty: the engine's choice."""

    models: tuple[str, ...] = ()
    types: tuple[str, ...] = ()  # each model in each of these; empty: as the models are named
    n_prompt: tuple[int, ...] = (512,)
    n_gen: tuple[int, ...] = (128,)
    n_depth: tuple[int, ...] = (0,)
    n_batch: tuple[int, ...] = ()
    n_threads: tuple[int, ...] = ()
    device: tuple[str, ...] = ("auto",)
    flash_attn: tuple[str, ...] = ("auto",)
    type_k: tuple[str, ...] = ()
    type_v: tuple[str, ...] = ()
    n_ctx: int | None = None
    n_threads_batch: int | None = None
    n_ubatch: int | None = None
    n_gpu_layers: int | None = None
    use_mmap: bool | None = None
    repack: bool | None = None
    tuned: bool | None = None  # False: not with the settings that tuning found for a model here
    repetitions: int = 5
    launches: int = 3
    max_launches: int = MAX_LAUNCHES
    until: str | None = None  # "2%": narrow enough
    budget: str | None = None  # "10m": time to spend
    seed: int = 0
    temperature: float = 0.0
    energy: str = "auto"
    energy_seconds: float = 2.0
    energy_estimate: str | None = None
    quality: bool = False
    axes: tuple[str, ...] = ()  # further ones, measured with quality
    reference: str | None = None  # type, or model, that the divergence is from
    text: str = "dialogues"  # of edgellm's own suite | "general"
    dialogues: int = 224
    items: int = 64
    also: tuple[Further, ...] = ()  # [[also]]: what would be too long for all types

    def names(self) -> tuple[str, ...]:
        """The models with their types: NAME:TYPE."""
        if not self.types:
            return self.models
        return tuple(f"{model}:{kind}" for model in self.models for kind in self.types)

    def plan(self) -> Plan:
        """How often and for how long. Raises UsageError."""
        until = None if self.until is None else parse_share(self.until)
        return Plan(
            seed=self.seed,
            max_launches=self.launches if until is None else max(self.launches, self.max_launches),
            until=until,
            budget_seconds=None if self.budget is None else parse_seconds(self.budget),
        )

    def specs(self, artifacts: Sequence[Artifact]) -> tuple[RunSpec, ...]:
        """Every run of the grid: models outermost. `artifacts` are those of `names()`, in order."""
        return tuple(
            RunSpec(artifact, settings_of(backends.with_tuning(artifact, options), artifact.format), workload)
            for index, artifact in enumerate(artifacts)
            for options, workload in self._points(index)
        )

    def _points(self, index: int) -> list[tuple[EngineOptions, Workload]]:
        """How the model at `index` of `names()` is measured, each point once."""
        grids = (self, *self._further(index))
        pairs = [pair for grid in grids for pair in itertools.product(grid._options(), grid._workloads())]
        return list(dict.fromkeys(pairs))

    def _further(self, index: int) -> list[Grid]:
        """What `also` asks of the model at `index` of `names()`."""
        kind = self.types[index % len(self.types)] if self.types else None
        return [
            replace(self, **{name: value for name, value in vars(more).items() if value and name != "types"})
            for more in self.also
            if not more.types or kind in more.types
        ]

    def _options(self) -> list[EngineOptions]:
        base = EngineOptions(
            n_ctx=self.n_ctx,
            n_threads_batch=self.n_threads_batch,
            n_ubatch=self.n_ubatch,
            n_gpu_layers=self.n_gpu_layers,
            use_mmap=self.use_mmap,
            repack=self.repack,
            tuned=self.tuned is not False,
        )
        axes = (self.n_threads or (None,), self.device, self.flash_attn, self._cache_types())
        return [
            replace(base, n_threads=n, device=device, flash_attn=flash, type_k=k, type_v=v)
            for n, device, flash, (k, v) in itertools.product(*axes)
        ]

    def _cache_types(self) -> list[tuple[str | None, str | None]]:
        """Pairs of key and value types: two lists of one length go side by side, a single value goes with all."""
        k, v = self.type_k or (None,), self.type_v or (None,)
        if len(k) != len(v) and 1 not in (len(k), len(v)):
            raise UsageError(
                f"-ctk has {len(k)} types and -ctv {len(v)}: give as many of one as of the other, or one"
            )
        length = max(len(k), len(v))
        return list(zip(k * (length // len(k)), v * (length // len(v)), strict=True))

    def _workloads(self) -> list[Workload]:
        axes = (self.n_prompt, self.n_gen, self.n_depth, self.n_batch or (None,))
        shared = {field.name for field in fields(Workload)} & {field.name for field in fields(self)}
        values = {name: getattr(self, name) for name in shared}
        return [
            Workload(**{**values, "n_prompt": p, "n_gen": n, "n_depth": d, "n_batch": b})
            for p, n, d, b in itertools.product(*axes)
        ]


def reference_of(model: str, reference: str | None) -> str | None:
    """What `model` is held against: itself in the type `reference`, or the model `reference`.

    None for a type where the model is a file, which cannot be converted from.
    """
    if reference is None or Path(reference).exists() or ":" in reference:
        return reference
    if Path(model).is_file():
        return None
    base = model if Path(model).exists() else model.partition(":")[0]
    return f"{base}:{reference}"


def studies() -> list[str]:
    """Names of the plans that come with edgellm."""
    files = resources.files("edgellm.profiles.study.studies").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read(name: str) -> Grid:
    """A TOML file, or a plan that comes with edgellm. Raises UsageError naming what is wrong in it."""
    if name in studies():
        text = (resources.files("edgellm.profiles.study.studies") / f"{name}.toml").read_text(
            encoding="utf-8"
        )
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(studies())
            raise UsageError(
                f"{name} is no plan: {error}; a plan is a TOML file, or one of: {known}"
            ) from error
    return parse(text, name)


def parse(text: str, name: str) -> Grid:
    """A plan from TOML. A single value does for a list of one; unknown keys are refused. Raises UsageError."""
    try:
        values = _listed(Grid, toml.loads(text))
        if isinstance(more := values.get("also"), list):
            values["also"] = [_listed(Further, each) if isinstance(each, dict) else each for each in more]
        grid = from_plain(Grid, values, name)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
    grid.plan()
    if grid.text not in TEXTS:
        raise UsageError(f"{name}: text = {grid.text!r} is not known; there are: {', '.join(TEXTS)}")
    if strangers := {kind for more in grid.also for kind in more.types} - set(grid.types):
        raise UsageError(f"{name}: [[also]] asks for {min(strangers)}, which is not among the plan's types")
    return grid


def _listed(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with a single value where `kind` wants a list made one."""
    lists = {field.name for field in fields(kind) if str(field.type).startswith("tuple")}
    return {key: [v] if key in lists and not isinstance(v, list) else v for key, v in values.items()}


def parse_share(text: str) -> float:
    """0.02 of `2%` or `0.02`. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < value < 1:
        raise UsageError(f"{text!r} is no width between 0 and 1; write it as 2% or 0.02")
    return value


def parse_seconds(text: str) -> float:
    """600 of `10m`, `600s` or `600`. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    value = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if value <= 0:
        raise UsageError(f"{text!r} is no time above zero; write it as 90s, 10m or 2h")
    return value
