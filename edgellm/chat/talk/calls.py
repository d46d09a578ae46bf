"""Tools that the model calls: each call is put before the person, run when allowed, its result shown and given back.

Knows the toolbox, the reader and the screen; knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgellm.chat import words
from edgellm.chat.terminal.reader import Reader
from edgellm.chat.terminal.render import Screen
from edgellm.chat.tools import Toolbox
from edgellm.prompt.tools import ToolCall
from edgellm.terminal import Spinner, columns, fit

#: What the model is told of a call that the user did not allow.
REFUSED = "The user did not allow this call. Do not repeat it; answer without it, or ask."
_YES, _ALWAYS = ("y", "yes", "是", "好"), ("a", "always", "总是")


def carried_out(calls: Sequence[ToolCall], tools: Toolbox, reader: Reader, screen: Screen) -> dict[str, str]:
    """Results by the calls' ids. What is not allowed, or unknown, gets words for the model instead."""
    return {call.id: _result(call, tools, reader, screen) for call in calls}


def _result(call: ToolCall, tools: Toolbox, reader: Reader, screen: Screen) -> str:
    if problem := tools.problem(call):
        screen.note(words.say("call_wrong", name=call.name, why=problem))
        return problem
    if call.name not in tools.allowed and not _is_allowed(call, tools, reader, screen):
        return REFUSED
    try:
        with Spinner(lambda: words.say("call_runs", name=call.name), screen.out):
            result = tools.run(call)
    except KeyboardInterrupt:
        screen.note(words.say("call_stopped", name=call.name))
        return "The user stopped this call before it ended."
    screen.note(f"→ {fit(result, max(columns() - 4, 20))}")
    return result


def _is_allowed(call: ToolCall, tools: Toolbox, reader: Reader, screen: Screen) -> bool:
    if not reader.interactive:
        screen.note(words.say("call_unwatched", name=call.name))
        return False
    try:
        answer = reader.ask(words.say("run_it", name=call.name)).strip().lower()
    except (EOFError, KeyboardInterrupt):
        answer = ""
    if answer in _ALWAYS:
        tools.allowed.add(call.name)
    elif answer not in _YES:
        screen.note(words.say("call_refused"))
        return False
    return True
