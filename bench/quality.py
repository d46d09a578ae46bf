"""Quality of every GGUF type of the bundled models, with and without an importance matrix, against F32.

    python bench/quality.py [--models tiny-qwen3,tiny-llama3] [--types Q4_0,Q2_K] [--dialogues 112]
                            [--tasks] [--write docs/quality.md]

Each model is one process with one thread. Every type is converted straight from the checkpoint; the divergence is
exact (both models' whole distributions at every token of held-out dialogues). `--tasks` answers the task suite
with the main types. `--write` puts the tables between that file's markers. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgellm import backends
from edgellm.calibration import store, text
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.gguf.recipes import OWN, RECIPES
from edgellm.errors import UsageError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.generation import scoring
from edgellm.generation.scoring import Block, Chunk
from edgellm.models import bundled
from edgellm.profiles.quality import dialogues, evaluation, quality, task_scores, tasks
from edgellm.profiles.quality.reference_logits import Comparison
from edgellm.profiles.result.quality_stats import Estimate
from edgellm.prompt.model_template import template_of
from edgellm.session import EngineOptions, Session

REFERENCE = "F32"
UNWEIGHTED = ("F32", "F16", "BF16", "Q8_0")  # an importance matrix changes nothing in these
TASK_TYPES = ("F16", "Q8_0", "Q4_K_M", "Q4_0", "Q2_K")
ENGINE = EngineOptions(n_ctx=512, n_threads=1, n_threads_batch=1)
MARKERS = ("<!-- bench/quality.py: begin -->", "<!-- bench/quality.py: end -->")


@dataclass(frozen=True)
class Row:
    """One file's figures."""

    model: str
    type: str
    imatrix: bool
    sha256: str
    size_bytes: int
    bits_per_weight: float
    perplexity: Estimate
    ratio: Estimate  # of the perplexities, the reference's below
    kld: Estimate
    same_top: Estimate


@dataclass(frozen=True)
class Accuracy:
    """One file on the task suite."""

    model: str
    type: str
    exact: dict[str, float]  # by task, and of all under "all"
    low: float  # 95% interval of all
    high: float
    stopped: float
    n: int


class Stored:
    """The reference's distributions, kept in memory: a few thousand tokens of a small vocabulary."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, int], Block] = {}

    def add(self, block: Block) -> None:
        """Keep one block."""
        self._blocks[block.chunk, block.start] = block

    def compare(self, block: Block) -> Comparison:
        """The divergence in full."""
        own = self._blocks[block.chunk, block.start]
        kld = (np.exp(own.log_probs) * (own.log_probs - block.log_probs)).sum(axis=1)
        same = own.log_probs.argmax(axis=1) == block.log_probs.argmax(axis=1)
        return Comparison(kld, same, scoring.target_log_probs(own))


def renderer(artifact: Artifact) -> tuple[Callable[..., str], Callable[..., str]]:
    """Messages to text: whole dialogues, and prompts to answer."""
    template = template_of(artifact)
    return lambda m: template.render(m, add_generation_prompt=False), lambda m: template.render(m)


def calibrated(reference: Artifact, folder: Path) -> Path:
    """The importance matrix of edgellm's own calibration text."""
    whole, _ = renderer(reference)
    with backends.open_session(reference, ENGINE) as session:
        chunks = scoring.text_chunks(session, text.text(render=whole), 512, special=True)
    output = folder / "imatrix.gguf"
    store.run(store.Job(reference, chunks, text.NAME, output, ENGINE))
    return output


def bits_per_weight(path: Path) -> float:
    tensors = read_header(path).tensors.values()
    return 8 * sum(t.nbytes for t in tensors) / sum(int(np.prod(t.shape)) for t in tensors)


def measure(
    session: Session, chunks: list[Chunk], stored: Stored, type_: str, imatrix: bool, model: str
) -> Row:
    artifact = session.artifact
    found = quality.evaluate(session, chunks, reference=stored)
    assert found.divergence
    return Row(
        model,
        type_,
        imatrix,
        weights_sha256(artifact.path),
        artifact.size_bytes,
        bits_per_weight(artifact.path),
        found.perplexity,
        found.divergence.perplexity_ratio,
        found.divergence.kld_mean,
        found.divergence.same_top,
    )


def weights_sha256(path: Path) -> str:
    """Of the tensor data alone: the header tells of the importance matrix even where it changed nothing."""
    import hashlib

    with path.open("rb") as file:
        file.seek(read_header(path).data_offset)
        return hashlib.sha256(file.read()).hexdigest()


def variants(
    types: list[str], source: Path, folder: Path, imatrix: Path
) -> Iterator[tuple[str, bool, Artifact]]:
    """Every type, without and with the matrix, one file at a time."""
    for type_ in types:
        for weighted in (False, True) if type_ not in UNWEIGHTED else (False,):
            path = folder / "model.gguf"
            request = ConvertRequest(
                source, type_, path, imatrix=imatrix if weighted else None, n_threads=1, force=True
            )
            try:
                yield type_, weighted, convert(request)
            except UsageError as error:  # the type needs a matrix, or a mixture of experts
                print(f"{source.name} {type_}: {error}", flush=True)


def run(job: tuple[str, list[str], int, bool]) -> tuple[list[Row], list[Accuracy]]:
    """All types of one model."""
    model, types, n_dialogues, with_tasks = job
    checkpoint = bundled.path(model)
    assert checkpoint is not None
    rows, accuracies = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = Path(shutil.copytree(checkpoint, folder / model))  # whatever happens to it meanwhile
        reference = convert(ConvertRequest(source, REFERENCE, folder / "reference.gguf", n_threads=1))
        imatrix = calibrated(reference, folder)
        whole, prompt = renderer(reference)
        stored = Stored()
        with backends.open_session(reference, ENGINE) as session:
            chunks = dialogues.chunks(session, whole, n_dialogues)
            quality.evaluate(session, chunks, sink=stored)
        for type_, weighted, artifact in variants(types, source, folder, imatrix):
            with backends.open_session(artifact, ENGINE) as session:
                rows.append(measure(session, chunks, stored, type_, weighted, model))
                print(shown(rows[-1]), flush=True)
                if with_tasks and type_ in TASK_TYPES and not weighted:
                    accuracies.append(accuracy(session, prompt, model, type_))
    return rows, accuracies


def accuracy(session: Session, prompt: Callable[..., str], model: str, type_: str) -> Accuracy:
    answers = task_scores.answer(session, prompt, tasks.load())
    every = task_scores.total("all", answers)
    exact = {score.name: score.exact.value for score in task_scores.scores(answers)}
    return Accuracy(
        model,
        type_,
        exact | {"all": every.exact.value},
        *every.exact.interval,
        every.stopped.value,
        every.exact.n,
    )


def shown(row: Row) -> str:
    return (
        f"{row.model} {row.type:<8} {'imatrix' if row.imatrix else '':<8} {row.bits_per_weight:5.2f} bits/weight  "
        f"PPL {evaluation.show(row.perplexity, 4)}  KLD {evaluation.show(row.kld, 6)}  "
        f"same top {evaluation.show(row.same_top.scaled(100), 2)} %"
    )


def table(model: str, rows: list[Row]) -> list[str]:
    """One line a type, most bits first."""
    plain = {row.type: row for row in rows if row.model == model and not row.imatrix}
    weighted = {row.type: row for row in rows if row.model == model and row.imatrix}
    lines = [
        f"### {model}",
        "",
        "| type | bits per weight | MB | PPL | mean KLD | same top p, % | PPL, imatrix | mean KLD, imatrix "
        "| same top p, %, imatrix |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    order = {row.type: row for row in [*weighted.values(), *plain.values()]}
    for type_, row in sorted(order.items(), key=lambda pair: -pair[1].bits_per_weight):
        bits = f"{row.bits_per_weight:.2f}"
        other = weighted.get(type_)
        if other and type_ in plain and f"{other.bits_per_weight:.2f}" != bits:
            bits += f" ({other.bits_per_weight:.2f})"
        same = bool(other) and type_ in plain and other.sha256 == plain[type_].sha256
        cells = [*figures(plain.get(type_)), *(["same bytes", "", ""] if same else figures(other))]
        lines.append(f"| {type_} | {bits} | {row.size_bytes / 1e6:.2f} | {' | '.join(cells)} |")
    return lines


def figures(row: Row | None) -> list[str]:
    """Perplexity with its change, divergence, agreement."""
    if row is None:
        return ["-"] * 3
    percent = row.ratio.scaled(100)
    change = f"{percent.value - 100:+.2f} ± {percent.error or 0:.2f} %"
    if row.ratio.value > 2:
        change = f"{row.ratio.value:.0f} times"
    return [
        f"{row.perplexity.value:.3f} ({change})",
        f"{row.kld.value:.2g} ± {row.kld.error or 0:.1g}",
        evaluation.show(row.same_top.scaled(100), 1),
    ]


def task_table(accuracies: list[Accuracy]) -> list[str]:
    names = tasks.names()
    lines = [
        f"| model | type | {' | '.join(names)} | all {accuracies[0].n} | 95% interval | stopped by itself |",
        "|---|---|" + "---:|" * (len(names) + 3),
    ]
    for each in sorted(accuracies, key=lambda each: (each.model, TASK_TYPES.index(each.type))):
        cells = " | ".join(f"{each.exact[name]:.1%}" for name in (*names, "all"))
        lines.append(
            f"| {each.model} | {each.type} | {cells} | {each.low:.1%} to {each.high:.1%} | {each.stopped:.1%} |"
        )
    return lines


def surprises(rows: list[Row]) -> list[str]:
    """Types that need fewer bits than another and yet are clearly nearer to the reference."""
    found = []
    for a in rows:
        for b in rows:
            if (a.model, a.imatrix) != (b.model, b.imatrix) or a.bits_per_weight >= b.bits_per_weight - 0.005:
                continue
            error = float(np.hypot(a.kld.error or 0, b.kld.error or 0))
            if a.kld.value < b.kld.value - 2 * error:
                found.append(f"{a.model}{' imatrix' if a.imatrix else ''}: {a.type} beats {b.type}")
    return found


def write(path: Path, lines: list[str]) -> None:
    before, rest = path.read_text(encoding="utf-8").split(MARKERS[0])
    _, after = rest.split(MARKERS[1])
    path.write_text("\n".join([before + MARKERS[0], "", *lines, "", MARKERS[1] + after]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", default=",".join(bundled.names()))
    parser.add_argument("--types", default=",".join((*RECIPES, *OWN)))
    parser.add_argument("--dialogues", type=int, default=112)
    parser.add_argument("--tasks", action="store_true")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    start = time.monotonic()
    models = args.models.split(",")
    jobs = [(model, args.types.split(","), args.dialogues, args.tasks) for model in models]
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
        results = pool.map(run, jobs)
    rows = [row for found, _ in results for row in found]
    accuracies = [each for _, found in results for each in found]
    lines = [line for model in models for line in [*table(model, rows), ""]]
    if accuracies:
        lines += ["### Tasks of all", "", *task_table(accuracies)]
    print("\n".join([*lines, *surprises(rows)]))
    if args.write:
        write(args.write, lines)
    seconds = time.monotonic() - start
    print(
        json.dumps(
            {"seconds": seconds, "rows": [asdict(r) for r in rows], "tasks": [asdict(a) for a in accuracies]}
        )
    )


if __name__ == "__main__":
    main()
