"""`edgellm list`: models that are here now, what was made of them, and what they take."""

from __future__ import annotations

import click

from edgellm.terminal import aligned, emit, say


@click.command(short_help="List the models on this machine, and what they take.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(as_json: bool) -> None:
    """List models that need no download, with what they take on disk.

    \b
      bundled   checkpoints that come with edgellm
      kept      conversions made on first use; edgellm rm NAME deletes one
      prepared  ONNX weights made ready for this CPU; made again when needed
      download  what was fetched from a hub; edgellm rm --download NAME deletes it
    """
    import json

    from edgellm.catalog import models
    from edgellm.units import format_size

    found = models.everything()
    if as_json:
        rows = [
            {"name": k.name, "kind": k.kind, "size_bytes": k.size_bytes, "path": str(k.path)} for k in found
        ]
        emit(json.dumps(rows, indent=2))
        return
    table = [(item.name, item.kind, format_size(item.size_bytes), str(item.path)) for item in found]
    total = sum(item.size_bytes for item in found if item.kind != "bundled")
    table.append(("", "", format_size(total), "without the bundled ones"))
    say(*aligned(table, "<<><"))
