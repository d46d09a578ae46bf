"""Which tensors a model has, of which shape, and which rows of the checkpoint they are made of.

The shapes are a table in terms of the model's numbers; every tensor of the checkpoint must be accounted for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from edgellm.errors import CheckpointError
from edgellm.models.base import (
    LayerKind,
    ModelSpec,
    Reorder,
    Role,
    Source,
    Stored,
    TensorSpec,
    interleaved,
    tiled,
)
from edgellm.models.names import LAYER_PREFIX, NEXTN_PREFIX
from edgellm.models.renaming import is_ignored, tower_of

_R = Role

#: Shape of each role's weight, rows first, in the names that `_dimensions` gives them.
SHAPES: dict[Role, tuple[str, ...]] = {
    _R.TOKEN_EMBD: ("n_vocab", "n_embd"),
    _R.OUTPUT_NORM: ("n_embd",),
    _R.OUTPUT: ("n_vocab", "n_embd"),
    _R.ROPE_FREQS: ("half_head",),
    _R.ATTN_NORM: ("n_embd",),
    _R.ATTN_Q: ("n_q_gated", "n_embd"),
    _R.ATTN_K: ("n_kv", "n_embd"),
    _R.ATTN_V: ("n_kv", "n_embd"),
    _R.ATTN_OUT: ("n_embd", "n_q"),
    _R.ATTN_Q_NORM: ("head_dim",),
    _R.ATTN_K_NORM: ("head_dim",),
    _R.ATTN_QKV: ("n_conv", "n_embd"),
    _R.ATTN_GATE: ("n_v", "n_embd"),
    _R.SSM_CONV1D: ("n_conv", "conv_kernel"),
    _R.SSM_DT: ("n_v_heads",),
    _R.SSM_A: ("n_v_heads",),
    _R.SSM_BETA: ("n_v_heads", "n_embd"),
    _R.SSM_ALPHA: ("n_v_heads", "n_embd"),
    _R.SSM_NORM: ("net_head_dim",),
    _R.SSM_OUT: ("n_embd", "n_v"),
    _R.FFN_NORM: ("n_embd",),
    _R.FFN_GATE: ("n_ff", "n_embd"),
    _R.FFN_UP: ("n_ff", "n_embd"),
    _R.FFN_DOWN: ("n_embd", "n_ff"),
    _R.FFN_GATE_INP: ("n_expert", "n_embd"),
    _R.FFN_GATE_EXPS: ("n_expert", "n_ff_expert", "n_embd"),
    _R.FFN_UP_EXPS: ("n_expert", "n_ff_expert", "n_embd"),
    _R.FFN_DOWN_EXPS: ("n_expert", "n_embd", "n_ff_expert"),
    _R.FFN_GATE_INP_SHEXP: ("one", "n_embd"),
    _R.FFN_GATE_SHEXP: ("n_ff_shared", "n_embd"),
    _R.FFN_UP_SHEXP: ("n_ff_shared", "n_embd"),
    _R.FFN_DOWN_SHEXP: ("n_embd", "n_ff_shared"),
    _R.NEXTN_EH_PROJ: ("n_embd", "two_n_embd"),
    _R.NEXTN_ENORM: ("n_embd",),
    _R.NEXTN_HNORM: ("n_embd",),
    _R.NEXTN_HEAD_NORM: ("n_embd",),
}

_ATTENTION = (_R.ATTN_Q, _R.ATTN_K, _R.ATTN_V, _R.ATTN_OUT, _R.ATTN_Q_NORM, _R.ATTN_K_NORM)
_DELTA_NET = (
    *(_R.ATTN_QKV, _R.ATTN_GATE, _R.SSM_CONV1D, _R.SSM_DT, _R.SSM_A),
    *(_R.SSM_BETA, _R.SSM_ALPHA, _R.SSM_NORM, _R.SSM_OUT),
)
_NEXTN = (_R.NEXTN_EH_PROJ, _R.NEXTN_ENORM, _R.NEXTN_HNORM, _R.NEXTN_HEAD_NORM)

#: The order of a layer's tensors.
LAYER: tuple[Role, ...] = tuple(
    role for role in SHAPES if role not in (_R.TOKEN_EMBD, _R.OUTPUT_NORM, _R.OUTPUT, _R.ROPE_FREQS)
)

#: Bare parameters: what ends their names in GGUF. In a checkpoint nothing does.
_BARE: dict[Role, str] = {_R.SSM_A: "", _R.SSM_DT: "bias"}

_NORMS = frozenset(role for role in SHAPES if role.name.endswith("NORM") and role is not _R.SSM_NORM)

_EXPERTS = (_R.FFN_GATE_EXPS, _R.FFN_UP_EXPS, _R.FFN_DOWN_EXPS)

Shapes = Mapping[str, tuple[int, ...]]


def add_tensors(
    spec: ModelSpec, bias_roles: frozenset[Role], tie_flag: object, shapes: Shapes, *, headless: bool = False
) -> ModelSpec:
    """`spec` with its tensors, in order, each held against the checkpoint's `shapes`.

    A head in the checkpoint is used whatever `tie_word_embeddings` says: so do llama.cpp (it loads
    `output.weight` where there is one) and transformers 5 (it ties only what is missing or equal,
    `PreTrainedModel.tie_weights`). Where one of the two is missing, the flag must say that they are tied: without
    it transformers starts the missing one from random numbers. A `headless` model may lack the head all the same.
    """
    names = (f"{spec.architecture.tensor_names[role]}.weight" for role in (Role.TOKEN_EMBD, Role.OUTPUT))
    embedding, head = names
    missing = [name for name in (embedding, head) if name not in shapes]
    if len(missing) == 1 and tie_flag is not True and not (headless and missing == [head]):
        raise CheckpointError(
            f"the checkpoint has no {missing[0]}, and config.json does not say that tie_word_embeddings is true: "
            "download the missing shard, or set it to true if head and embedding are one"
        )
    spec = replace(spec, tied=bool(missing))
    stored = {embedding: head} if missing == [embedding] else {}
    tensors = tuple(_Layout(spec, bias_roles, shapes, stored).all())
    _refuse_unknown(spec, tensors, shapes)
    return replace(spec, tensors=tensors)


def expected_shapes(spec: ModelSpec, bias_roles: frozenset[Role]) -> dict[str, tuple[int, ...]]:
    """The tensors that a checkpoint with these numbers has by itself, `spec.tied` settled, experts one by one."""
    layout = _Expected(spec, bias_roles, {}, {})
    for _ in layout.all():
        pass
    return layout.found


class _Layout:
    """Walks one model's tensors, holding each against the checkpoint."""

    def __init__(
        self, spec: ModelSpec, bias_roles: frozenset[Role], shapes: Shapes, stored: Mapping[str, str]
    ) -> None:
        self.spec = spec
        self.stored = stored  # the name to read instead, where a tied model keeps its one matrix as the head
        self.family = spec.architecture
        self.bias_roles = bias_roles
        self.shapes = shapes
        self.dimensions = _dimensions(spec)

    def all(self) -> Iterator[TensorSpec]:
        if self.spec.rope_scaling is not None and self.spec.rope_scaling.kind == "llama3":
            yield TensorSpec(Role.ROPE_FREQS, None, "weight", (), self.shape(Role.ROPE_FREQS))
        yield self.plain(Role.TOKEN_EMBD)
        for layer in range(self.spec.n_layer + self.spec.n_layer_nextn):
            yield from self.layer(layer)
        yield self.plain(Role.OUTPUT_NORM)
        if not self.spec.tied:
            yield self.plain(Role.OUTPUT)
        elif self.family.engine_needs_output:
            yield replace(self.plain(Role.TOKEN_EMBD), role=Role.OUTPUT)

    def layer(self, layer: int) -> Iterator[TensorSpec]:
        others = {*(_ATTENTION if self.spec.kind(layer) is LayerKind.DELTA_NET else _DELTA_NET)}
        others |= {*_NEXTN} if layer < self.spec.n_layer else set()
        for role in LAYER:
            if role not in self.family.tensor_names or role in others:
                continue
            if role in _EXPERTS:
                yield self.experts(role, layer)
                continue
            yield self.plain(role, layer)
            if role in self.bias_roles:
                yield self.plain(role, layer, "bias")

    def plain(self, role: Role, layer: int | None = None, suffix: str = "weight") -> TensorSpec:
        shape = self.shape(role) if suffix == "weight" else self.shape(role)[:1]
        name = self.name(role, layer, suffix)
        name = self.stored.get(name, name)
        # transformers' convolution has an axis for the one channel that each kernel sees.
        self.check(name, (shape[0], 1, *shape[1:]) if role is Role.SSM_CONV1D else shape)
        tensor = TensorSpec(
            role,
            layer,
            _BARE.get(role, suffix),
            (),
            shape,
            self.stored_as(role),
            self.row_order(role),
            self.column_order(role),
            self.family.gguf_roles.get(role),
        )
        return replace(tensor, sources=(Source(name, 0, tensor.n_rows),))

    def name(self, role: Role, layer: int | None, suffix: str = "weight") -> str:
        stem = self.filled(self.family.tensor_names[role], layer)
        return stem if role in _BARE else f"{stem}.{suffix}"

    def filled(self, template: str, layer: int | None, expert: int | None = None) -> str:
        """A name in the checkpoint, where the blocks behind the layers are counted from 0 again."""
        if layer is not None and layer >= self.spec.n_layer:
            layer -= self.spec.n_layer
            template = template.replace(LAYER_PREFIX, NEXTN_PREFIX)
        return template.format(i=layer, e=expert)

    def experts(self, role: Role, layer: int) -> TensorSpec:
        """All experts' matrices: one tensor each in the checkpoint, or already stacked by transformers 5."""
        shape = self.shape(role)
        n_expert, n_rows, n_columns = shape
        down = role is Role.FFN_DOWN_EXPS
        template = self.family.stacked_down if down else self.family.stacked_gate_up
        stacked = self.stacked_name(template, layer)
        if stacked is None:
            template = self.family.tensor_names[role]
            names = [self.filled(template, layer, e) + ".weight" for e in range(n_expert)]
            for name in names:
                self.check(name, (n_rows, n_columns))
            sources = tuple(Source(name, 0, n_rows) for name in names)
            return TensorSpec(role, layer, "weight", sources, shape)
        stride = n_rows if down else 2 * n_rows  # gate and up of one expert lie one above the other
        self.check(stacked, (n_expert, stride, n_columns))
        first = n_rows if role is Role.FFN_UP_EXPS else 0
        starts = [expert * stride + first for expert in range(n_expert)]
        return TensorSpec(role, layer, "weight", tuple(Source(stacked, s, s + n_rows) for s in starts), shape)

    def stacked_name(self, template: str | None, layer: int) -> str | None:
        """The stacked tensor's name in this checkpoint, if it is there; some tools add `.weight` to it."""
        name = "" if template is None else self.filled(template, layer)
        return next((found for found in (name, name + ".weight") if found in self.shapes), None)

    def stored_as(self, role: Role) -> Stored:
        if role is Role.SSM_A:
            return Stored.LOG_NEGATED
        return Stored.LESS_ONE if self.family.norms_less_one and role in _NORMS else Stored.AS_IS

    def row_order(self, role: Role) -> Reorder | None:
        if self.family.permute_qk and role in (Role.ATTN_Q, Role.ATTN_K):
            return interleaved(self.spec.head_dim)
        net = self.spec.delta_net
        if net is None:
            return None
        if role in (Role.ATTN_QKV, Role.SSM_CONV1D):
            return tiled(net, net.head_dim, first=2 * net.n_k)
        if role is Role.ATTN_GATE:
            return tiled(net, net.head_dim)
        by_head = (Role.SSM_A, Role.SSM_DT, Role.SSM_ALPHA, Role.SSM_BETA)
        return tiled(net, 1) if role in by_head else None

    def column_order(self, role: Role) -> Reorder | None:
        net = self.spec.delta_net
        return tiled(net, net.head_dim) if net and role is Role.SSM_OUT else None

    def shape(self, role: Role) -> tuple[int, ...]:
        return tuple(self.dimensions[name] for name in SHAPES[role])

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        found = self.shapes.get(name)
        if found is None:
            raise CheckpointError(
                f"the checkpoint has no tensor {name}, which a {self.family.name} model of "
                f"{self.spec.n_layer} layers needs: download the missing shard again"
            )
        if tuple(found) != shape:
            raise CheckpointError(
                f"tensor {name} has shape {list(found)}, but config.json makes it {list(shape)}: "
                "correct config.json (vocab_size for a resized vocabulary) or download both again"
            )


class _Expected(_Layout):
    """The same walk without a checkpoint: what would be held against one is kept."""

    def __init__(
        self, spec: ModelSpec, bias_roles: frozenset[Role], shapes: Shapes, stored: Mapping[str, str]
    ) -> None:
        super().__init__(spec, bias_roles, shapes, stored)
        self.found: dict[str, tuple[int, ...]] = {}

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        self.found[name] = shape


def _dimensions(spec: ModelSpec) -> dict[str, int]:
    moe, net = spec.moe, spec.delta_net
    n_q = spec.n_head * spec.head_dim
    return {
        "one": 1,
        "n_vocab": spec.n_vocab,
        "n_embd": spec.n_embd,
        "two_n_embd": 2 * spec.n_embd,
        "n_ff": spec.n_ff,
        "n_q": n_q,
        "n_q_gated": 2 * n_q if spec.architecture.gated_attention else n_q,
        "n_kv": spec.n_head_kv * spec.head_dim,
        "head_dim": spec.head_dim,
        "half_head": spec.head_dim // 2,
        "n_expert": moe.n_expert if moe else 0,
        "n_ff_expert": moe.n_ff_expert if moe else 0,
        "n_ff_shared": moe.n_ff_shared if moe else 0,
        "n_conv": net.n_conv if net else 0,
        "n_v": net.n_v if net else 0,
        "n_v_heads": net.n_v_heads if net else 0,
        "net_head_dim": net.head_dim if net else 0,
        "conv_kernel": net.conv_kernel if net else 0,
    }


def _refuse_unknown(spec: ModelSpec, tensors: tuple[TensorSpec, ...], shapes: Shapes) -> None:
    """A tensor left over changes what the model computes; converting without it would be silently wrong."""
    used = {source.name for tensor in tensors for source in tensor.sources}
    left_out = spec.architecture.towers
    unknown = sorted(
        name
        for name in shapes
        if name not in used and not is_ignored(name) and not (left_out and tower_of(name))
    )
    if unknown:
        family = spec.architecture.name
        others = f" and {len(unknown) - 1} more are" if len(unknown) > 1 else " is"
        raise CheckpointError(
            f"tensor {unknown[0]!r}{others} not part of a {family} model of {spec.n_layer} layers as "
            "config.json describes it: correct config.json, or merge adapters first (edgellm convert --lora)"
        )
