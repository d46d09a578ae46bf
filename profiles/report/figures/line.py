"""How runs are called and coloured on a page: a family is a model without its quantization, a line is one run.

Knows names and settings, no figures. Few models get a colour each; of many, each family gets one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgellm.profiles.report.words import say
from edgellm.profiles.result.result import ModelRecord, Run

COLOURS = 6

#: Names what a run has, in a language.
Words = Callable[[Run, str], str]


@dataclass(frozen=True)
class Line:
    """One run as the page shows it."""

    run: Run
    family: str
    short: str  # what tells it from its family's other runs
    label: str  # what tells it from all other runs
    spoken: str  # the same, in a sentence
    css: str  # class of its colour
    second: bool  # other settings or workload than the first of its model: drawn lighter


def _threads(run: Run, lang: str) -> str:
    return say("short_threads", lang, n=run.settings.n_threads)


def _spoken_threads(run: Run, lang: str) -> str:
    n = run.settings.n_threads
    return say("one_thread" if n == 1 else "threads", lang, n=n)


def _depth(run: Run, lang: str) -> str:
    return f"d{run.workload.n_depth}"


def _spoken_depth(run: Run, lang: str) -> str:
    return say("spoken_depth", lang, n=run.workload.n_depth)


#: What may tell runs of one model apart -> (its value, its words).
_DIFFERENCES: tuple[tuple[Callable[[Run], object], Words], ...] = (
    (lambda r: r.settings.backend, lambda r, lang: r.settings.backend),
    (lambda r: r.settings.device, lambda r, lang: r.settings.device),
    (lambda r: r.settings.n_threads, _threads),
    (lambda r: r.settings.n_gpu_layers, lambda r, lang: f"ngl {r.settings.n_gpu_layers}"),
    (lambda r: r.settings.flash_attn, lambda r, lang: f"fa {r.settings.flash_attn}"),
    (
        lambda r: (r.settings.type_k, r.settings.type_v),
        lambda r, lang: f"kv {r.settings.type_k}/{r.settings.type_v}",
    ),
    (lambda r: r.settings.use_mmap, lambda r, lang: "mmap" if r.settings.use_mmap else "no mmap"),
    (lambda r: r.settings.repack, lambda r, lang: "repack" if r.settings.repack else "no repack"),
    (lambda r: r.workload.n_prompt, lambda r, lang: f"p{r.workload.n_prompt}"),
    (lambda r: r.workload.n_gen, lambda r, lang: f"n{r.workload.n_gen}"),
    (lambda r: r.workload.n_depth, _depth),
    (lambda r: r.workload.n_batch, lambda r, lang: f"b{r.workload.n_batch}"),
)


def family(model: ModelRecord) -> str:
    """The model's name without its quantization."""
    for kind in (model.quantization, model.quantization and f"onnx-{model.quantization}"):
        if kind and model.name.lower().endswith(f"-{kind.lower()}") and len(model.name) > len(kind) + 1:
            return model.name[: -len(kind) - 1]
    return model.name


def lines(runs: Sequence[Run], lang: str) -> list[Line]:
    """A line for each run, in order."""
    models = list(dict.fromkeys(run.model.name for run in runs))
    families = list(dict.fromkeys(family(run.model) for run in runs))
    owner = models if len(models) <= COLOURS else families
    first: dict[str, tuple[object, ...]] = {}
    found = []
    for run, tail, spoken in zip(runs, _tails(runs, lang), _tails(runs, lang, spoken=True), strict=True):
        own = family(run.model)
        kind = run.model.name[len(own) + 1 :]
        point = (run.settings, run.workload)
        place = owner.index(run.model.name if owner is models else own)
        found.append(
            Line(
                run,
                own,
                " · ".join([kind, *tail] if kind else tail) or own,
                " · ".join([run.model.name, *tail]),
                run.model.name + (f" ({', '.join(spoken)})" if spoken else ""),
                f"m{place % COLOURS}",
                first.setdefault(run.model.name, point) != point,
            )
        )
    return found


def _tails(runs: Sequence[Run], lang: str, *, spoken: bool = False) -> list[list[str]]:
    """For each run the words for what differs among the runs of one and the same model."""
    by_model: dict[str, list[Run]] = {}
    for run in runs:
        by_model.setdefault(run.model.name, []).append(run)
    telling = [
        words
        for value, words in _DIFFERENCES
        if any(len({value(run) for run in own}) > 1 for own in by_model.values())
    ]
    if spoken:
        said: dict[Words, Words] = {_threads: _spoken_threads, _depth: _spoken_depth}
        telling = [said.get(words, words) for words in telling]
    return [[words(run, lang) for words in telling] for run in runs]


def grouped(shown: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Lines by family, in order of first appearance."""
    groups: dict[str, list[Line]] = {}
    for line in shown:
        groups.setdefault(line.family, []).append(line)
    return list(groups.items())
