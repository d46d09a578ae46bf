"""The command line of chat and run: flags become the frozen options, and the docs tell the truth about both."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner
from places import ROOT

from edgellm.chat import settings
from edgellm.chat.talk import commands
from edgellm.cli import chat, chats, run
from edgellm.cli.shared.sampling import model_options
from edgellm.errors import UsageError
from edgellm.generation.generate import GenerateOptions
from edgellm.generation.speculative import Lookup
from edgellm.session import EngineOptions, Sampling

DOCS = (ROOT / "docs" / "chat.md").read_text(encoding="utf-8")
CHAT, RUN, CHATS = chat.command, run.command, chats.command


def parse(*arguments: str) -> tuple[GenerateOptions, EngineOptions]:
    found = []

    @click.command()
    @model_options
    def command(options: GenerateOptions, engine: EngineOptions, offline: bool) -> None:
        found.append((options, engine))

    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if result.exception:
        raise result.exception
    return found[0]


def test_without_flags_the_dataclasses_decide():
    assert parse() == (GenerateOptions(), EngineOptions(tuned=True))


FLAGS = r"""
    --temp 0.1 --top-k 1 --top-p 0.2 --min-p 0.3 --repeat-penalty 1.1 --presence-penalty 0.4 --frequency-penalty -0.5
    --repeat-last-n 8 -s 9 -n 10 --stop A --stop '停\n' --ignore-eos
    -c 512 -t 3 -tb 4 -b 64 -ub 32 -ngl 5 -ctk q8_0 -ctv Q4_0 -fa on --no-mmap --no-repack --device CUDA --no-tune
"""


def test_every_flag_arrives():
    options, engine = parse(*shlex.split(FLAGS))
    sampling = Sampling(0.1, 1, 0.2, 0.3, 1.1, 0.4, -0.5, 8, 9)
    assert options == GenerateOptions(10, ("A", "停\n"), sampling, ignore_eos=True)
    assert engine == EngineOptions(512, 3, 4, 64, 32, 5, "on", "q8_0", "q4_0", False, False, "CUDA")
    assert parse("-ngl", "auto")[1].n_gpu_layers is None


@pytest.mark.parametrize(
    "arguments", ["--temp -1", "--top-p 2", "-s x", "-c 0", "-t 0", "-ctk q9", "-fa maybe", "-ngl some"]
)
def test_nonsense_is_refused_at_once(arguments):
    with pytest.raises(click.BadParameter):
        parse(*arguments.split())


@pytest.mark.parametrize(
    "names", [command.names for command in commands.COMMANDS], ids=lambda names: names[0]
)
def test_the_docs_know_every_command(names):
    row = next(line for line in DOCS.splitlines() if line.startswith(f"| `{names[0]}"))
    assert all(f"`{name}" in row for name in names)


@pytest.mark.parametrize("parameter", settings.PARAMETERS, ids=lambda parameter: parameter.name)
def test_the_docs_know_every_setting_and_its_default(parameter):
    row = next(line for line in DOCS.splitlines() if line.startswith("|") and f"`{parameter.name}`" in line)
    assert row.split("|")[2].strip() == settings.show(parameter.default)


def test_every_flag_the_docs_name_exists():
    options = [option for command in (CHAT, RUN, *CHATS.commands.values()) for option in command.params]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    text = re.sub(r"```json.*?```", "", DOCS, flags=re.DOTALL)
    named = set(re.findall(r"(?<![\w`-])`?(-{1,2}[a-z][a-z-]*)", text))
    assert named <= known
    assert len(named) > 15


def test_drafters_are_chosen_by_flag():
    assert parse("--no-lookup")[0].drafter is None
    assert isinstance(parse("--lookup")[0].drafter, Lookup)
    with pytest.raises(UsageError, match="exclude each other"):
        parse("--lookup", "--draft", "tiny-qwen3")
