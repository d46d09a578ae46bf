"""`edgellm rm`: delete conversions kept from first use."""

from __future__ import annotations

import contextlib
import shutil

import click


@click.command(short_help="Delete kept conversions.")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Delete every kept conversion.")
def command(names: tuple[str, ...], everything: bool) -> None:
    """Delete conversions by the name `edgellm list` shows. Checkpoints and files made by convert stay."""
    from edgellm import catalog
    from edgellm.errors import ArtifactError, UsageError

    if bool(names) == everything:
        raise UsageError("name what to delete, or give --all; edgellm list shows what is kept")
    kept = catalog.kept()
    for name in names:
        if name not in [k.name for k in kept]:
            raise ArtifactError(f"no kept conversion is called {name}; see: edgellm list")
    for item in kept:
        if everything or item.name in names:
            shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink()
            with contextlib.suppress(OSError):  # another type of the same model is still there
                item.path.parent.rmdir()
            click.echo(f"deleted {item.name} ({item.size_bytes / 1e6:.1f} MB)")
