"""The types of a model in few columns, with one marked to take: what `convert` shows where no type was named."""

from __future__ import annotations

from edgellm.fit.table import Row, Table
from edgellm.terminal import aligned
from edgellm.units import format_size

#: What the columns mean.
LEGEND = "loss: mean KLD against F16, in nats; ~: predicted; <: at most"


def lines(table: Table, best: str | None, read_bytes_per_second: float | None) -> list[str]:
    """A line for each type: file, memory, loss, speed, and which is the `best`.

    Where a type's kernels were not timed, its speed is bounded by `read_bytes_per_second`, unless a cache holds it.
    """
    n_ctx = f"{table.n_ctx // 1024}k" if table.n_ctx % 1024 == 0 else f"{table.n_ctx:,}"
    heads = ("type", "file", f"RAM at {n_ctx}", "loss", "tok/s", "")
    cached = table.place.cache_bytes
    return aligned(
        [heads, *(_cells(row, best, read_bytes_per_second, cached) for row in table.rows)], "<>>>><"
    )


def _cells(
    row: Row, best: str | None, read_bytes_per_second: float | None, cache_bytes: int
) -> tuple[str, ...]:
    mark = "<- take this" if row.type == best else "too large" if not row.fits else ""
    if row.build.needs_imatrix:
        mark = "needs --imatrix"
    pace = "-"
    if row.speed:
        pace = f"~{_rate(row.speed.decode)}"
    elif read_bytes_per_second and row.build.weight_bytes > cache_bytes:
        pace = f"<{_rate(read_bytes_per_second / row.build.bytes_per_token)}"
    return (
        row.type,
        ("" if row.build.exact else "~") + format_size(row.build.file_bytes),
        f"~{format_size(row.full.peak)}",
        "-" if row.loss is None else f"{'' if row.loss.source == 'measured' else '~'}{row.loss.kld:.2g}",
        pace,
        mark,
    )


def _rate(tokens_per_second: float) -> str:
    return f"{tokens_per_second:.{0 if tokens_per_second >= 10 else 1}f}"
