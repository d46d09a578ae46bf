"""The held-out task suite: closed questions with one right answer each, none of them seen in training.

One JSONL file per task lies beside this module; `edgellm.models.training.heldout` writes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from edgellm.errors import UsageError


@dataclass(frozen=True)
class TaskItem:
    """One question: chat messages that end with the user's, and the only answer that counts."""

    id: str
    task: str
    lang: str
    messages: tuple[dict[str, str], ...]
    answer: str


def names() -> tuple[str, ...]:
    """The tasks of the suite, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".jsonl") for file in files if file.name.endswith(".jsonl")))


def load(task: str | None = None) -> list[TaskItem]:
    """The items of one task, or of all of them in the order of `names()`.

    Raises UsageError when there is no such task.
    """
    known = names()
    if task is not None and task not in known:
        raise UsageError(f"no task named {task!r}; the suite has: {', '.join(known)}")
    return [item for name in ([task] if task else known) for item in _read(name)]


def _read(task: str) -> list[TaskItem]:
    text = (resources.files(__name__) / f"{task}.jsonl").read_text(encoding="utf-8")
    records = (json.loads(line) for line in text.splitlines())
    return [TaskItem(**{**record, "messages": tuple(record["messages"])}) for record in records]
