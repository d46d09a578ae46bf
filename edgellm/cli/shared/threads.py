"""A number of threads on the command line, for commands whose work is not an engine's to bound."""

from __future__ import annotations

from typing import Any

import click


class ThreadCount(click.IntRange):
    """At least 1; more than there are processors become as many, and standard error says so."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """As IntRange."""
        from edgellm.machine import hardware

        asked = int(super().convert(value, param, ctx))
        most = hardware.threads(asked)
        if most < asked:
            click.echo(
                f"edgellm: {asked:,} threads reduced to {most}: there are no more processors", err=True
            )
        return most


THREADS = ThreadCount(min=1)
