"""Answers as they are kept: appended to `<output>.part` row by row, under the output's own name when all are there.

A kill leaves whole rows and at most one torn one at the end, which is cut by who goes on. Of two rows with one
custom_id - an error, and the answer when it was asked again - the later holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from edgellm import files
from edgellm.batch.answer import CRASHED, Answer
from edgellm.errors import EdgellmError, OutputExistsError, StorageError, UsageError
from edgellm.terminal import emit

_SYNC_SECONDS = 5.0  # a machine that loses power loses at most the rows of so long


class Sink(Protocol):
    """Where answers go."""

    answered: set[str]  # custom_ids that need not be asked: an earlier run did
    n_errors: int  # of these, error rows

    def add(self, answer: Answer) -> None:
        """Take one."""
        ...

    def finish(self, order: Iterable[str] | None) -> None:
        """All are there; `order` is that of their custom_ids in which they are wanted, None: as they came."""
        ...


class Printed:
    """Standard output, where nothing can be kept for another run."""

    def __init__(self) -> None:
        self.answered: set[str] = set()
        self.n_errors = 0
        self._stdout = sys.stdout

    def add(self, answer: Answer) -> None:
        """Print a row."""
        emit(answer.line().decode(), self._stdout)

    def finish(self, order: Iterable[str] | None) -> None:
        """Nothing is left to do."""


@dataclass
class _Kept:
    """What is in a file of answers."""

    places: dict[str, int] = field(
        default_factory=dict
    )  # where the row of a custom_id begins: the last of them
    answered: set[str] = field(default_factory=set)
    n_errors: int = 0  # of the answered
    n_rows: int = 0
    n_bytes: int = 0  # of whole rows


class Journal:
    """The answers of one output, in a file. Made by `journal`."""

    def __init__(self, output: Path, file: IO[bytes], kept: _Kept) -> None:
        self.output, self._file, self._kept = output, file, kept
        self.answered, self.n_errors = kept.answered, kept.n_errors
        self._synced = time.monotonic()

    @property
    def n_rows(self) -> int:
        """Rows that have an answer."""
        return len(self._kept.places)

    def add(self, answer: Answer) -> None:
        """Append a row. Raises StorageError."""
        line, kept = answer.line(), self._kept
        with files.storage_errors(self.output):
            n_written = 0
            while n_written < len(line):
                n_written += self._file.write(line[n_written:])
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        kept.places[answer.custom_id] = kept.n_bytes
        kept.n_bytes += len(line)
        kept.n_rows += 1

    def finish(self, order: Iterable[str] | None) -> None:
        """Give the answers their name. Raises StorageError."""
        part, places = part_of(self.output), self._kept.places
        with files.storage_errors(self.output):
            os.fsync(self._file.fileno())
            self._file.close()
            if order is None and self._kept.n_rows == len(places):
                part.replace(self.output)
                return
        with (
            files.atomic_path(self.output, force=True) as temporary,
            temporary.open("wb") as to,
            part.open("rb") as source,
        ):
            for place in sorted(places.values()) if order is None else map(places.__getitem__, order):
                source.seek(place)
                to.write(source.readline())
        part.unlink()


@contextlib.contextmanager
def journal(
    output: Path, ids: Mapping[str, str], *, force: bool = False, resume: bool = False
) -> Iterator[Journal]:
    """The answers of `output`: a new file, or with `resume` what an earlier run left. It is this process's alone.

    `ids` are those of the rows that are asked, by custom_id. Raises OutputExistsError where there are answers and
    neither `force` nor `resume` is given, UsageError where those of an earlier run are of other rows, StorageError.
    """
    check(output, force=force, resume=resume)
    part = part_of(output)
    earlier = part if part.exists() else output
    kept = _kept(earlier, ids) if resume and earlier.exists() else _Kept()
    with files.storage_errors(output):
        if resume and earlier.exists():
            earlier.replace(part)
        with part.open("ab", buffering=0) as file:
            try:
                files.flock(file.fileno())
            except BlockingIOError:
                raise StorageError(
                    f"{part} is being written by another process; wait for it to end"
                ) from None
            file.truncate(kept.n_bytes)
            try:
                yield Journal(output, file, kept)
            finally:
                if not kept.n_rows:
                    part.unlink()


def check(output: Path, *, force: bool, resume: bool) -> None:
    """Refuse early. Raises OutputExistsError, StorageError."""
    part = part_of(output)
    if part.exists() and not (force or resume):
        raise OutputExistsError(
            f"{part} holds the answers of a run that ended early: --resume goes on with it, --force starts over"
        )
    if output.exists() and not (force or resume):
        raise OutputExistsError(
            f"{output} exists: --resume asks what is not answered there, --force replaces it; or give another -o"
        )
    files.check_output(output, force=True)


def part_of(output: Path) -> Path:
    """Where the answers grow."""
    return output.with_name(f"{output.name}.part")


def _kept(path: Path, ids: Mapping[str, str]) -> _Kept:
    """The rows of a run that ended early. Raises UsageError for one that was asked otherwise, EdgellmError."""
    kept = _Kept()
    with path.open("rb") as file:
        for line in file:
            row = _row(line)
            if row is None and file.readline():
                raise EdgellmError(
                    f"line {kept.n_rows + 1} of {path} is no answer of a batch; give another -o"
                )
            if row is None:
                break  # it was being written
            custom_id = row["custom_id"]
            if ids.get(custom_id) != row["id"]:
                what = "was asked otherwise" if custom_id in ids else "is not among the rows any more"
                raise UsageError(
                    f"{custom_id[:120]!r} in {path} {what}: the input, its settings or the model changed since; "
                    "--force starts over, or give another -o"
                )
            kept.places[custom_id] = kept.n_bytes
            kept.n_bytes += len(line)
            kept.n_rows += 1
            error, response = row["error"] or {}, row["response"] or {}
            if error.get("code") == CRASHED:
                continue  # and is asked again
            kept.answered.add(custom_id)
            kept.n_errors += bool(error) or response.get("status_code") != 200
    return kept


def _row(line: bytes) -> dict[str, Any] | None:
    """A row as it was written, None where it is torn."""
    with contextlib.suppress(ValueError):
        row = json.loads(line) if line.endswith(b"\n") else None
        if isinstance(row, dict) and {"id", "custom_id", "response", "error"} <= row.keys():
            return row
    return None
