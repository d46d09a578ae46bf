"""A converted file's tokenizer against what a stranger with transformers gets from the source.

Vocabulary, stop ids, template, hard strings: all by transformers_rules.py, which shares nothing with the converter.

The library takes over 100 MB for a large vocabulary, so everything it is asked is asked at once (`Expected`),
and it is gone before the engine starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from edgellm.convert.verify.hard_strings import HARD_STRINGS
from edgellm.errors import ArtifactError, CheckFailedError
from edgellm.prompt.model_template import NAMES_KEY
from edgellm.prompt.template import ChatTemplate

if TYPE_CHECKING:
    from edgellm.convert.verify.transformers_rules import Reading
    from edgellm.session import Session

NORMAL, CONTROL = 1, 3  # gguf's token types (llama.h, enum llama_token_type)

_MESSAGES = (
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Grüße! 你好 🙂\nWhat's 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "  Thanks.  "},
)


class Header(Protocol):
    """What is asked of a converted model: GGUF's keys, and the ids that end an answer."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        ...

    def get(self, key: str, default: Any = None) -> Any:
        """The value of one of GGUF's tokenizer keys."""
        ...


def _fail(check: str, fact: str) -> NoReturn:
    raise CheckFailedError(f"the check of the {check} failed: {fact}")


def check_pre_tokenizer(header: Header, reading: Reading) -> None:
    """How text is split before merging. Wrong, it shows in few texts: so by name, not only by hard strings.

    The families part over digits - Qwen takes one at a time, Llama 3 up to three - and over marks, which belong
    to a word since Qwen3.5.
    """
    found = header.get("tokenizer.ggml.pre")

    def first_of(text: str) -> str:
        return str(reading.tokenizer.pre_tokenizer.pre_tokenize_str(text)[0][0])

    marks = len(first_of("क\u093fक")) > len(first_of("क"))
    expected = {(1, False): "qwen2", (1, True): "qwen35", (3, False): "llama-bpe"}.get(
        (len(first_of("1234567")), marks)
    )
    if found != expected:
        _fail("tokens", f"tokenizer.ggml.pre is {found!r}, but the tokenizer splits text as {expected!r}")


def check_vocabulary(header: Header, reading: Reading) -> None:
    """Every id's text, and which tokens are control tokens."""
    tokens, types = header.get("tokenizer.ggml.tokens"), header.get("tokenizer.ggml.token_type")
    added = reading.tokenizer.get_added_tokens_decoder()
    for index, token in enumerate(tokens):
        expected = reading.tokenizer.id_to_token(index)
        if expected is None:
            expected = f"[PAD{index}]"
        if token != expected and not (index in added and token == expected.replace("\u2581", " ")):
            _fail("vocabulary", f"token {index} is {token!r}, not {expected!r}")
        if index in added and added[index].special and types[index] != CONTROL:
            _fail("vocabulary", f"token {index} ({token!r}) is special but not marked as a control token")
    size = reading.tokenizer.get_vocab_size(with_added_tokens=True)
    if size > len(tokens):
        _fail("vocabulary", f"the tokenizer has {size} tokens and the file {len(tokens)}")


def check_stop_ids(header: Header, reading: Reading) -> str:
    """All ids at which transformers' generate ends, and no other but the tokenizer's own ends.

    Own ends are its eos_token, what its post-processor puts at the end of every text, and control tokens that
    llama.cpp ends at because of their text. A stop id of an ordinary token is said: it is seldom meant.
    """
    ends, own = set(reading.end_ids), {reading.id_of("eos_token")} | _template_ends(reading)
    tokens, types = header.get("tokenizer.ggml.tokens"), header.get("tokenizer.ggml.token_type")
    found = header.get("tokenizer.ggml.eos_token_id")
    if found not in ends | own:
        _fail("stop ids", f"tokenizer.ggml.eos_token_id is {found}, not one of {sorted(ends)}")
    missing, more = ends - header.stop_ids, header.stop_ids - ends - own
    if missing:
        _fail("stop ids", f"{sorted(missing)} end an answer of the original and not of the file")
    wrong = sorted(i for i in more if types[i] != CONTROL)
    if wrong:
        _fail("stop ids", f"{wrong} ({tokens[wrong[0]]!r}) end an answer of the file and not of the original")
    ordinary = ", ".join(f"{i} ({tokens[i]!r})" for i in sorted(ends) if types[i] == NORMAL)
    note = f", of which {ordinary} is an ordinary token, named by the checkpoint's files" if ordinary else ""
    return f"{len(header.stop_ids)} stop ids{note}"


def _template_ends(reading: Reading) -> set[int]:
    """The id a post-processor puts at the end of every text, if any."""
    framed, plain = reading.encode("a", framed=True), reading.encode("a")
    return {framed[-1]} if framed[-1:] != plain[-1:] else set()


def check_template(header: Header, reading: Reading) -> str | None:
    """The chat template's text, the names it is given, and a rendering. Gives the rendered prompt, if any.

    Every word of the dialogue must be in it: a template that loses the user's message proves nothing.
    """
    source, found = reading.templates.get("default"), header.get("tokenizer.chat_template")
    if found != source:
        _fail("chat template", "the file's differs from the checkpoint's")
    names = json.loads(header.get(NAMES_KEY, "{}"))
    if names != reading.special_tokens:
        _fail(
            "chat template",
            f"it is given the tokens {names}, the checkpoint's {dict(reading.special_tokens)}",
        )
    if source is None:
        return None
    told, prompt = _render(ChatTemplate(source, names))
    for message in told:
        if prompt is not None and message["content"].strip() not in prompt:
            _fail("chat template", f"it leaves out {message['content']!r}, which the {message['role']} says")
    return prompt


def _render(template: ChatTemplate) -> tuple[Sequence[Mapping[str, str]], str | None]:
    """A short dialogue and its prompt; some templates refuse a system message, and a few everything."""
    for messages in (_MESSAGES, _MESSAGES[1:]):
        try:
            return messages, template.render(messages)
        except ArtifactError:
            continue
    return (), None


@dataclass(frozen=True)
class Expected:
    """What the tokenizer says, to hold an engine against."""

    texts: tuple[tuple[str, list[int]], ...]
    n_special: int
    adds_bos: bool
    closing_id: int | None  # what is added behind
    sample: list[int]  # ids of the text that logits are compared on, with what is added in front


def expect(reading: Reading, header: Header, prompt: str | None, sample: str) -> Expected:
    """Ids of hard strings, of every special token within text, and of a rendered prompt."""
    special = [t.content for t in reading.tokenizer.get_added_tokens_decoder().values()]
    texts = [*HARD_STRINGS, *_with_specials(special), *([prompt] if prompt else [])]
    framed, plain = reading.encode("a", framed=True), reading.encode("a")
    return Expected(
        texts=tuple((text, reading.encode(text)) for text in texts),
        n_special=len(special),
        adds_bos=framed[:1] == [header.get("tokenizer.ggml.bos_token_id")],
        closing_id=framed[-1] if framed[-1] != plain[-1] else None,
        sample=reading.encode(sample, framed=True),
    )


def _with_specials(special: list[str], batch: int = 16) -> Iterator[str]:
    for start in range(0, len(special), batch):
        yield "".join(f"{token} a{token}1" for token in special[start : start + batch])


def check_tokens(session: Session, header: Header, expected: Expected) -> str:
    """The engine's ids of every text, and whether it adds bos. Raises CheckFailedError naming text and token."""
    tokens = header.get("tokenizer.ggml.tokens")
    for text, ids in expected.texts:
        found = session.tokenize(text)
        if found != ids:
            place = next((i for i, (a, b) in enumerate(zip(found, ids, strict=False)) if a != b), 0)
            ours, theirs = (tokens[x[place]] if place < len(x) else None for x in (found, ids))
            _fail(
                "tokens",
                f"{text[:60]!r} has token {place} {ours!r} in the engine, {theirs!r} in the tokenizer",
            )
    if session.info.add_bos != expected.adds_bos:
        _fail("tokens", f"the engine adds bos: {session.info.add_bos}, the tokenizer: {expected.adds_bos}")
    if session.info.closing_id != expected.closing_id:
        _fail("tokens", f"the engine ends a text with {session.info.closing_id}, not {expected.closing_id}")
    return f"{len(expected.texts)} texts and {expected.n_special} special tokens give the same ids"


def check_engine_stops(session: Session, header: Header) -> None:
    """The engine must end at every stop id."""
    missing = header.stop_ids - session.info.eos_ids
    if missing:
        _fail("stop ids", f"the engine does not end at {sorted(missing)}")
