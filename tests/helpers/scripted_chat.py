"""The chat in a real terminal with a scripted model, for what no small model says on request.

    python scripted_chat.py ANSWERS.json

ANSWERS: {"answers": [...], "template": its source, "n_ctx", "on_full", "tools": files, "mcp": servers}. Token ids
are bytes, so that every character outside ASCII comes in pieces.
"""

import json
import sys
from pathlib import Path

from chat_fakes import ChatMl, ChatSession, Typist

from edgellm.chat.conversation import Conversation
from edgellm.chat.store import Store
from edgellm.chat.talk.repl import Repl
from edgellm.chat.terminal.reader import open_reader
from edgellm.chat.terminal.render import Screen
from edgellm.chat.tools import opening


def main(script: Path) -> None:
    told = json.loads(script.read_text(encoding="utf-8"))
    template = ChatMl()
    template.source = told.get("template", template.source)
    answers = [answer.encode() for answer in told["answers"]]
    session = ChatSession(*answers, n_ctx=told.get("n_ctx", 4096))
    tools = opening.opened([Path(file) for file in told.get("tools", ())], told.get("mcp", ()))
    schemas = tools.schemas if tools else ()
    conversation = Conversation(session, template, on_full=told.get("on_full", "drop"), tools=schemas)
    repl = Repl(conversation, Typist(), Screen(), "scripted", Store(), stats="all", tools=tools)
    repl.reader = open_reader(repl.complete, None)
    repl.begin()
    code = repl.run()
    if tools:
        tools.close()
    sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
