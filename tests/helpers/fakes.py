"""A `Session` without an engine: token ids are bytes, and what it "samples" is a script."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgellm.errors import EngineError
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineInfo, EngineOptions, Sampling

EOS = 256
N_VOCAB = 257


class ScriptedSession:
    """Implements the Session protocol: ids 0-255 are bytes, 256 is EOS. `stream` yields `script`, then EOS."""

    def __init__(
        self, script: bytes | Sequence[int] = b"", n_ctx: int = 4096, chat_template: str | None = None
    ):
        self.script = list(script)
        self.artifact = Artifact(
            Path("scripted.gguf"), "gguf", "llama", "scripted", "F32", 0, n_ctx, chat_template
        )
        self.info = EngineInfo(
            "fake", "0", "", EngineOptions(n_ctx=n_ctx), n_ctx, N_VOCAB, frozenset({EOS}), add_bos=False
        )
        self._tokens: list[int] = []
        self.evaluated: list[list[int]] = []  # every run of tokens handed in, in order
        self.closed = False

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def eval(self, tokens: Sequence[int]) -> np.ndarray:
        if not tokens:
            raise EngineError("there are no tokens to evaluate; the prompt is empty")
        if len(self._tokens) + len(tokens) > self.info.n_ctx:
            raise EngineError(f"{len(tokens)} tokens do not fit the context of {self.info.n_ctx}")
        self._tokens.extend(tokens)
        self.evaluated.append(list(tokens))
        return np.zeros(N_VOCAB, np.float32)

    def eval_all(self, tokens: Sequence[int]) -> np.ndarray:
        self.eval(tokens)
        return np.zeros((len(tokens), N_VOCAB), np.float32)

    def hidden(self, tokens: Sequence[int]) -> np.ndarray:
        self.eval(tokens)
        return np.array([[token, 1.0] for token in tokens], np.float32)

    def classify(self, tokens: Sequence[int]) -> dict[str, float]:
        raise EngineError("no classifier")

    def stream(self, tokens: Sequence[int], sampling: Sampling, **_: object) -> Iterator[int]:
        self.eval(tokens)
        for token in [*self.script, EOS]:
            yield token
            if len(self._tokens) >= self.info.n_ctx:
                return
            self._tokens.append(token)

    def rewind(self, n: int) -> None:
        del self._tokens[n:]

    def reusable(self, n: int) -> int:
        return n

    def save_state(self) -> bytes:
        return bytes(self._tokens)

    def restore_state(self, state: bytes, tokens: Sequence[int]) -> None:
        self._tokens = list(tokens)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "ScriptedSession":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
