"""`edgellm chat`: a conversation in the terminal, or over pipes with one line for each turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgellm.cli.shared.model_argument import model_option
from edgellm.cli.shared.sampling import model_options, valid_text
from edgellm.cli.shared.view import view_options
from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.chat.conversation import OnFull
    from edgellm.chat.terminal.answer import View
    from edgellm.generation.generate import GenerateOptions
    from edgellm.session import EngineOptions


@click.command(short_help="Talk with a model.")
@click.argument("model", required=False)
@click.option("-sys", "--system", metavar="TEXT", callback=valid_text, help="System prompt.")
@click.option("--continue", "newest", is_flag=True, help="Go on with the last conversation.")
@click.option("--resume", metavar="NAME", help="Go on with a saved conversation.")
@click.option("-st", "--single-turn", is_flag=True, help="Leave after one answer.")
@click.option("-p", "--prompt", metavar="TEXT", callback=valid_text, help="The first message.")
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
@click.option("--no-stats", is_flag=True, help="No line with tokens, speed and memory after each answer.")
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
    save_state: bool,
    energy: bool,
    no_save: bool,
    on_full: OnFull,
    no_stats: bool,
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
    from edgellm.chat.terminal.reader import open_reader
    from edgellm.chat.terminal.render import Screen
    from edgellm.chat.terminal.repl import Repl
    from edgellm.chat.terminal.talk import EnergySwitch
    from edgellm.cli.shared import energy as energy_module
    from edgellm.cli.shared import model_argument, open_model

    if newest and resume:
        raise UsageError("--continue and --resume exclude each other: give one")
    if save_state and no_save:
        raise UsageError("--save-state and --no-save exclude each other: give one")
    store = Store()
    saved = store.newest() if newest else store.load(resume) if resume else None
    model = model or (saved.model if saved else models.DEFAULT_MODEL)
    artifact = model_argument.resolve(model, offline=offline)
    template = open_model.template(artifact)
    with open_model.session(artifact, engine) as session:
        repl = Repl(
            Conversation(session, template, system=system, options=options, on_full=on_full, think=think),
            reader=open_reader(lambda text: repl.complete(text), None if no_save else data_dir() / "history"),
            screen=Screen(view=view),
            model=open_model.spelled(model),
            store=None if no_save else store,
            show_stats=not no_stats,
            save_state=save_state,
            single_turn=single_turn,
            energy=EnergySwitch(energy_module.answer_energy),
        )
        repl.energy.on = energy
        repl.begin(saved, system)
        return repl.run(prompt)
