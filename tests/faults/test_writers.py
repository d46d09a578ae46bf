"""Conversions that are killed, fail at any call of the system, meet a full disk, or meet each other."""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fault_rows
import faults
import pytest
import tinymodels

from edgellm import files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, kills and mounts as Linux has them")

#: Converts in a fork of itself for each line it reads, so that a trial costs no start of Python.
SERVER = """
import os, sys
from pathlib import Path
from edgellm.convert.gguf import blocks, convert as gguf, stream
from edgellm.convert.onnx import writer as onnx
from edgellm.errors import EdgellmError
def work(source, quant, output, split):
    if quant.startswith("onnx"):
        onnx.convert_onnx(onnx.OnnxRequest(Path(source), quant, Path(output), n_threads=1, force=True))
    else:
        gguf.convert(gguf.ConvertRequest(Path(source), quant, Path(output), n_threads=1, force=True,
                                         split_max_bytes=int(split) or None))
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(*line.split())
            os._exit(0)
        except EdgellmError as error:
            os.write(2, f"{error}\\n".encode())
            os._exit(error.exit_code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Converter:
    """Conversions one after the other, each in a process of its own that may be killed."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout.readline() == "ready\n"

    def begin(self, source: Path, quant: str, output: Path, split: int = 0) -> int:
        """The process at work."""
        self._server.stdin.write(f"{source} {quant} {output} {split}\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def end(self) -> int:
        """Its exit code; minus the signal that killed it."""
        return int(self._server.stdout.readline())

    def close(self) -> str:
        """What all of them said against it."""
        return self._server.communicate()[1]


@contextmanager
def converters(n: int = 1) -> Iterator[list[Converter]]:
    servers = [Converter() for _ in range(n)]
    try:
        yield servers
    finally:
        for server in servers:
            server.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tinymodels.write(tinymodels.CASES["llama-256"], tmp_path_factory.mktemp("faults") / "source")


def digest(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, our temporary ones apart; the time in a manifest is left out."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): b"" if path.name == "edgellm.json" else path.read_bytes()
        for path in found
        if not any(part.startswith(".edgellm-tmp-") for part in path.relative_to(folder).parts)
    }


KINDS = {
    "file": ("Q8_0", "Q4_K_M", 0),
    "shards": ("Q4_0", "Q4_K_S", 300_000),
    "folder": ("onnx-int8", "onnx-int4", 0),
}


@pytest.mark.wide
@pytest.mark.fault(1, 0)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_a_random_moment_leaves_the_old_output_or_the_new(source, tmp_path, kind, request):
    """The moments are spread over what a conversion takes here and now, so no clock decides what is hit."""
    first, second, split = KINDS[kind]
    out, name = tmp_path / "out", "model" if kind == "folder" else "model.gguf"
    rng, count = random.Random(kind), fault_rows.trials(70, 3)
    with converters() as (server,):
        made, seconds = [], 0.0
        for quant in (first, second):  # as many files each, so that one set takes the place of the other
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            begin = time.monotonic()
            server.begin(source, quant, out / name, split)
            assert server.end() == 0
            seconds = time.monotonic() - begin
            made.append(digest(out))
        old, new = made
        assert old.keys() == new.keys() and old != new
        seen = set()
        for trial in range(count):
            shutil.rmtree(out)
            out.mkdir()
            server.begin(source, first, out / name, split)
            assert server.end() == 0
            child = server.begin(source, second, out / name, split)
            time.sleep(rng.random() * seconds * 1.1 * (trial > 0))
            with contextlib.suppress(ProcessLookupError):  # it was faster
                os.kill(child, signal.SIGKILL)
            server.end()
            files.recover(out)  # as whoever opens or writes next does
            found = digest(out)
            assert found in (old, new)
            seen.add("old" if found == old else "new")
        server.begin(source, second, out / name, split)
        assert server.end() == 0
        assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert "old" in seen
    request.node.user_properties.append(("fault", (1, count)))


CONVERT = (
    "import sys; from pathlib import Path; sys.argv.append('0')\n"
    + SERVER.split('print("ready"')[0]
    + "try:\n"
    "    work(*sys.argv[1:5])\n"
    "except EdgellmError as error:\n"
    "    sys.exit(f'one line: {error}')\n"
)


@pytest.mark.wide
@faults.needed
@pytest.mark.fault(2, 0)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_call_that_fails_leaves_the_old_output(source, tmp_path, kind, code, request):
    """Each write, open, rename, flush and mkdir below the output's folder in turn, to the first clean run."""
    first, second, _ = KINDS[kind]
    out, name = tmp_path / "out", "model" if kind == "folder" else "model.gguf"
    out.mkdir()
    command = [sys.executable, "-c", CONVERT, source, second, out / name]
    total = faults.run(command, faults.Fault(out, 0, code)).n_calls
    shutil.rmtree(out)
    out.mkdir()
    with converters() as (server,):
        server.begin(source, first, out / name)
        assert server.end() == 0
    old = digest(out)
    step = max(1, total // fault_rows.trials(total, 3))
    numbers = range(1, total + 1, step)
    for nth in numbers:
        before = digest(out)
        run = faults.run(command, faults.Fault(out, nth, code))
        if run.code:
            assert run.errors.startswith("one line: ") and run.errors.count("\n") == 1, run.errors
        assert digest(out).keys() == old.keys()
        assert not [path for path in out.iterdir() if path.name.startswith(".")] or not run.code
        if run.code and nth < total - 3:  # the last ones come after the name was given
            assert digest(out) == before
    assert total > 20
    request.node.user_properties.append(("fault", (2, len(numbers))))


@pytest.mark.fault(2, 0)
def test_a_small_disk_that_fills_leaves_the_old_output(source, tmp_path, request):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", disk]).returncode:
        pytest.skip("needs root, to mount a small tmpfs")
    try:
        (disk / "out").mkdir()
        count = fault_rows.trials(20, 2)
        with converters() as (server,):
            server.begin(source, "Q4_0", disk / "out" / "model.gguf")
            assert server.end() == 0
            old = digest(disk / "out")
            free = shutil.disk_usage(disk).free
            for trial in range(count):
                with (disk / "filler").open("wb") as filler:
                    filler.write(bytes(free * trial // count))
                server.begin(source, "F32", disk / "out" / "model.gguf")
                assert server.end() == 1
                assert digest(disk / "out") == old
                assert [path.name for path in (disk / "out").iterdir()] == ["model.gguf"]
    finally:
        subprocess.run(["umount", disk], check=True)
    request.node.user_properties.append(("fault", (2, count)))


@pytest.mark.fault(9, 0)
def test_writers_at_the_same_time_leave_one_whole_output_and_say_why(source, tmp_path, request):
    out = tmp_path / "out"
    out.mkdir()
    quants = ("Q8_0", "Q4_0", "Q4_K_M", "Q5_0")
    rounds = fault_rows.trials(50, 3)
    with converters(4) as servers:
        wanted = []
        for server, quant in zip(servers, quants, strict=True):
            server.begin(source, quant, out / "model.gguf")
            assert server.end() == 0
            wanted.append((out / "model.gguf").read_bytes())
        codes = []
        for _ in range(rounds):
            for server, quant in zip(servers, quants, strict=True):
                server.begin(source, quant, out / "model.gguf")
            ended = [server.end() for server in servers]
            assert set(ended) <= {0, 1} and 0 in ended
            assert (out / "model.gguf").read_bytes() in [
                w for w, code in zip(wanted, ended, strict=True) if code == 0
            ]
            assert [path.name for path in out.iterdir()] == ["model.gguf"]
            codes += ended
        said = "".join(server.close() for server in servers).splitlines()
    refused = [line for line in said if "is being written by another process; wait for it to finish" in line]
    assert len(said) == len(refused) == codes.count(1)
    request.node.user_properties.append(("fault", (9, rounds)))
