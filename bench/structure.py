"""The house in figures: rooms, floors, arrows and circles of imports, and lines of code.

    python bench/structure.py [CHECKOUT] [--arrows]

A room is a package, or a module that lies directly in `edgellm`. An arrow leads from a room to one it imports, at any
depth of the code and for types alone too. Floors are the longest chain of arrows, rooms of a circle counted as one.
Circles are between files. Reads text alone, so it can be pointed at any checkout, this one by default; ends with a
line of JSON.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("edgellm.convert", "edgellm.models", "edgellm.profiles", "edgellm")

Graph = dict[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """Module name -> its file, packages by their own name."""
    found = {}
    for package in PACKAGES:
        folder = root / package.rpartition(".")[2]
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "edgellm" and parts[0] in ("convert", "models", "profiles"):
                continue  # links to the folders beside it
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Every name a file imports: of `from a import b` it is `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_graph(found: Mapping[str, Path]) -> Graph:
    """Which file of the house imports which."""
    graph: Graph = {}
    for name, path in found.items():
        graph[name] = set()
        for imported in imports(path):
            while imported and imported not in found:
                imported = imported.rpartition(".")[0]
            if imported and imported != name:
                graph[name].add(imported)
    return graph


def room_of(name: str, found: Mapping[str, Path]) -> str:
    """The package a module is in, or the module itself where it lies directly in `edgellm`."""
    if found[name].name == "__init__.py":
        return name
    package = name.rpartition(".")[0]
    return name if package == "edgellm" else package


def room_graph(graph: Graph, found: Mapping[str, Path]) -> Graph:
    """Arrows between rooms."""
    rooms: Graph = {}
    for name, imported in graph.items():
        here = rooms.setdefault(room_of(name, found), set())
        here |= {room_of(other, found) for other in imported} - {room_of(name, found)}
    return rooms


def circles(graph: Graph) -> list[list[str]]:
    """Groups that reach each other."""
    reach = {name: reachable(graph, name) for name in graph}
    groups = {frozenset(o for o in reach[name] if name in reach[o]) for name in graph if name in reach[name]}
    return sorted(sorted(group) for group in groups)


def reachable(graph: Graph, name: str) -> set[str]:
    """What `name` leads to in one step or more."""
    found: set[str] = set()
    todo = list(graph[name])
    while todo:
        if (other := todo.pop()) not in found:
            found.add(other)
            todo += graph.get(other, ())
    return found


def floors(graph: Graph) -> dict[str, int]:
    """The floor of each room: one above the highest it imports. Rooms of a circle share theirs."""
    group = {name: members[0] for members in circles(graph) for name in members}
    merged: Graph = {}
    for name, imported in graph.items():
        here = group.get(name, name)
        merged.setdefault(here, set()).update({group.get(i, i) for i in imported} - {here})
    level: dict[str, int] = {}
    for name in TopologicalSorter(merged).static_order():
        level[name] = 1 + max((level[other] for other in merged.get(name, ())), default=0)
    return {name: level[group.get(name, name)] for name in graph}


def lines(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--arrows", action="store_true", help="list what each room imports")
    given = parser.parse_args()
    found = modules(given.root)
    graph = file_graph(found)
    rooms = room_graph(graph, found)
    level = floors(rooms)
    if given.arrows:
        for room in sorted(rooms, key=lambda room: (level[room], room)):
            print(f"{level[room]:3} {room} -> {', '.join(sorted(rooms[room])) or '-'}")
    for circle in circles(graph):
        print("circle of files:", ", ".join(circle))
    for circle in circles(rooms):
        print("circle of rooms:", ", ".join(circle))
    figures = {
        "rooms": len(rooms),
        "floors": max(level.values()),
        "arrows": sum(map(len, rooms.values())),
        "floors_of_files": max(floors(graph).values()),
        "circles_of_files": len(circles(graph)),
        "circles_of_rooms": len(circles(rooms)),
        "files": len(found),
        "lines": lines(found.values()),
        "lines_of_tests": lines((given.root / "tests").rglob("*.py")),
        "lines_of_bench": lines((given.root / "bench").rglob("*.py")),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
