"""The search, the whole of it: probe file, importance, sensitivities, speeds, the choice, its proof.

Everything found is kept in a folder beside the output, so that the same command goes on where one was stopped.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgellm import files
from edgellm.calibration import store, text
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.gguf.imatrix import Imatrix
from edgellm.convert.gguf.source_model import open_model
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.convert.recipes import recipe as recipe_files
from edgellm.convert.recipes.recipe import RecipeFile
from edgellm.formats.artifact import Artifact
from edgellm.profiles.quality.reference_logits import CompactReference
from edgellm.recipes import costs, sensitivity, solve
from edgellm.recipes.costs import Goal, Speeds
from edgellm.recipes.matrices import HEAD, Matrix, groups, matrices
from edgellm.recipes.sensitivity import Measured
from edgellm.session import EngineOptions

_BANDS = (1, 3)  # how finely the depth is cut, as far as the time goes
_PROBING = 0.6  # of the time, at most
_IMATRIX_CHUNKS, _IMATRIX_CHUNK = 16, 512


@dataclass(frozen=True)
class Request:
    """A search."""

    source: Path
    output: Path
    goal: Goal
    seconds: float
    speeds: Speeds | None  # None: speed is no limit
    imatrix: Path | None = None
    auto_imatrix: bool = False
    n_tokens: int = 512
    n_threads: int | None = None
    force: bool = False

    @property
    def folder(self) -> Path:
        """Where what was found is kept."""
        return self.output.with_name(f"{self.output.name}.search")


@dataclass(frozen=True)
class Found:
    """A recipe, and what is known of it."""

    recipe: RecipeFile
    predicted_kld: float
    measured_kld: float | None  # None: the time was over
    nbytes: int  # of the matrices
    decode_ms: float | None  # predicted, of the products of one token
    machine: str  # whose kernels that is of
    sensitivities: tuple[Measured, ...]


#: Told of each step: what, how many done, of how many.
Report = Callable[[str, int, int], None]


def search(request: Request, report: Report) -> Found:
    """Find a recipe, write it to the output and return it. Raises EdgellmError."""
    deadline = time.monotonic() + request.seconds
    files.check_output(request.output, force=request.force)
    with files.storage_errors(request.folder):
        request.folder.mkdir(exist_ok=True)
    engine = EngineOptions(n_ctx=512, n_threads=request.n_threads, n_threads_batch=request.n_threads)
    probe = _probe(request, report)
    imatrix = _imatrix(request, probe, engine, report)
    reference = _reference(request, probe, engine, report)
    with open_model(request.source, "Q8_0") as model:
        every = matrices(model)
        opened = Imatrix.open(imatrix) if imatrix else None
        of = [str(request.source.resolve()), request.n_tokens, files.sha256(imatrix) if imatrix else None]
        state = _State(request.folder / "sensitivity.json", of)
        stop = time.monotonic() + _PROBING * (deadline - time.monotonic())
        for n_bands in _BANDS:
            own = groups(every, n_bands)
            for index, group in enumerate(own):
                if group.name not in state.found and (n_bands == 1 or time.monotonic() < stop):
                    state.add(sensitivity.measure(group, probe.path, reference, engine, opened))
                report(f"sensitivity of {group.name}", index + 1, len(own))
        factors = _factors(every, state.found)
        found = costs.costs(request.source, request.goal, every, factors, opened, request.speeds, report)
    units = costs.units(every, onnx=request.goal.onnx)
    problem = solve.together(found.problem, units)
    choice = solve.solve(problem)
    types = [found.types[choice[unit]] for unit in units]
    lines = solve.as_rules([m.role for m in every], [m.layer for m in every], types)
    kld, nbytes, seconds = problem.totals(choice)
    base = "onnx-int4" if request.goal.onnx else _base(types, every)
    about = f"found by edgellm recipe search for {request.source.resolve().name}: {nbytes / 1e6:.0f} MB of matrices"
    made = recipe_files.write(
        request.output, base, lines, about=about, imatrix=imatrix is not None, force=request.force
    )
    measured = None
    if time.monotonic() < deadline:
        report("verifying", 0, 1)
        measured = _verify(request, made, imatrix, reference, engine)
    machine = found.speeds.machine if found.speeds else ""
    milliseconds = 1e3 * seconds if found.speeds else None
    return Found(made, kld, measured, int(nbytes), milliseconds, machine, tuple(state.found.values()))


class _State:
    """Measured groups, on disk. What was measured of something else is forgotten."""

    def __init__(self, path: Path, identity: Sequence[object]) -> None:
        self.path, self.identity = path, list(identity)
        self.found: dict[str, Measured] = {}
        if path.exists():
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["of"] == self.identity:
                self.found = {each["name"]: Measured(**each) for each in data["groups"]}

    def add(self, measured: Measured) -> None:
        self.found[measured.name] = measured
        data = {"of": self.identity, "groups": [asdict(each) for each in self.found.values()]}
        with files.atomic_path(self.path, force=True) as temporary:
            temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _probe(request: Request, report: Report) -> Artifact:
    path = request.folder / "probe.gguf"
    if not path.exists():
        report("writing a Q8_0 file to probe", 0, 1)
        convert(ConvertRequest(request.source, "Q8_0", path, n_threads=request.n_threads, hash_sources=False))
    return Artifact.open(path)


def _imatrix(request: Request, probe: Artifact, engine: EngineOptions, report: Report) -> Path | None:
    if not request.auto_imatrix:
        return request.imatrix
    path = request.folder / "imatrix.gguf"
    if not path.exists():
        from edgellm import backends
        from edgellm.generation import scoring

        with backends.open_session(probe, engine) as session:
            pieces = scoring.text_chunks(session, text.text(), _IMATRIX_CHUNK)[:_IMATRIX_CHUNKS]
        job = store.Job(
            probe, pieces, text.NAME, path, engine, process_output=True, resume=True, save_every=4
        )
        store.run(job, lambda state: report("calibrating", state.n_chunks, len(pieces)))
    return path


def _reference(request: Request, probe: Artifact, engine: EngineOptions, report: Report) -> CompactReference:
    path = request.folder / f"reference-{request.n_tokens}"
    if path.exists():
        return CompactReference(path)
    report("what the Q8_0 file says", 0, 1)
    pieces = sensitivity.chunks(probe, engine, request.n_tokens)
    return sensitivity.save_reference(path, probe, engine, pieces)


def _factors(every: Sequence[Matrix], found: Mapping[str, Measured]) -> list[float]:
    """Divergence per noise of each matrix, by its finest measured group and its share of the group's weights.

    A group's noise is its members' mean by weights, so a member's share of the factor is that of the weights.
    """
    factors = [0.0] * len(every)
    place = {matrix.name: index for index, matrix in enumerate(every)}
    for n_bands in _BANDS:
        for group in groups(every, n_bands):
            if group.name in found:
                total = sum(member.n_weights for member in group.members)
                for member in group.members:
                    factors[place[member.name]] = found[group.name].factor * member.n_weights / total
    return factors


def _base(types: Sequence[str], every: Sequence[Matrix]) -> str:
    """The type most weights have, whose number the file carries."""
    weights: dict[str, int] = {}
    for type_, matrix in zip(types, every, strict=True):
        if matrix.role != HEAD:
            weights[type_] = weights.get(type_, 0) + matrix.n_weights
    like = {"Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}
    most = max(sorted(weights), key=weights.__getitem__)
    return like.get(most, most)


def _verify(
    request: Request,
    made: RecipeFile,
    imatrix: Path | None,
    reference: CompactReference,
    engine: EngineOptions,
) -> float:
    """The divergence of the model that the recipe makes."""
    path = request.folder / ("candidate" if request.goal.onnx else "candidate.gguf")
    if request.goal.onnx:
        wanted = OnnxRequest(request.source, made.base, path, recipe=made, imatrix=imatrix)
        convert_onnx(replace(wanted, n_threads=request.n_threads, hash_sources=False, force=True))
    else:
        plain = ConvertRequest(request.source, made.base, path, n_threads=request.n_threads)
        convert(replace(plain, recipe=made, imatrix=imatrix, hash_sources=False, force=True))
    try:
        return sensitivity.divergence(path, reference, engine)
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def shown(found: Found) -> list[tuple[Any, ...]]:
    """The sensitivities as a table: group, divergence per noise, the most sensitive first."""
    ordered = sorted(found.sensitivities, key=lambda each: -each.factor)
    return [(each.name, f"{each.factor:.3g}", f"{each.kld:.2g}") for each in ordered]
