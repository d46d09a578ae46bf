#!/usr/bin/env python3
"""What `edgellm recommend` says of models here and on every device profile, as the tables of docs/choosing.md.

    python bench/choosing.py MODEL... [--remembered] [--write docs/choosing.md]

MODEL is a bundled name, a checkpoint, or a config.json alone: what a type takes follows from its numbers. Kernels that
were not timed on this machine are timed first. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgellm.catalog import subjects
from edgellm.errors import CheckFailedError
from edgellm.fit import builds, places, recommend, table
from edgellm.fit.model import Subject, chosen
from edgellm.fit.places import Place
from edgellm.formats.nested_config import language_model
from edgellm.models.registry import expected_shapes, spec_of
from edgellm.profiles.devices import devices
from edgellm.units import format_size

BEGIN, END = "<!-- bench/choosing.py: begin -->", "<!-- bench/choosing.py: end -->"
WANTS = ("balance", "speed", "quality")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--remembered", action="store_true", help="time no kernel")
    arguments = parser.parse_args()
    found = [opened(model) for model in arguments.models]
    every = [build for subject in found for build in subject.types.values()]
    local = places.here(every, print, measure=not arguments.remembered)
    lines, n = [], 0
    for subject in found:
        lines += ["", f"### {subject.name}", "", *heading()]
        for place in (local, *(places.named(local, device.name) for device in devices())):
            lines.append(row(subject, place))
            n += 1
    text = "\n".join(lines).strip()
    print(text)
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        arguments.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    print(json.dumps({"models": len(found), "choices": n * len(WANTS)}))


def opened(model: str) -> Subject:
    """All usual types of a model; of a config.json as of a checkpoint without weights."""
    path = Path(model)
    if path.suffix != ".json":
        return subjects.open_subject(model, chosen(None), offline=True)
    config = json.loads(path.read_text(encoding="utf-8"))
    spec = spec_of(config, expected_shapes(config))
    return builds.of_config(language_model(config), spec, path.stem, chosen(None))


def heading() -> list[str]:
    """Of a model's table."""
    return [
        "| on | memory free | balance | memory | prefill | decode | KLD | speed | quality |",
        "|---|---:|---|---:|---:|---:|---:|---|---|",
    ]


def row(subject: Subject, place: Place) -> str:
    """What is recommended there, for each wish."""
    found = table.make(subject, place)
    names = []
    for want in WANTS:
        try:
            names.append(recommend.choose(found, recommend.Wish(want)).best)
        except CheckFailedError:
            least = min(r.full.peak for r in found.rows)
            none = f"none: the least takes {format_size(least)}"
            return f"| {place.name} | {format_size(found.ram)} | {none} | | | | | | |"
    best, fast, good = names
    assert best.loss
    rates = ("-", "-") if best.speed is None else (f"{best.speed.prefill:.0f}", f"{best.speed.decode:.1f}")
    cells = (
        place.name, format_size(found.ram), best.type, format_size(best.full.peak), *rates,
        f"{best.loss.kld:.2g}", fast.type, good.type,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
