"""`edgellm cache`: what edgellm keeps and can make again, and what it takes on disk."""

from __future__ import annotations

from pathlib import Path

import click

from edgellm.terminal import aligned, say

#: What each folder of the cache holds. What is in none of these is named by its folder.
_HOLDS = {
    "canary": "engines that passed their check",
    "chosen": "types taken on first use",
    "digests": "checksums of files",
    "engines": "engines built for other machines",
    "fit": "what was foretold, and how right it was",
    "headers": "headers of GGUF files that were checked",
    "kernels": "kernel speeds of this machine (edgellm fit times them)",
    "locks": "locks",
    "models": "conversions (edgellm list shows them)",
    "modelscope": "downloads from ModelScope (edgellm list shows them)",
    "prepacked": "ONNX weights prepared for this CPU (--clear deletes them)",
    "references": "reference answers that quality is measured against",
    "rpc": "weights received from other machines",
    "shipped": "models received for batches",
    "tried": "engine settings that were tried",
    "tuned": "settings found by edgellm tune",
    "wheels": "packages for bundles",
}


@click.command(short_help="Show what the cache holds, or clear ONNX weights prepared for this CPU.")
@click.option("--clear", is_flag=True, help="Delete prepared ONNX weights; they are made again when needed.")
def command(clear: bool) -> None:
    """Show ONNX models whose weights are kept in the form this CPU's kernels want, and all else that is kept.

    Everything in the cache can be made or fetched again: any of its folders may be deleted while edgellm is not
    running.
    """
    from edgellm import files
    from edgellm.backends.ort import prepacked
    from edgellm.units import format_seconds, format_size

    if clear:
        say(f"freed {format_size(prepacked.clear())}")
        return
    rows = [
        (format_size(item.size_bytes), f"used {format_seconds(item.used_seconds_ago)} ago", item.model)
        for item in prepacked.kept()
    ]
    if rows:
        say(*aligned(rows, "><"), f"in {prepacked.folder()}", "")
    folders = sorted(path for path in files.cache_dir().iterdir() if path.is_dir())
    sizes = [(format_size(_size(path)), path.name, _HOLDS.get(path.name, "")) for path in folders]
    say(*aligned(sizes, "><"), f"in {files.cache_dir()}")


def _size(folder: Path) -> int:
    """Bytes of the files below; what goes away meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
