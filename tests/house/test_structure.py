"""The house: which room may import which, no circles, files and rooms of a readable size, how light the start is."""

import ast
import importlib.util
import subprocess
import sys

import pytest
from places import ROOT

_SPEC = importlib.util.spec_from_file_location("structure", ROOT / "bench" / "structure.py")
assert _SPEC and _SPEC.loader
structure = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(structure)

FILES = structure.modules(ROOT)
GRAPH = structure.file_graph(FILES)
ROOMS = structure.room_graph(GRAPH, FILES)

#: From the ground up: a room imports rooms named before it, and no other. The page that people read is the rule.
_PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ORDER = [
    room
    for line in _PAGE.split("```text\n")[1].split("```")[0].splitlines()
    for room in line.split("|")[0].split()
]

#: Walls between neighbours that the order alone would let through: room (with all in it) -> rooms it never enters.
WALLS = {
    "convert": ("backends", "generation", "profiles"),  # a session is passed in
    "chat": ("convert", "catalog", "tuning", "calibration", "backends", "profiles"),
    "api": ("convert", "tuning", "calibration", "profiles"),
    "tuning": ("convert", "chat", "generation", "profiles"),
    "profiles": ("convert", "chat", "api", "catalog", "tuning", "calibration"),
    "catalog": ("profiles", "chat", "tuning"),
    "doctor": ("convert", "chat", "api", "cli"),
}
#: Rooms in which every file is an entry of its own (a command, a family), so that their number says nothing.
REGISTRIES = ("edgellm.cli", "edgellm.models.families")


def full(room: str) -> str:
    return room if room == "edgellm" else f"edgellm.{room}"


def test_every_room_has_its_place():
    assert sorted(ROOMS) == sorted(map(full, ORDER))


def test_imports_point_down():
    place = {full(room): i for i, room in enumerate(ORDER)}
    up = [f"{room} -> {other}" for room in ROOMS for other in ROOMS[room] if place[other] > place[room]]
    assert not up


@pytest.mark.parametrize("room", WALLS)
def test_walls_have_no_holes(room):
    def inside(name: str, wall: str) -> bool:
        return name == full(wall) or name.startswith(full(wall) + ".")

    holes = [
        f"{name} -> {other}"
        for name, imported in GRAPH.items()
        if inside(name, room)
        for other in imported
        if any(inside(other, wall) for wall in WALLS[room])
    ]
    assert not holes


def test_the_proof_reads_a_folder_by_other_eyes_than_the_converter():
    reference = "edgellm.convert.verify.transformers_rules"
    converter = ("edgellm.convert.checkpoint", "edgellm.convert.gguf", "edgellm.convert.onnx")
    who = {name for name, imported in GRAPH.items() if reference in imported}
    assert who and all(name.startswith("edgellm.convert.verify.") for name in who)
    assert GRAPH[reference] == {"edgellm.errors"}
    tokens = GRAPH["edgellm.convert.verify.tokens"] | GRAPH["edgellm.convert.verify.tokenizer"]
    assert not [name for name in tokens if name.startswith(converter)]


def test_no_circles_between_files():
    assert structure.circles(GRAPH) == []


def test_no_private_name_crosses_a_room():
    crossing = []
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("edgellm"):
                continue
            for private in (a.name for a in node.names if a.name.startswith("_") and a.name[1] != "_"):
                home = f"{node.module}.{private}" if f"{node.module}.{private}" in FILES else node.module
                if structure.room_of(home, FILES) != structure.room_of(name, FILES):
                    crossing.append(f"{name} takes {private} from {node.module}")
    assert not crossing


def test_files_and_rooms_stay_readable():
    long = [f"{p}: {n}" for p in FILES.values() if (n := structure.lines([p])) > 400]
    files: dict[str, int] = {}
    for name in FILES:
        room = structure.room_of(name, FILES)
        files[room] = files.get(room, 0) + 1
    crowded = [f"{room}: {n} files" for room, n in files.items() if n > 16 and room not in REGISTRIES]
    assert not long and not crowded


def test_every_room_says_what_it_is_for():
    silent = [
        name
        for name, path in FILES.items()
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_the_tokenizers_library_is_opened_in_two_places():
    """Each forgets truncation and padding that a tokenizer.json has stored."""
    opening = {
        name
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("from_file", "from_str", "from_buffer")
        if ast.unparse(node.value).endswith("Tokenizer")
    }
    assert opening == {"edgellm.formats.tokenizer_files", "edgellm.convert.verify.transformers_rules"}


def test_no_module_reaches_for_torch_outside_training():
    heavy = ("torch", "transformers", "optimum")
    wrong = [
        name
        for name, path in FILES.items()
        if not name.startswith("edgellm.models.training")
        for imported in structure.imports(path)
        if imported.split(".")[0] in heavy
    ]
    assert not wrong


def modules_after(code: str) -> set[str]:
    code += "\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy():
    heavy = {"numpy", "llama_cpp", "onnxruntime", "gguf", "tokenizers", "jinja2", "prompt_toolkit", "psutil"}
    code = "import edgellm.cli as c\ntry: c.cli(['--help'])\nexcept SystemExit: pass"
    assert not modules_after(code) & heavy


def test_running_imports_no_profiling_code():
    code = "import edgellm.cli as c\nc.cli(['run', 'tiny-qwen3', 'hi', '-n', '1'], standalone_mode=False)"
    loaded = modules_after(code)
    assert "edgellm.generation.generate" in loaded
    assert not [name for name in loaded if name.startswith("edgellm.profiles")]
