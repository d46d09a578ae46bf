"""`edgellm fit`: what each type of a model takes and how fast it will be, before anything is fetched or converted."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared.model_argument import hub_option
from edgellm.errors import CheckFailedError
from edgellm.terminal import Progress, aligned, emit, note, say
from edgellm.units import count, format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgellm.fit.places import Place
    from edgellm.fit.table import Row, Table


def size(context: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """An option's bytes."""
    return None if text is None else parse_size(text)


@click.command(short_help="What each type of a model takes, and how fast it will be.")
@click.argument("model", required=False)
@click.option(
    "--for", "device", metavar="DEVICE|RESULT.json", help="Another machine: a device profile, or a result."
)
@click.option(
    "--ram", callback=size, metavar="SIZE", help="Memory it may take.  [default: what is available]"
)
@click.option(
    "-c", "--ctx-size", "n_ctx", type=click.IntRange(min=1), help="Tokens of context.  [default: 4096]"
)
@click.option("--type", "types", metavar="all|TYPE,...", help="Types to look at.  [default: the usual ones]")
@click.option(
    "--again", is_flag=True, help="Time kernels once more and keep the better of both: the machine was busy."
)
@click.option("--record", is_flag=True, help="Show how far off predictions were on this machine so far.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@hub_option
def command(
    model: str | None,
    device: str | None,
    ram: int | None,
    n_ctx: int | None,
    types: str | None,
    again: bool,
    record: bool,
    as_json: bool,
    offline: bool,
) -> None:
    """For each type of MODEL, both engines: file, memory, the longest context that fits, prefill and decode speed.

    MODEL is a checkpoint, a converted model or a hub id, of which headers alone are fetched. The first time, kernels
    are timed on this machine for some seconds each, and remembered.

    \b
      edgellm fit Qwen/Qwen3-0.6B
      edgellm fit ./Qwen2.5-0.5B-Instruct --type Q4_0,Q4_K_M,onnx-int4 -c 8192
      edgellm fit Qwen/Qwen3-8B --for rpi5 --ram 6G
      edgellm fit --record
    """
    if record:
        return _record(as_json=as_json)
    found = tabled(model, types=types, device=device, ram=ram, n_ctx=n_ctx, offline=offline, again=again)
    if as_json:
        emit(json.dumps(plain(found), indent=1))
        return None
    _show(found)
    return None


def tabled(
    model: str | None,
    *,
    types: str | None,
    device: str | None,
    ram: int | None,
    n_ctx: int | None,
    offline: bool,
    measure: bool = True,
    again: bool = False,
) -> Table:
    """The table for a command's options; without `measure` no kernel is timed, `again` all are. Raises EdgellmError."""
    from edgellm.catalog import models, subjects
    from edgellm.fit import table
    from edgellm.fit.model import chosen

    names = chosen(None if types is None else [name.strip() for name in types.split(",")])
    subject = subjects.open_subject(model or models.DEFAULT_MODEL, names, offline=offline)
    place = _place(list(subject.types.values()), device, measure=measure, again=again)
    return table.make(subject, place, n_ctx=n_ctx, ram=ram)


def offer(model: str, types: str | None, *, offline: bool) -> None:
    """Show the types of a checkpoint in short, and - of the usual ones - which to take and how. No kernel is timed.

    Raises EdgellmError; CheckFailedError where none will do.
    """
    from edgellm.catalog import choosing
    from edgellm.fit import listing, probe, recommend

    found = tabled(model, types=types, device=None, ram=None, n_ctx=None, offline=offline, measure=False)
    pace = probe.read_bytes_per_second(found.place.n_threads)
    if types is not None:
        say(*listing.lines(found, None, pace))
        return
    try:
        choice = choosing.likely(found)
    except CheckFailedError:
        say(*listing.lines(found, None, pace))
        raise
    say(*listing.lines(found, choice.best.type, pace))
    note(listing.LEGEND)
    if any(row.speed is None for row in found.rows):
        note(f"speeds are bounds until kernels were timed: edgellm fit {model}")
    say(recommend.command(model, choice))


def _place(builds: Sequence[Any], device: str | None, *, measure: bool, again: bool) -> Place:
    from edgellm.fit import places

    with Progress() as progress:
        told = "this machine, again" if again else "this machine, once"
        local = places.here(builds, lambda t: progress.show(f"{told}: {t}"), measure=measure, again=again)
    return local if device is None else places.named(local, device)


def _show(table: Table) -> None:
    place = table.place
    rows: list[tuple[str, ...]] = [
        (
            "type",
            "file",
            "loaded",
            f"at {table.n_ctx:,}",
            "longest",
            "prefill tok/s",
            "decode tok/s",
            "J/token",
            "KLD",
        )
    ]
    rows += [_cells(row) for row in table.rows]
    say(
        f"{table.name} on {place.name}, {count(place.n_threads, 'thread')}, {format_size(table.ram)} of memory"
    )
    say(*aligned(rows, "<>>>>>>>>"))
    for why in sorted({f"{type_}: {why}" for type_, why in table.refused.items()}):
        note(why)
    for line in _notes(table):
        note(line)


def _cells(row: Row) -> tuple[str, ...]:
    fast = row.speed
    return (
        row.type + ("" if row.fits else " (too large)"),
        ("" if row.build.exact else "~") + format_size(row.build.file_bytes),
        format_size(row.loaded.peak),
        format_size(row.full.peak),
        f"{row.longest:,}" if row.longest else "-",
        _interval(fast.prefill, fast.spread) if fast else "-",
        _interval(fast.decode, fast.spread) if fast else "-",
        "-" if row.joules_per_token is None else f"{row.joules_per_token:.2g}",
        "-" if row.loss is None else f"{row.loss.kld:.2g}" + ("" if row.loss.source == "measured" else "?"),
    )


def _interval(rate: float, spread: float) -> str:
    digits = 0 if rate >= 100 else 1
    return f"{rate:.{digits}f} ({rate / (1 + spread):.{digits}f}-{rate * (1 + spread):.{digits}f})"


def _notes(table: Table) -> list[str]:
    """What is to be known of the figures."""
    from edgellm.fit.table import ANSWER, PROMPT

    found = [
        f"speeds are predictions: a prompt of {PROMPT} tokens, {ANSWER} decoded after it; KLD? is a prediction too",
        *table.place.notes,
    ]
    for track in table.tracks.values():
        found.append(
            f"{track.name}: within {track.within():.0%} in nine of ten of {count(len(track.errors), 'run')} here"
        )
    if table.place.joules_per_byte is None:
        found.append("energy: not measured here; --for RESULT.json takes it from a result that has it")
    reasons = {row.speed_reason for row in table.rows if row.speed_reason}
    found += [f"no speed for some: {reason}" for reason in sorted(reasons)]
    return found


def plain(table: Table) -> dict[str, Any]:
    """The table as JSON has it."""
    return {
        "model": table.name,
        "place": table.place.name,
        "n_threads": table.place.n_threads,
        "ram_bytes": table.ram,
        "n_ctx": table.n_ctx,
        "types": [_plain_row(row) for row in table.rows],
        "refused": dict(table.refused),
        "record": {t.name: {"n": len(t.errors), "within_90": t.within()} for t in table.tracks.values()},
        "notes": _notes(table),
    }


def _plain_row(row: Row) -> dict[str, Any]:
    from edgellm.fit.memory import kv_bytes_per_token
    from edgellm.session import EngineOptions

    build = row.build
    kv = {"f32" if build.kv_value_bytes == 4.0 else "q8_0": kv_bytes_per_token(build)}
    if build.engine == "llamacpp":
        kinds = ("f16", "q8_0", "q4_0")
        kv = {kind: kv_bytes_per_token(build, EngineOptions(type_k=kind, type_v=kind)) for kind in kinds}
    return {
        "type": build.type,
        "engine": build.engine,
        "file_bytes": build.file_bytes,
        "exact": build.exact,
        "needs_imatrix": build.needs_imatrix,
        "loaded": asdict(row.loaded) | {"peak": row.loaded.peak},
        "full": asdict(row.full) | {"peak": row.full.peak},
        "kv_bytes_per_token": kv,
        "longest_context": row.longest,
        "fits": row.fits,
        "prefill_tokens_per_second": row.speed.prefill if row.speed else None,
        "decode_tokens_per_second": row.speed.decode if row.speed else None,
        "spread": row.speed.spread if row.speed else None,
        "speed_reason": row.speed_reason,
        "kld": asdict(row.loss) if row.loss else None,
        "joules_per_token": row.joules_per_token,
    }


def _record(*, as_json: bool) -> None:
    from edgellm.fit import record
    from edgellm.stats import quantile

    tracks = record.tracks(record.read())
    shares = (0.5, 0.9, 1.0)
    if as_json:
        emit(json.dumps({t.name: list(t.errors) for t in tracks.values()}))
        return
    if not tracks:
        say("nothing yet: edgellm profile holds what it measures against what fit says")
        return
    rows = [("", "runs", "bias", *(f"{share:.0%} within" for share in shares))]
    for track in tracks.values():
        sizes = sorted(map(abs, track.errors))
        bias = sum(track.errors) / len(track.errors)
        ends = (f"{quantile(sizes, share):.1%}" for share in shares)
        rows.append((track.name, f"{len(sizes)}", f"{bias:+.1%}", *ends))
    say(*aligned(rows, "<>>>>>"))
