"""ONNX Runtime: bound inputs and outputs, a KV cache updated in place, logits of the positions asked for.

Knows tokens and logits. Does not know chat, stop strings or clocks.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgellm.backends import checks, steps, tuned
from edgellm.backends.ort import devices as ort_devices
from edgellm.backends.ort import graph as ort_graph
from edgellm.backends.ort import prepacked
from edgellm.backends.ort.cache import Cache, ConcatCache, InPlaceCache
from edgellm.backends.ort.runner import Runner
from edgellm.backends.ort.sampler import Sampler
from edgellm.backends.ort.steps import OrtStepper
from edgellm.backends.ort.tokenizer import Tokenizer
from edgellm.errors import EngineError, UsageError
from edgellm.formats import onnx_folder
from edgellm.formats.artifact import Artifact
from edgellm.machine import devices, hardware
from edgellm.machine.devices import Device, Offer
from edgellm.session import Cancel, Constraint, Drafter, EngineInfo, EngineOptions, Sampling, Session

if TYPE_CHECKING:
    from edgellm.session import Hidden, Logits

FORMAT = "onnx"

_DEFAULT_CTX = 4096  # what a chat needs
_KV_SHARE = 0.5  # of available memory, at most, for the KV cache of the context chosen by default
_CHUNK = 256  # tokens evaluated at once: more are no faster and take more memory
#: What the command line calls a cache's type; int8 has a scale for each channel, not for each 32 values.
_KV_NAMES = {"float32": "f32", "float16": "f16", "int8": "q8_0"}
_SHORT = 16  # new tokens up to which a second graph for prompts is not worth its extra step


def open_session(artifact: Artifact, options: EngineOptions) -> Session:
    """Load `artifact`. Raises EngineError when ONNX Runtime refuses it, UsageError for LoRA adapters."""
    if options.lora:
        raise UsageError(
            "an ONNX model takes no adapter at run time: merge it with edgellm convert MODEL --lora FOLDER --quant "
            f"{artifact.quantization}, or run a GGUF file"
        )
    return OrtSession(artifact, options)


def prepare() -> None:
    """Load the library."""
    ort_graph.library()


def build() -> str:
    """Identifies the installed library."""
    return f"onnxruntime {ort_graph.library().__version__}"


def offer() -> Offer:
    """The devices it can run on."""
    return ort_devices.offer()


class OrtSession:
    """One sequence in ONNX Runtime. Not thread-safe."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        self._artifact = artifact
        folder = onnx_folder.read(artifact.path)
        self._tokens: list[int] = []
        self._stepper: OrtStepper | None = None  # of the stream that last ran ahead
        self._cancel: Cancel | None = None  # of the stream that runs
        self._tokenizer = Tokenizer(folder.path, folder.control_ids, folder.bos_id, folder.added)
        self._bos_id = folder.bos_id
        self._pieces: dict[int, bytes] = {}
        _trim_heap()  # before the weights are mapped, so that the two peaks do not add up
        notes: list[str] = []
        device = devices.choose(options.device, ort_devices.offer(), notes)
        if device is None:
            options = tuned.apply(artifact, build(), options, notes)
        options = replace(options, device=device.kind if device else devices.CPU)
        options = checks.with_threads(replace(options, n_threads_batch=None), notes)
        graph = _load(folder, folder.model, options, device, notes)
        options = _resolve(folder, graph, options, notes)
        assert options.n_ctx is not None
        self._cache: Cache = (
            InPlaceCache(graph.slots, options.n_ctx) if folder.in_place else ConcatCache(graph.slots)
        )
        self._runner = Runner(graph, self._cache, folder.n_vocab, options.n_ctx)
        self._prompts: Runner | None = None
        self._states: Runner | None = None  # for hidden states, once they are asked for
        if folder.prefill:
            second = _load(folder, folder.prefill, options, device, notes)
            self._prompts = Runner(second, self._cache, folder.n_vocab, options.n_ctx)
        self._info = _describe(folder, graph, options, device, notes)
        assert options.n_batch and options.n_ubatch
        self._n_batch = min(options.n_batch, options.n_ubatch)
        _trim_heap()

    @property
    def artifact(self) -> Artifact:
        """The model this session runs."""
        return self._artifact

    @property
    def info(self) -> EngineInfo:
        """Facts fixed at opening."""
        return self._info

    @property
    def tokens(self) -> Sequence[int]:
        """The ids in the KV cache."""
        return self._tokens

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """Token ids of `text`; with `special`, control tokens written out become their ids."""
        ids = self._tokenizer.encode(text, special=special, add_bos=add_bos)
        return ids[1:] if add_bos and ids[1:2] == [self._bos_id] else ids  # the text has its BOS

    def piece(self, token: int) -> bytes:
        """The bytes of a token, empty for control tokens."""
        known = self._pieces.get(token)
        if known is None:
            checks.check_ids((token,), self._info)
            known = self._pieces[token] = self._tokenizer.piece(token)
        return known

    def eval(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits [n_vocab] after the last, a view valid until the next call."""
        checks.check_tokens(tokens, len(self._tokens), self._info)
        return self._append(tokens)

    def eval_all(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits [len(tokens), n_vocab], a copy."""
        return self._rows(tokens, self._runner)

    def hidden(self, tokens: Sequence[int]) -> Hidden:
        """Append tokens; hidden states after the final norm [len(tokens), n_embd], a copy."""
        if self._states is None:
            self._states = self._runner.for_hidden(self._info.n_ctx)
        return self._rows(tokens, self._states)

    def stream(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        drafter: Drafter | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[int]:
        """Append tokens, then yield sampled ids until the caller stops or the context is full."""
        self._cancel = cancel
        try:
            if constraint is not None or drafter is not None:
                yield from self._stream_steps(tokens, sampling, constraint, drafter)
            else:
                yield from self._stream_plain(tokens, sampling)
        finally:
            if self._cancel is cancel:  # no later stream has begun
                self._cancel = None

    def _stream_plain(self, tokens: Sequence[int], sampling: Sampling) -> Iterator[int]:
        sampler = Sampler(sampling)
        checks.check_tokens(tokens, len(self._tokens), self._info)
        logits = self._append(tokens)
        for _ in range(self._info.n_ctx - len(self._tokens)):
            token = sampler.draw(logits)
            yield token
            logits = self._append((token,))
        yield sampler.draw(logits)

    def _stream_steps(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        constraint: Constraint | None,
        drafter: Drafter | None,
    ) -> Iterator[int]:
        checks.check_tokens(tokens, len(self._tokens), self._info)
        first = self._append(tokens)
        self._stepper = OrtStepper(
            self._runner, self._cache, self._tokens, Sampler(sampling), first, self._info
        )
        with self._stepper:
            room = self._info.n_ctx - len(self._tokens)
            yield from steps.draw(self._stepper, self, room, constraint, drafter)

    def _settle(self) -> None:
        """Cut the cache back to the sequence, where a stream was left running ahead."""
        if self._stepper is not None:
            self._stepper.settle()
            self._stepper = None

    def rewind(self, n: int) -> None:
        """Keep the first `n` tokens."""
        self._settle()
        checks.check_rewind(n, len(self._tokens))
        if n < len(self._tokens):
            self._cache.rewind(n)
            del self._tokens[n:]

    def reusable(self, n: int) -> int:
        """All: the cache can be cut anywhere."""
        return n

    def stretch(self, n: int) -> None:
        """Lengthen the sequence to `n` tokens by repeating what is cached: nonsense, for measuring alone."""
        kept = list(self._tokens)
        repeated = (kept * (-(-n // len(kept))))[:n]
        if isinstance(self._cache, InPlaceCache):
            self._cache.stretch(len(kept), n)
            self._tokens = repeated
        else:
            self._append(repeated[len(kept) :])

    def save_state(self) -> bytes:
        """The KV cache of the sequence."""
        self._settle()
        return self._cache.save(len(self._tokens))

    def restore_state(self, state: bytes, tokens: Sequence[int]) -> None:
        """Put back what `save_state` gave."""
        self._settle()
        n = self._cache.restore(state)
        if n != len(tokens):
            self._tokens = []
            raise EngineError(f"the saved state holds {n} tokens, not {len(tokens)}")
        self._tokens = list(tokens)

    def close(self) -> None:
        """Free the engine. Idempotent."""
        self._runner = self._cache = checks.CLOSED
        self._prompts = self._states = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _rows(self, tokens: Sequence[int], runner: Runner) -> Logits:
        """Append tokens, with an output for every one."""
        self._settle()
        checks.check_tokens(tokens, len(self._tokens), self._info)
        out = np.empty((len(tokens), runner.width), np.float32)
        for start in range(0, len(tokens), self._n_batch):
            chunk = tokens[start : start + self._n_batch]
            rows = runner.run(len(self._tokens), chunk, every=True)
            checks.check_finite(rows, self._info)
            out[start : start + len(chunk)] = rows
            self._tokens.extend(chunk)
        return out

    def _append(self, tokens: Sequence[int]) -> Logits:
        self._settle()
        if self._prompts and len(tokens) > _SHORT:
            tokens = self._append_prompt(self._prompts, tokens)
        for start in range(0, len(tokens), self._n_batch):
            self._check_cancel()
            chunk = tokens[start : start + self._n_batch]
            logits = self._runner.run(len(self._tokens), chunk)
            self._tokens.extend(chunk)
        last: Logits = logits[0]
        checks.check_finite(last, self._info)
        return last

    def _check_cancel(self) -> None:
        if self._cancel is not None:
            self._cancel.check()

    def _append_prompt(self, prompts: Runner, tokens: Sequence[int]) -> Sequence[int]:
        """All but the last token through the graph for prompts; return what is left."""
        for start in range(0, len(tokens) - 1, self._n_batch):
            self._check_cancel()
            chunk = tokens[start : min(start + self._n_batch, len(tokens) - 1)]
            prompts.fill(len(self._tokens), chunk)
            self._tokens.extend(chunk)
        return tokens[-1:]


def _load(
    folder: onnx_folder.OnnxFolder,
    model: Path,
    options: EngineOptions,
    device: Device | None,
    notes: list[str],
) -> ort_graph.Graph:
    """Open a graph, on the CPU through its prepared copy where that is worth it."""

    def fresh() -> Any:
        return ort_graph.session_options(options.n_threads or 1, options.spin_us)

    data = tuple(folder.path / name for name in sorted(onnx_folder.external_files(model)))
    worth = sum(file.stat().st_size for file in data) >= prepacked.MIN_BYTES
    if device or options.repack is False or not worth:
        return ort_graph.load(model, fresh(), ort_devices.providers(device))
    return prepacked.load(model, fresh, data, notes)


def _resolve(
    folder: onnx_folder.OnnxFolder,
    graph: ort_graph.Graph,
    options: EngineOptions,
    notes: list[str],
) -> EngineOptions:
    """Fill in what the caller left to us, noting each fallback."""
    kind = _KV_NAMES.get(np.dtype(graph.slots[0].dtype).name, "f32")
    for asked in (options.type_k, options.type_v):
        if asked not in (None, "f16", kind):  # f16 is llama.cpp's default, often written out
            raise EngineError(
                f"this ONNX model's KV cache is {kind}, {asked} cannot be chosen; "
                "convert again with --onnx kv=int8 for q8_0, kv=fp32 for f32"
            )
    n_ctx = options.n_ctx or _fitting_ctx(folder, graph, notes)
    if n_ctx > folder.n_ctx:
        notes.append(
            f"context reduced from {n_ctx} to {folder.n_ctx} tokens, what this model was converted for"
        )
        n_ctx = folder.n_ctx
    return replace(
        options,
        n_ctx=n_ctx,
        n_batch=min(options.n_batch or _CHUNK, _CHUNK),
        n_ubatch=min(options.n_ubatch or _CHUNK, _CHUNK),
        n_gpu_layers=0,
        type_k=kind,
        type_v=kind,
        use_mmap=True,
        spin_us=ort_graph.SPIN_MICROSECONDS if options.spin_us is None else options.spin_us,
        repack=options.repack is not False,
    )


def _trim_heap() -> None:
    """Give back what loading freed: parsing a large tokenizer leaves over 50 MB in glibc's heap."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def kv_bytes_per_token(graph: ort_graph.Graph) -> int:
    """Bytes of KV cache one token takes."""
    return sum(slot.n_head_kv * slot.head_dim * np.dtype(slot.dtype).itemsize for slot in graph.slots)


def _fitting_ctx(folder: onnx_folder.OnnxFolder, graph: ort_graph.Graph, notes: list[str]) -> int:
    """The model's window, at most the default, halved until its KV cache fits in available memory."""
    n_ctx = wanted = min(folder.n_ctx, _DEFAULT_CTX)
    budget = _KV_SHARE * hardware.available_bytes()
    while n_ctx > 512 and n_ctx * kv_bytes_per_token(graph) > budget:
        n_ctx //= 2
    if n_ctx < wanted:
        notes.append(f"context reduced from {wanted} to {n_ctx} tokens to fit in memory; set it with -c")
    return n_ctx


def _describe(
    folder: onnx_folder.OnnxFolder,
    graph: ort_graph.Graph,
    options: EngineOptions,
    device: Device | None,
    notes: list[str],
) -> EngineInfo:
    ort = ort_graph.library()
    return EngineInfo(
        backend="onnxruntime",
        version=ort.__version__,
        system=" ".join(graph.session.get_providers()),
        options=options,
        n_ctx=options.n_ctx or 0,
        n_vocab=folder.n_vocab,
        eos_ids=folder.eos_ids,
        add_bos=folder.add_bos,
        closing_id=folder.closing_id,
        notes=tuple(notes),
        device=str(device or devices.CPU),
        kv_bytes_per_token=kv_bytes_per_token(graph),
    )
