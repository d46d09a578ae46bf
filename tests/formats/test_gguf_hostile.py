"""Hostile GGUF files: the reader refuses them in one line, or llama.cpp survives what it lets through."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from gguf_fuzz import field_mutants, random_mutants
from hostile_gguf import STRUCTURED, RawFile

from edgellm.errors import ArtifactError
from edgellm.formats.gguf.check import check_runnable
from edgellm.formats.gguf.reader import read_header

CALLS, CALLS_A_BYTE = 50_000, 0.51  # for one file: the good one takes 2,100, the worst of 400 mutants 8,100
GROWTH_BYTES = 200 << 20  # of the process over all files

#: Loads each file named on its standard input and evaluates a few tokens; says which file it is at. Files outside the
#: verified families are always met in a child first.
ENGINE = """
import sys
from edgellm import backends
from edgellm.backends.worker import open_isolated
from edgellm.formats.artifact import Artifact
from edgellm.errors import EdgellmError
from edgellm.session import EngineOptions
for line in sys.stdin:
    path = line.rstrip("\\n")
    print(path, flush=True)
    try:
        artifact = Artifact.open(path)
        opening = open_isolated if artifact.foreign else backends.open_session
        with opening(artifact, EngineOptions(n_ctx=32, n_threads=1)) as session:
            session.tokenize("Hello 123 <|im_end|>")
            session.eval([1, 2, 3])
    except EdgellmError:
        pass
print("done", flush=True)
"""


def test_the_good_file_is_accepted_taken_apart_and_put_together(good: Path, raw: RawFile) -> None:
    check_runnable(read_header(good))
    assert raw.bytes() == good.read_bytes()


@pytest.mark.parametrize("mutant", STRUCTURED, ids=lambda mutant: mutant.name)
@pytest.mark.fault(3)
def test_structured_fault_is_refused_in_one_line(raw: RawFile, tmp_path: Path, mutant) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(mutant.make(raw))
    error = refusal(path)
    assert error is not None, "accepted"
    assert str(path.parent) in error and "\n" not in error and len(error) < 400


def test_random_mutants(good: Path, tmp_path: Path) -> None:
    check_mutants(good, tmp_path, n=200, seed=1)


@pytest.mark.slow
@pytest.mark.fault(3, 1000)
def test_many_random_mutants(good: Path, tmp_path: Path) -> None:
    check_mutants(good, tmp_path, n=1000, seed=2)


def test_well_formed_files_with_wrong_fields(raw: RawFile, tmp_path: Path) -> None:
    check_files(field_mutants(raw, 80, seed=1), tmp_path, 80)


@pytest.mark.slow
@pytest.mark.fault(3, 1000)
def test_many_well_formed_files_with_wrong_fields(raw: RawFile, tmp_path: Path) -> None:
    check_files(field_mutants(raw, 1000, seed=2), tmp_path, 1000)


def test_header_that_claims_much_costs_little(tmp_path: Path) -> None:
    """Two million empty strings, and a key of a hundred megabytes: at the limits, still quick and small."""
    strings = tmp_path / "strings.gguf"
    n = 2_000_001
    head = b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (1).to_bytes(8, "little")
    key = (1).to_bytes(8, "little") + b"x" + (9).to_bytes(4, "little") + (8).to_bytes(4, "little")
    strings.write_bytes(head + key + n.to_bytes(8, "little") + bytes(8 * n))
    assert refusal(strings) is not None
    strings.write_bytes(head + key + (n - 1).to_bytes(8, "little") + bytes(8 * n))
    assert refusal(strings) is not None  # no architecture
    sparse = tmp_path / "sparse.gguf"
    text = (1).to_bytes(8, "little") + b"x" + (8).to_bytes(4, "little") + (1 << 40).to_bytes(8, "little")
    sparse.write_bytes(head + text)
    os.truncate(sparse, 1 << 41)
    assert refusal(sparse) is not None


def test_things_that_are_no_files(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, tmp_path / "missing.gguf", Path("/dev/zero")):
        assert refusal(path) is not None


def check_mutants(good: Path, folder: Path, n: int, seed: int) -> None:
    header_bytes = read_header(good).data_offset
    check_files(random_mutants(good.read_bytes(), header_bytes, n, seed), folder, n)


def check_files(contents: Iterable[bytes], folder: Path, n: int) -> None:
    """Nothing but ArtifactError from the reader, within time and memory; the engine survives the rest."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted = []
    for index, data in enumerate(contents):
        path = folder / f"mutant-{index}.gguf"
        path.write_bytes(data)
        if refusal(path) is None:
            accepted.append(path)
        else:
            path.unlink()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH_BYTES
    assert 0 < len(accepted) < n
    assert run_engine(accepted) == "done"


def refusal(path: Path) -> str | None:
    """What the reader says against a file; None when it lets it through. Fails when it works too much for it.

    Work is counted in calls of functions, the interpreter's own included: the same on every machine, busy or not.
    """
    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls))
    try:
        check_runnable(read_header(path))
        return None
    except ArtifactError as error:
        return str(error)
    finally:
        sys.setprofile(None)
        size = path.stat().st_size if path.is_file() else 0
        assert next(calls) < CALLS + CALLS_A_BYTE * min(size, 64 << 20)


def run_engine(paths: Iterable[Path]) -> str:
    """The last line the engine's process wrote: `done`, or the file that killed it."""
    listing = "".join(f"{path}\n" for path in paths)
    child = subprocess.run(
        [sys.executable, "-c", ENGINE],
        input=listing,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    last = child.stdout.splitlines()[-1]
    return last if last == "done" else f"{last} ended it with {child.returncode}: {child.stderr[-300:]}"
