"""A PEFT LoRA adapter, and a checkpoint with one merged into it while its rows are read.

The formula is PEFT's (`peft/tuners/lora/layer.py`): W + scale * B A for a matrix, the transpose of B A for an
embedding, scale = alpha / r or, with `use_rslora`, alpha / sqrt(r); what `modules_to_save` kept takes a tensor's
place. The sum is computed in float32 and rounded once, to the output's type. Only rows asked for are in memory,
and A of the tensors being read. What changes the computation and is not named here is refused by name.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.convert.checkpoint.folder import INDEX, Checkpoint, find_file, read_json
from edgellm.convert.checkpoint.folder import WEIGHTS as MODEL
from edgellm.convert.checkpoint.safetensors_file import NUMPY_DTYPES, LazyTensor, Shard, read_tensors
from edgellm.errors import CheckpointError
from edgellm.models.renaming import canonical

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"

#: Keys of adapter_config.json that are read, or that say how the adapter was trained and not what it computes.
#: `fan_in_fan_out` concerns Conv1D layers, which these families do not have: PEFT itself sets it to false.
# fmt: off
_UNDERSTOOD = frozenset({
    "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "peft_type", "init_lora_weights", "bias",
    "ensure_weight_tying", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform",
    "layers_pattern", "fan_in_fan_out", "task_type", "inference_mode", "base_model_name_or_path", "revision",
    "auto_mapping", "peft_version", "lora_dropout", "megatron_core", "runtime_config", "loftq_config",
    "eva_config", "corda_config", "lora_ga_config", "qalora_group_size",
})
# fmt: on
#: Ways to start training that change the base model's weights as well; such an adapter belongs to those.
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?")
_UNSAFE = re.compile(
    r"[)][*+?{]|(?:[*+?{].*){4}"
)  # repeated groups, many repetitions: matching could take years
_KEPT = 2  # A matrices in memory


@dataclass(frozen=True)
class Delta:
    """What an adapter adds to one matrix, by rows."""

    a: LazyTensor  # [r, n_in], of an embedding [r, n_vocab]
    b: LazyTensor  # [n_out, r], of an embedding [n_embd, r]
    scale: float
    embedding: bool
    kept: _Kept = field(repr=False, compare=False)

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix it is added to."""
        return (self.a.shape[1], self.b.shape[0]) if self.embedding else (self.b.shape[0], self.a.shape[1])

    def rows(self, start: int, stop: int) -> Float32s:
        """Rows [start, stop) of scale * B A, float32 [stop - start, n_in]."""
        import numpy as np

        if not self.embedding:
            rows = self.b.rows(start, stop) @ self.kept.whole(self.a)
        else:
            rows = _columns(self.a, start, stop).T @ self.kept.whole(self.b).T
        return np.asarray(rows * np.float32(self.scale), dtype=np.float32)


@dataclass(frozen=True)
class MergedTensor(LazyTensor):
    """A checkpoint's matrix with an adapter's delta added. Its dtype is that of the stored part."""

    delta: Delta

    @classmethod
    def of(cls, base: LazyTensor, delta: Delta) -> MergedTensor:
        """`base` plus `delta`, which has its shape."""
        return cls(base.name, base.dtype, base.shape, base.shard, base.offset, base.nbytes, delta)

    def rows(self, start: int, stop: int, out: Float32s | None = None) -> Float32s:
        """Rows [start, stop) as float32: what is stored, widened, plus the delta."""
        found = super().rows(start, stop, out)
        found += self.delta.rows(start, stop)
        return found

    def raw(self, start: int, stop: int) -> npt.NDArray[Any]:
        """There are none: no file holds these values."""
        raise TypeError(f"{self.name} is computed, not stored")


@dataclass(frozen=True)
class Adapter:
    """An open adapter folder. Its deltas and replacements are by the names of transformers' classes."""

    dir: Path
    config: Mapping[str, Any]
    shard: Shard
    deltas: Mapping[str, Delta]
    replaced: Mapping[str, LazyTensor]

    @classmethod
    def open(cls, folder: Path) -> Adapter:
        """Open and check. Raises CheckpointError for a damaged folder and for what is not merged, by name."""
        config = read_json(folder, CONFIG)
        if config is None:
            raise CheckpointError(f"{folder} has no {CONFIG}: give the folder of a PEFT adapter")
        _check_config(config)
        path = find_file(folder, WEIGHTS)
        if path is None:
            pickle = ", and pickle files are not opened: save it with PEFT again" * (folder / PICKLE).exists()
            raise CheckpointError(f"{folder} has no {WEIGHTS}{pickle or ': download it'}")
        shard = Shard.open(path)
        try:
            deltas, replaced = _sort(shard, _Scales(config))
        except BaseException:
            shard.close()
            raise
        return cls(folder, config, shard, deltas, replaced)

    @property
    def summary(self) -> dict[str, Any]:
        """What a converted file records of it, beside its files' hashes."""
        return {
            "name": self.dir.resolve().name,
            "r": self.config.get("r", 8),
            "alpha": self.config.get("lora_alpha", 8),
            "matrices": len(self.deltas),
            "replaced": sorted(self.replaced),
        }

    def merge(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with this adapter in it; its tensors are computed while they are read.

        A tied model whose embedding or head the adapter changes is no longer tied: PEFT changes one of the two.
        """
        tensors: dict[str, Any] = dict(checkpoint.tensors)
        touched = {*self.deltas, *self.replaced} & {_EMBEDDING, _HEAD}
        if touched and len({_EMBEDDING, _HEAD} & tensors.keys()) == 1:
            if self.config.get("ensure_weight_tying"):
                raise _refused("ensure_weight_tying", True)
            one = tensors.get(_EMBEDDING, tensors.get(_HEAD))
            tensors |= {_EMBEDDING: one, _HEAD: one}
        for name, tensor in self.replaced.items():
            self._check(tensors, name, tensor.shape)
            tensors[name] = tensor
        for name, delta in self.deltas.items():
            self._check(tensors, name, delta.shape)
            tensors[name] = MergedTensor.of(tensors[name], delta)
        shards = (*checkpoint.shards, self.shard)
        return replace(checkpoint, tensors=tensors, shards=shards, adapter=self.summary)

    def _check(self, tensors: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> None:
        found = tensors.get(name)
        if found is None:
            raise CheckpointError(
                f"the adapter {self.dir} changes {name}, which the model does not have: give the model it was "
                f"trained on, {base_name(self.dir) or 'whose name it does not say'}"
            )
        if tuple(found.shape) != tuple(shape):
            raise CheckpointError(
                f"the adapter {self.dir} changes {name} of shape {list(shape)}, but the model's has shape "
                f"{list(found.shape)}: give the model it was trained on, resized as it was then"
            )


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter, with or without a model beside it."""
    return (folder / CONFIG).is_file()


def is_alone(folder: Path) -> bool:
    """Whether the folder holds an adapter and no model's weights."""
    return is_adapter(folder) and not any((folder / name).is_file() for name in (MODEL, INDEX))


def base_name(folder: Path) -> str:
    """What an adapter says it belongs to: a folder or a hub id, possibly nothing. Raises CheckpointError."""
    return str((read_json(folder, CONFIG) or {}).get("base_model_name_or_path") or "")


def open_checkpoint(folder: Path, lora: Path | None = None, *, ignore_adapter: bool = False) -> Checkpoint:
    """A checkpoint to convert, with the adapter in `lora` merged. Raises CheckpointError.

    An adapter that lies beside the weights changes what transformers loads, so it must be taken or left in words.
    """
    if lora is None and not ignore_adapter and is_adapter(folder):
        raise CheckpointError(
            f"{folder} holds a model and an adapter ({CONFIG}): merge it with edgellm convert {folder} --lora "
            f"{folder}, or leave it out with --no-lora"
        )
    adapter = Adapter.open(lora) if lora else None
    try:
        checkpoint = Checkpoint.open(folder)
        return adapter.merge(checkpoint) if adapter else checkpoint
    except BaseException:
        if adapter:
            adapter.shard.close()
        raise


class _Kept:
    """The last whole matrices read, for threads that work on neighbouring rows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.held: OrderedDict[str, Float32s] = OrderedDict()

    def whole(self, tensor: LazyTensor) -> Float32s:
        with self._lock:
            if tensor.name not in self.held:
                self.held[tensor.name] = tensor.rows(0, tensor.n_rows)
                while len(self.held) > _KEPT:
                    self.held.popitem(last=False)
            self.held.move_to_end(tensor.name)
            return self.held[tensor.name]


class _Scales:
    """alpha over rank of every module, by PEFT's patterns (`get_pattern_key` in peft/utils/other.py)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.r, self.alpha = config.get("r", 8), config.get("lora_alpha", 8)
        self.ranks, self.alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
        self.root = bool(config.get("use_rslora"))

    def of(self, module: str) -> tuple[int, float]:
        """The rank that the configuration gives a module, and its scale."""
        rank, alpha = _matching(self.ranks, module, self.r), _matching(self.alphas, module, self.alpha)
        return rank, alpha / (sqrt(rank) if self.root else rank)


def _matching(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    found = (
        value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module) is not None
    )
    return next(found, default)


def _sort(shard: Shard, scales: _Scales) -> tuple[dict[str, Delta], dict[str, LazyTensor]]:
    """The tensors of an adapter's file as deltas and replacements."""
    sides: dict[str, dict[str, LazyTensor]] = {}
    replaced: dict[str, LazyTensor] = {}
    embeddings: set[str] = set()
    for name, tensor in read_tensors(shard).items():
        if tensor.dtype not in NUMPY_DTYPES or not 1 <= len(tensor.shape) <= 3 or 0 in tensor.shape:
            raise CheckpointError(f"{shard.path}: tensor {name!r} is {tensor.dtype} {list(tensor.shape)}")
        plain = name.removeprefix("base_model.model.")
        if match := _FACTOR.fullmatch(plain):
            sides.setdefault(match["module"], {})[match["side"]] = tensor
            embeddings |= {match["module"]} if match["embedding"] else set()
        else:
            replaced[canonical(plain.replace(".base_layer.", "."))] = tensor
    kept = _Kept()
    deltas = {}
    for module, pair in sides.items():
        rank, scale = scales.of(module)
        if pair.keys() != {"A", "B"} or any(len(tensor.shape) != 2 for tensor in pair.values()):
            raise CheckpointError(f"{shard.path}: {module} has no pair of matrices lora_A and lora_B")
        if not pair["A"].shape[0] == pair["B"].shape[1] == rank:
            raise CheckpointError(
                f"{shard.path}: {module} has rank {pair['A'].shape[0]}, {CONFIG} says {rank}"
            )
        deltas[canonical(f"{module}.weight")] = Delta(pair["A"], pair["B"], scale, module in embeddings, kept)
    return deltas, replaced


def _columns(tensor: LazyTensor, start: int, stop: int) -> Float32s:
    """Columns [start, stop) of a stored matrix, reading no others."""
    import numpy as np

    n_rows, width = tensor.shape
    flat = replace(tensor, shape=(n_rows * width, 1))
    parts = [flat.rows(row * width + start, row * width + stop) for row in range(n_rows)]
    return np.ascontiguousarray(np.concatenate(parts, axis=1).T)


def _refused(key: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{CONFIG}: {key} is {value!r}, which edgellm does not merge: merge it with PEFT (merge_and_unload) and "
        "convert the result"
    )


def _check_config(config: Mapping[str, Any]) -> None:
    """Refuse, by name, whatever makes the adapter compute something else than the formula above."""
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        raise _refused("peft_type", config.get("peft_type"))
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise _refused("init_lora_weights", start)
    for key, value in config.items():
        if key not in _UNDERSTOOD and value:
            raise _refused(key, value)
    for key in ("r", "lora_alpha"):
        _check_number(key, config.get(key, 8))
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(key) or {}
        if not isinstance(patterns, Mapping):
            raise _refused(key, patterns)
        for pattern, value in patterns.items():
            _check_number(f"{key}[{pattern!r}]", value)
            _check_pattern(key, pattern)


def _check_number(key: str, value: object) -> None:
    whole = not key.startswith(("lora_alpha", "alpha"))
    if (
        not isinstance(value, int if whole else (int, float))
        or isinstance(value, bool)
        or not 0 < value < 1e6
    ):
        raise CheckpointError(f"{CONFIG}: {key} is {value!r}, but must be a number above 0")


def _check_pattern(key: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError) as error:
        raise CheckpointError(f"{CONFIG}: {key} has {pattern!r}, no regular expression ({error})") from None
    if len(pattern) > 200 or _UNSAFE.search(pattern):
        raise _refused(key, pattern)
