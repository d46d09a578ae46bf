"""Train one bundled model from nothing and write it as a Hugging Face checkpoint.

    python -m edgellm.models.training.train tiny-qwen3 OUT_DIR [--steps N] [--seed S] [--work DIR] [--threads T]

Rows of `ROW_TOKENS` tokens hold several dialogues; a dialogue sees only itself and its positions start at 0.
What the assistant says counts fully, the rest a tenth. Matrices are trained with Muon (Jordan et al. 2024), the
embedding, head and norms with AdamW; warm-up, constant rate, linear decay. The state in the working folder is
saved every `SAVE_EVERY` steps and a later call with the same folder goes on from it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from edgellm import privacy
from edgellm.formats import tokenizer_files
from edgellm.models.training import corpus, tokenizer
from edgellm.models.training.checkpoint import save_checkpoint
from edgellm.models.training.configs import model_config
from edgellm.models.training.graft import DONORS, FIRST_STEP, RATE, graft
from edgellm.models.training.packing import cut_at_starts

ROW_TOKENS = 512
ROWS = 8
PROMPT_WEIGHT = 0.1
#: Prompt positions that get a loss at all; their weight is raised to make up for it.
PROMPT_KEPT = 0.2
WARM_UP_STEPS = 100
DECAY_SHARE = 0.35
MUON_RATE = 0.02
ADAM_RATE = 3e-3
WEIGHT_DECAY = 0.01
GRADIENT_NORM = 1.0
#: Largest root mean square of a query or key matrix without q/k norm, and the step the bound starts at. Muon lets
#: them grow until attention is all or nothing and learns no more: before the bound, the entropy of tiny-llama3's
#: heads had fallen to 0.2 nats (2 in tiny-qwen3) and it could not repeat a name.
QUERY_KEY_RMS = 0.08
QUERY_KEY_FROM = 1000
SAVE_EVERY = 200
LOG_EVERY = 50


@dataclass(frozen=True)
class Batch:
    """One step's rows, of shape (ROWS, ROW_TOKENS); `mask` is additive, (ROWS, 1, ROW_TOKENS, ROW_TOKENS)."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor


class Packer:
    """Turns the dialogue stream into token rows; a pure function of the seed and the step."""

    def __init__(self, name: str, tokenizer_file: Path) -> None:
        self.name = name
        self.family = tokenizer.FAMILIES[name]
        self.tokenizer = tokenizer_files.library(tokenizer_file, {})
        self.pad = self.tokenizer.token_to_id(self.family.pad)

    def encode(self, dialogue: corpus.Dialogue) -> tuple[list[int], list[bool]]:
        """Token ids of a dialogue, and which of them the assistant says."""
        turns = [("system", dialogue.system)] if dialogue.system else []
        for ask, reply in dialogue.turns:
            turns += [("user", ask), ("assistant", reply)]
        pieces = list(tokenizer.render(self.family, turns))
        encoded = self.tokenizer.encode_batch([text for text, _ in pieces], add_special_tokens=False)
        ids: list[int] = []
        said: list[bool] = []
        for (_, learn), each in zip(pieces, encoded, strict=True):
            ids += each.ids
            said += [learn] * len(each.ids)
        return ids, said

    def batch(self, seed: int, step: int) -> Batch:
        """The rows of one step."""
        stream = corpus.dialogues(corpus.step_seed(seed, step), self.name, corpus.mix_at(step))
        shape = (ROWS, ROW_TOKENS)
        ids, targets = torch.full(shape, self.pad), torch.full(shape, self.pad)
        positions, weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        owner = torch.zeros(shape, dtype=torch.long)
        rng = random.Random(step)
        for row in range(ROWS):
            for number, (start, tokens, said) in enumerate(self._fill(stream), 1):
                n = len(tokens) - 1
                here = slice(start, start + n)
                ids[row, here] = torch.tensor(tokens[:-1])
                targets[row, here] = torch.tensor(tokens[1:])
                positions[row, here] = torch.arange(n)
                owner[row, here] = number
                kept = PROMPT_WEIGHT / PROMPT_KEPT
                weights[row, here] = torch.tensor(
                    [1.0 if learn else kept if rng.random() < PROMPT_KEPT else 0.0 for learn in said[1:]]
                )
        same = owner[:, :, None] == owner[:, None, :]
        allowed = same & torch.ones(ROW_TOKENS, ROW_TOKENS, dtype=torch.bool).tril()
        mask = torch.zeros(allowed.shape, dtype=torch.bfloat16).masked_fill(~allowed, -1e9)[:, None]
        return Batch(ids, positions, mask, targets, weights)

    def _fill(self, stream: Iterator[corpus.Dialogue]) -> Iterator[tuple[int, list[int], list[bool]]]:
        """Dialogues for one row with their starts; one that does not fit is cut and ends the row."""
        start = 0
        while start < ROW_TOKENS - 8:
            tokens, said = self.encode(next(stream))
            room = ROW_TOKENS - start + 1
            yield start, tokens[:room], said[:room]
            start += min(len(tokens), room) - 1


def rate_at(step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak."""
    decay_steps = max(1, int(steps * DECAY_SHARE))
    return min(1.0, (step + 1) / WARM_UP_STEPS, max(0.02, (steps - step) / decay_steps))


def build_model(name: str, seed: int) -> Any:
    """A transformers model of one family, fresh or grafted; fresh layers' output projections start small."""
    privacy.refuse_telemetry()
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    fields = {**model_config(name), "torch_dtype": "float32"}
    config = AutoConfig.for_model(**fields)
    config._attn_implementation = "sdpa"
    model = AutoModelForCausalLM.from_config(config)
    for text, weight in model.named_parameters():
        if text.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight")):
            weight.data.mul_(1 / math.sqrt(2 * config.num_hidden_layers))
    cut_at_starts(model)
    if name in DONORS:
        graft(model, DONORS[name])
    return model.float().train()


def build_optimizers(model: Any) -> list[Any]:
    """Muon for the layers' matrices, AdamW for everything else, the few rows that make a delta net's gates too."""
    named = list(model.named_parameters())

    def is_matrix(text: str, weight: Tensor) -> bool:
        gate = text.endswith(("in_proj_a.weight", "in_proj_b.weight"))
        return weight.ndim == 2 and ".layers." in text and not gate

    matrices = [weight for text, weight in named if is_matrix(text, weight)]
    others = [weight for text, weight in named if not is_matrix(text, weight)]
    muon: Any = torch.optim.Muon(matrices, lr=MUON_RATE, momentum=0.95, weight_decay=WEIGHT_DECAY)
    adam: Any = torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [muon, adam]


def loss_of(model: Any, layers: Any, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy; logits are made only where the weight is not zero.

    `layers` is `model.model`, compiled or not.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        masks = {"full_attention": batch.mask, "linear_attention": batch.positions == 0}
        hidden = layers(
            input_ids=batch.ids,
            position_ids=batch.positions,
            attention_mask=masks if hasattr(model.config, "linear_conv_kernel_dim") else batch.mask,
            use_cache=False,
        ).last_hidden_state
        chosen = batch.weights > 0
        logits = model.lm_head(hidden[chosen])
    losses = cross_entropy(logits.float(), batch.targets[chosen], reduction="none")
    weights = batch.weights[chosen]
    return (losses * weights).sum() / weights.sum()


def bound_queries_and_keys(model: Any) -> None:
    """Scale query and key matrices down to `QUERY_KEY_RMS` where no norm follows them."""
    for layer in model.model.layers:
        if hasattr(layer, "self_attn") and not hasattr(layer.self_attn, "q_norm"):
            for weight in (layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight):
                weight.data.mul_((QUERY_KEY_RMS / weight.data.square().mean().sqrt()).clamp(max=1.0))


def train(options: argparse.Namespace) -> None:
    """The loop: from the saved state if there is one, to `options.steps`."""
    torch.set_num_threads(options.threads)
    name, out_dir, work = options.name, options.out_dir, options.work
    work.mkdir(parents=True, exist_ok=True)
    if not (out_dir / "tokenizer.json").exists():
        tokenizer.save(name, out_dir)
    packer, model = Packer(name, out_dir / "tokenizer.json"), build_model(name, options.seed)
    optimizers = build_optimizers(model)
    state_file, first = work / "state.pt", 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
    # Compiling the delta nets' solver costs more than it gives.
    layers: Any = model.model if name in DONORS else torch.compile(model.model)
    began, losses = time.perf_counter(), []
    share, skipped = (RATE, FIRST_STEP) if name in DONORS else (1.0, 0)
    for step in range(first, options.steps):
        for optimizer, peak in zip(optimizers, (MUON_RATE, ADAM_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = share * peak * rate_at(step, options.steps)
        loss = loss_of(model, layers, packer.batch(options.seed, skipped + step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if skipped + step >= QUERY_KEY_FROM:
            bound_queries_and_keys(model)
        losses.append(loss.item())
        if (step + 1) % LOG_EVERY == 0:
            log(
                work,
                step + 1,
                losses[-LOG_EVERY:],
                (step + 1 - first) * ROWS * ROW_TOKENS / (time.perf_counter() - began),
            )
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == options.steps:
            save_state(state_file, model, optimizers, step + 1)
            save_checkpoint(model, name, out_dir)


def log(work: Path, step: int, losses: list[float], tokens_per_second: float) -> None:
    """One JSON line per interval, to standard output and the working folder's log."""
    line = json.dumps(
        {
            "step": step,
            "tokens": step * ROWS * ROW_TOKENS,
            "loss": round(sum(losses) / len(losses), 4),
            "tokens_per_second": round(tokens_per_second),
        }
    )
    print(line, flush=True)
    with (work / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def save_state(file: Path, model: Any, optimizers: list[Any], step: int) -> None:
    """Everything a later call needs to go on, replaced in one go."""
    partial = file.with_suffix(".partial")
    optimizer_states = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"model": model.state_dict(), "optimizers": optimizer_states, "step": step}, partial)
    partial.replace(file)


def main() -> None:
    """Parse the options and train."""
    parser = argparse.ArgumentParser(description="Train one bundled model and write its checkpoint.")
    parser.add_argument("name", choices=sorted(tokenizer.FAMILIES))
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--work", type=Path, default=None, help="where the state is kept (default: OUT_DIR/../work-NAME)"
    )
    options = parser.parse_args()
    options.work = options.work or options.out_dir.parent / f"work-{options.name}"
    train(options)


if __name__ == "__main__":
    main()
