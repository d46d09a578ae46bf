"""Options that `chat` and `run` share: whether the model thinks, how its answers are shown, what is told after them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from edgellm.chat.terminal.answer import View

think_option = click.option(
    "--think/--no-think",
    default=None,
    help="Have a reasoning model think or not.  [default: the model's]",
)
stats_option = click.option(
    "--stats/--no-stats",
    default=None,
    help="All figures after each answer - tokens, speeds, memory - or none.  [default: the speed alone]",
)
_OPTIONS = (
    think_option,
    click.option("--hide-thinking", is_flag=True, help="Do not show what the model thinks."),
    click.option("--no-markdown", is_flag=True, help="Show Markdown as it is written, without styles."),
    click.option("--no-wrap", is_flag=True, help="Let the terminal break lines, inside words too."),
)


def view_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as `think` (None: the template decides) and `view`."""

    @functools.wraps(function)
    def collected(hide_thinking: bool, no_markdown: bool, no_wrap: bool, **values: Any) -> Any:
        view = View(markdown=not no_markdown, wrap=not no_wrap, thinking=not hide_thinking)
        return function(view=view, **values)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected
