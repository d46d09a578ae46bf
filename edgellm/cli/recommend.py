"""`edgellm recommend`: which type of a model to take here, why, and why not each of the others."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from edgellm.cli import fit as fit_command
from edgellm.cli.shared.model_argument import hub_option
from edgellm.errors import UsageError
from edgellm.terminal import Progress, aligned, emit, note, say

if TYPE_CHECKING:
    from edgellm.fit.recommend import Choice
    from edgellm.fit.table import Table


@click.command(short_help="Which type of a model to take here, and why.")
@click.argument("model", required=False)
@click.option(
    "--want",
    type=click.Choice(("balance", "speed", "quality")),
    default="balance",
    show_default=True,
    help="What counts most.",
)
@click.option(
    "--for", "device", metavar="DEVICE|RESULT.json", help="Another machine: a device profile, or a result."
)
@click.option(
    "--ram",
    callback=fit_command.size,
    metavar="SIZE",
    help="Memory it may take.  [default: what is available]",
)
@click.option(
    "-c", "--ctx-size", "n_ctx", type=click.IntRange(min=1), help="Tokens of context.  [default: 4096]"
)
@click.option(
    "--type", "types", metavar="all|TYPE,...", help="Types to choose from.  [default: the usual ones]"
)
@click.option("--min-tok-s", type=click.FloatRange(min=0), help="Tokens a second it must decode.")
@click.option("--max-kld", type=click.FloatRange(min=0), help="The largest mean KLD against F16, in nats.")
@click.option("--imatrix", is_flag=True, help="An importance matrix is at hand.")
@click.option("--measure", is_flag=True, help="Convert the finalists, and measure their loss and speed.")
@click.option("--budget", metavar="TIME", default="10m", show_default=True, help="Time --measure may take.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@hub_option
def command(
    model: str | None,
    want: str,
    device: str | None,
    ram: int | None,
    n_ctx: int | None,
    types: str | None,
    min_tok_s: float | None,
    max_kld: float | None,
    imatrix: bool,
    measure: bool,
    budget: str,
    as_json: bool,
    offline: bool,
) -> None:
    """Choose a type for MODEL by speed and loss together, with the reason, and for each other type why it lost.

    It is a prediction, from headers and kernels timed here, unless --measure converts and measures the best three.

    \b
      edgellm recommend Qwen/Qwen3-0.6B
      edgellm recommend ./Qwen2.5-0.5B-Instruct --want quality --ram 2G --min-tok-s 20
      edgellm recommend Qwen/Qwen3-0.6B --measure --budget 15m
    """
    from edgellm.catalog import models
    from edgellm.fit import recommend

    if measure and device:
        raise UsageError("--measure is for this machine; leave --for out, or measure there")
    model = model or models.DEFAULT_MODEL
    table = fit_command.tabled(model, types=types, device=device, ram=ram, n_ctx=n_ctx, offline=offline)
    wish = recommend.Wish(want, min_tok_s, max_kld, imatrix)
    choice = recommend.choose(table, wish)
    if measure:
        from edgellm.fit.finals import finals
        from edgellm.profiles.study.plan import parse_seconds

        with Progress() as progress:
            seen = finals.measured(
                model, table, choice, parse_seconds(budget), progress.show, offline=offline
            )
        choice = recommend.among(choice, recommend.choose(seen, wish))
        rows = {row.type: row for row in seen.rows}
        table = replace(table, rows=tuple(rows.get(row.type, row) for row in table.rows))
    _show(model, table, choice, measured=measure, as_json=as_json)


def _show(model: str, table: Table, choice: Choice, *, measured: bool, as_json: bool) -> None:
    from edgellm.fit import recommend

    made = recommend.command(model, choice)
    if as_json:
        found = {
            "model": table.name,
            "place": table.place.name,
            "type": choice.best.type,
            "reason": choice.reason,
            "measured": measured,
            "losers": dict(choice.losers),
            "finalists": list(choice.finalists),
            "command": made,
        }
        emit(json.dumps(found | {"table": fit_command.plain(table)}, indent=1))
        return
    say(f"{choice.best.type} for {table.name} on {table.place.name}: {choice.reason}")
    say(*aligned([(f"  {type_}", why) for type_, why in choice.losers.items()], "<<"))
    for line in table.place.notes:
        note(line)
    if not measured:
        note("predicted, not measured: --measure converts and measures the best three")
    say(made)
