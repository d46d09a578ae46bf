"""The held-out task suite: closed questions with one right answer each, none of them seen in training.

One JSONL file per task lies beside this module; `edgellm.models.training.heldout` writes them. For models that were
trained on other things there is choices.toml: texts of which the likeliest ending is asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from edgellm import toml
from edgellm.errors import UsageError

_OTHERS = 3  # wrong endings of a text, where none are given


@dataclass(frozen=True)
class TaskItem:
    """One question: chat messages that end with the user's, and the only answer that counts.

    With `choices` the last message is a text as it stands, and the answer is its likeliest ending.
    """

    id: str
    task: str
    lang: str
    messages: tuple[dict[str, str], ...]
    answer: str
    choices: tuple[str, ...] = ()


def names() -> tuple[str, ...]:
    """The tasks of the suite, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".jsonl") for file in files if file.name.endswith(".jsonl")))


def choices() -> list[TaskItem]:
    """The items of choices.toml, one of each task after the other: any beginning is a fair sample."""
    tables = toml.packaged(__name__, "choices.toml")
    found = []
    for task, table in tables.items():
        rights = [row[1] for row in table["rows"]] * 2
        for index, (what, right, *wrong) in enumerate(table["rows"]):
            others = wrong or [each for each in rights[index + 1 :] if each != right][:_OTHERS]
            message = {"role": "user", "content": table["text"].format(what)}
            item = TaskItem(
                f"{task}-{index}", task, table["lang"], (message,), right, tuple(sorted([right, *others]))
            )
            found.append((index, item))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


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
