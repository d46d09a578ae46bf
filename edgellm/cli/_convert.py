"""Converting with verification and progress on the screen: what `convert` does, and every first use of a checkpoint."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.errors import CheckFailedError
from edgellm.units import format_seconds

if TYPE_CHECKING:
    from edgellm.artifact import Artifact
    from edgellm.convert.convert import ConvertRequest
    from edgellm.convert.stream import Progress
    from edgellm.session import EngineOptions, Session

_BAR = 24  # characters
_CHECK_SECONDS = 600.0  # for the engine to answer while a file is being verified
_PHASES = {"flush": "writing to disk", "hash": "hashing the source", "verify": "verifying"}


@dataclass(frozen=True)
class Converted:
    """A finished conversion. `verdict` is None when it was not verified, `failure` what made it fail."""

    artifact: Artifact
    verdict: str | None
    failure: CheckFailedError | None
    seconds: float


def convert_checkpoint(source: Path, output: Path, quant: str) -> Artifact:
    """Convert a checkpoint folder into exactly `output`, verified. Raises EdgellmError."""
    from edgellm.convert.convert import ConvertRequest

    return run(ConvertRequest(source=source, quant=quant, output=output, force=True)).artifact


def run(request: ConvertRequest, *, verify: bool = True, keep_unverified: bool = False) -> Converted:
    """Convert, showing progress on standard error when it is a terminal.

    With `keep_unverified` a failed check is returned as `failure` instead of raised, and the file stays.
    """
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # numpy's products are thin here: more threads only spin
    from edgellm.convert.convert import convert

    start, display = time.monotonic(), Display()
    checker = _Checker(request, display, keep_unverified)
    try:
        artifact = convert(request, verify=checker if verify else None, report=display.show)
    finally:
        display.clear()
    return Converted(artifact, checker.verdict, checker.failure, time.monotonic() - start)


class _Checker:
    """The verifier `convert` calls; remembers what it said."""

    def __init__(self, request: ConvertRequest, display: Display, keep: bool) -> None:
        self._request, self._display, self._keep = request, display, keep
        self.verdict: str | None = None
        self.failure: CheckFailedError | None = None

    def __call__(self, path: Path) -> str:
        from edgellm.convert.verify import verify

        try:
            found = verify(path, self._request.source, open_engine, self._display.note)
        except CheckFailedError as error:
            if not self._keep:
                raise CheckFailedError(
                    f"{error}. Nothing was written; --keep-unverified keeps the file"
                ) from error
            self.failure = error
            return f"failed: {error}"
        self.verdict = found.text
        return f"passed: {found.text}"


def open_engine(artifact: Artifact, options: EngineOptions) -> Session:
    """An engine in a process of its own: a file that is wrong may take it down."""
    from edgellm.worker import open_isolated

    return open_isolated(artifact, options, timeout_seconds=_CHECK_SECONDS)


class Display:
    """One line on a terminal, drawn over and over; silent elsewhere."""

    def __init__(self) -> None:
        self._on = sys.stderr is not None and sys.stderr.isatty()
        self._shown = False

    def show(self, progress: Progress) -> None:
        """Progress of the conversion."""
        if progress.phase != "quantize":
            return self.note(_PHASES.get(progress.phase, progress.phase))
        share = progress.weights_done / max(progress.weights_total, 1)
        bar = ("#" * round(share * _BAR)).ljust(_BAR, ".")
        left = progress.seconds_left
        pace = f"{progress.weights_per_second / 1e6:.0f}M weights/s"
        self._draw(f"[{bar}] {share:4.0%}  {pace}{'' if left is None else f'  {format_seconds(left)} left'}")

    def pace(self, done: int, total: int, seconds: float) -> None:
        """Progress of weights, for writers that report plain numbers."""
        from edgellm.convert.stream import Progress

        self.show(Progress("quantize", done, total, 0, seconds))

    def note(self, what: str) -> None:
        """What is being done now."""
        self._draw(f"{what} ...")

    def clear(self) -> None:
        """Leave the line empty for what comes next."""
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._shown = False

    def _draw(self, text: str) -> None:
        if self._on:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
            self._shown = True
