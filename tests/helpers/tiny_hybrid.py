"""Writes a small random hybrid GGUF: gated delta nets with full attention every so many layers, byte tokenizer.

For tests of sessions, headers and memory, which need a model that runs, not one that says something.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from tiny_gguf import byte_tokens

Change = Callable[[str, np.ndarray], np.ndarray]

TEMPLATE = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n"
    "{%- if m.role == 'assistant' and '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{%- else %}{{ m.content }}{%- endif %}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@dataclass(frozen=True)
class Hybrid:
    """Four heads, two for keys; matrices in F16."""

    architecture: str = "qwen35"  # qwen35moe, qwen3next
    n_layer: int = 4
    interval: int = 2  # every so many layers one of full attention
    n_embd: int = 64
    n_ff: int = 96
    head_dim: int = 32
    n_group: int = 2
    n_rank: int = 4
    state: int = 16
    n_ctx: int = 4096
    n_expert_used: int = 2  # of four
    n_nextn: int = 0  # blocks that draft, behind the layers
    tied: bool = False
    tokens: tuple[str, ...] = (*byte_tokens(), "th", "<|im_start|>", "<|im_end|>")


def write(path: Path, hybrid: Hybrid = Hybrid(), *, seed: int = 0, change: Change | None = None) -> Path:
    """`change` has the last word on every tensor's values. Returns `path`."""
    writer = gguf.GGUFWriter(path, hybrid.architecture)
    writer.add_name(path.stem)
    _add_keys(writer, hybrid)
    _Tensors(writer, hybrid, np.random.default_rng(seed), change).add()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_keys(writer: gguf.GGUFWriter, hybrid: Hybrid) -> None:
    writer.add_file_type(1)
    writer.add_block_count(hybrid.n_layer + hybrid.n_nextn)
    writer.add_context_length(hybrid.n_ctx)
    writer.add_embedding_length(hybrid.n_embd)
    writer.add_feed_forward_length(hybrid.n_ff)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(hybrid.head_dim)
    writer.add_value_length(hybrid.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(hybrid.head_dim // 4)
    writer.add_rope_dimension_sections([hybrid.head_dim // 8 - 2, 1, 1, 0])
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_state_size(hybrid.state)
    writer.add_ssm_group_count(hybrid.n_group)
    writer.add_ssm_time_step_rank(hybrid.n_rank)
    writer.add_ssm_inner_size(hybrid.n_rank * hybrid.state)
    writer.add_full_attention_interval(hybrid.interval)
    if hybrid.n_nextn:
        writer.add_nextn_predict_layers(hybrid.n_nextn)
    if hybrid.architecture != "qwen35":
        writer.add_expert_count(4)
        writer.add_expert_used_count(hybrid.n_expert_used)
        writer.add_expert_feed_forward_length(hybrid.n_ff)
        writer.add_expert_shared_feed_forward_length(hybrid.n_ff)
    n_vocab = len(hybrid.tokens)
    writer.add_vocab_size(n_vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen35")
    writer.add_token_list(hybrid.tokens)
    writer.add_token_types([1] * (n_vocab - 2) + [3, 3])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(n_vocab - 1)
    writer.add_chat_template(TEMPLATE)


class _Tensors:
    """Draws the weights, sharp enough that logits depend on every token before."""

    def __init__(
        self, writer: gguf.GGUFWriter, hybrid: Hybrid, rng: np.random.Generator, change: Change | None
    ) -> None:
        self.writer, self.hybrid, self.rng = writer, hybrid, rng
        self.change = change or (lambda _, data: data)

    def add(self) -> None:
        hybrid, n_embd = self.hybrid, self.hybrid.n_embd
        n_vocab = len(hybrid.tokens)
        self.matrix("token_embd.weight", n_vocab, n_embd, scale=float(np.sqrt(n_embd)))
        for layer in range(hybrid.n_layer + hybrid.n_nextn):
            self.layer(f"blk.{layer}", layer)
        self.vector("output_norm.weight", n_embd)
        if not hybrid.tied:
            self.matrix("output.weight", n_vocab, n_embd, scale=2.0)

    def layer(self, block: str, layer: int) -> None:
        hybrid, n_embd = self.hybrid, self.hybrid.n_embd
        drafts = layer >= hybrid.n_layer
        self.vector(f"{block}.attn_norm.weight", n_embd)
        self.vector(f"{block}.post_attention_norm.weight", n_embd)
        if drafts or (layer + 1) % hybrid.interval == 0:
            self.attention(block)
        else:
            self.delta_net(block)
        self.feed_forward(block)
        if drafts:
            self.matrix(f"{block}.nextn.eh_proj.weight", n_embd, 2 * n_embd)
            for name in ("enorm", "hnorm", "shared_head_norm"):
                self.vector(f"{block}.nextn.{name}.weight", n_embd)
            self.matrix(f"{block}.nextn.shared_head_head.weight", len(hybrid.tokens), n_embd, scale=2.0)

    def attention(self, block: str) -> None:
        n_embd, head_dim = self.hybrid.n_embd, self.hybrid.head_dim
        self.matrix(f"{block}.attn_q.weight", 2 * 4 * head_dim, n_embd)
        self.matrix(f"{block}.attn_k.weight", 2 * head_dim, n_embd)
        self.matrix(f"{block}.attn_v.weight", 2 * head_dim, n_embd)
        self.matrix(f"{block}.attn_output.weight", n_embd, 4 * head_dim)
        self.vector(f"{block}.attn_q_norm.weight", head_dim, mean=3.0)
        self.vector(f"{block}.attn_k_norm.weight", head_dim)

    def delta_net(self, block: str) -> None:
        n_embd, n_rank, state = self.hybrid.n_embd, self.hybrid.n_rank, self.hybrid.state
        inner, conv = n_rank * state, (n_rank + 2 * self.hybrid.n_group) * state
        self.matrix(f"{block}.attn_qkv.weight", conv, n_embd)
        self.matrix(f"{block}.attn_gate.weight", inner, n_embd)
        self.vector(f"{block}.ssm_conv1d.weight", conv, 4, mean=0.0, spread=0.7)
        self.vector(f"{block}.ssm_dt.bias", n_rank, mean=-2.0, spread=0.5)
        self.vector(f"{block}.ssm_a", n_rank, mean=-0.5)
        if self.hybrid.architecture == "qwen3next":
            self.matrix(f"{block}.ssm_ba.weight", 2 * n_rank, n_embd)
        else:
            self.matrix(f"{block}.ssm_alpha.weight", n_rank, n_embd)
            self.matrix(f"{block}.ssm_beta.weight", n_rank, n_embd)
        self.vector(f"{block}.ssm_norm.weight", state)
        self.matrix(f"{block}.ssm_out.weight", n_embd, inner, scale=2.0)

    def feed_forward(self, block: str) -> None:
        n_embd, n_ff = self.hybrid.n_embd, self.hybrid.n_ff
        if self.hybrid.architecture == "qwen35":
            kinds: dict[str, tuple[int, ...]] = {"": ()}
        else:
            self.vector(f"{block}.ffn_gate_inp.weight", 4, n_embd, mean=0.0)
            self.vector(f"{block}.ffn_gate_inp_shexp.weight", n_embd, mean=0.0)
            kinds = {"_exps": (4,), "_shexp": ()}
        for kind, experts in kinds.items():
            self.matrix(f"{block}.ffn_gate{kind}.weight", *experts, n_ff, n_embd)
            self.matrix(f"{block}.ffn_up{kind}.weight", *experts, n_ff, n_embd)
            self.matrix(f"{block}.ffn_down{kind}.weight", *experts, n_embd, n_ff)

    def matrix(self, name: str, *shape: int, scale: float = 1.0) -> None:
        data = scale * self.rng.standard_normal(shape, np.float32) / np.sqrt(shape[-1])
        self.writer.add_tensor(name, self.change(name, data).astype(np.float16))

    def vector(self, name: str, *shape: int, mean: float = 1.0, spread: float = 0.1) -> None:
        data = mean + spread * self.rng.standard_normal(shape)
        self.writer.add_tensor(name, self.change(name, data).astype(np.float32))
