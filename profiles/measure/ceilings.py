"""The most this machine can do, measured: bytes read and operations done a second, by number of threads.

Run as `python -m edgellm.profiles.measure.ceilings N_THREADS ARRAY_BYTES`, a fresh process with the affinity
launches have; prints one `Ceiling` as JSON. Reading: threads search a mapped file that no cache holds for a byte that
is not there (memchr, with numpy's maximum where there is none), for a second or longer. Mapped as weights are, in
the page cache's small pages: anonymous memory, which the kernel may give in huge ones, reads up to 1.35 times as
fast, and no model does. Nothing is written, as decoding writes next to nothing. Arithmetic: ONNX Runtime's
products of square matrices in float32 and in int8, the densest work a CPU is given here.
As STREAM does (J. McCalpin), the best of several passes counts: a ceiling is what can be reached.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgellm import files
from edgellm.profiles.result.bounds import Ceiling
from edgellm.profiles.result.codec import from_plain, to_plain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

#: Passes over the file, at least, and for how long.
PASSES = 7
READING_SECONDS = 1.0
#: Where the size of the last-level cache is not known, this much is read.
DEFAULT_ARRAY_BYTES = 256 << 20
#: What is read is this many times the last-level cache.
CACHE_MULTIPLE = 4
#: Side of the square matrices: large enough that packing and starting threads do not count.
SIDE = 1024
_SECONDS = 0.25  # products are repeated for this long
_TIMEOUT_SECONDS = 120

_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # TensorProto.DataType


def measure(n_threads: int, last_level_cache_bytes: int | None) -> Ceiling:
    """A ceiling from a fresh process; one with a reason where that fails."""
    size = CACHE_MULTIPLE * last_level_cache_bytes if last_level_cache_bytes else DEFAULT_ARRAY_BYTES
    command = [sys.executable, "-m", "edgellm.profiles.measure.ceilings", str(n_threads), str(size)]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT_SECONDS)
        return from_plain(Ceiling, json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return Ceiling(n_threads, None, reason=f"the ceilings could not be measured ({type(error).__name__})")


def best(before: Ceiling | None, after: Ceiling) -> Ceiling:
    """Two measurements of one thing as one: all samples, and the most of either."""
    if before is None or before.reason is not None:
        return after
    if after.reason is not None:
        return before
    old, new = before.operations_per_second or {}, after.operations_per_second or {}
    samples = before.read_samples + after.read_samples
    return replace(
        after,
        read_bytes_per_second=max(samples),
        read_samples=samples,
        operations_per_second={kind: max(old.get(kind, 0.0), new.get(kind, 0.0)) for kind in {**old, **new}},
    )


def here(n_threads: int, array_bytes: int) -> Ceiling:
    """The ceiling of this process."""
    samples, method = _reading(n_threads, array_bytes)
    return Ceiling(
        n_threads=n_threads,
        read_bytes_per_second=max(samples),
        read_samples=samples,
        read_method=method,
        array_bytes=array_bytes,
        operations_per_second={kind: _operations(kind, n_threads) for kind in ("f32", "int8")},
        operations_method=f"ONNX Runtime, products of {SIDE} x {SIDE} matrices",
    )


def _reading(n_threads: int, n_bytes: int) -> tuple[tuple[float, ...], str]:
    """Bytes a second of each pass, and how they were read."""
    import numpy as np

    name, read = _reader()
    array, place = _mapped(n_bytes)
    work = [lambda part=part: read(part) for part in np.array_split(array, n_threads)]  # type: ignore[misc]
    _together(work)
    seconds: list[float] = []
    while len(seconds) < PASSES or sum(seconds) < READING_SECONDS:
        seconds.append(_together(work))
    method = f"{name} over {n_bytes >> 20} MiB of {place}, best of {len(seconds)}"
    return tuple(n_bytes / s for s in seconds), method


def _mapped(n_bytes: int) -> tuple[Bytes, str]:
    """That many bytes of a file, mapped to be read, and in words; of anonymous memory where no file can be made."""
    import numpy as np

    block = b"\1" * min(n_bytes, 16 << 20)
    try:
        with tempfile.TemporaryFile(dir=files.cache_dir()) as file:  # the mapping outlives it
            for start in range(0, n_bytes, len(block)):
                file.write(block[: n_bytes - start])
            file.flush()
            mapped = mmap.mmap(file.fileno(), n_bytes, access=mmap.ACCESS_READ)
    except OSError:  # no right to write, or no space
        return np.ones(n_bytes, np.uint8), "anonymous memory"
    return np.frombuffer(mapped, np.uint8), "a mapped file"


def _reader() -> tuple[str, Callable[[Bytes], object]]:
    """The C library's search for a byte, which reads as fast as the memory gives; numpy's maximum elsewhere."""
    try:
        memchr = ctypes.CDLL(None).memchr
    except (AttributeError, OSError, TypeError):
        return "numpy.max", lambda part: part.max()
    memchr.restype, memchr.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    return "memchr", lambda part: memchr(part.ctypes.data, 0, part.nbytes)


def _together(work: Iterable[Callable[[], object]]) -> float:
    """Seconds that all of `work` takes, each in a thread of its own, started at once."""
    work = list(work)
    gate = threading.Barrier(len(work) + 1)

    def run(one: Callable[[], object]) -> None:
        gate.wait()
        one()
        gate.wait()

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    gate.wait()
    begin = time.perf_counter()
    gate.wait()
    seconds = time.perf_counter() - begin
    for thread in threads:
        thread.join()
    return seconds


def _operations(kind: str, n_threads: int) -> float:
    """Operations a second of a matrix product, the best pass; a multiplication and an addition are two."""
    import numpy as np

    from edgellm.backends.ort import graph as ort_graph

    options = ort_graph.library().SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    session = ort_graph.library().InferenceSession(product_graph(kind), options, ["CPUExecutionProvider"])
    types = (np.float32, np.float32) if kind == "f32" else (np.uint8, np.int8)
    inputs = {name: np.ones((SIDE, SIDE), type_) for name, type_ in zip("ab", types, strict=True)}
    session.run(None, inputs)
    best, until = 0.0, time.perf_counter() + _SECONDS
    while (begin := time.perf_counter()) < until:
        session.run(None, inputs)
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - begin))
    return best


def product_graph(kind: str) -> bytes:
    """An ONNX model of one operator, c = a b, of SIDE x SIDE matrices.

        a --\\
             MatMul (f32) or MatMulInteger (u8 x s8 -> s32) -- c
        b --/
    """
    types = (_FLOAT, _FLOAT, _FLOAT) if kind == "f32" else (_UINT8, _INT8, _INT32)
    op = "MatMul" if kind == "f32" else "MatMulInteger"
    node = b"".join(
        _field(number, text) for number, text in ((1, b"a"), (1, b"b"), (2, b"c"), (4, op.encode()))
    )
    a, b, c = (_value(name, type_) for name, type_ in zip((b"a", b"b", b"c"), types, strict=True))
    graph = _field(1, node) + _field(2, b"g") + _field(11, a) + _field(11, b) + _field(12, c)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 17))  # IR version 8, operator set 17


def _value(name: bytes, type_: int) -> bytes:
    """ValueInfoProto of a SIDE x SIDE matrix."""
    dimension = _field(1, _field(1, SIDE))
    return _field(1, name) + _field(2, _field(1, _field(1, type_) + _field(2, dimension * 2)))


def _field(number: int, value: int | bytes) -> bytes:
    """A protobuf field: a number, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    n_threads, n_bytes = map(int, arguments)
    found: Any = to_plain(here(n_threads, n_bytes))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
