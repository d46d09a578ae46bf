"""The chat's words in each language: none is missing, none is left over, and all take the same values."""

import ast
import string

import pytest
from places import ROOT

from edgellm.chat import settings, words
from edgellm.chat.words import LANGUAGES, table

ENGLISH = table("en")["words"]
OTHERS = [lang for lang in LANGUAGES if lang != "en"]


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("lang", OTHERS)
def test_languages_have_the_same_keys_and_take_the_same_values(lang):
    other = table(lang)["words"]
    assert list(other) == list(ENGLISH), "in the same order, so that files compare"
    for key, english in ENGLISH.items():
        for either in english.split(" || "):
            assert places(either) | {"n"} == places(other[key]) | {"n"}, key


def test_every_word_is_used_literally_and_none_is_missing():
    used = {
        node.args[0].value
        for path in (ROOT / "edgellm").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "words.say"
        if isinstance(node.args[0], ast.Constant)
    }
    assert used == set(ENGLISH)


@pytest.mark.parametrize("lang", OTHERS)
def test_every_setting_is_explained(lang):
    assert list(table(lang)["settings"]) == [parameter.name for parameter in settings.PARAMETERS]


@pytest.mark.parametrize(
    ("variables", "lang"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_HK"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({}, "en"),
    ],
)
def test_the_locale_chooses_in_its_posix_order(monkeypatch, variables, lang):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.setenv(name, variables.get(name, ""))
    assert words.language() == lang


def test_one_thing_and_many(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert [words.say("turns", n=n) for n in (0, 1, 2)] == ["0 turns", "1 turn", "2 turns"]
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert words.say("turns", n=1) == "1 轮"
