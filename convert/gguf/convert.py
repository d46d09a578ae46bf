"""Conversion to GGUF, the whole of it: source, plan, output, verification, name. One call, one artifact.

Knows the order of things; each step is in a module of its own. Never imports the runtime: what verifies the
result is passed in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm import files
from edgellm.convert.gguf import provenance
from edgellm.convert.gguf.plan import Plan, QuantOptions, make_plan
from edgellm.convert.gguf.recipes import canonical
from edgellm.convert.gguf.source_model import SourceModel, open_model
from edgellm.convert.gguf.writer import Layout, TensorEntry, encode, layout, shard_name, split, split_keys
from edgellm.errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from edgellm.convert.gguf.blocks import Buffers, Item
    from edgellm.convert.gguf.imatrix import Imatrix
    from edgellm.convert.gguf.stream import Progress
    from edgellm.convert.recipes.recipe import RecipeFile
    from edgellm.formats.artifact import Artifact

#: Checks the finished file, still under a temporary name, and gives the verdict to record in it. To refuse the
#: file it raises CheckFailedError; then nothing gets the output's name.
Verifier = Callable[[Path], str]

#: Memory for buffers when the user sets no bound; a few threads need far less.
DEFAULT_BUFFER_BYTES = 256 << 20


@dataclass(frozen=True)
class ConvertRequest:
    """What to convert, into what, and how."""

    source: Path  # a checkpoint folder or a GGUF file
    quant: str = "Q8_0"  # any spelling of a recipe's name
    output: Path | None = None  # a file, or a folder for the conventional name; None: that in the current one
    pure: bool = False  # every matrix in the recipe's base type
    output_type: str | None = None  # ggml type of output.weight
    token_embd_type: str | None = None  # ggml type of token_embd.weight
    tensor_types: tuple[tuple[str, str], ...] = ()  # (regular expression, ggml type), the first match counts
    recipe: RecipeFile | None = None  # its base is `quant`
    imatrix: Path | None = None
    max_ram: int | None = None  # bytes of resident memory the whole process may take
    n_threads: int | None = None  # None: one per core
    split_max_bytes: int | None = None  # cut the output into files of so much tensor data at most
    allow_requantize: bool = False
    lora: Path | None = None  # folder of a PEFT adapter to merge
    ignore_adapter: bool = False  # convert without the adapter that lies beside the weights
    hash_sources: bool = True
    force: bool = False  # replace an output that is there


@dataclass(frozen=True)
class Preview:
    """What a conversion would write."""

    plan: Plan
    files: tuple[tuple[Path, int], ...]  # (path, bytes)
    remarks: tuple[str, ...] = ()  # what is left out and what kept

    @property
    def total_bytes(self) -> int:
        """Bytes of all files, to the byte."""
        return sum(size for _, size in self.files)


@dataclass(frozen=True)
class _Job:
    """A request with everything decided that can be before weights are read."""

    request: ConvertRequest
    model: SourceModel = field(repr=False)
    imatrix: Imatrix | None
    plan: Plan = field(repr=False)
    paths: tuple[Path, ...]
    layouts: tuple[Layout, ...] = field(repr=False)

    @property
    def files(self) -> list[tuple[Path, Layout]]:
        return list(zip(self.paths, self.layouts, strict=True))

    @property
    def preview(self) -> Preview:
        sizes = tuple((path, place.size) for path, place in self.files)
        return Preview(self.plan, sizes, self.model.remarks)


def preview(request: ConvertRequest) -> Preview:
    """The plan, the files and their exact sizes, without writing. Raises as `convert` does."""
    return previews([request])[0]


def previews(requests: Sequence[ConvertRequest]) -> list[Preview]:
    """The same of several types of one source, which is opened once."""
    with _prepare(requests) as jobs:
        return [job.preview for job in jobs]


def convert(
    request: ConvertRequest,
    *,
    verify: Verifier | None = None,
    report: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Convert and return the artifact (its first file). `report` is called about ten times a second.

    `tell` gets a line for each part of the source that is left out or kept where that is not a matter of course.

    Raises CheckpointError, ArtifactError (an unusable source), UsageError (a request that cannot be met),
    OutputExistsError, StorageError, and what `verify` raises. Whatever it raises, no output has appeared and
    one that was there is unchanged; a set of several files that a kill caught in the moment of renaming is
    finished by whoever looks next.
    """
    (done,) = convert_all([request], verify=[verify] if verify else None, report=report, tell=tell)
    if isinstance(done, CheckFailedError):
        raise done
    return done


def convert_all(
    requests: Sequence[ConvertRequest],
    *,
    verify: Sequence[Verifier] | None = None,
    report: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Artifact | CheckFailedError]:
    """One source into several outputs that differ in type: every weight is read, checked and widened once.

    What `convert` says holds for each; one that fails its proof is told of in its place, and the others stay.
    `verify` has a verifier for each. Raises as `convert` does for what concerns all: then nothing is written.
    """
    from edgellm.formats.artifact import Artifact

    failures: dict[int, CheckFailedError] = {}
    with _prepare(requests) as jobs:
        _check_outputs(jobs)
        for remark in jobs[0].model.remarks:
            tell(remark)

        def grow(index: int, growing: list[Path]) -> None:
            """Make a place for output `index` and those before it, write them all, and let this one get its name."""
            if index < 0:
                return _write(jobs, growing[::-1], report)
            job, check = jobs[index], verify[index] if verify else None
            place = files.atomic_path(
                job.paths[0],
                force=job.request.force,
                validate=lambda path: _prove(job, path, check, report),
                others=job.paths[1:],
            )
            try:
                with place as temporary:
                    grow(index - 1, [*growing, temporary])
            except CheckFailedError as error:  # of this one's proof: the others have nothing to do with it
                failures[index] = error

        grow(len(jobs) - 1, [])
        first = [job.paths[0] for job in jobs]
    return [failures.get(index) or Artifact.open(path) for index, path in enumerate(first)]


def _prove(
    job: _Job, temporary: Path, verify: Verifier | None, report: Callable[[Progress], None] | None
) -> None:
    """Check an output that is all there and write the verdict into it. Raises what `verify` raises."""
    if verify is None:
        return
    _tell(report, "verify", job.plan.n_weights)
    verdict = _verdict(verify(temporary))
    with files.storage_errors(job.paths[0]):
        _patch(temporary, job.layouts[0], provenance.VERIFICATION_KEY, *verdict)


def _check_outputs(jobs: Sequence[_Job]) -> None:
    """Raises UsageError, OutputExistsError, StorageError."""
    paths = [path for job in jobs for path in job.paths]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise UsageError(
            f"two of the types would be written to {twice}: name each once, and give -o a folder"
        )
    for job in jobs:
        for path in job.paths:
            files.check_output(path, force=job.request.force)
    files.check_space(paths[0].parent, sum(job.preview.total_bytes for job in jobs))


@contextlib.contextmanager
def _prepare(requests: Sequence[ConvertRequest]) -> Iterator[list[_Job]]:
    """Open the source, plan, and lay out the files."""
    first = requests[0]
    with open_model(
        first.source,
        canonical(first.quant),
        allow_requantize=first.allow_requantize,
        lora=first.lora,
        ignore_adapter=first.ignore_adapter,
    ) as model:
        imatrix = _open_imatrix(first.imatrix)
        yield [_job(request, model.of_type(canonical(request.quant)), imatrix) for request in requests]


def _job(request: ConvertRequest, model: SourceModel, imatrix: Imatrix | None) -> _Job:
    options = QuantOptions(
        canonical(request.quant),
        request.pure,
        _upper(request.output_type),
        _upper(request.token_embd_type),
        tuple((pattern, type_.upper()) for pattern, type_ in request.tensor_types),
        tuple(replace(rule, type=rule.type.upper()) for rule in request.recipe.patterns)
        if request.recipe
        else (),
    )
    sizes = imatrix.sizes if imatrix else None
    plan = make_plan([tensor.info for tensor in model.tensors], model.facts, options, sizes)
    keys = dict(model.key_values) | _imatrix_keys(imatrix) | _provenance(request, plan, model, imatrix)
    runs = split([_entry(tensor) for tensor in plan.tensors], request.split_max_bytes)
    stem = model.stem_of(request.recipe.name) if request.recipe else model.stem
    paths = _paths(request, stem, len(runs))
    return _Job(request, model, imatrix, plan, paths, tuple(_layouts(keys, runs)))


def _write(jobs: Sequence[_Job], firsts: Sequence[Path], report: Callable[[Progress], None] | None) -> None:
    """Write all files of each output into the folder of its first, headers and weights, hashes filled in."""
    from edgellm.convert.gguf import stream

    model, request = jobs[0].model, jobs[0].request
    with ExitStack() as stack:
        fds = [
            [_create(first.parent / path.name, place, stack) for path, place in job.files]
            for job, first in zip(jobs, firsts, strict=True)
        ]
        items = _items(jobs, fds)
        buffers = _buffers(request, items)
        hasher = provenance.Hasher(model.files) if request.hash_sources else None
        if hasher:
            stack.callback(hasher.stop)
        stream.run(items, buffers, jobs[0].imatrix, report)
        if hasher:
            _tell(report, "hash", jobs[0].plan.n_weights)
            old, new = (provenance.source_text(model.files, hashes) for hashes in (None, hasher.result()))
            for job, first in zip(jobs, firsts, strict=True):
                _patch(first, job.layouts[0], provenance.SOURCE_KEY, old, new)
        _tell(report, "flush", jobs[0].plan.n_weights)
        for fd in (fd for own in fds for fd in own):
            os.fsync(fd)


def _items(jobs: Sequence[_Job], fds: Sequence[Sequence[int]]) -> list[Item]:
    """What each tensor becomes in each output, in the order of the first: all have the same tensors."""
    from edgellm.convert.gguf.blocks import Item, Target

    sources = {tensor.info.name: tensor for tensor in jobs[0].model.tensors}
    targets: dict[str, list[Target]] = {}
    for job, own in zip(jobs, fds, strict=True):
        places = {
            name: (fd, at)
            for fd, place in zip(own, job.layouts, strict=True)
            for name, at in place.offsets.items()
        }
        for tensor in job.plan.tensors:
            targets.setdefault(tensor.name, []).append(Target(tensor, *places[tensor.name]))
    return [Item(sources[name], tuple(own)) for name, own in targets.items()]


def _buffers(request: ConvertRequest, items: Sequence[Item]) -> Buffers:
    """As much memory as the work can use, and no more than the user allows the process at its highest."""
    from edgellm.convert.gguf.blocks import choose_buffers, resident_bytes
    from edgellm.machine import hardware

    n_threads = hardware.threads(request.n_threads)
    spent, peak = resident_bytes()
    if request.max_ram is None:
        return choose_buffers(items, n_threads, spent + DEFAULT_BUFFER_BYTES, spent)
    return choose_buffers(items, n_threads, request.max_ram, spent, peak)


def _create(path: Path, place: Layout, stack: ExitStack) -> int:
    """A file of its full size: header written, the rest zeros that take no space until written."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    stack.callback(os.close, fd)
    os.truncate(fd, place.size)
    view = memoryview(place.header)
    while view:
        view = view[os.write(fd, view) :]
    return fd


def _patch(path: Path, place: Layout, key: str, old: str, new: str) -> None:
    start, data = provenance.fill(place.header, key, old, new)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def _verdict(text: str) -> tuple[str, str]:
    return provenance.verdict_text(provenance.NOT_VERIFIED), provenance.verdict_text(text)


def _paths(request: ConvertRequest, stem: str, count: int) -> tuple[Path, ...]:
    output = request.output or Path()
    if request.output is None or output.is_dir():
        output = output / f"{stem}.gguf"
    if count == 1:
        return (output,)
    return tuple(output.with_name(shard_name(output.name, number, count)) for number in range(count))


def _layouts(keys: dict[str, bytes], runs: Sequence[Sequence[TensorEntry]]) -> Iterator[Layout]:
    """Metadata goes into the first file alone, as llama.cpp has it."""
    n_tensors = sum(map(len, runs))
    for number, run in enumerate(runs):
        own = split_keys(number, len(runs), n_tensors) if len(runs) > 1 else {}
        yield layout((keys if number == 0 else {}) | own, run)


def _entry(tensor: Any) -> TensorEntry:
    return TensorEntry(tensor.name, tensor.shape, tensor.type, tensor.nbytes)


def _open_imatrix(path: Path | None) -> Imatrix | None:
    from edgellm.convert.gguf.imatrix import Imatrix

    return Imatrix.open(path) if path else None


def _imatrix_keys(imatrix: Imatrix | None) -> dict[str, bytes]:
    """What llama.cpp's quantize tool records of an importance matrix; the file's name without its folder."""
    if imatrix is None:
        return {}
    keys = {"quantize.imatrix.file": encode("str", imatrix.path.name)}
    if imatrix.datasets:
        keys["quantize.imatrix.dataset"] = encode("str", imatrix.datasets[0])
    keys["quantize.imatrix.entries_count"] = encode("u32", len(imatrix.sizes))
    if imatrix.chunk_count:
        keys["quantize.imatrix.chunks_count"] = encode("u32", imatrix.chunk_count)
    return keys


def _provenance(
    request: ConvertRequest, plan: Plan, model: SourceModel, imatrix: Imatrix | None
) -> dict[str, bytes]:
    from edgellm.convert.gguf import ggml

    options = plan.options
    recipe: dict[str, Any] = {"type": options.type, "source": model.kind}
    chosen = {
        "pure": options.pure,
        "output_type": options.output_type,
        "token_embd_type": options.token_embd_type,
        "tensor_types": list(options.tensor_types),
        "imatrix_sha256": files.sha256(imatrix.path) if imatrix else None,
        "recipe": request.recipe.record if request.recipe else None,
        "requantized": request.allow_requantize,
        "lora": model.adapter,
    }
    recipe |= {name: value for name, value in chosen.items() if value}
    hashed = model.files if request.hash_sources else ()
    return provenance.key_values(recipe, hashed, f"ggml {ggml.version()}")


def _tell(report: Callable[[Progress], None] | None, phase: str, n_weights: int) -> None:
    from edgellm.convert.gguf.stream import Progress

    if report:
        report(Progress(phase, n_weights, n_weights, 0.0))


def _upper(name: str | None) -> str | None:
    return name.upper() if name else None
