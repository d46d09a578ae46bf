"""`edgellm pull`: bring a model to this machine and make it ready, so that its first use need not."""

from __future__ import annotations

import click

from edgellm.cli.shared.model_argument import hub_option
from edgellm.terminal import say


@click.command(short_help="Download a model, convert it, and keep it for later.")
@click.argument("model")
@hub_option
def command(model: str) -> None:
    """Bring MODEL here and make it ready: what `run` and `chat` do on first use, without a prompt.

    \b
      edgellm pull Qwen/Qwen3-0.6B:Q4_0
      edgellm pull hf.co/bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M
    """
    from edgellm.cli.shared import model_argument
    from edgellm.units import format_size

    artifact = model_argument.resolve(model)
    say(f"{artifact.path} ({format_size(artifact.size_bytes)}); edgellm run {model} uses it")
