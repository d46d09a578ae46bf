"""`edgellm energy`: lay the log of a meter that was read elsewhere over a finished profile."""

from __future__ import annotations

from pathlib import Path

import click

from edgellm.terminal import note, say


@click.group(short_help="Bring a wall meter's or smart plug's log into a profile.")
def command() -> None:
    """Energy from outside the machine. `edgellm doctor` shows the meters inside."""


@command.command("import", short_help="Add a meter's CSV log to a profile's JSON.")
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write here.  [default: RESULT]",
)
@click.option(
    "--unit", help="Of the second column: W, kW, mW, Wh, kWh or J.  [default: as its title says, else W]"
)
@click.option(
    "--offset", type=click.FLOAT, default=0.0, metavar="SECONDS", help="Added to the log's times.  [0]"
)
@click.option(
    "--align", is_flag=True, help="Find the offset, within 2 minutes, by the rise from idle to busy."
)
@click.option("-f", "--force", is_flag=True, help="Replace FILE if it exists.")
def import_(
    result: Path, log: Path, out: Path | None, unit: str | None, offset: float, align: bool, force: bool
) -> None:
    """Add the energy in LOG to RESULT, the JSON of `edgellm profile`.

    LOG has two columns: a time (unix seconds or milliseconds, or ISO 8601) and watts, or watt-hours counted so
    far. Let the profile run long enough for the meter, 100 readings a phase:

    \b
      edgellm profile model.gguf --energy csv --energy-seconds 100 --out run.json
      edgellm energy import run.json plug.csv --align
    """
    from edgellm import files
    from edgellm.errors import UsageError
    from edgellm.profiles.measure import energy_import
    from edgellm.profiles.result.result import read, to_json
    from edgellm.profiles.study import checks

    if align and offset:
        raise UsageError("--align finds the offset; leave --offset out")
    if out:
        files.check_output(out, force=force)
    report = read(result)
    meter = energy_import.read(log, unit)
    if align:
        spans = [span for run in report.runs for launch in run.launches for span in launch.spans]
        offset = energy_import.align(meter, spans)
    done = checks.with_energy(energy_import.apply(report, meter.shifted(offset)))
    files.write_text(out or result, to_json(done))
    note(f"{log.name} shifted by {offset:+.2f} s; wrote {out or result}")
    for run in done.runs:
        for launch in run.launches:
            _tell(f"{run.model.name} launch {launch.index + 1}", (launch.energy, *launch.energy_beside))
    for caveat in done.caveats:
        if caveat.code == "idle-above-decode":
            note(f"{caveat.subject}: {caveat.fact}; {caveat.advice}")


def _tell(title: str, records: tuple) -> None:  # type: ignore[type-arg]
    for record in records:
        if record.kind == "imported":
            phases = dict.fromkeys(window.phase for window in record.windows)
            reasons = (f"  not: {why}" for why in (record.phase_reasons or {}).values())
            say(f"{title}: {', '.join(phases) or 'nothing'}", *reasons)
