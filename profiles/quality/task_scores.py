"""The task suite through a finished runtime: greedy answers, exact match, whether the model stops by itself.

Knows sessions and items; a chat template is handed in. Closed items have one right answer. Items without an answer
are open: only their ending is counted. Of an item with choices the likeliest is the model's answer; no template is
used, so that models that cannot be talked to have answers too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgellm.errors import UsageError
from edgellm.generation import generate, scoring
from edgellm.generation.generate import GenerateOptions
from edgellm.profiles.quality import tasks
from edgellm.profiles.quality.tasks import TaskItem
from edgellm.profiles.result.quality_stats import Share
from edgellm.session import GREEDY, Session

#: Chat messages to the prompt a model answers.
Render = Callable[[Sequence[dict[str, str]]], str]
#: The suite's longest answer has fewer than 40 tokens.
MAX_TOKENS = 64
ALL = "all"
CHOICES = "choices"


@dataclass(frozen=True)
class Answer:
    """What a model said to one item."""

    item: TaskItem
    text: str
    stopped: bool  # ended by itself, not by the limit

    @property
    def closed(self) -> bool:
        """Whether the item has a right answer."""
        return bool(self.item.answer)

    @property
    def exact(self) -> bool:
        """Whether it was given, white space around it aside."""
        return self.closed and self.text.strip() == self.item.answer.strip()


@dataclass(frozen=True)
class TaskScore:
    """Counts of one task, or of several taken together. `exact` counts closed items only."""

    name: str
    exact: Share
    stopped: Share


def answer(
    session: Session,
    render: Render,
    items: Sequence[TaskItem],
    *,
    max_tokens: int = MAX_TOKENS,
    report: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Answers to `items`, greedy ones; `report` gets the number done after each. Raises EngineError."""
    options = GenerateOptions(max_tokens=max_tokens, sampling=GREEDY)
    answers = []
    for number, item in enumerate(items, 1):
        if item.choices:
            answers.append(Answer(item, likeliest(session, item), stopped=True))
        else:
            prompt = session.tokenize(render(item.messages), special=True)
            done = generate.stream(session, prompt, options).completion
            answers.append(Answer(item, done.text, done.finish_reason == "stop"))
        if report:
            report(number)
    return answers


def likeliest(session: Session, item: TaskItem) -> str:
    """The choice of the largest log-likelihood after the item's text, summed over its tokens. Raises EngineError."""
    found = scoring.endings(session, item.messages[-1]["content"], item.choices)
    return item.choices[found.index(max(found))]


def scores(answers: Iterable[Answer]) -> list[TaskScore]:
    """One score a task, in order of first appearance."""
    by_task: dict[str, list[Answer]] = {}
    for each in answers:
        by_task.setdefault(each.item.task, []).append(each)
    return [total(name, group) for name, group in by_task.items()]


def languages(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """The answers by their items' language, in order of its name; items of no language are left out."""
    found: dict[str, list[Answer]] = {}
    for each in answers:
        found.setdefault(each.item.lang, []).append(each)
    return {lang: found[lang] for lang in sorted(found) if lang}


def total(name: str, answers: Sequence[Answer]) -> TaskScore:
    """All of `answers` as one score."""
    closed = [each for each in answers if each.closed]
    return TaskScore(
        name,
        Share(sum(each.exact for each in closed), len(closed)),
        Share(sum(each.stopped for each in answers), len(answers)),
    )


def load(selection: str) -> list[TaskItem]:
    """Items by `all`, names of the suite's tasks, `choices`, or JSONL files, separated by commas. Raises UsageError."""
    found: list[TaskItem] = []
    for name in selection.split(","):
        if name == ALL:
            found += tasks.load()
        elif name == CHOICES:
            found += tasks.choices()
        elif name.endswith(".jsonl"):
            found += read(Path(name))
        else:
            found += tasks.load(name)
    return found


def read(path: Path) -> list[TaskItem]:
    """A task file: one JSON object a line with `messages`, or `prompt`, and `answer` (left out: an open item).

    `id`, `task` and `lang` may be given too. Raises UsageError naming the line that is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    items = [_item(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise UsageError(f"{path} has no task in it; it needs one JSON object a line")
    return items


def _item(path: Path, number: int, line: str) -> TaskItem:
    try:
        record = json.loads(line)
        messages = record.get("messages") or [{"role": "user", "content": record["prompt"]}]
        if not all(isinstance(m["role"], str) and isinstance(m["content"], str) for m in messages):
            raise TypeError("messages need a role and a content, both text")
        expected = record.get("answer") or ""
        if not isinstance(expected, str):
            raise TypeError("an answer is text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} line {number} is no task ({type(error).__name__}: {error}); a line is a JSON object with "
            f'"messages" or "prompt", and "answer"'
        ) from error
    name = str(record.get("task", path.stem))
    return TaskItem(
        str(record.get("id", f"{name}-{number}")),
        name,
        str(record.get("lang", "")),
        tuple(messages),
        expected,
    )
