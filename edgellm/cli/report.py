"""`edgellm report`: results turned into a page, a table or rows; those of several machines joined into one."""

from __future__ import annotations

from pathlib import Path

import click

from edgellm.cli.shared.report_options import outputs, read_results, report_options
from edgellm.terminal import emit, note


@click.command(short_help="Render results, and join those of several machines into one page.")
@click.argument(
    "results", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@report_options()
def command(
    results: tuple[Path, ...], format_: str | None, files: tuple[Path, ...], force: bool, lang: str
) -> None:
    """Render RESULTS, the JSON files of `edgellm profile`.

    Several are joined: models are matched by their hash, each machine is held against the first, and what cannot
    be compared is refused with the reason.

    \b
      edgellm report report.json --out report.html --lang zh
      edgellm report laptop.json board.json server.json --out machines.html
    """
    from edgellm import files as writing
    from edgellm.profiles import report as reports

    wanted = outputs(files, format_, force=force)
    read = read_results(results)
    for path, name in wanted.items():
        writing.write_text(path, reports.render_all(read, name, lang))
        note(f"wrote {path}")
    if not files or format_ == "table":
        emit(reports.render_all(read, format_ or "table", lang))
