"""The page as a browser reads it: what a result says is text, never markup; one script, one style, no network."""

import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from importlib import resources

import pytest
import study_samples

from edgellm.profiles import report as reports
from edgellm.profiles.compare.comparison import compare
from edgellm.profiles.report.comparison.render import render
from edgellm.profiles.report.page.document import source
from edgellm.profiles.report.words import LANGUAGES
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import Measurement, MemoryPhase

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">&"\'`</style></title>'
#: Strings that select code or are looked up: a result that has others is refused when it is read.
CHOSEN = {"schema", "code", "unit", "phase", "peak_scope", "kind", "created", "ended", "format", "energy"}
TEMPLATES = resources.files("edgellm.profiles.report.page") / "templates"


class Reader(HTMLParser):
    """Collects elements, their attributes, and the text in each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if data.strip():
            self.text.append((self.inside, data))

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def spoiled(value, name=""):
    """The same value with something hostile at the end of every text in it."""
    if isinstance(value, str):
        return value if name in CHOSEN else value + HOSTILE
    if is_dataclass(value):
        kept = {"name"} if isinstance(value, Measurement | MemoryPhase) else set()
        own = [field.name for field in fields(value) if field.init and field.name not in kept]
        return replace(value, **{each: spoiled(getattr(value, each), each) for each in own})
    if isinstance(value, dict):
        keys = {key: key if name in ("options", "values") else spoiled(key) for key in value}
        return {keys[key]: spoiled(each, name) for key, each in value.items()}
    return type(value)(spoiled(each, name) for each in value) if isinstance(value, tuple | list) else value


@pytest.fixture(scope="module", params=[False, True], ids=["unmetered", "metered"])
def hostile(request):
    types = ("F16", "Q8_0", "Q2_K") if request.param else ("Q8_0",)
    report = study_samples.study(types, depths=(0, 512), metered=request.param, launches=3)
    note = Caveat("engine-note", "model", {"note": "a note"})
    failed = Caveat("launch-failed", "", {"launch": 1, "error": "an error"})
    return spoiled(replace(report, caveats=(note, failed)))


def pages(report, lang):
    yield reports.render(report, "html", lang)
    later = replace(report, created="2026-02-02")
    yield reports.render_all({f"{HOSTILE}.json": report, f"b{HOSTILE}.json": later}, "html", lang)
    yield render("html", compare({HOSTILE: report}), report, lang)
    yield render("html", compare({HOSTILE: report, f"b{HOSTILE}": later}), None, lang)


@pytest.mark.wide
@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_that_a_result_says_is_markup(hostile, lang):
    for page in pages(hostile, lang):
        read = Reader(page)
        scripts = [text for tag, text in read.text if tag == "script"]
        own = source("sort.js") + source("tips.js")
        assert [text.split() for text in scripts] == [own.split()]
        assert [text.strip() for tag, text in read.text if tag == "style"] == [source("page.css").strip()]
        assert not read.tags() & {"img", "link", "iframe", "object", "form"}
        assert not [name for _, own in read.elements for name in own if name.startswith("on")]
        assert sum(HOSTILE in text for _, text in read.text) > 10, "it is there, as text"
        assert "&amp;lt;" not in page and "&amp;#" not in page, "and escaped once"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_markup_of_sentences_is_markup(lang):
    """What would be escaped once too often is seen as text."""
    read = Reader(reports.render(study_samples.study(("F16", "Q2_K")), "html", lang))
    assert not [text for _, text in read.text if "<b>" in text or "<small>" in text or "<svg" in text]
    assert {"b", "small", "svg", "table", "details"} <= read.tags()


def test_one_place_in_the_templates_marks_something_safe():
    texts = {each.name: each.read_text(encoding="utf-8") for each in TEMPLATES.iterdir()}
    marked = {name: len(re.findall(r"\|\s*safe|autoescape", text)) for name, text in texts.items()}
    assert {name: n for name, n in marked.items() if n} == {"blocks.html.jinja": 1}


def test_every_template_is_used():
    names = {each.name for each in TEMPLATES.iterdir()}
    used = {name for name in names for other in names if f'"{name}"' in source(other)}
    used |= {"report.html.jinja", "machines.html.jinja", "comparison.html.jinja"}  # what Python asks for
    assert used == names


def test_names_keep_their_first_letter():
    """Sentences begin with a capital, models' names as they are."""
    small = Caveat("small-model", "", {"names": "tiny-qwen3", "megabytes": 8.0})
    busy = Caveat("foreign-load", "", {"share": 0.05, "count": 1, "n": 2})
    report = replace(study_samples.study(("Q8_0", "Q2_K"), threads=(2,), launches=3), caveats=(small, busy))
    page = reports.render(report, "html")
    assert "<li>tiny-qwen3: smaller than" in page and "<b>The machine</b>: other programs used" in page
    compared = render("html", compare({"x.json": report}), report, "en")
    assert "<b>tiny-qwen3-Q2_K is better</b>" in compared and "<b>Tiny-" not in compared
