"""A scripted model that can hold a conversation, and a person at the keyboard: for chat without an engine."""

import dataclasses
import io
import os
import signal
from collections.abc import Callable, Iterator, Sequence

from fakes import EOS, ScriptedSession

from edgellm.session import EngineInfo, EngineOptions, Sampling

IM_START = 257
_SPECIAL = {"<|im_start|>": IM_START, "<|im_end|>": EOS}
Answer = bytes | Callable[[str], bytes]


class ChatSession(ScriptedSession):
    """Ids are bytes, and the two ChatML tokens. Each prompt gets the next answer, the last one again and again."""

    def __init__(self, *answers: Answer, n_ctx: int = 4096, chat_template: str | None = None):
        super().__init__(n_ctx=n_ctx, chat_template=chat_template)
        self.artifact = dataclasses.replace(self.artifact, n_ctx_train=4096)
        self.info = EngineInfo(
            "fake",
            "0",
            "",
            EngineOptions(n_ctx=n_ctx, n_threads=1),
            n_ctx,
            258,
            frozenset({EOS}),
            add_bos=False,
        )
        self.answers = list(answers or (b"ok",))
        self.seeds: list[int | None] = []
        self.interrupt_before: int | None = None  # Ctrl-C is pressed before this token of an answer

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        ids: list[int] = []
        while text:
            name = next((name for name in _SPECIAL if special and text.startswith(name)), "")
            ids += [_SPECIAL[name]] if name else text[0].encode()
            text = text[len(name) or 1 :]
        return ids

    def text(self, tokens: Sequence[int]) -> str:
        names = {value: name.encode() for name, value in _SPECIAL.items()}
        return b"".join(names.get(token) or bytes([token]) for token in tokens).decode()

    def stream(self, tokens: Sequence[int], sampling: Sampling, **_: object) -> Iterator[int]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.seeds.append(sampling.seed)
        if self.interrupt_before == 0:
            self._press_ctrl_c()
        prompt = self.text([*self.tokens, *tokens])
        self.script = list(answer if isinstance(answer, bytes) else answer(prompt))
        for i, token in enumerate(super().stream(tokens, sampling)):
            if i and i == self.interrupt_before:
                self._press_ctrl_c()
            yield token

    def save_state(self) -> bytes:
        return b"".join(token.to_bytes(2, "little") for token in self._tokens)

    def _press_ctrl_c(self) -> None:
        self.interrupt_before = None
        os.kill(os.getpid(), signal.SIGINT)


class Terminal(io.StringIO):
    """A terminal that remembers what it was sent."""

    def isatty(self) -> bool:
        return True


class Typist:
    """A reader whose lines are written beforehand."""

    def __init__(self, *lines: str | type[BaseException], interactive: bool = True):
        self.lines = list(lines)
        self.interactive = interactive
        self.prompts: list[str] = []
        self.defaults: list[str] = []

    def read(self, prompt: str, default: str = "") -> str:
        self.prompts.append(prompt)
        self.defaults.append(default)
        if not self.lines:
            raise EOFError
        line = self.lines.pop(0)
        if isinstance(line, str):
            return line
        raise line

    def ask(self, question: str) -> str:
        return self.read(question)


class ChatMl:
    """The ChatML template as a function of Python."""

    source = "<|im_start|>"

    def for_tools(self):
        return self

    def render(self, messages, add_generation_prompt=True, tools=None, **extra) -> str:
        turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
        return "".join(turns) + ("<|im_start|>assistant\n" if add_generation_prompt else "")
