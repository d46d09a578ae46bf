"""`edgellm tune`: find the settings that run a model fastest on this machine, and remember them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared.model_argument import hub_option
from edgellm.errors import UsageError
from edgellm.terminal import aligned, emit, note, say

if TYPE_CHECKING:
    from edgellm.backends.tuned import Record
    from edgellm.formats.artifact import Artifact
    from edgellm.tuning.search import Trial
    from edgellm.tuning.tune import Tuned


def _depths(context: click.Context, param: click.Parameter, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r} is no list of token counts like 512,2048", context, param)
    return tuple(int(part) for part in parts)


@click.command(short_help="Find the fastest settings for a model here, and remember them.")
@click.argument("model", required=False)
@click.option(
    "--depth",
    "depths",
    default="512,2048",
    callback=_depths,
    metavar="N,...",
    help="Cached tokens at which decoding matters to you.  [default: 512,2048]",
)
@click.option(
    "--budget",
    "budget_seconds",
    type=click.FloatRange(min=1),
    default=90.0,
    metavar="SECONDS",
    help="Time the search may take.  [default: 90]",
)
@click.option(
    "--lossy", is_flag=True, help="Also try KV cache types that change the model's output a little."
)
@click.option(
    "--types",
    is_flag=True,
    help="Time the kernels of MODEL's other types instead: which are as fast here and lose less.",
)
@click.option("--quick", is_flag=True, help="Only the few seconds that a first use takes.")
@click.option("--show", is_flag=True, help="Show what is remembered; measure nothing.")
@click.option("--forget", is_flag=True, help="Forget what is remembered.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--offline", is_flag=True, help="Download nothing.")
@hub_option
def command(
    model: str | None,
    depths: tuple[int, ...],
    budget_seconds: float,
    lossy: bool,
    types: bool,
    quick: bool,
    show: bool,
    forget: bool,
    as_json: bool,
    offline: bool,
) -> None:
    """Measure MODEL with different settings on this machine, and remember the fastest for chat, run and profile.

    One setting after the other, variants in turn, and only a difference that is there counts: decoding is made
    faster, prompts not slower than 0.7 of the best. Flags given to chat, run and profile go before what is
    remembered here.

    \b
      edgellm tune model.gguf
      edgellm tune model.gguf --depth 4096 --budget 180 --lossy
      edgellm tune ./Qwen2.5-0.5B-Instruct:Q4_0 --types
    """
    from edgellm import backends
    from edgellm.backends import tuned as store
    from edgellm.cli.shared import model_argument
    from edgellm.tuning import first_look, tune

    if sum((quick, show, forget, types)) > 1:
        raise UsageError("--quick, --show, --forget and --types exclude each other: give one")
    if types:
        _types(model, offline=offline, as_json=as_json)
        return
    artifact = model_argument.resolve(model, offline=offline)
    build = backends.build(artifact.format)
    if forget:
        gone = store.forget(artifact, build)
        say("forgotten" if gone else f"nothing was remembered for {artifact.name} on this machine")
        return
    if show or quick:
        record = first_look.look(artifact) if quick else store.read(artifact, build)
        _show(artifact, record, as_json=as_json)
        return
    options = tune.TuneOptions(depths, budget_seconds, lossy)
    tuned = tune.tune(artifact, options, note)
    if not as_json:
        _trials(tuned)
    _show(artifact, tuned.record, as_json=as_json)


def _types(model: str | None, *, offline: bool, as_json: bool) -> None:
    """Which types of the same checkpoint are as fast here as the one named, and closer to it."""
    from edgellm.catalog import first_use
    from edgellm.cli import fit
    from edgellm.fit import recommend

    source = first_use.planned(model, offline=offline)
    if not source.is_checkpoint or source.quant is None:
        raise UsageError(f"{model} has one type: name the checkpoint it was made of, as CHECKPOINT:TYPE")
    type_ = source.quant
    table = fit.tabled(str(source.path), types=None, device=None, ram=None, n_ctx=None, offline=offline)
    found = recommend.rivals(table, type_)
    if as_json:
        emit(json.dumps({"type": type_, "better": {row.type: why for row, why in found}}, indent=1))
        return
    if not found:
        say(f"no type of {table.name} is as fast here as {type_} and loses less")
        return
    say(f"as fast here as {type_}, and closer to {table.name}:")
    say(*aligned([(f"  {row.type}", why) for row, why in found], "<<"))
    note("predicted from kernels timed here; to be sure: edgellm recommend --measure")


def _trials(tuned: Tuned) -> None:
    """What was tried, knob by knob."""
    rows = [
        (
            trial.knob,
            _variant(trial),
            *(f"{rate:.1f} at {depth}" for depth, rate in trial.rates.items()),
            trial.verdict,
        )
        for trial in tuned.found.trials
    ]
    ending = "" if tuned.found.finished else ": the budget ended it, --budget gives it more"
    n_rates = max((len(trial.rates) for trial in tuned.found.trials), default=0)
    say(*aligned(rows, "<<" + ">" * n_rates + "<"), f"(tok/s, {tuned.found.seconds:.0f} s of search{ending})")


def _variant(trial: Trial) -> str:
    """The fields this trial's knob turns."""
    from edgellm.tuning import space

    return " ".join(f"{name}={value}" for name, value in space.turned(trial.knob, trial.options).items())


def _show(artifact: Artifact, record: Record | None, *, as_json: bool) -> None:
    """What is remembered, and what it brought."""
    from dataclasses import asdict

    from edgellm.machine import others

    if as_json:
        emit(json.dumps(record and asdict(record), ensure_ascii=False, indent=1))
        return
    if record is None:
        say(f"nothing is remembered for {artifact.name} here; find settings with: edgellm tune")
        return
    say(f"{record.model}, {record.how}, {record.made}: {record.flags or 'the defaults are the best found'}")
    if record.busy is not None and record.busy > others.BUSY:
        say(
            f"  other programs used {record.busy:.0%} of the processors meanwhile: tune again when they are done"
        )
    say(*(f"  {line}" for line in aligned(map(_gain, record.rows), "<>>>>><")))


def _gain(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What the settings found bring in one phase at one depth."""
    value, low, high = row["ratio"]
    interval = f" ({low:.2f} to {high:.2f})" if low is not None else ""
    rates = (f"{row['start']:.1f}", "->", f"{row['found']:.1f} tok/s")
    return (row["phase"], f"at {row['depth']}", *rates, f"{value:.2f} times{interval}")
