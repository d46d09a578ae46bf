"""The checkpoint as transformers would load it, read by eyes that the converter does not use.

Names, numbers, ties, rotation and adapters are derived here once more, from transformers' documented rules, in
code that models/ and convert/checkpoint/ do not share: what one of the two gets wrong shows as a difference. Only
the bytes of a safetensors file are read by the same module, which is held against the official library. What is
refused on purpose is refused before, by the converter.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.convert.checkpoint.safetensors_file import LazyTensor, Shard, read_tensors
from edgellm.convert.verify import hybrid, rotary
from edgellm.convert.verify.adapter import Change, Changes
from edgellm.errors import CheckpointError
from edgellm.models import reference
from edgellm.models.base import (
    Architecture,
    ModelSpec,
    MoeSpec,
    Role,
    RopeScaling,
    Source,
    Stored,
    TensorSpec,
    interleaved,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.models.reference import Watch

    Float32s = npt.NDArray[np.float32]

Place = tuple[str, str]  # module and suffix: ("layers.0.mlp.up_proj", "weight")

_WRAPPER = re.compile(r"(?<![a-z_])(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_TOWER = re.compile(r"(?:^|\.)visual\.")  # of a model that sees, beside its language model
_TAIL = re.compile(
    r"(?:^|\.)(?P<module>(?:mtp\.)?layers\.\d+\.(?:input_layernorm|post_attention_layernorm|self_attn\.[qkvo]_proj"
    r"|self_attn\.[qk]_norm|linear_attn\.(?:in_proj_(?:qkv|z|a|b)|conv1d|A_log|dt_bias|norm|out_proj)"
    r"|mlp\.(?:gate|shared_expert_gate|(?:shared_expert\.|experts\.\d+\.)?(?:gate|up|down)_proj"
    r"|experts\.(?:gate_up_proj|down_proj)))|mtp\.(?:fc|pre_fc_norm_embedding|pre_fc_norm_hidden|norm)"
    r"|(?<![a-z_])embed_tokens|(?<![a-z_])norm|lm_head|score)"
    r"(?:\.(?P<suffix>weight|bias))?$"
)
#: GGUF's role of each module of a layer, and of those outside.
_ROLES = {
    "input_layernorm": Role.ATTN_NORM,
    "self_attn.q_proj": Role.ATTN_Q,
    "self_attn.k_proj": Role.ATTN_K,
    "self_attn.v_proj": Role.ATTN_V,
    "self_attn.o_proj": Role.ATTN_OUT,
    "self_attn.q_norm": Role.ATTN_Q_NORM,
    "self_attn.k_norm": Role.ATTN_K_NORM,
    "linear_attn.in_proj_qkv": Role.ATTN_QKV,
    "linear_attn.in_proj_z": Role.ATTN_GATE,
    "linear_attn.conv1d": Role.SSM_CONV1D,
    "linear_attn.dt_bias": Role.SSM_DT,
    "linear_attn.A_log": Role.SSM_A,
    "linear_attn.in_proj_b": Role.SSM_BETA,
    "linear_attn.in_proj_a": Role.SSM_ALPHA,
    "linear_attn.norm": Role.SSM_NORM,
    "linear_attn.out_proj": Role.SSM_OUT,
    "post_attention_layernorm": Role.FFN_NORM,
    "mlp.gate_proj": Role.FFN_GATE,
    "mlp.up_proj": Role.FFN_UP,
    "mlp.down_proj": Role.FFN_DOWN,
    "mlp.gate": Role.FFN_GATE_INP,
    "mlp.shared_expert_gate": Role.FFN_GATE_INP_SHEXP,
    "mlp.shared_expert.gate_proj": Role.FFN_GATE_SHEXP,
    "mlp.shared_expert.up_proj": Role.FFN_UP_SHEXP,
    "mlp.shared_expert.down_proj": Role.FFN_DOWN_SHEXP,
    "embed_tokens": Role.TOKEN_EMBD,
    "norm": Role.OUTPUT_NORM,
    "lm_head": Role.OUTPUT,
    "score": Role.CLS_OUT,
    "mtp.fc": Role.NEXTN_EH_PROJ,
    "mtp.pre_fc_norm_embedding": Role.NEXTN_ENORM,
    "mtp.pre_fc_norm_hidden": Role.NEXTN_HNORM,
    "mtp.norm": Role.NEXTN_HEAD_NORM,
}
#: GGUF's names of the families; those whose Q and K rows llama.cpp interleaves, and who need a head of their own.
_FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "qwen2_v_l": "qwen2vl",
    "qwen2_5_v_l": "qwen2vl",
    "qwen3_v_l": "qwen3vl",
    "qwen3_5": "qwen35",
    "qwen3_5_moe": "qwen35moe",
}
_INTERLEAVED, _OWN_HEAD = ("llama",), ("qwen2_moe",)
_SHARED = ("qwen2_moe", "qwen3_5_moe")  # families with an expert for every token
_HEAD_DIMS = {
    "qwen3": 128,
    "qwen3_v_l": 128,
    "qwen3_5": 256,
    "qwen3_5_moe": 256,
}  # where the config's class has a default of its own


@dataclass(frozen=True)
class _Rows:
    """A stored tensor and what an adapter does to it."""

    stored: LazyTensor
    change: Change | None

    def rows(self, start: int, stop: int) -> Float32s:
        """Rows [start, stop), float32."""
        if self.change is None or self.change.a is None:
            return (self.change.whole if self.change and self.change.whole else self.stored).rows(start, stop)
        base = self.change.whole or self.stored
        return base.rows(start, stop) + self.change.added(start, stop)


class _AgainstNothing(_Rows):
    """A row that scores, and zeros."""

    def rows(self, start: int, stop: int) -> Float32s:
        import numpy as np

        row = super().rows(0, 1)
        both: Float32s = np.concatenate([row, np.zeros_like(row)])
        return both[start:stop]


@dataclass(frozen=True)
class Original:
    """What a conversion is held against."""

    spec: ModelSpec
    tensors: Mapping[str, _Rows] = field(repr=False)  # by place, as text
    rotary: rotary.Rotary
    config: Mapping[str, Any] = field(repr=False)

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, lora: Path | None = None) -> Iterator[Original]:
        """Read a checkpoint, with the adapter in `lora` applied. Files stay open inside the `with` block."""
        with ExitStack() as stack:
            config = _language_model(json.loads((folder / "config.json").read_text(encoding="utf-8")))
            stored = _stored(folder, stack)
            changes: dict[Place, Change] = {}
            if lora:
                read = Changes.read(lora, place_of)
                stack.callback(read.shard.close)
                changes = read.by_place
            tensors = _applied(stored, changes)
            turned = rotary.read(config, _n_rot(config))
            yield cls(_spec(config, tensors, turned), tensors, turned, config)

    @property
    def rotation(self) -> tuple[Float32s, float]:
        """As `models.reference.logits` wants it."""
        return self.rotary.frequencies, self.rotary.magnitude

    def logits(self, tokens: Sequence[int], watch: Watch | None = None) -> Float32s:
        """The oracle's logits [len(tokens), n_vocab] with what was read here."""
        return reference.logits(self.spec, self.tensors, tokens, watch=watch, rotation=self.rotation)

    def ranking(self, rows: Sequence[int]) -> Original:
        """The same with these rows of its head as a classifier, in the head's place, as llama.cpp has rerankers.

        Without any it is a row of scores that ranks: yes, against nothing.
        """
        if not rows:
            place = "score.weight"
            both = Source(place, 0, 2)
            tensors = {**self.tensors, place: _AgainstNothing(self.tensors[place].stored, None)}
            kept = [tensor for tensor in self.spec.tensors if tensor.role is not Role.CLS_OUT]
            classifier = TensorSpec(Role.CLS_OUT, None, "weight", (both,), (2, self.spec.n_embd))
            return replace(self, tensors=tensors, spec=replace(self.spec, tensors=(*kept, classifier)))
        head = "lm_head.weight" if "lm_head.weight" in self.tensors else "embed_tokens.weight"
        sources = tuple(Source(head, row, row + 1) for row in rows)
        kept = [tensor for tensor in self.spec.tensors if tensor.role is not Role.OUTPUT]
        classifier = TensorSpec(Role.CLS_OUT, None, "weight", sources, (len(rows), self.spec.n_embd))
        return replace(self, spec=replace(self.spec, tied=True, tensors=(*kept, classifier)))

    def is_computed(self, tensor: TensorSpec) -> bool:
        """Whether no file holds its values: another order of the same sums may round otherwise."""
        changes = [self.tensors[source.name].change for source in tensor.sources]
        if tensor.stored is not Stored.AS_IS:
            return True
        return not changes or any(change is not None and change.a is not None for change in changes)

    @property
    def gguf_names(self) -> dict[Place, str]:
        """The GGUF tensor that each matrix of its own becomes."""
        single = (tensor for tensor in self.spec.tensors if len(tensor.sources) == 1)
        return {_split(tensor.sources[0].name): tensor.gguf_name for tensor in single}

    def orders_of(self, place: Place) -> tuple[Any, Any]:
        """The checkpoint's row for each row of the GGUF tensor of `place`, and its column for each column."""
        import numpy as np

        tensor = next(t for t in self.spec.tensors if [s.name for s in t.sources] == [".".join(place)])
        rows, columns = np.arange(tensor.n_rows), np.arange(tensor.row_size)
        return (
            tensor.row_order(rows) if tensor.row_order else rows,
            tensor.column_order(columns) if tensor.column_order else columns,
        )


def place_of(name: str) -> Place | None:
    """Module and suffix that a stored name stands for, None for what takes no part in the forward pass."""
    name = _WRAPPER.sub("", name)
    match = None if _TOWER.search(name) else _TAIL.search(name)
    return (match["module"], match["suffix"] or "weight") if match else None


def _split(place: str) -> Place:
    module, _, suffix = place.rpartition(".")
    return module, suffix


def _stored(folder: Path, stack: ExitStack) -> dict[Place, LazyTensor]:
    """Every tensor of the forward pass. Raises CheckpointError when one is stored twice."""
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if not (folder / "model.safetensors").exists():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    found: dict[Place, LazyTensor] = {}
    for name in sorted(names):
        shard = Shard.open(folder / name)
        stack.callback(shard.close)
        for tensor in read_tensors(shard).values():
            place = place_of(tensor.name)
            if place in found:
                raise CheckpointError(f"{folder} has {'.'.join(place)} twice")
            if place:
                found[place] = tensor
    return found


def _applied(stored: dict[Place, LazyTensor], changes: Mapping[Place, Change]) -> dict[str, _Rows]:
    """The tensors with their changes. One matrix tied to two uses is two where an adapter changes either."""
    embedding, head = ("embed_tokens", "weight"), ("lm_head", "weight")
    if (embedding in changes or head in changes) and (embedding in stored) != (head in stored):
        one = stored.get(embedding, stored.get(head))
        assert one is not None
        stored = {**stored, embedding: one, head: one}
    return {".".join(place): _Rows(tensor, changes.get(place)) for place, tensor in stored.items()}


def _language_model(config: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a model that reads, which one that also sees keeps in a config of their own."""
    inner: dict[str, Any] = config.pop("text_config", {})
    return inner | {key: value for key, value in config.items() if key == "architectures" or key not in inner}


def _n_rot(config: Mapping[str, Any]) -> int:
    """Values of a head that rotary embedding turns."""
    head_dim = _head_dim(config)
    return hybrid.n_rot(config, head_dim) if _kind(config) in hybrid.KINDS else head_dim


def _head_dim(config: Mapping[str, Any]) -> int:
    usual = _HEAD_DIMS.get(_kind(config)) or config["hidden_size"] // config["num_attention_heads"]
    return int(config.get("head_dim") or usual)


def _kind(config: Mapping[str, Any]) -> str:
    classes = config.get("architectures") or []
    name = classes if isinstance(classes, str) else (classes or [""])[0]
    words = re.findall(r"[A-Z][a-z]*\d*(?:_\d+)?", re.sub("(For[A-Z].*|Model)$", "", name))
    return "_".join(words).lower() or str(config["model_type"]).removesuffix("_text")


def _spec(config: Mapping[str, Any], tensors: Mapping[str, _Rows], turned: rotary.Rotary) -> ModelSpec:
    kind = _kind(config)
    n_head, n_layer = config["num_attention_heads"], config["num_hidden_layers"]
    heads = {"embed_tokens.weight", "lm_head.weight"} & tensors.keys()
    spec = ModelSpec(
        architecture=Architecture(
            _FAMILIES[kind],
            (),
            (kind,),
            {},
            qk_norm=any(name.endswith("self_attn.q_norm.weight") for name in tensors),
            gated_attention=kind in hybrid.KINDS,
        ),
        n_layer=n_layer,
        n_embd=config["hidden_size"],
        n_ff=config.get("intermediate_size") or 0,
        n_head=n_head,
        n_head_kv=config.get("num_key_value_heads") or n_head,
        head_dim=_head_dim(config),
        n_vocab=config["vocab_size"],
        n_ctx_train=config["max_position_embeddings"],
        rms_eps=config.get("rms_norm_eps") or 1e-6,
        rope_theta=turned.theta,
        rope_scaling=None
        if turned.kind == "default"
        else RopeScaling(turned.kind, turned.factor, original_max_position_embeddings=turned.original),
        tied=len(heads) == 1,
        moe=_moe(config) if "mlp.gate." in " ".join(tensors) else None,
        tensors=(),
        n_rot=_n_rot(config),
        layer_kinds=hybrid.layer_kinds(config) if kind in hybrid.KINDS else (),
        delta_net=hybrid.delta_net(config) if kind in hybrid.KINDS else None,
        n_layer_nextn=int(any(name.startswith("mtp.layers.") for name in tensors)),
    )
    return replace(spec, tensors=tuple(_tensors(spec, kind, tensors, min(heads))))


def _moe(config: Mapping[str, Any]) -> MoeSpec:
    return MoeSpec(
        config.get("num_experts") or config["num_local_experts"],
        config["num_experts_per_tok"],
        config["moe_intermediate_size"],
        config.get("shared_expert_intermediate_size") or 0 if _kind(config) in _SHARED else 0,
        bool(config.get("norm_topk_prob", _kind(config) in hybrid.KINDS)),
    )


def _tensors(spec: ModelSpec, kind: str, found: Mapping[str, _Rows], embedding: str) -> Iterator[TensorSpec]:
    if spec.rope_scaling and spec.rope_scaling.kind == "llama3":
        yield TensorSpec(Role.ROPE_FREQS, None, "weight", (), (spec.head_dim // 2,))
    turned = (Role.ATTN_Q, Role.ATTN_K) if kind in _INTERLEAVED else ()
    for name, rows in found.items():
        module, suffix = _split(name)
        layer, inside = _layer_of(module, spec.n_layer)
        if (layer is not None and layer >= spec.n_layer and "mtp." not in module) or ".experts." in module:
            continue
        role = Role.TOKEN_EMBD if spec.tied and name == embedding else _ROLES[inside]
        shape = rows.stored.shape
        order = interleaved(spec.head_dim) if role in turned else None
        whole = TensorSpec(role, layer, suffix, (), shape, row_order=order)
        if spec.delta_net:
            whole = hybrid.of_hybrid(whole, spec.delta_net)
        yield replace(whole, sources=(Source(name, 0, whole.n_rows),))
    if spec.tied and kind in _OWN_HEAD:
        shape = found[embedding].stored.shape
        yield TensorSpec(Role.OUTPUT, None, "weight", (Source(embedding, 0, shape[0]),), shape)
    for layer in range(spec.n_layer + spec.n_layer_nextn if spec.moe else 0):
        yield from _experts(spec, layer, found)


def _layer_of(module: str, n_layer: int) -> tuple[int | None, str]:
    """The layer, and the module's name in it. What predicts further tokens is one more block."""
    if module.startswith("mtp.") and not module.startswith("mtp.layers."):
        return n_layer, module
    if not module.startswith(("layers.", "mtp.layers.")):
        return None, module
    _, layer, inside = module.removeprefix("mtp.").split(".", 2)
    return int(layer) + (n_layer if module.startswith("mtp.") else 0), inside


def _experts(spec: ModelSpec, layer: int, found: Mapping[str, _Rows]) -> Iterator[TensorSpec]:
    """One tensor of all experts for each projection; stacked ones hold an expert's gate rows, then its up rows."""
    assert spec.moe
    n, n_ff, n_embd = spec.moe.n_expert, spec.moe.n_ff_expert, spec.n_embd
    at = f"layers.{layer}" if layer < spec.n_layer else f"mtp.layers.{layer - spec.n_layer}"
    at += ".mlp.experts"
    both, down = f"{at}.gate_up_proj.weight", f"{at}.down_proj.weight"
    for role, name, n_out, n_in, first, stride, stacked in (
        (Role.FFN_GATE_EXPS, "gate_proj", n_ff, n_embd, 0, 2 * n_ff, both),
        (Role.FFN_UP_EXPS, "up_proj", n_ff, n_embd, n_ff, 2 * n_ff, both),
        (Role.FFN_DOWN_EXPS, "down_proj", n_embd, n_ff, 0, n_embd, down),
    ):
        if stacked in found:
            starts = [expert * stride + first for expert in range(n)]
            sources = tuple(Source(stacked, start, start + n_out) for start in starts)
        else:
            sources = tuple(Source(f"{at}.{expert}.{name}.weight", 0, n_out) for expert in range(n))
        yield TensorSpec(role, layer, "weight", sources, (n, n_out, n_in))
