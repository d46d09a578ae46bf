"""MODEL arguments of commands: what they name, which hub is asked, and llama.cpp's way to name a hub's model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact


def resolve(model: str | None = None, *, offline: bool = False) -> Artifact:
    """The runnable model that `model` names, converted on first use when it is a checkpoint. Raises EdgellmError."""
    from edgellm.catalog import first_use

    return first_use.resolve(model, offline=offline)


def _prefer(context: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        from edgellm.catalog import hubs

        hubs.prefer(value)


hub_option = click.option(
    "--hub",
    type=click.Choice(("huggingface", "modelscope")),
    expose_value=False,
    callback=_prefer,
    help="The hub that ids are of.  [default: $EDGELLM_HUB, or huggingface]",
)


def model_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-m` and `-hf`, which give MODEL; the first argument is then what follows it, where the command has that."""

    @functools.wraps(function)
    def collected(hf: str | None, named: str | None, **values: Any) -> Any:
        if hf is not None and not hf.startswith(("hf.co/", "https://")):
            hf = f"hf.co/{hf}"
        for flag, given in (("-m", named), ("-hf", hf)):
            if given is None:
                continue
            if "prompt_option" in values and values["prompt"] is None:  # `run`, which takes MODEL and PROMPT
                values["prompt"], values["model"] = values["model"], None
            if values["model"] is not None:
                raise UsageError(f"the model is given twice: as {values['model']} and as {flag} {given}")
            values["model"] = given
        return function(**values)

    spelled = click.option(
        "-m", "--model", "named", metavar="MODEL", help="MODEL, before or after the prompt."
    )
    return spelled(
        click.option(
            "-hf", "--hf-repo", "hf", metavar="ID[:TYPE]", help="MODEL, as llama.cpp has it: hf.co/ID[:TYPE]."
        )(collected)
    )
