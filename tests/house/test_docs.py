"""What the documents say of the program is true: commands, flags, links; and they speak of the project alone."""

import re
import subprocess

import click
import pytest
from places import ROOT

from edgellm import cli
from edgellm.cli.shared import reference

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*/README.md")]
)
COMMANDS = {name: cli.cli.get_command(None, name) for name in cli.cli.list_commands(None)}  # type: ignore[arg-type]
CALL = re.compile(r"(?:`|\$ |^)edgellm ([a-z][^`\n#|]*)", re.MULTILINE)


def calls(text: str) -> list[tuple[str, list[str]]]:
    """(command, flags) of every `edgellm ...` written as something to type."""
    found = []
    for match in CALL.finditer(text):
        words = match[1].replace("[", " ").replace("]", " ").split()
        found.append(
            (
                words[0].strip(",.;:)"),
                [w.split("=")[0].strip(",.;:)") for w in words[1:] if w[:1] == "-" != w],
            )
        )
    return found


def flags(command: click.Command) -> set[str]:
    own = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(flags, below))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_commands_and_flags_exist(document):
    wrong = []
    for name, used in calls(document.read_text()):
        if name not in COMMANDS:
            wrong.append(f"edgellm {name}")
        else:
            wrong += [f"edgellm {name} {flag}" for flag in used if flag not in flags(COMMANDS[name])]
    assert not wrong


def test_the_reference_is_what_the_commands_say():
    told = "the commands changed; write it anew: python -m edgellm.cli.shared.reference > docs/commands.md"
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == reference.page(), told


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= set(
        re.findall(r"\]\(([^)/#]+)\)", index)
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_links_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)#]+)", document.read_text())
    broken = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert not broken


def test_the_repository_speaks_of_no_machine():
    pattern = r"/(work|farm|root)/|p[y]pi\.org|p[y]thonhosted\.org|deb\.[d]ebian\.org|registry\.[n]pmjs\.org"
    run = subprocess.run(["git", "grep", "-nIE", pattern], cwd=ROOT, capture_output=True, text=True)
    if run.returncode > 1:
        pytest.skip("not a git checkout")
    assert not [line for line in run.stdout.splitlines() if "tests/house/test_docs.py" not in line]
