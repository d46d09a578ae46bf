"""The held-out items, drawn from the held-out side of every scored task; written to `profiles/quality/tasks/`.

    python -m edgellm.models.training.heldout OUT_DIR

Items are the same for every model: none of them asks for the model's own name.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Container
from pathlib import Path

from edgellm.models.training.corpus import SCORED
from edgellm.models.training.tasks.sample import Sample, draw_from

ITEMS_PER_TASK = 64
SEED = 20_001
#: Where to stop looking for another item.
MOST_DRAWS = 1500


def messages(sample: Sample) -> list[dict[str, str]]:
    """The chat messages that lead up to a sample's last reply."""
    said: list[dict[str, str]] = []
    for ask, reply in sample.turns:
        said += [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]
    return said[:-1]


def conversation(sample: Sample) -> str:
    """A sample's messages as one string to compare by."""
    return json.dumps(messages(sample), ensure_ascii=False)


def items(
    task: str, count: int = ITEMS_PER_TASK, seed: int = SEED, without: Container[str] = ()
) -> list[dict[str, object]]:
    """`count` different held-out items of one task, as the records of its JSONL file.

    Samples whose `conversation` is in `without` are left out. Fewer come back when the task has no more.
    """
    rng = random.Random(f"{seed} {task}")
    found: dict[str, Sample] = {}
    for _ in range(MOST_DRAWS):
        sample = draw_from(SCORED[task], rng, want_held_out=True)
        if conversation(sample) not in without:
            found.setdefault(sample.key, sample)
        if len(found) == count:
            break
    return [
        {
            "id": f"{task}-{index:03d}",
            "task": task,
            "lang": sample.lang,
            "messages": messages(sample),
            "answer": sample.turns[-1][1],
        }
        for index, sample in enumerate(found.values())
    ]


def main() -> None:
    """Write one JSONL file per scored task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out_dir", type=Path)
    out_dir: Path = parser.parse_args().out_dir
    out_dir.mkdir(parents=True, exist_ok=True)
    for task in SCORED:
        lines = [json.dumps(item, ensure_ascii=False) for item in items(task)]
        (out_dir / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
