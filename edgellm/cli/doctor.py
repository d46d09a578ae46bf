"""`edgellm doctor`: what this machine offers, what the engines were built with, what was found broken."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from edgellm.cli.shared.sampling import engine_options
from edgellm.terminal import aligned, emit, takes_styles

if TYPE_CHECKING:
    from edgellm.doctor.machine import Finding
    from edgellm.session import EngineOptions


@click.command(short_help="Show CPU, engines, memory and energy sources, and what is wrong with them.")
@click.argument("model", required=False)
@click.option("--for", "name", metavar="DEVICE", help="Look at a board or laptop by its profile instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@engine_options
def command(model: str | None, name: str | None, as_json: bool, offline: bool, engine: EngineOptions) -> None:
    """Look at this machine: CPU features, memory, engines, energy sources. Exit code 3 when an engine is broken.

    With MODEL, show how it would be opened instead: every setting, what was chosen and why. The flags are those
    of chat, run and profile.

    With --for, show what is known of another machine, and what is ready here to bring models to it; with MODEL too,
    how a bundle opens it there.
    """
    import json

    from edgellm.doctor import machine
    from edgellm.errors import CheckFailedError

    if name is not None:
        findings = _elsewhere(name, model, engine, offline=offline)
    else:
        findings = machine.examine() if model is None else _explain(model, engine, offline=offline)
    if as_json:
        emit(
            json.dumps(
                [{"section": f.section, "name": f.name, "value": f.value, "ok": f.ok} for f in findings]
            )
        )
    else:
        _print(findings)
    broken = [f.name for f in findings if not f.ok]
    if broken:
        raise CheckFailedError(f"not working: {', '.join(broken)}; the remedy stands beside each above")


def _explain(model: str, engine: EngineOptions, *, offline: bool) -> list[Finding]:
    from edgellm.cli.shared import model_argument
    from edgellm.doctor import model as doctor_model

    return doctor_model.explain(model_argument.resolve(model, offline=offline), engine)


def _elsewhere(name: str, model: str | None, engine: EngineOptions, *, offline: bool) -> list[Finding]:
    from edgellm.cli.shared import model_argument
    from edgellm.doctor import device as doctor_device
    from edgellm.profiles import devices

    device = devices.device(name)
    if model is None:
        return doctor_device.examine(device)
    return doctor_device.explain(model_argument.resolve(model, offline=offline), device, engine.n_ctx)


def _print(findings: list[Finding]) -> None:
    lines = aligned((f.name, f.value) for f in findings)
    section, styled = "", takes_styles(sys.stdout)
    for finding, line in zip(findings, lines, strict=True):
        if finding.section != section:
            section = finding.section
            print(click.style(section, bold=True) if styled else section)
        mark = " " if finding.ok else click.style("!", fg="red") if styled else "!"
        print(f" {mark} {line}")
