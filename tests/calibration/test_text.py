"""The calibration text: a pure function of its seed, of all kinds from the start, drawn from no held-out item."""

from __future__ import annotations

import re

from edgellm.calibration import text
from edgellm.profiles.quality import tasks


def test_the_text_is_a_pure_function_of_its_arguments():
    assert text.text(30_000) == text.text(30_000)
    assert text.text(30_000) != text.text(30_000, seed=1)


def test_it_has_the_size_asked_for_and_grows_at_the_end():
    short, long = text.text(20_000), text.text(40_000)
    assert 20_000 <= len(short.encode()) < 24_000
    assert long.startswith(short)


def test_any_beginning_holds_every_kind():
    beginning = text.text(12_000)
    chinese = len(re.findall(r"[\u4e00-\u9fff]", beginning))
    assert chinese > 800
    assert len(re.findall(r"[A-Za-z]{2,} [a-z]{2,}", beginning)) > 200
    assert "User: " in beginning and "Assistant: " in beginning
    assert re.search(r"(return|SELECT|\$|\{\"|\| |=>|let mut)", beginning)


def test_dialogues_go_through_the_template_handed_in():
    seen: list[list[str]] = []

    def render(messages):
        seen.append([message["role"] for message in messages])
        return f"<chat {len(seen)}>"

    rendered = text.text(20_000, render)
    assert all(roles == ["user", "assistant"] * (len(roles) // 2) for roles in seen)
    assert all(f"<chat {i}>" in rendered for i in range(1, len(seen) + 1))
    assert "User: " not in rendered


def test_nothing_is_left_unfilled_and_articles_fit():
    whole = text.text()
    assert not re.search(r"\b[Aa] [aeiou]", re.sub(r"User:.*|Assistant:.*", "", whole))
    assert "{idea}" not in whole and "{thing}" not in whole and "{self}" not in whole


def test_no_held_out_question_is_in_it():
    whole = text.text()
    items = [item for name in tasks.names() for item in tasks.load(name)]
    told = [i.id for i in items if f"{i.messages[-1]['content']}\nAssistant: {i.answer}" in whole]
    # Held-out combinations are defined by their meaning; only a memory item may be asked in the same words.
    assert not [name for name in told if not name.startswith("memory")]
