"""Answers on disk: cut anywhere, asked again, put in order; those of another run are refused."""

import json

import pytest

from edgellm.batch.answer import CRASHED, Answer
from edgellm.batch.journal import journal, part_of
from edgellm.batch.rows import Refusal
from edgellm.errors import EdgellmError, OutputExistsError, StorageError, UsageError

IDS = {f"r{i}": f"batch_req_{i}" for i in range(5)}


def answer(name, text="", error=None):
    return Answer(IDS[name], name, 200, "req_1", {"text": text or f"you said {name} 你好"}, error)


def ended_early(output, *names):
    """What a killed run leaves: no one closes or finishes it."""
    with journal(output, IDS) as kept:
        for name in names:
            kept.add(answer(name))
    return part_of(output)


def ids(path):
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


def test_answers_get_their_name_when_all_are_there(tmp_path):
    output = tmp_path / "a.jsonl"
    with journal(output, IDS) as kept:
        for name in ("r2", "r0", "r1"):
            kept.add(answer(name))
        assert ids(part_of(output)) == ["r2", "r0", "r1"] and not output.exists()
        kept.finish(None)
    assert ids(output) == ["r2", "r0", "r1"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_run_goes_on_wherever_the_last_one_was_cut(tmp_path):
    whole = ended_early(tmp_path / "whole.jsonl", "r3", "r1").read_bytes()
    first = whole.index(b"\n") + 1
    for n_bytes in range(len(whole) + 1):
        output = tmp_path / "a.jsonl"
        part_of(output).write_bytes(whole[:n_bytes])
        with journal(output, IDS, resume=True) as kept:
            there = {"r3", "r1"} if n_bytes == len(whole) else {"r3"} if n_bytes >= first else set()
            assert kept.answered == there
            for name in IDS.keys() - there:
                kept.add(answer(name))
            kept.finish(None)
        assert sorted(ids(output)) == sorted(IDS)
        assert output.read_bytes().startswith(whole[:first] if n_bytes >= first else b"{")
        output.unlink()


def test_the_order_of_the_input(tmp_path):
    output = tmp_path / "a.jsonl"
    ended_early(output, "r4", "r2")
    with journal(output, IDS, resume=True) as kept:
        for name in ("r3", "r0", "r1"):
            kept.add(answer(name))
        kept.finish(IDS)
    assert ids(output) == list(IDS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_rows_that_killed_their_engine_are_asked_again_and_their_errors_replaced(tmp_path):
    output = tmp_path / "a.jsonl"
    with journal(output, IDS) as kept:
        kept.add(answer("r0", error=Refusal(CRASHED, "it died")))
        kept.add(answer("r1", error=Refusal("invalid_line", "no JSON")))
        kept.add(answer("r2"))
        kept.finish(None)
    with journal(output, IDS, resume=True) as kept:
        assert kept.answered == {"r1", "r2"} and not output.exists()
        kept.add(answer("r0", "now it went well"))
        kept.finish(None)
    assert ids(output) == ["r1", "r2", "r0"] and b"it died" not in output.read_bytes()


def test_answers_of_other_rows_are_refused_by_name_and_left_as_they_are(tmp_path):
    output = tmp_path / "a.jsonl"
    before = ended_early(output, "r0", "r1").read_bytes()
    for other, says in (
        ({**IDS, "r1": "batch_req_x"}, "asked otherwise"),
        ({"r0": IDS["r0"]}, "is not among"),
    ):
        with pytest.raises(UsageError, match=f"'r1' .* {says}"), journal(output, other, resume=True):
            pass
    assert part_of(output).read_bytes() == before
    output.write_text("my diary\nof two lines\n")
    part_of(output).unlink()
    with pytest.raises(EdgellmError, match=r"line 1 of .* is no answer"), journal(output, IDS, resume=True):
        pass
    assert output.read_text() == "my diary\nof two lines\n"


def test_answers_that_are_there_are_not_clobbered(tmp_path):
    output = tmp_path / "a.jsonl"
    ended_early(output, "r0")
    with pytest.raises(OutputExistsError, match=r"a\.jsonl\.part holds .*--resume"), journal(output, IDS):
        pass
    part_of(output).unlink()
    output.write_text("old\n")
    with pytest.raises(OutputExistsError, match="--force"), journal(output, IDS):
        pass
    with journal(output, IDS, force=True) as kept:
        kept.add(answer("r0"))
        assert output.read_text() == "old\n"  # old or new, never half
        kept.finish(None)
    assert ids(output) == ["r0"]


def test_a_run_that_answered_nothing_leaves_nothing(tmp_path):
    output = tmp_path / "a.jsonl"
    with pytest.raises(KeyboardInterrupt), journal(output, IDS):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_one_process_at_a_time(tmp_path):
    output = tmp_path / "a.jsonl"
    with journal(output, IDS) as kept:
        kept.add(answer("r0"))
        with pytest.raises(StorageError, match="another process"), journal(output, IDS, resume=True):
            pass
        kept.add(answer("r1"))
        kept.finish(None)
    assert ids(output) == ["r0", "r1"]
