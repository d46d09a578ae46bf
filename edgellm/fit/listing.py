"""The types of a model in few columns, with one marked to take: what `convert` shows where no type was named."""

from __future__ import annotations

from edgellm.fit.table import Row, Table
from edgellm.terminal import aligned
from edgellm.units import format_size


def lines(table: Table, best: str | None) -> list[str]:
    """A line for each type: file, memory, loss, speed, and which is the `best`. `~` stands before what is predicted."""
    n_ctx = f"{table.n_ctx // 1024}k" if table.n_ctx % 1024 == 0 else f"{table.n_ctx:,}"
    heads = ("type", "file", f"RAM at {n_ctx}", "loss", "tok/s", "")
    return aligned([heads, *(_cells(row, best) for row in table.rows)], "<>>>><")


def legend(table: Table) -> str:
    """What the columns mean."""
    where = "here" if table.place.name == "this machine" else f"on {table.place.name}"
    return f"loss: mean KLD against F16, in nats; tok/s: decoding {where}; ~: predicted from headers and timed kernels"


def _cells(row: Row, best: str | None) -> tuple[str, ...]:
    mark = "<- take this" if row.type == best else "too large" if not row.fits else ""
    if row.build.needs_imatrix:
        mark = "needs --imatrix"
    loss, fast = row.loss, row.speed
    return (
        row.type,
        ("" if row.build.exact else "~") + format_size(row.build.file_bytes),
        f"~{format_size(row.full.peak)}",
        "-" if loss is None else f"{'' if loss.source == 'measured' else '~'}{loss.kld:.2g}",
        "-" if fast is None else f"~{fast.decode:.{0 if fast.decode >= 10 else 1}f}",
        mark,
    )
