"""Measures an engine's kernels on this machine: a small model of each type, run by the real engine in fresh processes.

A kernel is timed on a model wider than the caches, and what a token costs beside its matrices on models that have next
to nothing but that: many thin layers, a large vocabulary, two widths of head at two depths. Each launch is the
profiler's own. A type takes two or three seconds; only those asked for are timed, and all is remembered.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import backends, files
from edgellm.convert.gguf.recipes import RECIPES
from edgellm.errors import EdgellmError, EngineError
from edgellm.fit import figures
from edgellm.fit.figures import Beside, Figures, Kernel
from edgellm.fit.probe_models import Shape, write_checkpoint, write_gguf, write_imatrix, write_onnx
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME
from edgellm.machine import hardware
from edgellm.profiles.measure import ceilings, child
from edgellm.profiles.measure.launch import LaunchRequest
from edgellm.profiles.measure.machine import describe
from edgellm.profiles.result.settings import Workload
from edgellm.session import EngineOptions

if TYPE_CHECKING:
    from edgellm.profiles.result.result import Launch

Tell = Callable[[str], None]

FORMATS = {"llamacpp": "gguf", "onnxruntime": "onnx"}
_PROMPT, _ANSWER = 128, 24
_DEPTH = 2048
_TURNS = 2  # launches of each, where a difference is wanted that one disturbed launch would spoil
#: Of the last-level cache, that a model to be timed is larger than. Caches keep a part of what they cannot hold: of
#: three times their size enough that eight bits decoded a quarter faster than in models of full size.
_CACHE_MULTIPLE = 8
_DEFAULT_CACHE = 32 << 20
_N_LAYER = (2, 48)  # of these two, at least and at most
_WIDE, _NARROW = Shape(3, 2048, 6144, 32, 8, 64), Shape(20, 768, 2304, 12, 3, 64)
_THIN, _THINNER = Shape(24, 64, 192, 1, 1, 64), Shape(4, 64, 192, 1, 1, 64)
_WORDY = replace(_THINNER, n_vocab=131072)
_MANY_HEADS, _WIDE_HEADS = Shape(4, 1024, 1024, 16, 4, 64), Shape(4, 1024, 1024, 8, 2, 128)
_WIDE_EXPERTS = Shape(2, 2048, 768, 16, 4, 64, n_expert=32, n_expert_used=8)
_NARROW_EXPERTS = Shape(4, 768, 512, 16, 4, 64, n_expert=32, n_expert_used=8)

#: What writes each kernel of ONNX Runtime: type and --onnx settings.
_ONNX = {
    "fp32": ("onnx-fp32", ()),
    "w8a8": ("onnx-w8a8", ()),
}
#: The kernel with which models are made whose matrices hardly count.
_PLAIN = {"llamacpp": "Q8_0", "onnxruntime": "int8/32"}


def build(engine: str) -> str:
    """Of the library that is timed."""
    return backends.build(FORMATS[engine])


def here(engine: str, n_threads: int, kernels: Iterable[str], tell: Tell, *, again: bool = False) -> Figures:
    """This machine's figures with all of `kernels` that can be timed, remembered or measured. Raises EngineError.

    With `again` what is remembered is timed once more, and the better of both remembered.
    """
    wanted = set(kernels)

    def missing(known: Figures) -> list[str]:
        return sorted(wanted if again else wanted - known.kernels.keys())

    known = _known(engine, n_threads)
    if known.beside is not None and not missing(known):
        return known
    with _bench(engine, n_threads, tell) as bench:
        known = _known(engine, n_threads)  # who waited for another process finds what that one timed
        if known.beside is None or again:
            beside = bench.beside()
            known = replace(known, beside=known.beside.mean(beside) if known.beside else beside)
            figures.write(known)
        if known.read_bytes_per_second is None:
            known = _with_ceilings(known)
        assert known.beside is not None
        for kernel in missing(known):
            found = bench.kernel(kernel, known.beside)
            if found is not None:
                before = known.kernels.get(kernel)
                known = known.with_kernels({kernel: found.best(before) if before else found})
                figures.write(known)
    return known


def read_bytes_per_second(n_threads: int) -> float | None:
    """What this machine reads from memory, remembered or measured in a second or two; a bound for decoding."""
    engine = next(iter(FORMATS))
    known = _known(engine, n_threads)
    if known.read_bytes_per_second is None:
        known = _with_ceilings(known)
        figures.write(known)
    return known.read_bytes_per_second


def _known(engine: str, n_threads: int) -> Figures:
    """What is remembered, or figures without any."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    nothing = Figures(engine, n_threads, hardware.cpu().name, build(engine), now)
    return figures.read(engine, n_threads, nothing.build) or nothing


def _with_ceilings(known: Figures) -> Figures:
    found = ceilings.measure(known.n_threads, describe().last_level_cache_bytes)
    return replace(
        known,
        read_bytes_per_second=found.read_bytes_per_second,
        operations_per_second=(found.operations_per_second or {}).get("int8"),
    )


@contextmanager
def _bench(engine: str, n_threads: int, tell: Tell) -> Iterator[_Bench]:
    """A folder for models, removed with what the engine prepared of them, and first what a killed run left.

    One at a time on a machine: two at once would time each other.
    """
    kernels = files.cache_dir("kernels")
    with files.turn(str(kernels), lambda: tell("another process is timing kernels; waiting")):
        for left in kernels.glob("probe-*"):
            _remove(left)
        with files.storage_errors(kernels):
            folder = Path(tempfile.mkdtemp(prefix="probe-", dir=kernels))
        try:
            yield _Bench(engine, n_threads, folder, tell)
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    from edgellm.backends.ort import prepacked

    shutil.rmtree(folder, ignore_errors=True)
    for copy in prepacked.kept():
        if folder in Path(copy.model).parents:
            shutil.rmtree(copy.path, ignore_errors=True)


@dataclass
class _Bench:
    """Launches on models made for it."""

    engine: str
    n_threads: int
    folder: Path
    tell: Tell
    made: int = 0

    def kernel(self, name: str, beside: Beside) -> Kernel | None:
        """What a weight and an output cost; None for a kernel that nothing here writes."""
        shapes = (_WIDE_EXPERTS, _NARROW_EXPERTS) if name.startswith("experts") else (_WIDE, _NARROW)
        try:
            seen = [
                _matrices(self._launch(name, shape), shape, beside) for shape in map(self._deep(name), shapes)
            ]
        except EdgellmError as error:
            self.tell(f"{name} could not be timed: {error}")
            return None
        return Kernel(*_by_weight(*(s.decode for s in seen)), *_by_weight(*(s.prefill for s in seen)))

    def _deep(self, kernel: str) -> Callable[[Shape], Shape]:
        """With layers enough that the caches hold little of it."""
        cache = describe().last_level_cache_bytes or _DEFAULT_CACHE

        def deep(shape: Shape) -> Shape:
            if shape.n_expert:
                return shape
            weights, _ = _body(replace(shape, n_layer=1))
            n_layer = round(_CACHE_MULTIPLE * cache / (weights * _bits(kernel) / 8))
            return replace(shape, n_layer=max(_N_LAYER[0], min(_N_LAYER[1], n_layer)))

        return deep

    def beside(self) -> Beside:
        """What a token costs beside its matrices."""
        plain = _PLAIN[self.engine]
        thin, thinner, wordy = (self._launch(plain, shape) for shape in (_THIN, _THINNER, _WORDY))
        n_layers = _THIN.n_layer - _THINNER.n_layer
        layer = (_decode(thin) - _decode(thinner)) / n_layers
        rows = _WORDY.n_vocab - _THINNER.n_vocab
        row = (_decode(wordy) - _decode(thinner)) / rows
        token = _decode(thinner) - _THINNER.n_layer * layer - _THINNER.n_vocab * row
        one, other = (self._by_position(plain, shape) for shape in (_MANY_HEADS, _WIDE_HEADS))
        return Beside(
            token=max(token, 0.0),
            layer=max(layer, 0.0),
            row=max(row, 0.0),
            **_by_head("", one[0], other[0]),
            **_by_head("prefill_", one[1], other[1]),
            runtime_bytes=_rest(thinner),
        )

    def _by_position(self, kernel: str, shape: Shape) -> tuple[float, float]:
        """Seconds by layer and position attended to, of a decoded and of a prompt's token."""
        turns = [[self._launch(kernel, shape, depth) for depth in (0, _DEPTH)] for _ in range(_TURNS)]
        each = shape.n_layer * _DEPTH
        decode, prefill = (
            [min(map(seconds, launches)) for launches in zip(*turns, strict=True)]
            for seconds in (_decode, _prefill)
        )
        return (decode[1] - decode[0]) / each, (prefill[1] - prefill[0]) / each

    def _launch(self, kernel: str, shape: Shape, depth: int = 0) -> Launch:
        self.tell(f"timing {kernel}")
        self.made += 1
        folder = self.folder / f"{self.made}"
        checkpoint = write_checkpoint(folder / "checkpoint", shape)
        repack = None
        if self.engine == "llamacpp":
            type_, _, plain = kernel.partition("/")
            repack = False if plain else None
            model = write_gguf(checkpoint, folder / "model.gguf", _recipe(type_), self._imatrix(checkpoint))
        else:
            model = write_onnx(checkpoint, folder / "model", *_onnx_type(kernel))
        workload = Workload(_PROMPT, _ANSWER, depth, repetitions=3, launches=1, energy="none")
        options = EngineOptions(n_ctx=depth + _PROMPT + _ANSWER + 1, n_threads=self.n_threads, repack=repack)
        try:
            return child.launch(LaunchRequest(str(model), workload, options), lambda _: None)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _imatrix(self, checkpoint: Path) -> Path:
        return write_imatrix(checkpoint, checkpoint.parent / "imatrix.gguf")


def _recipe(type_: str) -> str:
    """A recipe whose ordinary rows are of the ggml type."""
    found = next((name for name, recipe in RECIPES.items() if recipe.base == type_), None)
    if found is None:
        raise EngineError(f"no type of edgellm's is made of {type_}")
    return found


def _onnx_type(kernel: str) -> tuple[str, tuple[str, ...]]:
    """The type and the settings whose matrices, head and experts are all of this kernel."""
    name = kernel.removeprefix("experts ")
    if name in _ONNX:
        return _ONNX[name]
    bits, _, block = name.removeprefix("int").partition("/")
    symmetric = "symmetric=" + ("false" if bits.endswith("a") else "true")
    if bits.startswith("8"):
        return "onnx-int8", (f"block={block}", symmetric)
    return "onnx-int4", (f"block={block}", symmetric, "attention=int4", "head=int4", "mixed=false")


def _bits(kernel: str) -> float:
    """A weight's, by what its kernel is called."""
    name = kernel.partition("/")[0]
    if name in GGML_TYPES_BY_NAME:
        return GGML_TYPES_BY_NAME[name].bits_per_weight
    return {"fp32": 32.0, "w8a8": 8.0}.get(name, 4.5 if name.startswith("int4") else 9.0)


def _body(shape: Shape) -> tuple[float, float]:
    """Weights multiplied for one token, and the values that come out; the head apart."""
    n_q, n_kv = shape.head_dim * shape.n_head, shape.head_dim * shape.n_head_kv
    used = shape.n_expert_used or 1
    weights = shape.n_embd * (2 * n_q + 2 * n_kv + 3 * used * shape.n_ff)
    outputs = n_q + 2 * n_kv + shape.n_embd + used * (2 * shape.n_ff + shape.n_embd)
    return float(shape.n_layer * weights), float(shape.n_layer * outputs)


@dataclass(frozen=True)
class _Cost:
    """Seconds of a token's matrices, their weights and their outputs."""

    seconds: float
    weights: float
    outputs: float


@dataclass(frozen=True)
class _Seen:
    """A launch less what is beside the matrices."""

    decode: _Cost
    prefill: _Cost


def _matrices(launch: Launch, shape: Shape, beside: Beside) -> _Seen:
    weights, outputs = _body(shape)
    heads = shape.n_layer * shape.n_head
    depth = _PROMPT + _ANSWER / 2
    attending = heads * depth * (beside.head + shape.head_dim * beside.head_value)
    decode = (
        _decode(launch) - beside.token - shape.n_layer * beside.layer - shape.n_vocab * beside.row - attending
    )
    reading = heads * _PROMPT / 2 * (beside.prefill_head + shape.head_dim * beside.prefill_head_value)
    prefill = _prefill(launch) - reading - (beside.token + shape.n_layer * beside.layer) / _PROMPT
    head = shape.n_embd * shape.n_vocab
    return _Seen(
        _Cost(decode, weights + head, outputs + shape.n_vocab),
        _Cost(prefill, weights + head / _PROMPT, outputs + shape.n_vocab / _PROMPT),
    )


def _by_weight(wide: _Cost, narrow: _Cost) -> tuple[float, float]:
    """What a weight and an output cost, of two sizes: neither is below zero."""
    determinant = wide.weights * narrow.outputs - narrow.weights * wide.outputs
    output = max(0.0, (wide.weights * narrow.seconds - narrow.weights * wide.seconds) / determinant)
    output = min(output, wide.seconds / wide.outputs / 2)
    return max(0.0, (wide.seconds - output * wide.outputs) / wide.weights), output


def _by_head(prefix: str, many: float, wide: float) -> dict[str, float]:
    """Of a layer's time for one position with 16 heads of 64, and with 8 of 128: a head's share and a value's."""
    head = max(0.0, (many - wide) / (_MANY_HEADS.n_head - _WIDE_HEADS.n_head))
    values = _MANY_HEADS.n_head * _MANY_HEADS.head_dim
    left = many - _MANY_HEADS.n_head * head
    return {f"{prefix}head": head, f"{prefix}head_value": max(0.0, left / values)}


def _decode(launch: Launch) -> float:
    """Seconds a token, of the best repetition: what other programs do only adds to it."""
    return min(statistics.median(r.gaps_ns) for r in launch.repetitions) * 1e-9


def _prefill(launch: Launch) -> float:
    """Seconds a token of the prompt; its last token's own cost is in it, which is little."""
    return min(r.prefill_ns for r in launch.repetitions) * 1e-9 / _PROMPT


def _rest(launch: Launch) -> int:
    """Memory beside what the engine set aside for the model."""
    loaded = next(phase for phase in launch.memory.phases if phase.phase == "repetitions")
    engine = launch.memory.engine
    known = (engine.weights + engine.repacked + engine.kv) if engine else 0
    return max(0, (loaded.resident or 0) - known)
