"""What a build takes of memory: when it is loaded, and at its highest with so much context in use.

llama.cpp's side is `memory_estimate`, read off its log, less the scratch memory that a prompt does not touch. ONNX
Runtime's is our own account: it maps weights in its kernels' order and, page by page, the rows of the embedding that a
text has, and keeps a cache as long as the text. What a vocabulary takes was measured (bench/fit.py holds all of it
against the kernel's peaks); the process itself is measured where figures of the machine are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgellm.backends.llama import memory_estimate
from edgellm.fit.model import Build
from edgellm.session import EngineOptions

#: Of a process with its libraries, where nothing was measured: bytes on Linux.
RUNTIME_BYTES = {"llamacpp": 80 << 20, "onnxruntime": 85 << 20}
#: By row of the vocabulary: kept, and taken for a moment while loading (Qwen2.5's 151,936 rows, November 2026).
_VOCABULARY = {"llamacpp": (290, 180), "onnxruntime": (790, 0)}
#: A row of an embedding that is looked up brings its neighbours in: Linux maps so many bytes around a page.
_AROUND = 1 << 16
#: Different tokens in a text of n: k n^b (H. S. Heaps, Information Retrieval, 1978), fitted to our prompts' text.
_HEAPS = (5.0, 0.65)
_FLOAT = 4


@dataclass(frozen=True)
class Memory:
    """In bytes, with `n_ctx` tokens of context in use."""

    n_ctx: int
    weights: int  # as mapped or read
    repacked: int  # the copy of them that kernels want in another order
    kv: int  # keys and values, recurrent states too
    scratch: int
    runtime: int  # process, libraries, vocabulary
    loading: int  # at the moment it is loaded, at most

    @property
    def total(self) -> int:
        """At its highest once it runs."""
        return self.weights + self.repacked + self.kv + self.scratch + self.runtime

    @property
    def peak(self) -> int:
        """At its highest."""
        return max(self.total, self.loading)


def predict(
    build: Build, n_ctx: int, runtime_bytes: int | None = None, options: EngineOptions | None = None
) -> Memory:
    """With a context of `n_ctx` tokens, all of it used. Cache types and the like are taken from `options`."""
    runtime = RUNTIME_BYTES[build.engine] if runtime_bytes is None else runtime_bytes
    kept, for_a_moment = (build.numbers.n_vocab * each for each in _VOCABULARY[build.engine])
    if build.engine == "onnxruntime":
        return _onnx(build, n_ctx, runtime + kept)
    return _llama(build, n_ctx, runtime + kept, for_a_moment, options or EngineOptions())


def _llama(build: Build, n_ctx: int, runtime: int, for_a_moment: int, options: EngineOptions) -> Memory:
    from dataclasses import replace

    assert build.planned is not None
    options = replace(options, n_ctx=n_ctx)
    buffers = memory_estimate.predict(build.planned, options)
    scratch = memory_estimate.touched(build.planned, options)
    held = buffers.weights + buffers.repacked + buffers.kv + runtime
    return Memory(n_ctx, buffers.weights, buffers.repacked, buffers.kv, scratch, runtime, held + for_a_moment)


def _onnx(build: Build, n_ctx: int, runtime: int) -> Memory:
    numbers = build.numbers
    multiplied = build.weight_bytes
    looked_up = build.file_bytes - multiplied
    if looked_up < numbers.n_vocab * numbers.n_embd / 2:  # too small for an embedding: it is the head's rows
        looked_up = sum(matrix.n_bytes for matrix in build.matrices if matrix.is_head)
    weights = multiplied + round(_mapped(looked_up, n_ctx))
    scratch = _FLOAT * min(256, n_ctx) * 8 * numbers.n_embd
    kv = round(kv_bytes_per_token(build) * n_ctx)
    return Memory(n_ctx, weights, 0, kv, scratch, runtime, 0)


def _mapped(table: int, n_tokens: int) -> float:
    """Bytes of a table that looking up the rows of a text brings into memory."""
    k, b = _HEAPS
    pieces = max(1.0, table / _AROUND)
    return table * (1 - math.exp(-min(n_tokens, k * n_tokens**b) / pieces))


def kv_bytes_per_token(build: Build, options: EngineOptions | None = None) -> float:
    """Of keys and values, by the cache's type."""
    if build.engine == "onnxruntime":
        n = build.numbers
        return 2.0 * n.n_attention * n.n_head_kv * n.head_dim * build.kv_value_bytes
    assert build.planned is not None
    return memory_estimate.kv_bytes_per_token(build.planned, options or EngineOptions()) or 0.0


def longest_context(
    build: Build, ram: int, runtime_bytes: int | None = None, options: EngineOptions | None = None
) -> int:
    """The most tokens, up to the model's window and in steps of 256, with which it fits in `ram`; 0: not at all."""
    low, high = 0, build.numbers.n_ctx_train // 256
    while low < high:
        middle = (low + high + 1) // 2
        if predict(build, 256 * middle, runtime_bytes, options).peak <= ram:
            low = middle
        else:
            high = middle - 1
    return 256 * low
