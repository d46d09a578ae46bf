"""The process chat templates run in: jinja2's sandbox, as transformers sets it up, inside the system's bounds.

Reads JSON requests and answers them until its input ends. Knows nothing of models; see template.py for the
other side. Conventions: transformers/utils/chat_template_utils.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgellm.prompt.template import receive, send

MEMORY_BYTES = 256 << 20  # a rendering may take, beyond what the process has at its start
CPU_SECONDS = 3  # a rendering may take; the parent's clock strikes earlier, this one if the parent is gone
OUTPUT_CHARS = 1 << 20  # a rendering may write, and four times what it was given: longer is no prompt
_MAX_CACHED = 16


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks answers for training; rendering just lets it through."""

    tags = {"generation"}  # noqa: RUF012  # jinja2's own interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox with what chat templates expect to find."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = _strftime_now
    del made.globals["lipsum"]
    return made


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is, not escaped for HTML as jinja2's own filter has it."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(format_: str) -> str:
    return datetime.now().strftime(format_)


def render(template: Any, variables: dict[str, Any], n_given: int) -> str:
    """The text of a compiled template that was given `n_given` bytes. Raises TemplateError when it is too long."""
    out, most = io.StringIO(), OUTPUT_CHARS + 4 * n_given
    for piece in template.generate(**variables):
        if out.tell() + len(piece) > most:
            raise TemplateError(f"writes more than {most:,} characters")
        out.write(piece)
    return out.getvalue()


class _Server:
    def __init__(self) -> None:
        self.environment = environment()
        self.compile = lru_cache(_MAX_CACHED)(self.environment.from_string)

    def answer(self, request: dict[str, Any], n_given: int) -> str:
        """Compile, unless done lately, and render."""
        return render(self.compile(request["source"]), request["variables"], n_given)


def _guarded(work: Callable[[], str]) -> dict[str, Any]:
    """The reply: the text, or one line on what went wrong."""
    try:
        return {"ok": True, "text": work()}
    except SecurityError as error:
        return {"ok": False, "text": _line("asks for something the sandbox forbids", error)}
    except TemplateError as error:
        return {"ok": False, "text": _line("refuses these messages or is broken", error)}
    except MemoryError:
        return {
            "ok": False,
            "text": f"ran into its bounds ({MEMORY_BYTES >> 20} MB); it is broken or hostile",
        }
    except Exception as error:  # a template can provoke any exception
        return {"ok": False, "text": _line("fails on these messages", error)}


def _line(fact: str, error: Exception) -> str:
    detail = " ".join(str(error).split())[:300]
    return f"{fact}: {detail or type(error).__name__}"


def _limit_memory() -> None:
    """Bound the address space to what is there now and MEMORY_BYTES more, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # Linux alone has it
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))


def _limit_time() -> None:
    """Bound the processor time of the coming request."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + CPU_SECONDS + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def main() -> None:
    """Answer requests until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    pipe_in, pipe_out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.setrecursionlimit(500)  # a macro that calls itself must not reach the end of the C stack
    server = _Server()
    _limit_memory()
    while True:
        try:
            data = receive(pipe_in)
            request = json.loads(data)
        except EOFError:
            return
        _limit_time()
        work = partial(server.answer, request, len(data))
        reply = _guarded(work) if request else {"ok": True, "text": ""}
        send(pipe_out, json.dumps(reply).encode())


if __name__ == "__main__":
    main()
