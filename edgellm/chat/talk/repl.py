"""The chat loop: read a line, carry out a command or have it answered. Knows the commands and the talk."""

from __future__ import annotations

import contextlib

from edgellm.chat import words
from edgellm.chat.talk import attachments, commands
from edgellm.chat.talk.talk import PROMPT, Talk
from edgellm.errors import EdgellmError, UsageError
from edgellm.terminal import visible

CONTINUATION = "... "
QUOTES = '"""'

#: What people type to leave, as in a shell; as a message it can be sent between """.
_LEAVE = ("exit", "quit", "bye")


class Repl(Talk):
    """A talk that reads its messages by itself."""

    def run(self, first: str | None = None) -> int:
        """Serve until the user leaves, `first` before all else. When nobody is watching, the last error's exit code."""
        while not self.done:
            try:
                if first is not None:
                    message, first = first, None
                    self.ask(message)
                else:
                    self.handle(self.read_message())
            except EOFError:
                break
            except KeyboardInterrupt:
                if not self.reader.interactive:
                    raise
                self.screen.note(words.say("how_to_leave"))
            except EdgellmError as error:
                self.screen.error(str(error))
                self.exit_code = error.exit_code
        return 0 if self.reader.interactive else self.exit_code

    def read_message(self) -> str:
        """One message: a line, or the lines between two \"\"\"."""
        names = "".join(f"[{visible(attachment.name)}] " for attachment in self.attachments)
        text = self.reader.read(names + PROMPT)
        if not text.lstrip().startswith(QUOTES):
            return text
        text = text.lstrip().removeprefix(QUOTES)
        while not text.rstrip().endswith(QUOTES):
            try:
                text += "\n" + self.reader.read(CONTINUATION)
            except EOFError:
                if self.reader.interactive:
                    self.screen.note(words.say("unfinished"))
                    return ""
                return _escaped(text)
        return _escaped(text.rstrip().removesuffix(QUOTES))

    def handle(self, line: str) -> None:
        """Carry out one line."""
        text = line.strip()
        command = text.split(maxsplit=1)[0] if text.startswith("/") else ""
        if not text:
            return
        if text.startswith("//"):
            self.ask(text[1:])
        elif text.lower() in _LEAVE and self.reader.interactive:
            self.done = True
        elif command and "/" not in command[1:]:
            commands.find(command).run(self, text[len(command) :].strip())
        else:
            self._say(text)

    def _say(self, text: str) -> None:
        """Send a typed message, with the files it names."""
        if self.reader.interactive:  # what comes through a pipe was written by others
            text, found = attachments.taken_from(text)
            for attachment in found:
                self.attach(attachment)
        self.ask(text)

    def complete(self, text: str) -> list[str]:
        """Words that may end the line `text`."""
        if (word := text.rpartition(" ")[2]).startswith("@"):
            return [f"@{path}" for path in sorted(commands.complete_path(self, word[1:]))]
        if not text.startswith("/"):
            return []
        name, blank, rest = text.partition(" ")
        if not blank:
            return [word for command in commands.COMMANDS for word in command.names if word.startswith(name)]
        with contextlib.suppress(UsageError):
            return sorted(commands.find(name).complete(self, rest))
        return []


def _escaped(text: str) -> str:
    """Quoted text is never a command."""
    return "/" + text.lstrip() if text.lstrip().startswith("/") else text
