"""Options that name other machines, and connections to them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.profiles.fleet.run import Opener


def node_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `ssh`, `ssh_command` and `ray_address`."""
    options = (
        click.option(
            "--ssh",
            metavar="HOST,...",
            help="Machines to reach over ssh: host, user@host or user@host:port, where edgellm is installed.",
        ),
        click.option(
            "--ssh-command",
            metavar="COMMAND",
            default="edgellm",
            help="What edgellm is called there, e.g. /opt/edgellm/bin/edgellm.  [default: edgellm]",
        ),
        click.option(
            "--ray",
            "ray_address",
            metavar="auto|ADDRESS",
            help="The nodes of a Ray cluster; needs edgellm[ray] here and there.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@contextlib.contextmanager
def openers(ssh: str | None, ssh_command: str, ray_address: str | None) -> Iterator[dict[str, Opener]]:
    """What connects to each node, by the name the user gave it. Raises EdgellmError."""
    if ray_address is not None:
        from edgellm.profiles.fleet import ray_nodes

        if ssh is not None:
            raise UsageError("--ssh and --ray exclude each other: give one")
        with ray_nodes.openers(ray_address, models_here) as found:
            yield found
        return
    from edgellm.profiles.fleet.ssh import Ssh, target

    names = [name.strip() for name in (ssh or "").split(",")]
    if len(set(names)) < len(names):
        raise UsageError(f"--ssh names {max(names, key=names.count)} twice; name each machine once")
    for name in names:
        target(name)
    yield {name: functools.partial(Ssh, name, ssh_command) for name in names}


def models_here() -> dict[str, int]:
    """The models on this machine that need no download: bytes by name."""
    from edgellm.catalog import models

    return {model.name: model.size_bytes for model in models.everything()}
