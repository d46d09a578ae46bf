"""`edgellm cache`: weights prepared for this CPU, which start faster and share their memory."""

from __future__ import annotations

import click


@click.command(short_help="Show or clear ONNX weights prepared for this CPU.")
@click.option("--clear", is_flag=True, help="Delete them; they are made again when needed.")
def command(clear: bool) -> None:
    """Show ONNX models whose weights are kept in the form this CPU's kernels want, and what they take on disk."""
    from edgellm.backends.ort import prepacked
    from edgellm.units import format_seconds, format_size

    if clear:
        click.echo(f"freed {format_size(prepacked.clear())}")
        return
    for item in prepacked.kept():
        ago = format_seconds(item.used_seconds_ago)
        click.echo(f"{format_size(item.size_bytes):>9}  used {ago} ago  {item.model}")
    click.echo(f"in {prepacked.folder()}")
