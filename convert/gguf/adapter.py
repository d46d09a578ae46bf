"""A LoRA adapter as a GGUF file, which llama.cpp adds to a model at run time.

The layout is llama.cpp's (src/llama-adapter.cpp, convert_lora_to_gguf.py): `<tensor>.lora_a` [r, n_in] and
`<tensor>.lora_b` [n_out, r] for each matrix, an embedding's A transposed; the engine scales by
`adapter.lora.alpha` / r, so whatever a module's scale differs from that goes into its B. Rows of Llama's Q and K
are interleaved in B as they are in the model. Knows no engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgellm import files
from edgellm.convert.checkpoint.adapter import Adapter, Delta
from edgellm.convert.checkpoint.finite import check_finite
from edgellm.convert.checkpoint.folder import Checkpoint
from edgellm.convert.checkpoint.purpose import is_embedding
from edgellm.convert.gguf.provenance import ENGINE_KEY, SOURCE_KEY, VERSION_KEY
from edgellm.convert.gguf.writer import Layout, TensorEntry, encode, layout
from edgellm.errors import CheckpointError, UsageError
from edgellm.formats.gguf.header import RECIPE_KEY
from edgellm.formats.gguf.types import FILE_TYPES, GGML_TYPES_BY_NAME
from edgellm.models.base import ModelSpec, Role, TensorSpec
from edgellm.models.registry import spec_of
from edgellm.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

TYPES = {"F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True)
class AdapterRequest:
    """What to convert, for which model, into what."""

    adapter: Path  # a PEFT adapter's folder
    base: Path  # the checkpoint it was trained on; its config.json and the headers of its weights are read
    output: Path
    quant: str = "F32"  # or F16
    force: bool = False


@dataclass(frozen=True)
class _Factor:
    """One tensor to be: half of a delta, in the model's own layout."""

    name: str
    delta: Delta
    side: str  # "a" | "b"
    tensor: TensorSpec
    gain: float  # of B: the delta's scale in units of the engine's

    @property
    def shape(self) -> tuple[int, int]:
        """Rows first."""
        n_out, n_in = self.delta.shape
        rank = self.delta.rank
        if self.delta.embedding:  # rows of a are picked by token id, and b maps them to the model's width
            return (n_out, rank) if self.side == "a" else (n_in, rank)
        return (rank, n_in) if self.side == "a" else (n_out, rank)

    def values(self) -> Float32s:
        """The whole tensor, float32."""
        import numpy as np

        stored = self.delta.a if self.side == "a" else self.delta.b
        found = stored.rows(0, stored.n_rows)
        check_finite(stored.name, found)
        if self.side == "a":
            columns = self.tensor.column_order
            found = columns(found.T).T if columns else found
            return np.ascontiguousarray(found.T if self.delta.embedding else found)
        found *= np.float32(self.gain)
        order = self.tensor.row_order
        return order(found) if order else found


def convert_adapter(request: AdapterRequest, verify: Callable[[Path], None] | None = None) -> Path:
    """Write the adapter; returns the file. `verify` sees it before it has its name, and raises to refuse it.

    Raises CheckpointError, UsageError, OutputExistsError, StorageError.
    """
    if request.quant not in TYPES:
        raise UsageError(f"an adapter is stored as {' or '.join(TYPES)}, not {request.quant}")
    kind = GGML_TYPES_BY_NAME[request.quant]
    with Checkpoint.open(request.base) as checkpoint:
        spec = spec_of(checkpoint.config, checkpoint.shapes, headless=is_embedding(request.base))
        adapter = Adapter.open(request.adapter)
        try:
            factors = list(_factors(spec, adapter))
            entries = [_entry(factor, kind) for factor in factors]
            place = layout(_keys(request, spec, adapter), entries)
            files.check_space(request.output.parent, place.size)
            with files.atomic_path(request.output, force=request.force, validate=verify) as path:
                _write(path, place, factors, TYPES[request.quant])
        finally:
            adapter.shard.close()
    return request.output


def _write(path: Path, place: Layout, factors: Sequence[_Factor], dtype: str) -> None:
    import numpy as np

    with path.open("wb") as file:
        file.write(place.header)
        for factor in factors:
            with np.errstate(over="ignore"):
                values = factor.values().astype(dtype)
            check_finite(factor.name, values)
            file.seek(place.offsets[factor.name])
            file.write(values.tobytes())
        file.truncate(place.size)


def _entry(factor: _Factor, kind: Any) -> TensorEntry:
    n_rows, n_columns = factor.shape
    return TensorEntry(factor.name, factor.shape, kind, kind.nbytes(n_rows * n_columns))


def _factors(spec: ModelSpec, adapter: Adapter) -> Iterator[_Factor]:
    """Both halves of every delta, in the order of the model's tensors."""
    if adapter.replaced:
        _refuse(adapter, sorted(adapter.replaced)[0], "is kept whole (modules_to_save)")
    left = dict(adapter.deltas)
    alpha = _alpha(adapter)
    for tensor in spec.tensors:
        if tensor.suffix != "weight" or len(tensor.sources) != 1:
            continue
        delta = left.pop(tensor.sources[0].name, None)
        if delta is None:
            continue
        if spec.tied and tensor.role in (Role.TOKEN_EMBD, Role.OUTPUT):
            _refuse(
                adapter, tensor.sources[0].name, "is both embedding and head, and the adapter changes one"
            )
        if delta.shape != tensor.shape:
            raise CheckpointError(
                f"the adapter {adapter.dir} changes {tensor.sources[0].name} of shape {list(delta.shape)}, but "
                f"the model's has shape {list(tensor.shape)}: give the model it was trained on"
            )
        gain = delta.scale / (alpha / delta.rank)
        yield _Factor(f"{tensor.gguf_name}.lora_a", delta, "a", tensor, 1.0)
        yield _Factor(f"{tensor.gguf_name}.lora_b", delta, "b", tensor, gain)
    for name in sorted(left)[:1]:
        _refuse(adapter, name, "is no matrix of its own in the model's file")


def _alpha(adapter: Adapter) -> float:
    return float(adapter.config.get("lora_alpha", 8))


def _refuse(adapter: Adapter, name: str, why: str) -> NoReturn:
    raise UsageError(
        f"{adapter.dir}: {name} {why}, which llama.cpp's adapters cannot hold: merge it with edgellm convert "
        f"MODEL --lora {adapter.dir}"
    )


def _keys(request: AdapterRequest, spec: ModelSpec, adapter: Adapter) -> dict[str, bytes]:
    paths = sorted(path for path in (adapter.shard.path, adapter.dir / "adapter_config.json"))
    source = {path.name: files.sha256(path) for path in paths}
    recipe = {"type": request.quant, "source": "adapter", "lora": adapter.summary}
    return {
        "general.architecture": encode("str", spec.architecture.name),
        "general.type": encode("str", "adapter"),
        "general.name": encode("str", adapter.dir.resolve().name),
        "general.file_type": encode("u32", FILE_TYPES[request.quant]),
        "adapter.type": encode("str", "lora"),
        "adapter.lora.alpha": encode("f32", _alpha(adapter)),
        VERSION_KEY: encode("str", __version__),
        ENGINE_KEY: encode("str", "none"),
        RECIPE_KEY: encode("str", json.dumps(recipe)),
        SOURCE_KEY: encode("str", json.dumps(source)),
    }
