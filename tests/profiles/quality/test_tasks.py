"""Task scores: exact match, endings, files of other people's tasks, and the tables of it."""

from __future__ import annotations

import json

import pytest
from fakes import ScriptedSession

from edgellm.errors import UsageError
from edgellm.generation.scoring import Chunk
from edgellm.profiles.quality import task_scores, tasks
from edgellm.profiles.quality.evaluation import Evaluation, Subject, TextResult, to_json, to_table
from edgellm.profiles.quality.quality import evaluate
from edgellm.profiles.quality.task_scores import Answer, answer, load, read, scores, total
from edgellm.profiles.quality.tasks import TaskItem

SUBJECT = Subject("tiny", "Q4_0", "gguf", 5_000_000, "0" * 64, "llamacpp", "llama-cpp-python 0")


def item(name: str, expected: str, task: str = "sums") -> TaskItem:
    return TaskItem(name, task, "en", ({"role": "user", "content": name},), expected)


def said(text: str, expected: str, task: str = "sums", stopped: bool = True) -> Answer:
    return Answer(item("x", expected, task), text, stopped)


def render(messages):
    return "".join(f"<{m['role']}>{m['content']}" for m in messages)


def test_answers_are_what_the_session_says():
    session = ScriptedSession(b" 42\n")
    (got,) = answer(session, render, [item("6 x 7", "42")])
    assert got.text == " 42\n" and got.exact and got.stopped
    assert bytes(session.evaluated[0]) == b"<user>6 x 7"


def test_an_answer_without_an_end_is_not_stopped():
    (got,) = answer(ScriptedSession(b"42" * 40), render, [item("6 x 7", "42")], max_tokens=10)
    assert not got.stopped and not got.exact and len(got.text) == 10


def test_scores_by_task_and_in_total():
    answers = [
        said("1", "1"),
        said("2", "3", stopped=False),
        said("yes", "yes", "logic"),
        said("Once upon a time", "", "story"),
    ]
    assert [(s.name, s.exact.k, s.exact.n, s.stopped.k, s.stopped.n) for s in scores(answers)] == [
        ("sums", 1, 2, 1, 2),
        ("logic", 1, 1, 1, 1),
        ("story", 0, 0, 1, 1),
    ]
    everything = total("all", answers)
    assert (everything.exact.k, everything.exact.n, everything.stopped.n) == (2, 3, 4)


def test_the_table_has_every_task_and_both_totals():
    answers = (said("1", "1"), said("2", "3"), said("x", "", "story", stopped=False))
    lines = to_table(Evaluation(SUBJECT, None, answers)).splitlines()
    assert lines[0] == "tiny Q4_0, 5.0 MB, llamacpp (llama-cpp-python 0)"
    assert "| sums | 2 | 50.0% | 9.5% to 90.5% | 100.0% |" in lines
    assert "| story | 1 | - | - | 0.0% |" in lines
    assert "| closed tasks | 2 | 50.0% | 9.5% to 90.5% | 100.0% |" in lines
    assert lines[-1] == "| open tasks | 1 | - | - | 0.0% |"


def test_languages_are_told_apart_where_there_are_several():
    def of(lang: str, text: str, task: str) -> Answer:
        return Answer(TaskItem(f"{task}-{lang}", task, lang, (), "1"), text, True)

    answers = (of("zh", "1", "sums"), of("en", "1", "sums"), of("en", "2", "logic"), of("", "2", "sums"))
    lines = to_table(Evaluation(SUBJECT, None, answers)).splitlines()
    assert any(line.startswith("| closed tasks | 4 | 50.0% |") for line in lines)
    assert any(line.startswith("| closed tasks, en | 2 | 50.0% |") for line in lines)
    assert any(line.startswith("| closed tasks, zh | 1 | 100.0% |") for line in lines)
    spoken = json.loads(to_json(Evaluation(SUBJECT, None, answers)))["tasks"]["languages"]
    assert {lang: [s["name"] for s in own] for lang, own in spoken.items()} == {
        "en": ["sums", "logic"],
        "zh": ["sums"],
    }


@pytest.mark.parametrize("task", tasks.names())
def test_every_task_of_the_suite_speaks_both_languages(task):
    spoken = [each.lang for each in tasks.load(task)]
    assert set(spoken) == {"en", "zh"} and min(spoken.count("en"), spoken.count("zh")) >= 20


def test_json_holds_the_figures_and_the_misses():
    session = ScriptedSession()
    text = TextResult("letters", None, evaluate(session, [Chunk(tuple(range(97, 123)), 1)]))
    plain = json.loads(to_json(Evaluation(SUBJECT, text, (said("1", "1"), said("2", "3")))))
    assert plain["schema"] == "edgellm.eval/1" and plain["model"]["quantization"] == "Q4_0"
    assert plain["text"]["quality"]["perplexity"]["value"] == pytest.approx(257)
    assert plain["tasks"]["totals"][0]["exact"]["k"] == 1
    assert plain["tasks"]["misses"] == [{"id": "x", "want": "3", "got": "2", "stopped": True}]
    assert json.loads(to_json(Evaluation(SUBJECT, text, ())))["tasks"] is None


def test_the_suite_by_name():
    assert load("all") == tasks.load()
    assert {each.task for each in load("facts,memory")} == {"facts", "memory"}
    with pytest.raises(UsageError, match="no task named 'fact'"):
        load("fact")


def test_a_file_of_tasks(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"prompt": "1 + 1 =", "answer": "2"}\n\n'
        '{"id": "a", "task": "zh", "lang": "zh", "messages": [{"role": "user", "content": "你好"}]}\n',
        encoding="utf-8",
    )
    first, second = load(str(path))
    assert first == TaskItem("mine-1", "mine", "", ({"role": "user", "content": "1 + 1 ="},), "2")
    assert (second.id, second.task, second.answer) == ("a", "zh", "")


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"prompt": 3}',
        '{"messages": [{"role": "user"}]}',
        '{"prompt": "a", "answer": 2}',
    ],
)
def test_a_bad_line_is_named(line, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "ok"}\n' + line + "\n")
    with pytest.raises(UsageError, match=r"mine\.jsonl line 2 is no task"):
        read(path)


def test_an_empty_or_missing_file_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UsageError, match="no task in it"):
        read(tmp_path / "empty.jsonl")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "missing.jsonl")


def test_the_limit_leaves_room_for_every_answer_of_the_suite():
    longest = max(len(each.answer.encode()) for each in tasks.load())
    assert longest < 4 * task_scores.MAX_TOKENS  # a token of the bundled models stands for 3 bytes or more
