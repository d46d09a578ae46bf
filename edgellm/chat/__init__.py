"""Conversation and terminal chat: `conversation.Conversation` is the Python side, `repl.Repl` the terminal's."""
