"""The walls of the house: which package may import which, what the wheel holds, how light the start is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it on 3.10

FOLDERS = {"edgellm": ROOT / "edgellm", "edgellm.convert": ROOT / "convert"}
FOLDERS |= {"edgellm.models": ROOT / "models", "edgellm.profiles": ROOT / "profiles"}

#: package -> packages it must never import, at any depth
FORBIDDEN = {
    "edgellm.models": (
        "edgellm.convert",
        "edgellm.backends",
        "edgellm.chat",
        "edgellm.profiles",
        "edgellm.cli",
    ),
    "edgellm.convert": (
        "edgellm.backends",
        "edgellm.backends.worker",
        "edgellm.generation.generate",
        "edgellm.chat",
        "edgellm.profiles",
        "edgellm.cli",
    ),
    "edgellm.backends": (
        "edgellm.convert",
        "edgellm.chat",
        "edgellm.profiles",
        "edgellm.cli",
        "edgellm.generation.generate",
    ),
    "edgellm.chat": ("edgellm.convert", "edgellm.profiles", "edgellm.cli", "edgellm.backends"),
    "edgellm.profiles": ("edgellm.convert", "edgellm.chat", "edgellm.cli"),
    "edgellm.generation.generate": (
        "edgellm.backends",
        "edgellm.convert",
        "edgellm.chat",
        "edgellm.profiles",
        "edgellm.cli",
    ),
    "edgellm.backends.worker": ("edgellm.convert", "edgellm.chat", "edgellm.profiles", "edgellm.cli"),
    "edgellm.catalog.conversion": ("edgellm.chat", "edgellm.profiles", "edgellm.cli"),
    "edgellm.catalog.first_use": ("edgellm.chat", "edgellm.profiles", "edgellm.cli"),
    "edgellm.api.model": ("edgellm.convert", "edgellm.profiles", "edgellm.cli"),
    "edgellm.prompt.markup": (
        "edgellm.backends",
        "edgellm.convert",
        "edgellm.chat",
        "edgellm.profiles",
        "edgellm.cli",
    ),
    "edgellm.prompt.tools": ("edgellm.session", "edgellm.backends", "edgellm.chat", "edgellm.cli"),
    "edgellm.tuning": ("edgellm.convert", "edgellm.chat", "edgellm.generation.generate", "edgellm.cli"),
    "edgellm.session": ("edgellm.backends", "edgellm.convert", "edgellm.cli"),
}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            yield name, path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package):
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules()
        if name == package or name.startswith(package + ".")
        if not name.startswith("edgellm.models.training")  # stands on top of everything, like a script
        for imported in imports(path)
        if imported.startswith(FORBIDDEN[package])
    ]
    assert not wrong


def test_no_module_reaches_for_torch_outside_training():
    heavy = ("torch", "transformers", "optimum")
    wrong = [
        name
        for name, path in modules()
        if not name.startswith("edgellm.models.training")
        for imported in imports(path)
        if imported.split(".")[0] in heavy
    ]
    assert not wrong


def test_the_package_list_is_what_is_on_disk():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    on_disk = {name if path.name == "__init__.py" else name.rpartition(".")[0] for name, path in modules()}
    assert listed == on_disk


def test_help_imports_nothing_heavy():
    heavy = ("numpy", "llama_cpp", "onnxruntime", "gguf", "tokenizers", "jinja2", "prompt_toolkit", "psutil")
    code = (
        "import sys, edgellm.cli as c\n"
        "try: c.cli(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {heavy} if m in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_files_stay_readable():
    long = [f"{p}: {n}" for _, p in modules() if (n := len(p.read_text().splitlines())) > 400]
    assert not long
