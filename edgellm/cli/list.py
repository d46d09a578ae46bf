"""`edgellm list`: models that are here now - bundled ones and conversions kept from first use."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="List the bundled models and the conversions kept on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(as_json: bool) -> None:
    """List models that need no download: bundled checkpoints, and conversions made on first use and kept."""
    import json

    from edgellm import catalog
    from edgellm.models import bundled

    rows = [
        (name, "bundled", _folder_bytes(bundled.path(name)), str(bundled.path(name)))
        for name in bundled.names()
    ]
    rows += [(k.name, "kept", k.size_bytes, str(k.path)) for k in catalog.kept()]
    if as_json:
        keys = ("name", "kind", "size_bytes", "path")
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    width = max(len(row[0]) for row in rows)
    for name, kind, size, path in rows:
        click.echo(f"{name:<{width}}  {kind:<8} {size / 1e6:8.1f} MB  {path}")


def _folder_bytes(folder: Path | None) -> int:
    return sum(file.stat().st_size for file in folder.iterdir()) if folder else 0
