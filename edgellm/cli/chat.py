"""`edgellm chat`: a conversation in the terminal, or over pipes with one line for each turn."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.cli.shared.model_argument import model_option
from edgellm.cli.shared.sampling import model_options, valid_text
from edgellm.cli.shared.view import stats_option, view_options
from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.chat.conversation import OnFull
    from edgellm.chat.store import Saved, Store
    from edgellm.chat.talk.talk import Opening, Stats
    from edgellm.chat.terminal.answer import View
    from edgellm.chat.tools import Toolbox
    from edgellm.generation.generate import GenerateOptions
    from edgellm.session import EngineOptions

_PICK = "?"  # no conversation can be called that


@click.command(short_help="Talk with a model.")
@click.argument("model", required=False)
@click.option("-sys", "--system", metavar="TEXT", callback=valid_text, help="System prompt.")
@click.option("--continue", "newest", is_flag=True, help="Go on with the last conversation.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value=_PICK,
    metavar="[NAME|NUMBER]",
    help="Go on with a saved conversation; without a name, choose one from a list.",
)
@click.option("-st", "--single-turn", is_flag=True, help="Leave after one answer.")
@click.option("-p", "--prompt", metavar="TEXT", callback=valid_text, help="The first message.")
@click.option(
    "--tool",
    "tool_files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.py",
    help="The model may call this file's functions (type hints, docstrings); each call is shown and asked about.",
)
@click.option(
    "--mcp",
    "servers",
    multiple=True,
    metavar="COMMAND|URL|FILE.json",
    help="The same with the tools of an MCP server, or of all in a client's JSON file. Needs edgellm[mcp].",
)
@click.option(
    "--save-state", is_flag=True, help="Keep the engine's state on disk: going on reads nothing again."
)
@click.option("--energy", is_flag=True, help="Joules of each answer, where a meter works.")
@click.option("--no-save", is_flag=True, help="Keep nothing on disk, no input history either.")
@click.option(
    "--on-full",
    type=click.Choice(("drop", "stop", "summarise")),
    default="drop",
    show_default=True,
    help="When the window is full: leave out the oldest turns and say so, stop, or have the model sum them up.",
)
@stats_option
@model_option
@view_options
@model_options
def command(
    model: str | None,
    system: str | None,
    newest: bool,
    resume: str | None,
    single_turn: bool,
    prompt: str | None,
    tool_files: tuple[Path, ...],
    servers: tuple[str, ...],
    save_state: bool,
    energy: bool,
    no_save: bool,
    on_full: OnFull,
    stats: bool | None,
    think: bool | None,
    view: View,
    offline: bool,
    options: GenerateOptions,
    engine: EngineOptions,
) -> int:
    """Talk with MODEL: a file, a bundled name, a folder or a hub id. In the chat, /? lists the commands.

    Without a terminal every input line is one turn and every answer goes to standard output.
    """
    from edgellm.catalog import models
    from edgellm.chat.conversation import Conversation
    from edgellm.chat.store import Store, data_dir
    from edgellm.chat.talk.repl import Repl
    from edgellm.chat.talk.talk import EnergySwitch
    from edgellm.chat.terminal.reader import open_reader
    from edgellm.chat.terminal.render import Screen
    from edgellm.cli.shared import energy as energy_module

    if newest and resume:
        raise UsageError("--continue and --resume exclude each other: give one")
    if save_state and no_save:
        raise UsageError("--save-state and --no-save exclude each other: give one")
    lines: dict[bool | None, Stats] = {None: "short", True: "all", False: "off"}
    store, screen = Store(), Screen(view=view)
    saved = store.newest() if newest else _resumed(store, resume) if resume else None
    with contextlib.ExitStack() as stack:
        tools = _tools(tool_files, servers)
        if tools:
            stack.callback(tools.close)
        find = partial(_find, offline=offline)
        found = find(model or (saved.model if saved else models.DEFAULT_MODEL), engine)
        session = found.open()
        stack.callback(session.close)
        repl = Repl(
            Conversation(
                session,
                found.template,
                system=system,
                options=options,
                on_full=on_full,
                think=think,
                tools=tools.schemas if tools else (),
            ),
            reader=open_reader(lambda text: repl.complete(text), None if no_save else data_dir() / "history"),
            screen=screen,
            model=found.name,
            store=None if no_save else store,
            stats=lines[stats],
            save_state=save_state,
            single_turn=single_turn,
            energy=EnergySwitch(energy_module.answer_energy),
            tools=tools,
            find=find,
            engine=engine,
        )
        stack.callback(repl.close)
        repl.energy.on = energy
        repl.begin(saved, system)
        return repl.run(prompt)


def _find(model: str, engine: EngineOptions, *, offline: bool) -> Opening:
    """A model to talk with. Raises EdgellmError."""
    from edgellm.chat.talk.talk import Opening
    from edgellm.cli.shared import model_argument, open_model

    artifact = model_argument.resolve(model, offline=offline)
    template = open_model.template(artifact)
    return Opening(open_model.spelled(model), template, lambda: open_model.session(artifact, engine))


def _resumed(store: Store, name: str) -> Saved:
    from edgellm.chat.talk.picker import pick
    from edgellm.chat.terminal.reader import open_reader
    from edgellm.chat.terminal.render import Screen

    if name != _PICK:
        return store.load(name)
    try:
        return pick(store, open_reader(lambda text: (), None), Screen())
    except EOFError:
        raise click.Abort from None


def _tools(files: tuple[Path, ...], servers: tuple[str, ...]) -> Toolbox | None:
    from edgellm.chat.tools import opening

    return opening.opened(files, servers) if files or servers else None
