"""Whatever happens while converting, the output is the old file or the finished new one."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tinymodels

from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.gguf.writer import TensorEntry, encode, layout
from edgellm.errors import CheckFailedError, OutputExistsError, StorageError
from edgellm.formats.gguf.reader import read_header
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME

CHILD = """
import sys
from pathlib import Path
from edgellm.convert.gguf.convert import ConvertRequest, convert
source, output, split = sys.argv[1:]
print("ready", flush=True)
convert(ConvertRequest(Path(source), "Q4_K_M", Path(output), n_threads=2, force=True,
                       split_max_bytes=int(split) or None))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tinymodels.write(tinymodels.CASES["llama-256"], tmp_path_factory.mktemp("faults") / "source")


@pytest.fixture
def old(tmp_path, source) -> Path:
    """An output of an earlier conversion."""
    return convert(ConvertRequest(source, "Q8_0", tmp_path / "out" / "model.gguf")).path


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "out").mkdir()


def start(source: Path, output: Path, split: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-c", CHILD, str(source), str(output), str(split)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    return child


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill_at_random_times(source: Path, old: Path, trials: int, seconds: float) -> set[str]:
    """Kill conversions over an existing file; after each it is whole, one of the two. Returns which were seen."""
    before = old.read_bytes()
    new = convert(ConvertRequest(source, "Q4_K_M", old.parent / "other.gguf", n_threads=2)).path
    after = new.read_bytes()
    new.unlink()
    rng, seen = random.Random(0), set()
    for _ in range(trials):
        old.write_bytes(before)
        child = start(source, old)
        time.sleep(rng.random() * seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        child.stderr.close()
        found = old.read_bytes()
        assert found in (before, after)
        seen.add("old" if found == before else "new")
    convert(ConvertRequest(source, "Q4_K_M", old, force=True))
    assert left_in(old.parent) == [old.name]
    return seen


def test_a_kill_leaves_the_old_file_and_the_next_run_sweeps(source, old):
    assert "old" in kill_at_random_times(source, old, trials=3, seconds=0.15)


def test_a_kill_never_leaves_a_mixture_of_old_and_new_shards(source, tmp_path):
    folder = tmp_path / "out"
    output = folder / "model.gguf"
    whole = convert(ConvertRequest(source, "Q4_K_M", tmp_path / "w.gguf", split_max_bytes=200_000)).path
    names = [path.name.replace("w-", "model-") for path in read_header(whole).shard_paths()]
    for delay in (0.02, 0.1, 0.3):
        child = start(source, output, split=200_000)
        time.sleep(delay)
        child.kill()
        child.communicate()
        first = folder / names[0]
        assert not first.exists() or len(read_header(first).shard_paths()) == len(names)


@pytest.mark.parametrize("nth", [1, 2, 7, 20])
def test_a_failing_write_leaves_the_old_file(source, old, monkeypatch, nth):
    """The disk fills up at the nth block: os.pwrite is where the operating system says so."""
    before, real, calls = old.read_bytes(), os.pwrite, []

    def pwrite(fd, data, offset):
        calls.append(offset)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(StorageError, match="No space left on device; free some space, or give another path"):
        convert(ConvertRequest(source, "Q4_K_M", old, force=True))
    assert old.read_bytes() == before
    assert left_in(old.parent) == [old.name]


def test_a_file_size_limit_leaves_the_old_file(source, old):
    before = old.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="File too large; the file-size limit is too small"):
            convert(ConvertRequest(source, "Q4_K_M", old, force=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert old.read_bytes() == before
    assert left_in(old.parent) == [old.name]


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path):
    """A model of 13 TB in a file that is one hole."""
    shape, bf16 = (1 << 21, 1 << 20), GGML_TYPES_BY_NAME["BF16"]
    numbers = {"block_count": 1, "attention.head_count": 1, "attention.head_count_kv": 1}
    keys = {"general.architecture": encode("str", "llama")}
    keys |= {
        f"tokenizer.ggml.{key}": encode("str", name)
        for key, name in (("model", "gpt2"), ("pre", "llama-bpe"))
    }
    keys |= {f"llama.{key}": encode("u32", value) for key, value in numbers.items()}
    tensors = [TensorEntry(f"blk.{i}.ffn_up.weight", shape, bf16, 2 * shape[0] * shape[1]) for i in range(3)]
    place = layout(keys, tensors)
    with (tmp_path / "huge.gguf").open("wb") as file:
        file.write(place.header)
        try:
            file.truncate(place.size)
        except OSError:
            pytest.skip("this file system has no files of 13 TB")
    with pytest.raises(StorageError, match=r"not enough space in .*: 7,\d+,\d+,\d+,\d+ bytes needed"):
        convert(ConvertRequest(tmp_path / "huge.gguf", "Q8_0", tmp_path / "out" / "model.gguf"))
    assert left_in(tmp_path / "out") == []


def test_two_writers_of_one_output_do_not_meet(source, old):
    first = start(source, old)
    deadline = time.monotonic() + 30
    refused = None
    while refused is None and first.poll() is None and time.monotonic() < deadline:
        try:
            convert(ConvertRequest(source, "Q4_K_M", old, force=True))
        except StorageError as error:
            refused = str(error)
    _, stderr = first.communicate()
    messages = f"{refused}{stderr.decode()}"
    assert "is being written by another process; wait for it to finish" in messages
    assert read_header(old).get("general.file_type") == 15
    assert left_in(old.parent) == [old.name]


def test_an_output_that_exists_is_refused_before_work_begins(source, old):
    def never(_):
        raise AssertionError("work was done")

    with pytest.raises(OutputExistsError, match="exists; give --force to replace it"):
        convert(ConvertRequest(source, "Q4_K_M", old), report=never)


def test_a_failed_verification_leaves_no_file_and_a_passed_one_is_recorded(source, old):
    before = old.read_bytes()

    def refuse(path: Path) -> str:
        assert read_header(path).get("edgellm.verification").strip() == "not verified"
        raise CheckFailedError("logits: NMSE 0.5 where 0.02 is the bound")

    with pytest.raises(CheckFailedError, match=r"NMSE 0\.5"):
        convert(ConvertRequest(source, "Q4_K_M", old, force=True), verify=refuse)
    assert old.read_bytes() == before
    assert left_in(old.parent) == [old.name]
    artifact = convert(ConvertRequest(source, "Q4_K_M", old, force=True), verify=lambda _: "passed: 量化 ok")
    assert artifact.provenance["edgellm.verification"].strip() == "passed: 量化 ok"


def test_an_interrupt_stops_the_threads_and_leaves_nothing(source, tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(ConvertRequest(source, "Q4_K_M", tmp_path / "out" / "model.gguf"), report=interrupt)
    assert left_in(tmp_path / "out") == []
