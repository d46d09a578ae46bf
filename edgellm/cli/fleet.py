"""`edgellm fleet`: what the machines are that a plan may run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from edgellm.cli.nodes import options
from edgellm.errors import EngineError
from edgellm.terminal import aligned, emit, note, say

if TYPE_CHECKING:
    from edgellm.profiles.fleet.facts import Facts
    from edgellm.profiles.fleet.run import Opener


@click.command(short_help="List machines with cores, memory, energy sources, engines and models.")
@options.node_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, by machine.")
@click.option("--on-stdin", is_flag=True, hidden=True, help="Be a node, for who started this over ssh.")
def command(
    ssh: str | None, ssh_command: str, ray_address: str | None, as_json: bool, on_stdin: bool
) -> None:
    """List the machines named with --ssh, or the nodes of a Ray cluster; without either this machine.

    \b
      edgellm fleet --ssh pi@rpi5,jetson,user@box:2222
      edgellm fleet --ray 192.168.1.10:6379 --json
      edgellm profile --plan plan.toml --ssh pi@rpi5,jetson

    Exit code 1 when one of them does not answer.
    """
    import json

    from edgellm.profiles.fleet import facts, node
    from edgellm.profiles.result.codec import to_plain

    if on_stdin:
        return node.main(options.models_here)
    found: dict[str, Facts] = {}
    failures: dict[str, str] = {}
    if ssh is None and ray_address is None:
        found["this machine"] = facts.here(options.models_here())
    else:
        with options.openers(ssh, ssh_command, ray_address) as openers:
            found, failures = _ask(openers)
    if as_json:
        told = {name: to_plain(each) for name, each in found.items()}
        emit(json.dumps(told | {name: {"error": why} for name, why in failures.items()}, indent=2))
    elif found:
        say(*aligned([_HEAD, *(_row(name, each) for name, each in found.items())], "<><>><<<<"))
    for name, why in failures.items():
        note(f"{name}: {why}")
    if failures:
        raise EngineError(
            f"{len(failures)} of {len(failures) + len(found)} machines did not answer: {', '.join(failures)}"
        )
    return None


_HEAD = ("", "cores", "processor", "memory", "free", "energy", "engines", "edgellm", "models")


def _row(name: str, facts: Facts) -> tuple[str, ...]:
    from edgellm.units import format_size

    return (
        name,
        str(facts.cores or facts.threads or "?"),
        facts.cpu or "?",
        format_size(facts.memory_bytes) if facts.memory_bytes else "?",
        format_size(facts.available_bytes),
        ", ".join(facts.energy) or "not measured",
        ", ".join(f"{name} {version}" for name, version in facts.engines.items()),
        facts.edgellm,
        f"{len(facts.models)}",
    )


def _ask(openers: Mapping[str, Opener]) -> tuple[dict[str, Facts], dict[str, str]]:
    """What each machine is, and why others do not say."""
    from concurrent.futures import ThreadPoolExecutor

    from edgellm.errors import EdgellmError
    from edgellm.profiles.fleet.run import facts_of

    def ask(opener: Opener) -> Facts | str:
        try:
            node = opener()
            try:
                return facts_of(node)
            finally:
                node.close()
        except EdgellmError as error:
            return str(error)

    with ThreadPoolExecutor(len(openers)) as pool:
        answers = dict(zip(openers, pool.map(ask, openers.values()), strict=True))
    failures = {name: answer for name, answer in answers.items() if isinstance(answer, str)}
    return {name: answer for name, answer in answers.items() if not isinstance(answer, str)}, failures
