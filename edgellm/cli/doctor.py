"""`edgellm doctor`: what this machine offers, what the engines were built with, what was found broken."""

from __future__ import annotations

import click


@click.command(short_help="Show CPU, engines, memory and energy sources, and what is wrong with them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Look at this machine: CPU features, memory, engines, energy sources. Exit code 3 when an engine is broken."""
    import json

    from edgellm import doctor
    from edgellm.errors import CheckFailedError

    findings = doctor.examine()
    if as_json:
        click.echo(
            json.dumps(
                [{"section": f.section, "name": f.name, "value": f.value, "ok": f.ok} for f in findings]
            )
        )
    else:
        _print(findings)
    broken = [f.name for f in findings if not f.ok]
    if broken:
        raise CheckFailedError(f"not working: {', '.join(broken)}; the remedy stands beside each above")


def _print(findings: list) -> None:  # type: ignore[type-arg]
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            click.secho(section, bold=True)
        mark = " " if finding.ok else click.style("!", fg="red")
        click.echo(f" {mark} {finding.name:<16} {finding.value}")
