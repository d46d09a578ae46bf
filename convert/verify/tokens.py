"""A converted file's tokenizer against the `tokenizers` library: vocabulary, stop ids, template, hard strings.

The library takes over 100 MB for a large vocabulary, so everything it is asked is asked at once (`Expected`),
and it is gone before the engine starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from edgellm.convert.checkpoint.folder import read_json
from edgellm.convert.checkpoint.tokenizer import CONTROL, Vocabulary
from edgellm.convert.verify.hard_strings import HARD_STRINGS
from edgellm.errors import ArtifactError, CheckFailedError, CheckpointError
from edgellm.prompt.template import ChatTemplate

if TYPE_CHECKING:
    from edgellm.convert.checkpoint.folder import Checkpoint
    from edgellm.session import Session

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


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's tokenizer as the `tokenizers` library runs it."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer((folder / "tokenizer.json").read_bytes())
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{folder}/tokenizer.json cannot be used: {str(error)[:200]}") from error


def check_pre_tokenizer(header: Header, vocabulary: Vocabulary) -> None:
    """How text is split before merging. Wrong, it shows in few texts: so by name, not only by hard strings."""
    found = header.get("tokenizer.ggml.pre")
    if found != vocabulary.pre:
        _fail(
            "tokens", f"tokenizer.ggml.pre is {found!r}, but the tokenizer splits text as {vocabulary.pre!r}"
        )


def check_vocabulary(header: Header, tokenizer: Any) -> None:
    """Every id's text, and which tokens are control tokens."""
    tokens, types = header.get("tokenizer.ggml.tokens"), header.get("tokenizer.ggml.token_type")
    added = tokenizer.get_added_tokens_decoder()
    for index, token in enumerate(tokens):
        expected = tokenizer.id_to_token(index)
        if expected is None:
            expected = f"[PAD{index}]"
        if token != expected and not (index in added and token == expected.replace("\u2581", " ")):
            _fail("vocabulary", f"token {index} is {token!r}, not {expected!r}")
        if index in added and added[index].special and types[index] != CONTROL:
            _fail("vocabulary", f"token {index} ({token!r}) is special but not marked as a control token")
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size > len(tokens):
        _fail("vocabulary", f"the tokenizer has {size} tokens and the file {len(tokens)}")


def check_stop_ids(header: Header, checkpoint: Checkpoint, tokenizer: Any) -> str:
    """Every id that config.json, generation_config.json or tokenizer_config.json calls an end, and no other."""
    expected = set(_ids(checkpoint.config.get("eos_token_id")))
    expected |= set(_ids(checkpoint.generation_config.get("eos_token_id")))
    text = (read_json(checkpoint.dir, "tokenizer_config.json") or {}).get("eos_token")
    text = text.get("content") if isinstance(text, dict) else text
    index = tokenizer.token_to_id(text) if isinstance(text, str) else None
    expected |= set() if index is None else {index}
    found = header.get("tokenizer.ggml.eos_token_id")
    if found not in expected | _template_ends(tokenizer):
        _fail("stop ids", f"tokenizer.ggml.eos_token_id is {found}, not one of {sorted(expected)}")
    missing = expected - header.stop_ids
    if missing:
        _fail("stop ids", f"{sorted(missing)} end an answer of the original and not of the file")
    return f"{len(header.stop_ids)} stop ids"


def _ids(value: object) -> Iterator[int]:
    for index in value if isinstance(value, list) else [value]:
        if isinstance(index, int) and not isinstance(index, bool):
            yield index


def _template_ends(tokenizer: Any) -> set[int]:
    """The id a post-processor puts at the end of every text, if any."""
    with_ends = tokenizer.encode("a", add_special_tokens=True).ids
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    return {with_ends[-1]} if with_ends[-1:] != plain[-1:] else set()


def check_template(header: Header, vocabulary: Vocabulary) -> str | None:
    """The chat template's text, and that it renders the same. Gives the rendered prompt, if there is one."""
    source, special = vocabulary.special.chat_template, vocabulary.special.ids
    found = header.get("tokenizer.chat_template")
    if found != source:
        _fail("chat template", "the file's differs from the checkpoint's")
    if source is None:
        return None
    ours, theirs = [], []
    for kind in ("bos", "eos"):
        index, tokens = header.get(f"tokenizer.ggml.{kind}_token_id"), header.get("tokenizer.ggml.tokens")
        ours.append(None if index is None else tokens[index])
        theirs.append(vocabulary.tokens[special[kind]] if kind in special else None)
    prompts = [_render(ChatTemplate(source, *ends)) for ends in (ours, theirs)]
    if prompts[0] != prompts[1]:
        _fail("chat template", f"it renders {prompts[0]!r:.80}, the checkpoint's {prompts[1]!r:.80}")
    return prompts[0]


def _render(template: ChatTemplate) -> str | None:
    """The prompt of a short dialogue; some templates refuse a system message, and a few everything."""
    for messages in (_MESSAGES, _MESSAGES[1:]):
        try:
            return template.render(messages)
        except ArtifactError:
            continue
    return None


@dataclass(frozen=True)
class Expected:
    """What the tokenizer says, to hold an engine against."""

    texts: tuple[tuple[str, list[int]], ...]
    n_special: int
    adds_bos: bool
    sample: list[int]  # ids of the text that logits are compared on, with what is added in front


def expect(tokenizer: Any, header: Header, prompt: str | None, sample: str) -> Expected:
    """Ids of hard strings, of every special token within text, and of a rendered prompt."""
    special = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    texts = [*HARD_STRINGS, *_with_specials(special), *([prompt] if prompt else [])]
    bos = tokenizer.encode("a", add_special_tokens=True).ids[:1]
    return Expected(
        texts=tuple((text, tokenizer.encode(text, add_special_tokens=False).ids) for text in texts),
        n_special=len(special),
        adds_bos=bos == [header.get("tokenizer.ggml.bos_token_id")],
        sample=tokenizer.encode(sample, add_special_tokens=True).ids,
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
    return f"{len(expected.texts)} texts and {expected.n_special} special tokens give the same ids"


def check_engine_stops(session: Session, header: Header) -> None:
    """The engine must end at every stop id."""
    missing = header.stop_ids - session.info.eos_ids
    if missing:
        _fail("stop ids", f"the engine does not end at {sorted(missing)}")
