"""Memory phases: on this very process where it is Linux, on recorded /proc files everywhere."""

import mmap
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgellm.profiles.measure import memory
from edgellm.profiles.measure.memory import MemoryWatch
from edgellm.profiles.result.result import MemoryPhase, MemorySplit
from edgellm.session import Buffers

MIB = 1 << 20
on_linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")


@on_linux
def test_a_peak_between_two_looks_is_seen_and_belongs_to_its_phase():
    watch = MemoryWatch()
    block = bytearray(b"x") * (64 * MIB)  # gone again before anyone samples
    del block
    risen = watch.end_phase("risen")
    calm = watch.end_phase("calm")
    if watch.record().peak_scope != "phase":
        pytest.skip("clear_refs may not be written here")
    assert risen.peak - risen.resident > 50 * MIB
    assert calm.peak - calm.resident < 8 * MIB


@on_linux
def test_mapped_weights_are_told_from_anonymous_memory(tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(range(256)) * (32 * MIB // 256))
    watch = MemoryWatch([weights])
    before = watch.end_phase("before")
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        sum(mapped[offset] for offset in range(0, len(mapped), 4096))
        after = watch.end_phase("after")
    assert before.weights_mapped == 0
    assert after.weights_mapped == 32 * MIB
    assert after.file - before.file == pytest.approx(32 * MIB, abs=2 * MIB)
    assert abs(after.anonymous - before.anonymous) < 4 * MIB
    assert after.resident == after.anonymous + after.file


SMAPS = """\
55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
Rss:                  40 kB
Anonymous:            40 kB
7f0000000000-7f0000800000 r--s 00000000 08:01 1234                       /models/my model.gguf
Size:               8192 kB
Rss:                4096 kB
Anonymous:             0 kB
7f0000800000-7f0000801000 r--s 00800000 08:01 1234                       /models/my model.gguf
Rss:                   4 kB
7f0000900000-7f0000901000 rw-p 00000000 00:00 0
Rss:                   8 kB
VmFlags: rd wr mr mw me ac
"""


def test_smaps_are_read_by_mapping():
    found = list(memory.mappings(SMAPS.splitlines(keepends=True)))
    model = "/models/my model.gguf"
    assert found == [("[heap]", 40960), (model, 4194304), (model, 4096), ("", 8192)]


def proc_tree(root: Path) -> Path:
    (root / "status").write_text("Name:\tpython\nVmHWM:\t    9000 kB\nVmRSS:\t    8000 kB\n")
    (root / "smaps_rollup").write_text(
        "0-f ---p 00000000 00:00 0 [rollup]\nRss: 8000 kB\nPss: 5000 kB\nAnonymous: 3000 kB\nSwap: 16 kB\n"
    )
    return root


def test_a_kernel_that_refuses_the_reset_gives_process_peaks_and_says_so(tmp_path):
    proc = proc_tree(tmp_path)
    (proc / "clear_refs").mkdir()  # cannot be written, whoever we are
    watch = MemoryWatch(proc=proc)
    phase = watch.end_phase("load")
    assert (phase.peak, phase.resident, phase.anonymous, phase.file) == (9216000, 8192000, 3072000, 5120000)
    assert (phase.pss, phase.swap) == (5120000, 16384)
    record = watch.record()
    assert record.peak_scope == "process" and "since the process began" in str(record.reason)


def test_the_reset_is_the_one_the_kernel_documents(tmp_path):
    proc = proc_tree(tmp_path)
    MemoryWatch(proc=proc)
    assert (proc / "clear_refs").read_text() == "5"


def test_elsewhere_the_size_is_known_and_the_rest_is_none_with_a_reason(tmp_path):
    watch = MemoryWatch(proc=tmp_path / "no-proc-here")
    phase = watch.end_phase("load")
    assert phase.resident and phase.peak and phase.peak >= phase.resident // 2
    assert (phase.anonymous, phase.file, phase.pss, phase.weights_mapped) == (None, None, None, None)
    assert sys.platform in str(watch.record().reason)


def test_where_loading_was_the_peak_mapped_weights_that_were_not_touched_yet_are_not_in_it():
    """As the kernel counts: pages of a mapping are resident once they were read, and nothing has read them."""
    buffers = Buffers(weights=500, repacked=0, kv=40, compute=30, source="own accounting")
    load = MemoryPhase("load", 900, 300, 200, 100, weights_mapped=0)
    work = MemoryPhase("repetitions", 850, 800, 230, 570, weights_mapped=500)
    assert memory.take_apart([load, work], buffers) == MemorySplit(0, 0, 0, 900)
    copied = [replace(phase, weights_mapped=0) for phase in (load, work)]
    assert memory.take_apart(copied, buffers) == MemorySplit(500, 0, 0, 400)
