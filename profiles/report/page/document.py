"""Templates to pages: the one place where the template engine is set up. Everything in a template is escaped.

Two things come in as markup: sentences, whose tags are the words' own (`words.sentence`), and charts, which
`templates/blocks.html.jinja` marks safe.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from edgellm.profiles.report.words import say


def source(name: str) -> str:
    """A file of `templates/`."""
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment(lang: str) -> Environment:
    """In its templates `say(key)` are the words of the language."""
    found = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["say"] = lambda key, **values: say(key, lang, **values)
    return found


def render(template: str, lang: str, **values: object) -> str:
    """A page from a template."""
    return _environment(lang).get_template(template).render(values) + "\n"
