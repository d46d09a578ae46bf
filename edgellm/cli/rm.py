"""`edgellm rm`: delete conversions kept from first use, and downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgellm.terminal import say

if TYPE_CHECKING:
    from edgellm.catalog import models


@click.command(short_help="Delete kept conversions and downloads.")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Delete every kept conversion and prepared copy.")
@click.option("--download", is_flag=True, help="NAMEs are hub ids: delete what was downloaded of them, too.")
def command(names: tuple[str, ...], everything: bool, download: bool) -> None:
    """Delete conversions by the name `edgellm list` shows, with what was prepared of them.

    A hub id (owner/name) names all conversions of it. Checkpoint folders and files made by convert stay.
    """
    from edgellm.catalog import hubs, models
    from edgellm.errors import ArtifactError, UsageError
    from edgellm.units import format_size

    if bool(names) == everything or (download and everything):
        raise UsageError("name what to delete, or give --all; edgellm list shows what is kept")
    found = [item for item in models.everything() if item.kind in ("kept", "prepared", "download")]
    for name in names:
        if not any(_is_meant(item, name) and (download or item.kind != "download") for item in found):
            raise ArtifactError(f"no kept conversion is called {name}; see: edgellm list")
    for item in found:
        if item.kind == "download":
            if download and item.name in names:
                hubs.delete(item.name)
                say(f"deleted the download {item.name} ({format_size(item.size_bytes)})")
        elif (everything or any(_is_meant(item, name) for name in names)) and item.path.exists():
            say(f"deleted {item.name} ({format_size(models.remove(item))})")


def _is_meant(item: models.Kept, name: str) -> bool:
    """Whether `name` is the item's, or the hub id it was made from."""
    return item.name == name or (
        "/" in name and item.name.startswith(name.replace("/", "--").replace(":", "--") + "-")
    )
