"""The run of mutants itself: what is tested dies, what is only executed survives and is said, on a planted tree."""

import json
import subprocess

import mutants
import pytest
from mutate import mutants as made

pytest.importorskip("coverage")

PLANTED = '''"""A room."""


def larger(a: int, b: int) -> bool:
    """Held by a test."""
    return a > b


def half(x: int) -> int:
    """Only executed by it."""
    return x // 2


def never(x: int) -> int:
    return x + 1
'''
TEST = """from edgellm.room.planted import half, larger


def test_larger():
    half(3)
    assert larger(2, 1) is True and larger(1, 1) is False and larger(1, 2) is False
"""


@pytest.fixture
def tree(tmp_path):
    for name, text in {
        "edgellm/__init__.py": "",
        "edgellm/room/__init__.py": "",
        "edgellm/room/planted.py": PLANTED,
        "tests/room/test_planted.py": TEST,
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n",
    }.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    subprocess.run(["git", "init", "-q", tmp_path / "tree"], check=True)
    return tmp_path / "tree"


def test_a_planted_mutant_dies_and_one_that_nobody_looks_at_survives(tree, tmp_path, capsys):
    arguments = ["--n", "3", "--resume", str(tmp_path / "kept")]
    assert mutants.main(arguments, tree) == 3
    said = capsys.readouterr().out
    counts = json.loads(said.splitlines()[-1])
    assert (counts["mutants"], counts["killed"], counts["survived"], counts["unreached"]) == (3, 1, 1, 1)
    fates = {o["old"]: o for o in map(json.loads, (tmp_path / "kept").read_text().splitlines())}
    assert fates["return a > b"]["by"] == "tests/room/test_planted.py::test_larger"
    assert "- return x // 2" in said and f"+ {fates['return x // 2']['new']}" in said
    assert (tree / "edgellm/room/planted.py").read_text() == PLANTED, "the tree itself is never touched"
    entries = [
        f'[[mutant]]\nfile = "{o["file"]}"\nold = "{o["old"]}"\nnew = "{o["new"]}"\nwhy = "nobody looks"\n'
        for o in fates.values()
        if o["fate"] != "killed"
    ]
    (tree / "tests/mutants_equivalent.toml").write_text("\n".join(entries))
    assert mutants.main([*arguments, "--again"], tree) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["equivalent"] == 2


def test_the_same_seed_draws_the_same_and_words_for_people_are_left_alone(tree):
    (tree / "edgellm/room/words.py").write_text(
        '''"""Not 1 this."""\n\nimport os\n\n__all__ = ["f"]\n\n\n'''
        '''def f(x: int = 3) -> str:\n    """2."""\n    if x < 0:\n        raise ValueError(f"{x - 1} is " + "1")\n'''
        """    return f"{x + 1}"\n\n\ndef __repr__() -> str:\n    return "x" * 2\n"""
    )
    changes = {m.diff((tree / m.path).read_bytes())[1] for m in made(tree, "edgellm/room/words.py")}
    assert changes == {
        "def f(x: int = 4) -> str:",
        "def f(x: int = 2) -> str:",
        "if (not (x < 0)):",
        "if x <= 0:",
        "if x > 0:",
        "if x < 1:",
        "pass",
        "return None",
    }
    files = mutants.source_files(tree)
    assert mutants.sample(tree, files, 4, 1) == mutants.sample(tree, files, 4, 1)
    assert {mutants.sample(tree, files, 1, seed)[0] for seed in range(9)} > {
        mutants.sample(tree, files, 1, 1)[0]
    }
