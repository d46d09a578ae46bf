"""The command line: parse, call, print. A file `<name>.py` here that defines `command` is a command.

`rpc_serve.py` is `rpc-serve`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import pkgutil
import sys

import click

from edgellm.cli.shared import signals, streams
from edgellm.errors import EdgellmError, did_you_mean, said_as_flags
from edgellm.terminal import note, visible
from edgellm.version import __version__

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
#: What Ollama, docker and the shell call it -> our command.
_NEIGHBOURS = {"ls": "list", "show": "inspect", "remove": "rm", "quantize": "convert", "bench": "profile"}


class _Commands(click.Group):
    """A group whose commands are the modules of this package, imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.ispkg)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """With the neighbours' names for commands, and the nearest one of ours for what is none."""
        name = _NEIGHBOURS.get(args[0], args[0])
        try:
            return super().resolve_command(ctx, [name, *args[1:]])
        except click.UsageError as error:
            near = did_you_mean(name, [*self.list_commands(ctx), *_NEIGHBOURS])
            raise click.UsageError(f"{error.message} {near.capitalize()}".strip(), ctx) from error

    def invoke(self, ctx: click.Context) -> object:
        """With messages that name settings by their flags."""
        with said_as_flags():
            return super().invoke(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
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
    streams.prepare()
    gc.set_threshold(50_000)  # importing makes many objects and no garbage: at 700, 3% of a start
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        code = _tell_usage(error)
    except EdgellmError as error:
        code = error.exit_code
        note(" ".join(str(error).split()))
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        streams.is_lost(sys.stdout)
        code = 1
    except OSError as error:  # of the system, which no part of edgellm knew a remedy for
        what = "standard output" if streams.is_lost(sys.stdout) else error.filename
        note(": ".join(str(part) for part in (what, error.strerror or error) if part))
        code = 1
    streams.is_lost(sys.stderr)  # which is no failure
    sys.exit(code if isinstance(code, int) else 0)


def _tell_usage(error: click.ClickException) -> int:
    """Click's lines about a wrong command line, which quote it."""
    text = io.StringIO()
    error.show(text)
    with contextlib.suppress(OSError):
        sys.stderr.write(visible(text.getvalue(), keep="\n"))
    return error.exit_code
