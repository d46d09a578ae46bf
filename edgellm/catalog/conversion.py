"""A conversion with its proof and its progress: what `convert` does, and every first use of a checkpoint.

Stands on both sides of the house: `convert` writes, an engine in a process of its own tries what was written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgellm import terminal
from edgellm.errors import CheckFailedError, CheckpointError, EdgellmError, option
from edgellm.units import format_seconds

if TYPE_CHECKING:
    from edgellm.catalog.models import Source
    from edgellm.convert.gguf.adapter import AdapterRequest
    from edgellm.convert.gguf.convert import ConvertRequest
    from edgellm.convert.gguf.stream import Progress
    from edgellm.convert.onnx.writer import OnnxRequest
    from edgellm.formats.artifact import Artifact
    from edgellm.session import EngineOptions, Session

_KV_TEXT_BYTES = 4000  # of calibration text for an int8 KV cache: more tokens than are looked at
_CHECK_SECONDS = 600.0  # for the engine to answer while a file is being verified
_PHASES = {"flush": "writing to disk", "hash": "hashing the source", "verify": "verifying"}


@dataclass(frozen=True)
class Converted:
    """A finished conversion. `verdict` is None when it was not verified, `failure` what made it fail.

    `seconds` are those of all that were made with one reading of the source.
    """

    artifact: Artifact
    verdict: str | None
    failure: CheckFailedError | None
    seconds: float


def run(request: ConvertRequest, *, verify: bool = True, keep_unverified: bool = False) -> Converted:
    """Convert to GGUF, showing progress on standard error when it is a terminal.

    With `keep_unverified` a failed check is returned as `failure` instead of raised, and the file stays.
    """
    (done,) = run_all([request], verify=verify, keep_unverified=keep_unverified)
    if isinstance(done, CheckFailedError):
        raise done
    return done


def run_all(
    requests: Sequence[ConvertRequest], *, verify: bool = True, keep_unverified: bool = False
) -> list[Converted | CheckFailedError]:
    """The same into several types with one reading of the source: what became of each, in order."""
    _one_thread_each()
    from edgellm.convert.gguf.convert import convert_all
    from edgellm.convert.verify import gguf as verifying

    source, lora = requests[0].source, requests[0].lora
    with Display() as display:
        checkers = [
            _Checker(
                lambda path: verifying.verify(path, source, open_engine, display.note, lora=lora),
                keep_unverified,
            )
            for _ in requests
        ]
        start = time.monotonic()
        made = convert_all(
            requests, verify=checkers if verify else None, report=display.weights, tell=terminal.note
        )
        seconds = time.monotonic() - start
    return [
        each if isinstance(each, CheckFailedError) else _finished(each, checker, seconds)
        for each, checker in zip(made, checkers, strict=True)
    ]


def run_onnx(request: OnnxRequest, *, verify: bool = True, keep_unverified: bool = False) -> Converted:
    """The same to an ONNX folder."""
    _one_thread_each()
    if request.options.kv == "int8" and not request.calibration_text:
        from edgellm.calibration import text

        request = replace(request, calibration_text=text.text(_KV_TEXT_BYTES))
    from edgellm.convert.onnx.writer import convert_onnx
    from edgellm.convert.verify.onnx import verify_onnx

    with Display() as display:
        checker = _Checker(
            lambda path: verify_onnx(path, request.source, open_engine, display.note, lora=request.lora),
            keep_unverified,
        )
        start = time.monotonic()
        artifact = convert_onnx(
            request, verify=checker if verify else None, report=display.pace, tell=terminal.note
        )
        return _finished(artifact, checker, time.monotonic() - start)


def convert_checkpoint(source: Path, output: Path, quant: str) -> Artifact:
    """Convert a checkpoint folder into exactly `output`, verified. Raises EdgellmError."""
    from edgellm.convert.onnx import is_onnx

    if is_onnx(quant):
        from edgellm.convert.onnx.writer import OnnxRequest

        return run_onnx(OnnxRequest(source, quant, output, force=True)).artifact
    from edgellm.convert.gguf.convert import ConvertRequest

    return run(ConvertRequest(source=source, quant=quant, output=output, force=True)).artifact


def run_adapter(request: AdapterRequest, *, verify: bool = True) -> Path:
    """Convert a LoRA adapter to GGUF, for use at run time; the written factors are held against their source."""
    from edgellm.convert.gguf.adapter import convert_adapter
    from edgellm.convert.verify.adapter_file import check_file

    def check(path: Path) -> None:
        check_file(path, request.base, request.adapter)

    return convert_adapter(request, check if verify else None)


def with_base(source: str, lora: Path | None, *, offline: bool) -> tuple[Source, Path | None]:
    """What to convert, and the adapter to merge into it: a folder with an adapter alone brings its model.

    Either may be a hub id. Raises CheckpointError when that model is not on this machine, and what locating raises.
    """
    from edgellm.catalog import models
    from edgellm.convert.checkpoint import adapter

    if lora is not None:
        return models.locate(source, offline=offline), adapter_folder(lora, offline=offline)
    if adapter.is_alone(Path(source)):
        return base_of(Path(source)), Path(source)
    found = models.locate(source, offline=offline)
    return (base_of(found.path), found.path) if adapter.is_alone(found.path) else (found, None)


def adapter_folder(lora: Path, *, offline: bool) -> Path:
    """The folder of an adapter given as a folder or a hub id. Raises CheckpointError."""
    from edgellm.catalog import hubs, spellings

    reference = None if lora.exists() else spellings.read(lora.as_posix())
    if reference is None:
        return lora
    return hubs.of(reference.hub).download(reference.repo_id, offline=offline)


def base_of(folder: Path) -> Source:
    """The model that the adapter in `folder` was trained on, where it is on this machine.

    Raises CheckpointError.
    """
    from edgellm.catalog import models
    from edgellm.convert.checkpoint import adapter

    name = adapter.base_name(folder)
    beside = folder / name
    try:
        if not name:
            raise CheckpointError("it names none")
        found = models.locate(str(beside) if beside.is_dir() else name, offline=True)
        if not found.is_checkpoint:
            raise CheckpointError(f"{name} is no checkpoint")
    except EdgellmError as error:
        raise CheckpointError(
            f"{folder} holds an adapter alone, and its model {name or ''} is not on this machine ({error}): give "
            f"the model as well, edgellm convert MODEL --lora {folder}"
        ) from error
    return found


def open_engine(artifact: Artifact, options: EngineOptions) -> Session:
    """An engine in a process of its own: a file that is wrong may take it down."""
    from edgellm.backends.worker import open_isolated

    return open_isolated(artifact, options, timeout_seconds=_CHECK_SECONDS)


class _Verdict(Protocol):
    """What a verifier found, in words."""

    @property
    def text(self) -> str: ...


class _Checker:
    """The verifier a conversion calls; remembers what it said."""

    def __init__(self, verify: Callable[[Path], _Verdict], keep: bool) -> None:
        self._verify, self._keep = verify, keep
        self.verdict: str | None = None
        self.failure: CheckFailedError | None = None

    def __call__(self, path: Path) -> str:
        try:
            self.verdict = self._verify(path).text
        except CheckFailedError as error:
            if not self._keep:
                what = "folder" if path.is_dir() else "file"
                raise CheckFailedError(
                    f"{error}. Nothing was written; {option('keep_unverified')} keeps the {what}"
                ) from error
            self.failure = error
            return f"failed: {error}"
        return f"passed: {self.verdict}"


def _one_thread_each() -> None:
    """Before numpy is imported: its products are thin here, and more threads only spin."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _finished(artifact: Artifact, checker: _Checker, seconds: float) -> Converted:
    if checker.verdict:  # an engine has run it
        from edgellm.backends import trial

        trial.remember(artifact)
    return Converted(artifact, checker.verdict, checker.failure, seconds)


class Display(terminal.Progress):
    """The progress of a conversion."""

    def weights(self, progress: Progress) -> None:
        """Progress of the conversion, by weights."""
        if progress.phase != "quantize":
            return self.note(_PHASES.get(progress.phase, progress.phase))
        share = progress.weights_done / max(progress.weights_total, 1)
        left = progress.seconds_left
        pace = f"{progress.weights_per_second / 1e6:.0f}M weights/s"
        ending = "" if left is None else f"  {format_seconds(left)} left"
        self.show(f"{terminal.bar(share)} {share:4.0%}  {pace}{ending}")

    def pace(self, done: int, total: int, seconds: float) -> None:
        """Progress of weights, for writers that report plain numbers."""
        from edgellm.convert.gguf.stream import Progress

        self.weights(Progress("quantize", done, total, seconds))

    def note(self, what: str) -> None:
        """What is being done now."""
        self.show(f"{what} ...")
