"""Make the golden greedy answers that both engines are held to where torch is not installed.

    pip install -e '.[train]' && python tests/golden/make_greedy.py [MODEL...]

Writes tests/golden/greedy.json: for each bundled model, 50 questions of the held-out suite with the ids of the prompt
and of the greedy answer, as transformers gives them in float32 from the bf16 weights and the checkpoint's template.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GOLDEN = HERE / "greedy.json"
MODELS = ("tiny-llama3", "tiny-qwen3", "tiny-qwen35")
QUESTIONS, MAX_NEW_TOKENS = 50, 64


def questions() -> list[list[dict[str, str]]]:
    """The dialogues, spread evenly over the suite."""
    from edgellm.profiles.quality import tasks

    items = tasks.load()
    return [list(items[index * len(items) // QUESTIONS].messages) for index in range(QUESTIONS)]


def answers(folder: Path) -> list[dict[str, list[int]]]:
    """Prompt and answer ids of every question, by transformers; an answer's end token is left out."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ends = set(model.generation_config.eos_token_id)
    found = []
    for messages in questions():
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer.encode(text, add_special_tokens=False)
        options = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "temperature": None, "top_p": None}
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), **options)
        new = out[0, len(ids) :].tolist()
        found.append({"prompt": ids, "answer": new[:-1] if new[-1] in ends else new})
    return found


def main() -> None:
    """Write the file; models that are not named keep what they have."""
    from edgellm.models import bundled

    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    for name in sys.argv[1:] or MODELS:
        golden[name] = answers(bundled.path(name))
    GOLDEN.write_text(json.dumps(golden, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
