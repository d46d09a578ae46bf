"""The command line: parse, call, print. A file `<name>.py` here that defines `command` is a command."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import click

from edgellm.cli.shared import signals
from edgellm.errors import EdgellmError
from edgellm.version import __version__

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Commands(click.Group):
    """A group whose commands are the modules of this package, imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="edgellm")
def cli() -> None:
    """Convert, run and measure Qwen and Llama 3 models on this machine.

    Try it now, no download needed: edgellm chat
    """


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage, 3 a check or constraint not met."""
    signals.end_in_order()
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except EdgellmError as error:
        click.echo(f"edgellm: {' '.join(str(error).split())}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # silence the flush at exit
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
