"""Tools that a model in the chat may call: functions of a Python file, and tools of MCP servers.

Knows what is offered and how it is run; who allows a call is asked elsewhere.
"""

from edgellm.chat.tools.toolbox import Offered, Toolbox

__all__ = ["Offered", "Toolbox"]
