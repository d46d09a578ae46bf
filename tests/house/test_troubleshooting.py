"""docs/troubleshooting.md is found by the words of an error: they are the words that the program says."""

import ast
import re

import pytest
from places import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = [
    quoted
    for line in PAGE.splitlines()
    if line.startswith("### ")
    for quoted in re.findall("`([^`]+)`", line)
]
PIPS = ("Failed building wheel",)  # pip's own words


def said() -> str:
    """Every text in the program, with `...` for what is put into it."""
    texts = []
    for folder in ("edgellm", "convert", "models", "profiles"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    texts.append(
                        "".join(v.value if isinstance(v, ast.Constant) else "..." for v in node.values)
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value.replace("{}", "..."))
    return "\n".join(texts)


@pytest.fixture(scope="module")
def program():
    return said()


def test_the_page_has_errors():
    assert len(QUOTED) > 25


@pytest.mark.parametrize("quoted", QUOTED)
def test_the_program_says_it(quoted, program):
    if quoted.startswith(PIPS):
        return
    quoted = quoted.replace("died of SIGSEGV", "died of ...").replace("died of SIGKILL", "died of ...")
    missing = [part for part in quoted.split("...") if part.strip(" :;,()") and part.strip() not in program]
    assert not missing
