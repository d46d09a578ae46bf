"""Make the golden scores that rerankers are held against where torch is not installed.

    pip install -e '.[train]' && python tests/golden/make_rerank_scores.py

Writes tests/golden/rerank.json: for each case the scores of DOCUMENTS for QUERY, computed with transformers in
float32 as the model card of Qwen3-Reranker tells, on the random checkpoints of tests/helpers/embedders.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

import embedders  # noqa: E402  # tests/helpers
import tinymodels  # noqa: E402

QUERY = "Where do pandas live?"
DOCUMENTS = [
    "They live in the bamboo forests of the mountains.",
    "",
    "你好，世界。今天天气很好 🙂\n\n17 + 25 = 42",
    "the other thing is that there are three of them, and they're here; " * 4,
    "Cafe\u0301",
]
TASK = "Given a question, find the passage that answers it"
#: Name -> the checkpoint, and the task in words.
CASES = {
    "tied": (tinymodels.variant("qwen3", n_ctx_train=1024), None),
    "task": (tinymodels.variant("qwen3", n_ctx_train=1024), TASK),
    "untied": (tinymodels.variant("qwen3-f32", n_ctx_train=1024), None),
}

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
PREFIX = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
USUAL = "Given a web search query, retrieve relevant passages that answer the query"


def card_scores(folder: Path, task: str | None) -> list[float]:
    """P(yes) for each document."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    no, yes = (tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
    head, tail = (tokenizer.encode(text, add_special_tokens=False) for text in (PREFIX, SUFFIX))
    pairs = [f"<Instruct>: {task or USUAL}\n<Query>: {QUERY}\n<Document>: {text}" for text in DOCUMENTS]
    found = tokenizer(
        pairs, padding=False, truncation="longest_first", return_attention_mask=False, max_length=900
    )
    rows = {"input_ids": [head + ids + tail for ids in found["input_ids"]]}
    with torch.no_grad():
        logits = model(**tokenizer.pad(rows, padding=True, return_tensors="pt")).logits[:, -1, :]
    both = torch.stack([logits[:, no], logits[:, yes]], dim=1)
    scores: list[float] = torch.nn.functional.log_softmax(both, dim=1)[:, 1].exp().tolist()
    return scores


def write_case(name: str, folder: Path) -> Path:
    """The checkpoint of a case."""
    return embedders.write_reranker(folder, CASES[name][0])


def main() -> None:
    """Write the file."""
    found = {}
    for name, (_, task) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = card_scores(write_case(name, Path(folder)), task)
    (HERE / "rerank.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
