"""Exact match on the held-out suite, for anything that can answer.

    python -m edgellm.models.training.evaluate CHECKPOINT [--limit N] [--fresh SEED]

`evaluate` knows no engine: it takes a callable. `torch_answer` decodes greedily with transformers from the
saved bf16 weights and is what training was steered by.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm import privacy
from edgellm.profiles.quality import tasks
from edgellm.profiles.quality.tasks import TaskItem

#: Chat messages in; the answer's text and why it ended ("stop" for an EOS token, "length" otherwise) out.
Answer = Callable[[Sequence[dict[str, str]]], tuple[str, str]]

#: Longest answer in the suite is under 40 tokens.
MAX_NEW_TOKENS = 64


@dataclass
class Score:
    """Counts of one task."""

    items: int = 0
    exact: int = 0
    stopped: int = 0
    misses: list[dict[str, str]] = field(default_factory=list)

    def add(self, item: TaskItem, text: str, finish_reason: str) -> None:
        """Count one answer; surrounding white space does not matter."""
        self.items += 1
        self.stopped += finish_reason == "stop"
        if text.strip() == item.answer:
            self.exact += 1
        else:
            self.misses.append({"id": item.id, "want": item.answer, "got": text})


def evaluate(answer: Answer, items: Iterable[TaskItem] | None = None) -> dict[str, Score]:
    """Scores by task, with the sum of all under "all"."""
    scores: dict[str, Score] = {}
    for item in tasks.load() if items is None else items:
        text, finish_reason = answer(item.messages)
        for name in (item.task, "all"):
            scores.setdefault(name, Score()).add(item, text, finish_reason)
    scores["all"] = scores.pop("all")
    return scores


def table(scores: dict[str, Score]) -> str:
    """The scores as a Markdown table."""
    lines = ["| task | items | exact match | stopped by itself |", "|---|---:|---:|---:|"]
    for name, score in scores.items():
        exact, stopped = score.exact / score.items, score.stopped / score.items
        lines.append(f"| {name} | {score.items} | {exact:.1%} | {stopped:.1%} |")
    return "\n".join(lines)


def torch_answer(checkpoint: Path) -> Answer:
    """Greedy decoding with transformers, one question at a time."""
    privacy.refuse_telemetry()
    import torch
    from transformers import AutoModelForCausalLM

    from edgellm.formats import tokenizer_files
    from edgellm.models.training.tokenizer import FAMILIES, render

    family = FAMILIES[checkpoint.name]
    tokenizer = tokenizer_files.library(checkpoint / "tokenizer.json", {})
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).eval()
    model.generation_config.temperature = model.generation_config.top_p = None
    eos = {tokenizer.token_to_id(text) for text in family.eos}

    def answer(messages: Sequence[dict[str, str]]) -> tuple[str, str]:
        turns = [(each["role"], each["content"]) for each in messages]
        prompt = "".join(text for text, _ in render(family, turns))
        prompt += f"{family.before_role}assistant{family.after_role}"
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        with torch.no_grad():
            options = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "eos_token_id": sorted(eos)}
            out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), **options)
        new = out[0, len(ids) :].tolist()
        stopped = bool(new) and new[-1] in eos
        return tokenizer.decode(new[:-1] if stopped else new), "stop" if stopped else "length"

    return answer


def fresh_items(seed: int) -> list[TaskItem]:
    """Held-out items that are not in the suite, which training was steered by."""
    from edgellm.models.training import heldout

    suite = {json.dumps(list(item.messages), ensure_ascii=False) for item in tasks.load()}
    records: list[Any] = [
        each for name in tasks.names() for each in heldout.items(name, seed=seed, without=suite)
    ]
    return [TaskItem(**{**record, "messages": tuple(record["messages"])}) for record in records]


def main() -> None:
    """Print the table of a checkpoint, the misses, and the figures as one JSON line."""
    parser = argparse.ArgumentParser(description="Exact match of a checkpoint on the held-out suite.")
    parser.add_argument("checkpoint", type=Path, help="a folder named like a bundled model")
    parser.add_argument("--limit", type=int, default=None, help="items per task (default: all)")
    parser.add_argument(
        "--fresh", type=int, metavar="SEED", help="draw other held-out items than the suite's"
    )
    options = parser.parse_args()
    items = fresh_items(options.fresh) if options.fresh is not None else None
    items = items or [item for name in tasks.names() for item in tasks.load(name)[: options.limit]]
    scores = evaluate(torch_answer(options.checkpoint.resolve()), items)
    for miss in scores["all"].misses:
        print(json.dumps(miss, ensure_ascii=False))
    print(table(scores))
    figures = {name: {"items": s.items, "exact": s.exact, "stopped": s.stopped} for name, s in scores.items()}
    print(json.dumps({"checkpoint": options.checkpoint.name, "scores": figures}))


if __name__ == "__main__":
    main()
