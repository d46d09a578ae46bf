"""Words in each language: none is missing, none is left over, and all take the same values."""

import ast
import re
import string
from importlib import resources
from pathlib import Path

import pytest
from places import ROOT

from edgellm.cli import compare, report
from edgellm.profiles.report.figures.numbers import SHOWN
from edgellm.profiles.report.findings.study import MARGIN
from edgellm.profiles.report.page.document import source
from edgellm.profiles.report.words import LANGUAGES, metric_name, sentence, table
from edgellm.profiles.result.caveats import TEXT

ROOM = ROOT / "profiles" / "report"
ENGLISH = table("en")
OTHERS = [lang for lang in LANGUAGES if lang != "en"]


def places(text: str) -> set[tuple[str, str]]:
    """What a text wants to be filled with, and how it writes it."""
    return {(name, form or "") for _, name, form, _ in string.Formatter().parse(text) if name}


def tags(text: str) -> list[str]:
    return sorted(re.findall(r"</?\w+>", text))


def literals(path: Path) -> set[str]:
    """Strings that a module writes out."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_there_is_a_file_for_each_language():
    files = {each.name for each in resources.files("edgellm.profiles.report.words").iterdir()}
    assert {f"{lang}.toml" for lang in LANGUAGES} == {name for name in files if name.endswith(".toml")}


@pytest.mark.parametrize("command", [compare.command, report.command])
def test_commands_offer_every_language(command):
    (option,) = (each for each in command.params if each.name == "lang")
    assert tuple(option.type.choices) == LANGUAGES


@pytest.mark.parametrize("lang", OTHERS)
@pytest.mark.parametrize("part", ["words", "terms"])
def test_languages_have_the_same_keys(lang, part):
    assert list(table(lang)[part]) == list(ENGLISH[part]), "in the same order, so that files compare"


@pytest.mark.parametrize("lang", OTHERS)
def test_languages_take_the_same_values_and_have_the_same_tags(lang):
    for key, english in ENGLISH["words"].items():
        other = table(lang)["words"][key]
        assert places(other) == places(english), key
        assert tags(other) == tags(english), key


@pytest.mark.parametrize("lang", OTHERS)
def test_caveats_are_there_in_every_language(lang):
    found = table(lang)["caveats"]
    assert set(found) == set(TEXT)
    for code, own in found.items():
        assert places(own["fact"] + own["advice"]) == places("".join(TEXT[code])), code


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_word_is_empty_and_only_known_tags_are_used(lang):
    assert all(own["name"] and own["meaning"] for own in table(lang)["terms"].values())
    for key, text in table(lang)["words"].items():
        assert text.strip(), key
        assert set(tags(text)) <= {"<b>", "</b>", "<small>", "</small>"}, key


@pytest.mark.parametrize("lang", OTHERS)
def test_other_languages_are_translated(lang):
    """A text of several English words is nowhere left as it is."""
    for part in ("terms", "caveats"):
        for key, own in table(lang)[part].items():
            for text in own.values():
                assert not re.fullmatch(r"[\x00-\x7f]*", text) or places(text), key
    same = {key: text for key, text in table(lang)["words"].items() if text == ENGLISH["words"][key]}
    assert not [key for key, text in same.items() if re.search(r"[a-z]{2,} [a-z]{2,}", text)]


def test_every_word_is_used():
    said = set().union(*(literals(path) for path in ROOM.rglob("*.py")))
    for each in (resources.files("edgellm.profiles.report.page") / "templates").iterdir():
        said |= set(re.findall(r'say\("(\w+)"', source(each.name)))
    assert set(ENGLISH["words"]) - said == set()


def test_every_shown_measurement_has_a_name_and_a_meaning():
    assert set(SHOWN) <= set(ENGLISH["terms"])


def test_plain_values_are_escaped_in_sentences():
    assert sentence("f_failed", "en", a="<img>") == "&lt;img&gt; did not run: see below."


def test_the_field_s_words_are_used():
    assert metric_name("prefill_tokens_per_second", "en") == "prefill"
    assert metric_name("decode_tokens_per_second", "en") == "decode"
    text = " ".join(ENGLISH["words"].values())
    assert not re.search(
        r"\b(reading|writing|writes|reads) (speed|fastest|a prompt)|the most for the least", text
    )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_rule_of_the_best_value_is_the_one_in_use(lang):
    assert f"{MARGIN:.0%}" in table(lang)["terms"]["best_value"]["meaning"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_caveat_has_a_short_name(lang):
    assert table(lang)["doubts"].keys() == TEXT.keys()
