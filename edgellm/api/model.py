"""The Python API: `load` a model, then complete, stream, chat, score, embed.

    with edgellm.load("tiny-qwen3") as model:
        print(model.complete("The capital of France is", max_tokens=8).text)

Thin: prompts, turns and lifetimes are here; what is done is done by the modules that the command line uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

from edgellm.api.answer import Answer, Parsed
from edgellm.api.asynchronous import AsyncStream
from edgellm.api.chat import Chat
from edgellm.api.settings import Asked, ChatSettings, options_with
from edgellm.api.stream import Stream, Turns
from edgellm.chat.conversation import Conversation
from edgellm.chat.reply import Reply, seeded
from edgellm.errors import UsageError
from edgellm.generation.generate import GenerateOptions
from edgellm.prompt import messages as chat_messages
from edgellm.prompt import openai
from edgellm.prompt.messages import History, Message
from edgellm.prompt.model_template import template_of
from edgellm.prompt.openai import Messages
from edgellm.prompt.tool_choice import AUTO
from edgellm.session import EngineOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edgellm.formats.artifact import Artifact
    from edgellm.formats.purpose import Pooling
    from edgellm.generation.embedding import Vectors
    from edgellm.generation.reranking import Ranked
    from edgellm.generation.scoring import Score
    from edgellm.prompt.template import ChatTemplate
    from edgellm.prompt.tools import Tool
    from edgellm.session import Drafter, EngineInfo, Session

_DEFAULTS = EngineOptions(tuned=True)


def load(
    model: str | PathLike[str] | None = None,
    *,
    n_ctx: int | None = None,
    n_threads: int | None = None,
    options: EngineOptions = _DEFAULTS,
    offline: bool = False,
    isolated: bool = False,
    lookup: bool = False,
    draft: str | None = None,
    lora: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
) -> Model:
    """Open a model: a GGUF file, an ONNX folder, a checkpoint folder, a bundled name or a hub id
    (`owner/name`, of a GGUF repository `owner/name:TYPE`; `modelscope:owner/name`; docs/models.md).

    A checkpoint is converted on first use, verified and kept; `NAME:TYPE` picks the type, as on the command
    line. `n_ctx` and `n_threads` are short for the `options` of these names; None means: by looking at this
    machine, and by what `edgellm tune` remembers of the model. `offline` downloads nothing. `isolated` runs the
    engine in a process of its own, so that a crash of it becomes an EngineCrashError. `lookup` and `draft` make
    answers faster and no worse (at near ties rounding may choose another id): one drafts from the text
    itself, the other with a smaller model of the same family, or, for "mtp", with the block for multi-token
    prediction that a GGUF file may bring along. `lora` puts adapters (GGUF files, each `FILE` or
    `FILE:SCALE`) on a GGUF model. Raises EdgellmError.
    """
    from edgellm import backends
    from edgellm.backends import worker
    from edgellm.catalog import first_use
    from edgellm.formats.gguf import adapter

    artifact = first_use.resolve(None if model is None else str(model), offline=offline)
    options = replace(options, n_ctx=n_ctx or options.n_ctx, n_threads=n_threads or options.n_threads)
    adapters = (adapter.parse(str(one)) for one in ([lora] if isinstance(lora, (str, PathLike)) else lora))
    options = replace(options, lora=(*options.lora, *adapters), mtp=options.mtp or draft == "mtp")
    # Its process starts while the model loads.
    template = template_of(artifact) if artifact.chat_template else None
    opened = (worker.open_isolated if isolated else backends.open_session)(artifact, options)
    drafter = _drafter(lookup, draft, options, offline)
    return Model(opened, template, drafter)


def _drafter(lookup: bool, draft: str | None, options: EngineOptions, offline: bool) -> Drafter | None:
    if lookup and draft:
        raise UsageError("lookup and draft exclude each other: give one")
    if not lookup and not draft:
        return None
    from edgellm.catalog import first_use
    from edgellm.generation import speculative

    if draft == "mtp":
        return speculative.SelfDraft()
    if draft:
        return speculative.DraftModel(first_use.resolve(draft, offline=offline), options)
    return speculative.Lookup()


class Model:
    """An open model: one sequence of tokens in one engine. Close it, or use it as a context manager.

    May be used from several threads: calls wait for each other, and a stream keeps the model to itself until
    it has ended. For answers at the same time, load the model once for each. Not to be used after a fork.
    """

    def __init__(
        self, session: Session, template: ChatTemplate | None = None, drafter: Drafter | None = None
    ) -> None:
        self._session: Session | None = session
        self._turns = Turns()
        self._usual = GenerateOptions(drafter=drafter)
        self._chat_template = template
        self._answering: Conversation | None = None  # for messages, with these tools:
        self._tools: tuple[Tool, ...] = ()

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

    def complete(self, prompt: str | Messages, **asked: Unpack[Asked]) -> Answer:
        """The whole continuation of a text, or the answer to messages; see `stream`."""
        return self.stream(prompt, **asked).answer

    def stream(self, prompt: str | Messages, **asked: Unpack[Asked]) -> Stream:
        """Text as it is written.

        A string is continued as it is. A list of messages ({"role": ..., "content": ...}) is answered, through
        the model's chat template; where the last one is the assistant's, the answer goes on from it. `tools` are
        what the model may call, in OpenAI's form, and `tool_choice` whether it does: "auto", "none", "required",
        or a tool's name. `think` tells a reasoning model to think first or not (None: its own habit). What the
        cache still holds of the prompt is not evaluated again. Raises UsageError for messages that do not fit the
        context or are none, EngineError, at the first piece, for a text that is empty or does not fit.
        """
        return Stream(self._turns, self._made(prompt, asked))

    async def acomplete(self, prompt: str | Messages, **asked: Unpack[Asked]) -> Answer:
        """`complete` for asyncio. Cancelled, it stops the engine after the token it is at, and the model is free."""
        return await self.astream(prompt, **asked)

    def astream(self, prompt: str | Messages, **asked: Unpack[Asked]) -> AsyncStream:
        """`stream` for asyncio: `async for` over the pieces, or `await` it for the answer."""
        return AsyncStream(self._turns, self._made(prompt, asked))

    def respond(self, prompt: str | Messages, as_: type[Parsed], **asked: Unpack[Asked]) -> Parsed:
        """The answer as an instance of a pydantic model (or what has its two methods, see `Schema`).

        The answer is held to the model's JSON schema. Raises CheckFailedError where `max_tokens` cut it, and what
        the model's own validation raises.
        """
        asked["json_schema"] = as_
        return self.complete(prompt, **asked).parse(as_)

    async def arespond(self, prompt: str | Messages, as_: type[Parsed], **asked: Unpack[Asked]) -> Parsed:
        """`respond` for asyncio."""
        asked["json_schema"] = as_
        return (await self.acomplete(prompt, **asked)).parse(as_)

    def chat(self, **said: Unpack[ChatSettings]) -> Chat:
        """A conversation, which may go on from `messages`. Settings hold for all its answers.

        When the window is full, `on_full="drop"` leaves out the oldest turns (`Chat.n_hidden` counts them),
        "summarise" has the model sum them up, "stop" raises UsageError. A `tool_choice` that asks for a call holds
        for answers to the user, not for those to tools' results. Raises UsageError for a model that was
        not made to chat.
        """
        first, messages = openai.read(said.get("messages", ()))
        system = said.get("system")
        if first is not None and system is not None:
            raise UsageError("the system prompt is given twice: as system= and as the first message")
        conversation = Conversation(
            self.session,
            self._template(),
            system=first if system is None else system,
            messages=messages,
            options=options_with(self._usual, said, beside=ChatSettings),
            on_full=said.get("on_full", "drop"),
            tools=said.get("tools", ()),
            think=said.get("think"),
            choice=said.get("tool_choice", AUTO),
        )
        return Chat(conversation, self._turns)

    def score(self, text: str, *, after: str = "") -> Score:
        """How likely the model finds a text (after another): log-probabilities, perplexity, bits per byte.

        The two texts are tokenized apart. A text longer than the context is scored in windows, each token with
        at least half a window before it. Raises UsageError when nothing can be scored.
        """
        from edgellm.generation import scoring

        with self._turns.turn():
            return scoring.score(self.session, text, after=after)

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        pooling: Pooling | None = None,
        normalize: bool = True,
        prompt_name: str | None = None,
        instruct: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> Vectors:
        """Texts as vectors, [n, n_embd] or [n, dimensions] in float32; one text gives one row.

        Pooling, and what goes before a text, are the model's own unless told otherwise: `prompt_name` picks one of
        its prompts ("query"), `instruct` is a task in words, for queries. See `embedding.manner_of` and `.embed`.
        """
        from edgellm.generation import embedding

        several = [texts] if isinstance(texts, str) else list(texts)
        with self._turns.turn():
            manner = embedding.manner_of(
                self.session.artifact, pooling=pooling, prompt_name=prompt_name, instruct=instruct
            )
            return embedding.embed(
                self.session, several, manner, normalize=normalize, dimensions=dimensions, truncate=truncate
            )

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        instruct: str | None = None,
        top_n: int | None = None,
        truncate: bool = False,
    ) -> list[Ranked]:
        """`documents` by their relevance to `query`, the best first, with a reranker. See `reranking.rerank`."""
        from edgellm.generation import reranking

        with self._turns.turn():
            return reranking.rerank(
                self.session, query, documents, instruct=instruct, top_n=top_n, truncate=truncate
            )

    def close(self) -> None:
        """Free the engine; an open stream of this thread ends, other threads' calls are waited for. Idempotent."""
        with self._turns.turn(closing=True):
            session, self._session = self._session, None
            if session is not None:
                getattr(self._usual.drafter, "close", lambda: None)()
                session.close()
        self._turns.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._session is None:
            return "<edgellm.Model, closed>"
        artifact, info = self.artifact, self.info
        return f"<edgellm.Model {artifact.name} {artifact.quantization}, {info.backend}, n_ctx {info.n_ctx}>"

    def _continuation(self, text: str, options: GenerateOptions) -> Reply:
        tokens = self.session.tokenize(text, add_bos=self.info.add_bos)
        return Reply(self.session, tokens, seeded(options))

    def _made(self, prompt: str | Messages, asked: Asked) -> Callable[[], Reply]:
        """What makes the answer when it is its turn. Settings are checked now."""
        options = options_with(self._usual, asked, beside=Asked)
        if not isinstance(prompt, str):
            return lambda: self._answer(prompt, options, asked)
        if asked.get("tools") or asked.get("think") is not None or asked.get("tool_choice", AUTO) != AUTO:
            raise UsageError("tools and think are for messages; a string is continued as it is")
        return lambda: self._continuation(prompt, options)

    def _answer(self, said: Messages, options: GenerateOptions, asked: Asked) -> Reply:
        """Messages answered by one conversation after the other, which knows again what the cache holds."""
        system, history = openai.read(said)
        prefill = _begun(history)
        if not history or history[-1].role not in ("user", "tool") or not chat_messages.turns(history):
            raise UsageError(
                "there is nothing to answer: messages need one of the user's, or a tool's result"
            )
        tools = tuple(asked.get("tools", ()))
        if self._answering is None or self._tools != tools:
            self._answering = Conversation(self.session, self._template(), on_full="stop", tools=tools)
            self._tools = tools
        answering = self._answering
        answering.choose(asked.get("tool_choice", AUTO), tools)
        answering.restore(History(tuple(history), system))
        answering.options, answering.think = options, asked.get("think")
        return answering.regenerate(prefill)

    def _template(self) -> ChatTemplate:
        if self._chat_template is None:
            self._chat_template = template_of(self.artifact)
        return self._chat_template


def _begun(history: list[Message]) -> str:
    """The beginning of the answer, which is the last message where that is the assistant's; taken out."""
    if not history or history[-1].role != "assistant":
        return ""
    last = history.pop()
    if last.calls or not last.content:
        raise UsageError("the last message is the assistant's and has no text to go on from: leave it out")
    return last.content
