"""What was said, held against what came: every profile afterwards is compared with the prediction, and kept.

One JSON object a line in the cache. A run counts where kernels of this machine are known and the engine ran with its
usual settings; what cannot be compared is passed over in silence, for nobody asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import files
from edgellm.errors import EdgellmError
from edgellm.fit import builds, figures, memory, probe, speed

if TYPE_CHECKING:
    from edgellm.profiles.result.result import Report, Run

#: Our word -> the profiler's measurement.
SEEN = {
    "decode": "decode_tokens_per_second",
    "prefill": "prefill_tokens_per_second",
    "peak": "peak_bytes",
}
MIN_RUNS = 10  # before what the record says goes before the usual interval


@dataclass(frozen=True)
class Held:
    """One run: said and seen, by `SEEN`'s names."""

    made: str
    model: str
    engine: str
    n_total: int
    said: dict[str, float]
    seen: dict[str, float]

    def error(self, name: str) -> float | None:
        """What was said over what was seen, less one."""
        seen = self.seen.get(name)
        return self.said[name] / seen - 1 if seen and name in self.said else None


@dataclass(frozen=True)
class Track:
    """The errors so far of one quantity."""

    name: str
    errors: tuple[float, ...]

    def within(self, share: float = 0.9) -> float:
        """The size that `share` of the errors stay below."""
        sizes = sorted(map(abs, self.errors))
        return sizes[min(len(sizes) - 1, int(share * len(sizes)))]


def path() -> Path:
    """Where it is kept."""
    return files.cache_dir("fit") / "record.jsonl"


def hold(report: Report) -> None:
    """Compare a finished report's runs with what would have been said of them."""
    lines = []
    for run in report.runs:
        try:
            held = of_run(run)
        except (EdgellmError, OSError, KeyError, ValueError):
            continue
        lines += [json.dumps(asdict(held))] if held else []
    if lines:
        try:
            with path().open("a", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
        except OSError as error:
            files.say_cache_fails(error)


def read() -> list[Held]:
    """All of it; a line that cannot be read is passed over."""
    found = []
    try:
        lines = path().read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            found.append(Held(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def tracks(held: Sequence[Held]) -> dict[str, Track]:
    """By quantity, those with any error."""
    found = {}
    for name in SEEN:
        errors = tuple(error for one in held if (error := one.error(name)) is not None)
        if errors:
            found[name] = Track(name, errors)
    return found


def of_run(run: Run) -> Held | None:
    """A run against what is said of it now; None where that cannot be compared. Raises EdgellmError, OSError."""
    from edgellm.formats.artifact import Artifact

    settings, workload = run.settings, run.workload
    usual = settings.flash_attn == "auto" and settings.type_k is settings.type_v is None
    if not run.launches or not usual or settings.device not in ("auto", "cpu"):
        return None
    artifact = Artifact.open(Path(run.model.path).expanduser())
    (build,) = builds.of_artifact(artifact).types.values()
    known = figures.read(build.engine, settings.n_threads, probe.build(build.engine))
    if known is None or known.beside is None:
        return None
    fast = speed.predict(
        build, known, n_prompt=workload.n_prompt, n_gen=workload.n_gen, n_depth=workload.n_depth, spread=0
    )
    said = {"peak": float(memory.predict(build, workload.n_total + 1, known.beside.runtime_bytes).peak)}
    if fast is not None:
        said |= {"decode": fast.decode, "prefill": fast.prefill}
    means = {m.name: sum(m.samples) / len(m.samples) for m in run.measurements if m.samples}
    seen = {name: means[metric] for name, metric in SEEN.items() if metric in means}
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Held(now, run.model.name, build.engine, workload.n_total, said, seen)
