"""Tools of MCP servers, by the official SDK (modelcontextprotocol.io): started as a program, or reached at a URL.

The SDK is asynchronous; its loop runs in a thread of its own, and calls wait for it. Knows no model.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import shlex
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from edgellm.chat import words
from edgellm.chat.tools.toolbox import Offered
from edgellm.errors import EngineError, MissingExtraError, UsageError

_Result = TypeVar("_Result")
_START_SECONDS, _CALL_SECONDS, _END_SECONDS = 30.0, 300.0, 5.0


@dataclass(frozen=True)
class Server:
    """How one is reached: `command` and `args`, or `url`."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    url: str = ""


def named(text: str) -> list[Server]:
    """What `--mcp` was given: a URL, a JSON file with `mcpServers` as other clients have it, or a command line.

    Raises UsageError.
    """
    if text.startswith(("http://", "https://")):
        return [Server(text, url=text)]
    if text.endswith(".json"):
        return _of_file(Path(text))
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise UsageError(words.say("mcp_command", text=text, why=error)) from None
    if not parts:
        raise UsageError(words.say("mcp_command", text=text, why="-"))
    return [Server(text, parts[0], tuple(parts[1:]))]


def _of_file(path: Path) -> list[Server]:
    try:
        servers = json.loads(path.read_text(encoding="utf-8"))["mcpServers"]
        return [
            Server(
                name,
                str(one.get("command", "")),
                tuple(map(str, one.get("args", ()))),
                {key: str(value) for key, value in one.get("env", {}).items()},
                str(one.get("url", "")),
            )
            for name, one in servers.items()
        ]
    except OSError as error:
        raise UsageError(words.say("cannot_read", path=path, why=error.strerror)) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(words.say("mcp_file", path=path)) from None


class Servers:
    """Connections to some servers, open until `close`."""

    def __init__(self, servers: Sequence[Server]) -> None:
        """Raises MissingExtraError without the SDK, EngineError for a server that does not start."""
        try:
            import mcp
        except ModuleNotFoundError:
            raise MissingExtraError(words.say("mcp_what"), "mcp") from None
        self._sdk: Any = mcp
        self.offered: list[Offered] = []
        self._loop = asyncio.new_event_loop()
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._task = self._loop.create_task(self._serve(servers))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        try:
            self._ready.result(_START_SECONDS)
        except concurrent.futures.TimeoutError:
            self.close()
            names = ", ".join(server.name for server in servers)
            why = words.say("mcp_silent", seconds=_START_SECONDS)
            raise EngineError(words.say("mcp_fails", name=names, why=why)) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the servers that were started. Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        with contextlib.suppress(
            BaseException
        ):  # what it fails with stands in `_ready`; afterwards nobody waits
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _serve(self, servers: Sequence[Server]) -> None:
        """Connect to all, and stay so until the end: the SDK wants both in one task."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                for server in servers:
                    self.offered += await self._connected(server, stack)
                self._ready.set_result(None)
                await self._loop.create_future()  # until it is cancelled
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    async def _connected(self, server: Server, stack: contextlib.AsyncExitStack) -> list[Offered]:
        from mcp.client.stdio import stdio_client

        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - as long as the stack
        stack.callback(log.close)
        try:
            if server.url:
                client = self._sdk.Client(server.url)
            else:
                program = self._sdk.StdioServerParameters(
                    command=server.command, args=list(server.args), env=dict(server.env) or None
                )
                client = self._sdk.Client(stdio_client(program, errlog=log))
            await stack.enter_async_context(client)
            return [self._tool(client, tool) for tool in await _all_tools(client)]
        except Exception as error:
            why = _last_line(log) or _cause(error)
            raise EngineError(words.say("mcp_fails", name=server.name, why=why)) from error

    def _tool(self, client: Any, tool: Any) -> Offered:
        call: Callable[[dict[str, Any]], str] = partial(self._call, client, tool.name)
        return Offered(tool.name, tool.description or tool.title or "", tool.input_schema, call)

    def _call(self, client: Any, name: str, arguments: dict[str, Any]) -> str:
        return _told(self._wait(client.call_tool(name, arguments, read_timeout_seconds=_CALL_SECONDS)))

    def _wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Have the loop do it. An interrupt ends it there, too."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


async def _all_tools(client: Any) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            return found


def _told(result: Any) -> str:
    """What a call gave, as text; of other kinds, what they are."""
    parts = []
    for block in result.content:
        text = getattr(block, "text", None) or getattr(getattr(block, "resource", None), "text", None)
        parts.append(text if text is not None else f"({block.type}, which cannot be read as text)")
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return ("error: " if result.is_error else "") + "\n".join(parts)


def _last_line(log: IO[str]) -> str:
    """What a server that gave up said last."""
    log.seek(0)
    return next((line.strip()[:200] for line in reversed(log.read().splitlines()) if line.strip()), "")


def _cause(error: BaseException) -> str:
    """The words of the innermost error: task groups wrap what failed in them."""
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    return str(error) or type(error).__name__
