"""`edgellm cache`: weights prepared for this CPU, which start faster and share their memory."""

from __future__ import annotations

import click

from edgellm.terminal import aligned, say


@click.command(short_help="Show or clear ONNX weights prepared for this CPU.")
@click.option("--clear", is_flag=True, help="Delete them; they are made again when needed.")
def command(clear: bool) -> None:
    """Show ONNX models whose weights are kept in the form this CPU's kernels want, and what they take on disk."""
    from edgellm.backends.ort import prepacked
    from edgellm.units import format_seconds, format_size

    if clear:
        say(f"freed {format_size(prepacked.clear())}")
        return
    rows = [
        (format_size(item.size_bytes), f"used {format_seconds(item.used_seconds_ago)} ago", item.model)
        for item in prepacked.kept()
    ]
    say(*aligned(rows, "><"), f"in {prepacked.folder()}")
