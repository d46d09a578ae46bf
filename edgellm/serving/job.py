"""What a server asks of an engine and what comes back: plain data that crosses the pipe between their processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgellm.prompt.tool_choice import AUTO, ToolChoice
from edgellm.prompt.tools import Tool

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact


@dataclass(frozen=True)
class Job:
    """An answer that is wanted. Either `messages` are answered, or `prompt` is continued as it is."""

    messages: tuple[Mapping[str, Any], ...] | None = None  # in OpenAI's form (prompt/openai.py)
    prompt: str | tuple[int, ...] | None = None  # text, control tokens read in it, or token ids
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = AUTO
    think: bool | None = None  # whether a reasoning model thinks first; None: its own habit
    settings: Mapping[str, Any] = field(default_factory=dict)  # by the names of api.settings.Settings
    n_logprobs: int | None = (
        None  # likeliest ids told of beside each drawn one, 0 the drawn one's alone; None: none
    )


@dataclass(frozen=True)
class TokenLogprob:
    """A token drawn, with the natural logarithm of its probability under the model: before penalties, limits, cuts."""

    token: int
    data: bytes  # what it stands for, part of a character maybe
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()  # the likeliest: id, bytes, logprob


@dataclass(frozen=True)
class Started:
    """The prompt has been evaluated; the first token comes next."""

    n_prompt: int  # tokens, cached ones included
    n_cached: int
    seed: int  # asked with this seed the same job gets the same answer, up to docs/serving.md


@dataclass(frozen=True)
class Piece:
    """A piece of the answer."""

    kind: str  # "text" | "thinking" | "call" (a call begins: `call` has its id and name) | "arguments" (of that call)
    text: str = ""
    call: tuple[int, str, str] | None = None  # the place from 0, id and name, of "call" and "arguments"
    logprobs: tuple[TokenLogprob, ...] = ()  # of the tokens that became certain with this piece


@dataclass(frozen=True)
class Done:
    """The answer has ended."""

    finish_reason: str  # "stop" | "length" | "tool_calls" | "cancelled"
    n_prompt: int
    n_cached: int
    n_generated: int  # tokens drawn, an ending EOS included
    n_thinking: int  # of these, thinking
    queue_seconds: float  # from its coming to the start of its prefill
    prefill_seconds: float  # from there to the first token
    decode_seconds: float  # from the first token to the last
    stop: str | None = None  # the stop string that ended it
    valid: bool | None = None  # whether it is whole by its schema or grammar; None without one
    n_drafted: int = 0  # draft tokens evaluated
    n_accepted: int = 0  # of these, kept
    joules: float | None = None  # its share of what the meter counted while it ran
    energy: str = ""  # what the meter covers, or why nothing was measured
    logprobs: tuple[TokenLogprob, ...] = ()  # of tokens that no piece came for


@dataclass(frozen=True)
class Failed:
    """There is no answer, or no rest of it."""

    kind: str  # "request": what was asked cannot be done | "busy" | "timeout" | "crash": of the engine | "engine"
    message: str  # one line


Event = Started | Piece | Done | Failed


@dataclass(frozen=True)
class Facts:
    """What an engine says of itself when it is open."""

    n_ctx: int  # tokens of one sequence
    n_vocab: int
    n_slots: int  # sequences it decodes together
    batching: str  # "continuous", or why it answers one after the other
    backend: str
    device: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class State:
    """What an engine is doing."""

    n_running: int  # answers being prefilled or decoded
    n_waiting: int  # jobs in its queue
    kv_used: int  # tokens in the cache
    kv_size: int
    resident_bytes: int  # of the engine's process
    joules: float | None = None  # of all answers since its start
    energy: str = ""  # what the meter covers, or why nothing is measured


@dataclass(frozen=True)
class ServingOptions:
    """How a model is served."""

    n_slots: int = 4  # answers written at once, at most
    max_queue: int = 64  # jobs that may wait for a slot
    timeout_seconds: float | None = None  # for one answer, its waiting included
    lookup: bool = False  # speculative decoding by prompt lookup
    draft: Artifact | None = None  # ... by a smaller model
    energy: str = "auto"  # sources of energy readings (profiles/energy), or "none"
