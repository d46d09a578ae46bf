"""An MCP server by the official SDK, over standard input and output: what `--mcp` is tried with.

It adds, it fails, and it gives something that is no text.
"""

import sys

from mcp.server import MCPServer
from mcp.types import ImageContent

server = MCPServer("tests")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail(why: str) -> str:
    """Fail, for the reason given."""
    raise ValueError(why)


@server.tool(structured_output=False)
def picture() -> ImageContent:
    """Draw."""
    return ImageContent(type="image", data="AAAA", mime_type="image/png")


if __name__ == "__main__":
    print("the server is up", file=sys.stderr)
    server.run()
