"""The Python API: `load` a model, then complete, stream, chat, score, embed.

    with edgellm.load("tiny-qwen3") as model:
        print(model.complete("The capital of France is", max_tokens=8).text)

Thin: prompts, turns and lifetimes are here; what is done is done by the modules that the command line uses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgellm import messages
from edgellm.api_chat import Chat, history
from edgellm.api_settings import Settings, options_with
from edgellm.api_stream import Stream, Turns
from edgellm.chat.spans import SpanCache
from edgellm.chat.template import template_of
from edgellm.errors import EngineError, UsageError
from edgellm.generate import Completion, GenerateOptions
from edgellm.session import EngineOptions

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Unpack

    from edgellm.artifact import Artifact
    from edgellm.chat.conversation import OnFull, Reply
    from edgellm.chat.spans import Span
    from edgellm.embedding import Pooling, Vectors
    from edgellm.scoring import Score
    from edgellm.session import EngineInfo, Session
    from edgellm.template import ChatTemplate

    Messages = Sequence[Mapping[str, Any]]

_DEFAULTS = EngineOptions()


def load(
    model: str | PathLike[str] | None = None,
    *,
    n_ctx: int | None = None,
    n_threads: int | None = None,
    options: EngineOptions = _DEFAULTS,
    offline: bool = False,
    isolated: bool = False,
) -> Model:
    """Open a model: a GGUF file, an ONNX folder, a checkpoint folder, a bundled name or a hub id.

    A checkpoint is converted on first use, verified and kept; `NAME:TYPE` picks the type, as on the command
    line. `n_ctx` and `n_threads` are short for the `options` of these names; None means: by looking at this
    machine. `offline` downloads nothing. `isolated` runs the engine in a process of its own, so that a crash
    of it becomes an EngineCrashError. Raises EdgellmError.
    """
    from edgellm import backends, first_use, worker

    artifact = first_use.resolve(None if model is None else str(model), offline=offline)
    options = replace(options, n_ctx=n_ctx or options.n_ctx, n_threads=n_threads or options.n_threads)
    # Its process starts while the model loads.
    template = template_of(artifact) if artifact.chat_template else None
    opened = (worker.open_isolated if isolated else backends.open_session)(artifact, options)
    return Model(opened, template)


class Model:
    """An open model: one sequence of tokens in one engine. Close it, or use it as a context manager.

    May be used from several threads: calls wait for each other, and a stream keeps the model to itself until
    it has ended. For answers at the same time, load the model once for each. Not to be used after a fork.
    """

    def __init__(self, session: Session, template: ChatTemplate | None = None) -> None:
        self._session: Session | None = session
        self._turns = Turns()
        self._spans = SpanCache(session)
        self._chat_template = template

    @property
    def artifact(self) -> Artifact:
        """The file or folder, and what its header says."""
        return self.session.artifact

    @property
    def info(self) -> EngineInfo:
        """The engine, its options as resolved, the context, and notes on what was chosen and why."""
        return self.session.info

    @property
    def session(self) -> Session:
        """The engine's session, for work with tokens and logits. Using it directly is not thread-safe."""
        if self._session is None:
            raise UsageError("this model is closed; load it again")
        return self._session

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text; with `special`, control tokens written out in it become their ids."""
        with self._turns.turn():
            return self.session.tokenize(text, special=special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids; control tokens stand for none."""
        with self._turns.turn():
            return b"".join(map(self.session.piece, tokens)).decode("utf-8", "replace")

    def complete(self, prompt: str | Messages, **settings: Unpack[Settings]) -> Completion:
        """The whole continuation of a text, or the answer to messages; see `stream`."""
        return self.stream(prompt, **settings).completion

    def stream(self, prompt: str | Messages, **settings: Unpack[Settings]) -> Stream:
        """Text as it is written.

        A string is continued as it is. A list of messages ({"role": ..., "content": ...}) is answered, through
        the model's chat template. What the cache still holds of the prompt is not evaluated again. Raises
        EngineError, at the first piece, when the prompt is empty or does not fit the context.
        """
        options = options_with(GenerateOptions(), settings)
        return Stream(self._turns, lambda: self._reply(prompt, options))

    def chat(
        self,
        *,
        system: str | None = None,
        messages: Messages = (),
        on_full: OnFull = "drop",
        **settings: Unpack[Settings],
    ) -> Chat:
        """A conversation, which may go on from `messages`. Settings hold for all its answers.

        When the window is full, `on_full="drop"` leaves out the oldest turns (`Chat.n_hidden` counts them),
        "stop" raises UsageError. Raises UsageError for a model that was not made to chat.
        """
        from edgellm.chat.conversation import Conversation

        said, system = history(messages, system)
        options = options_with(GenerateOptions(), settings)
        conversation = Conversation(
            self.session, self._template(), system=system, messages=said, options=options, on_full=on_full
        )
        return Chat(conversation, self._turns)

    def score(self, text: str, *, after: str = "") -> Score:
        """How likely the model finds a text (after another): log-probabilities, perplexity, bits per byte.

        The two texts are tokenized apart. A text longer than the context is scored in windows, each token with
        at least half a window before it. Raises UsageError when nothing can be scored.
        """
        from edgellm import scoring

        with self._turns.turn():
            return scoring.score(self.session, text, after=after)

    def embed(
        self, texts: str | Sequence[str], *, pooling: Pooling = "mean", normalize: bool = True
    ) -> Vectors:
        """Texts as vectors, [n, n_embd] in float32; one text gives one row. See `embedding.embed`."""
        from edgellm import embedding

        several = [texts] if isinstance(texts, str) else list(texts)
        with self._turns.turn():
            return embedding.embed(self.session, several, pooling=pooling, normalize=normalize)

    def close(self) -> None:
        """Free the engine; an open stream of this thread ends, other threads' calls are waited for. Idempotent."""
        with self._turns.turn():
            session, self._session = self._session, None
            if session is not None:
                session.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._session is None:
            return "<edgellm.Model, closed>"
        artifact, info = self.artifact, self.info
        return f"<edgellm.Model {artifact.name} {artifact.quantization}, {info.backend}, n_ctx {info.n_ctx}>"

    def _reply(self, prompt: str | Messages, options: GenerateOptions) -> Reply:
        from edgellm.chat.conversation import Reply, seeded

        if isinstance(prompt, str):
            return Reply(self.session, self._tokens(prompt), seeded(options))
        spans = self._render(prompt)
        tokens = [token for span in spans for token in span.tokens]
        return Reply(self.session, tokens, seeded(options), end=lambda reply: self._keep(spans, reply))

    def _tokens(self, text: str) -> list[int]:
        return self.session.tokenize(text, add_bos=self.info.add_bos)

    def _render(self, said: Messages) -> list[Span]:
        """Messages through the template; control tokens spelt out in their contents stay plain text."""
        guarded = [{**m, "content": self._spans.guard(m["content"])} for m in messages.checked(said)]
        return self._spans.split(self._template().render(guarded))

    def _keep(self, prompt: Sequence[Span], reply: Reply) -> None:
        """Remember the ids drawn, so that these messages and the answer are found in the cache next time."""
        with contextlib.suppress(EngineError):  # it failed; there is nothing to keep
            self._spans.keep(prompt, reply.completion)

    def _template(self) -> ChatTemplate:
        if self._chat_template is None:
            self._chat_template = template_of(self.artifact)
        return self._chat_template
