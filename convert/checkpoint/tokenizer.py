"""A checkpoint's tokenizer files, read into what GGUF stores: tokens, types, merges, special ids, template.

Only byte-level BPE tokenizers whose splitting llama.cpp reproduces exactly are known, recognised by what they
do - normalizer, pre-tokenizer regex, merges - and never by a model's name; anything else is refused, naming
what is different. Knows nothing of weights, and of GGUF only the vocabulary of its keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgellm.convert.checkpoint.folder import find_file, read_json
from edgellm.convert.checkpoint.special_tokens import SpecialTokens, read_special_tokens
from edgellm.errors import CheckpointError
from edgellm.formats import tokenizer_files
from edgellm.formats.tokenizer_files import AddedToken, TokenizerFiles

# gguf's token types (llama.h, enum llama_token_type).
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_REST = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
#: With marks, which a vowel sign or an accent may be, in words.
_MARKED_WORDS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
_MARKED_REST = rf" ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"


@dataclass(frozen=True)
class PreTokenizer:
    """How a family splits text before merging, and the name llama.cpp knows it by."""

    name: str  # `tokenizer.ggml.pre`
    regex: str
    ignore_merges: bool  # a word that is a token is taken whole: fixed in llama.cpp by the name


PRE_TOKENIZERS = (
    PreTokenizer("llama-bpe", rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}", ignore_merges=True),
    PreTokenizer("qwen2", rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}", ignore_merges=False),
    PreTokenizer("qwen35", rf"{_CONTRACTIONS}|{_MARKED_WORDS}|\p{{N}}|{_MARKED_REST}", ignore_merges=False),
)


@dataclass(frozen=True)
class Vocabulary:
    """Everything about a tokenizer that a converted model carries."""

    pre: str
    tokens: tuple[str, ...]  # one for each row of the embedding; byte-level characters for normal tokens
    types: tuple[int, ...]
    merges: tuple[str, ...]  # "left right"
    normalizer: str | None  # "NFC": what the tokenizer does to text first, and llama.cpp does not
    add_space_prefix: bool | None
    special: SpecialTokens
    added: Mapping[int, AddedToken]  # by id, from every file that names some


def read_tokenizer(
    folder: Path, config: Mapping[str, Any], generation_config: Mapping[str, Any], n_vocab: int
) -> Vocabulary:
    """The tokenizer of the checkpoint in `folder`, padded to `n_vocab` rows. Raises CheckpointError."""
    if find_file(folder, "tokenizer.json") is None:
        raise CheckpointError(_missing(folder))
    try:
        said = read_files(folder, config, generation_config)
        pre, normalizer = recognise(said.tokenizer, folder)
        tokens, types = _tokens(said.tokenizer["model"]["vocab"], said.added, n_vocab, folder)
        special = read_special_tokens(folder, said, tokens)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{folder}: {error}; copy the model's own tokenizer files") from error
    return Vocabulary(
        pre=pre.name,
        tokens=tokens,
        types=types,
        merges=_merges(said.tokenizer["model"].get("merges"), folder),
        normalizer=normalizer,
        add_space_prefix=said.settings.get("add_prefix_space"),
        special=special,
        added=said.added,
    )


def read_files(
    folder: Path, config: Mapping[str, Any], generation_config: Mapping[str, Any]
) -> TokenizerFiles:
    """Everything the folder's files say of its tokenizer. Raises CheckpointError."""

    def text_of(where: Path, name: str) -> str | None:
        path = find_file(where, name)
        try:
            return None if path is None else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} cannot be read as UTF-8 text: {error}") from error

    return tokenizer_files.read(
        folder, lambda name: read_json(folder, name), text_of, config, generation_config
    )


def _missing(folder: Path) -> str:
    others = [name for name in ("tokenizer.model", "vocab.json") if (folder / name).is_file()]
    if not others:
        return f"{folder} has no tokenizer.json; copy the tokenizer files of the model beside its weights"
    return (
        f"{folder} has {others[0]} but no tokenizer.json; make one with transformers: "
        f"AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    )


def recognise(tokenizer: Mapping[str, Any], folder: Path) -> tuple[PreTokenizer, str | None]:
    """Which known tokenizer this is, and its normalizer. Raises CheckpointError naming what is unknown."""

    def unknown(what: str) -> NoReturn:
        known = ", ".join(p.name for p in PRE_TOKENIZERS)
        raise CheckpointError(f"{folder}/tokenizer.json: {what} is unknown; known pre-tokenizers are {known}")

    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        unknown(f"tokenizer model {_short(model.get('type') if isinstance(model, dict) else model)}")
    for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            unknown(f"BPE with {key} {_short(model[key])}")
    if (tokenizer.get("decoder") or {}).get("type") != "ByteLevel":
        unknown(f"decoder {_short(tokenizer.get('decoder'))}")
    regex = _split_regex(tokenizer.get("pre_tokenizer"))
    pre = next((p for p in PRE_TOKENIZERS if p.regex == regex), None)
    if pre is None:
        unknown(f"pre-tokenizer {_short(regex or tokenizer.get('pre_tokenizer'))}")
    if bool(model.get("ignore_merges")) != pre.ignore_merges:
        unknown(f"ignore_merges {model.get('ignore_merges')} with the pre-tokenizer of {pre.name}")
    return pre, _normalizer(tokenizer.get("normalizer"), unknown)


def _split_regex(pre_tokenizer: Any) -> str | None:
    """The regex of `Sequence[Split(regex, Isolated), ByteLevel(no prefix space, no regex)]`, else None."""
    parts = pre_tokenizer.get("pretokenizers") if isinstance(pre_tokenizer, dict) else None
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, dict) for p in parts):
        return None
    split, level = parts
    exact = split.get("type") == "Split" and split.get("behavior") == "Isolated" and not split.get("invert")
    plain = (
        level.get("type") == "ByteLevel" and not level.get("add_prefix_space") and not level.get("use_regex")
    )
    pattern = split.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    return regex if exact and plain and isinstance(regex, str) else None


def _normalizer(normalizer: Any, unknown: Any) -> str | None:
    parts = normalizer.get("normalizers") if isinstance(normalizer, dict) else None
    if isinstance(parts, list) and len(parts) <= 1:
        normalizer = parts[0] if parts else None
    if normalizer is None:
        return None
    if isinstance(normalizer, dict) and normalizer.get("type") == "NFC":
        return "NFC"
    unknown(f"normalizer {_short(normalizer)}")
    return None


def _tokens(
    vocab: Mapping[str, int], added: Mapping[int, AddedToken], n_vocab: int, folder: Path
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Text and type of every row; rows without a token are `[PAD<id>]`, as llama.cpp's converter has them."""
    by_id: dict[int, str] = {}
    for token, index in vocab.items():
        if not _is_id(index) or index in by_id:
            raise CheckpointError(
                f"{folder}/tokenizer.json: token {_short(token)} has the bad id {_short(index)}"
            )
        by_id[index] = token
    by_id |= {index: token.content for index, token in added.items()}
    if by_id and max(by_id) >= n_vocab:
        raise CheckpointError(
            f"{folder}: the tokenizer has ids up to {max(by_id)} but the model only {n_vocab} rows "
            f"(vocab_size in config.json); the tokenizer belongs to another model"
        )
    tokens, types = [], []
    for index in range(n_vocab):
        token, kind = by_id.get(index, f"[PAD{index}]"), NORMAL if index in by_id else UNUSED
        if index in added:
            kind = CONTROL if added[index].special or looks_special(token) else USER_DEFINED
            token = token.replace("\u2581", " ") if kind == USER_DEFINED else token
        tokens.append(token)
        types.append(kind)
    _distinct(tokens, folder)
    return tuple(tokens), tuple(types)


def looks_special(token: str) -> bool:
    """Whether an added token is a control token although its entry does not say so.

    The rule of llama.cpp's converter, because its runtime treats control tokens differently.
    """
    if token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]"):
        return True
    return any(
        token.startswith(start) and token.endswith(end)
        for start, end in (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    )


def _distinct(tokens: Sequence[str], folder: Path) -> None:
    """llama.cpp aborts when two tokens are the same."""
    if len(set(tokens)) == len(tokens):
        return
    seen: set[str] = set()
    for index, token in enumerate(tokens):
        if token in seen:
            raise CheckpointError(
                f"{folder}/tokenizer.json: token {_short(token)} (id {index}) is there twice"
            )
        seen.add(token)


def _merges(merges: Any, folder: Path) -> tuple[str, ...]:
    """Merges as "left right". Pairs may hold spaces, which byte-level text writes as U+0120."""
    result = []
    for merge in merges if isinstance(merges, list) else ():
        if isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) for part in merge):
            merge = " ".join(part.replace(" ", "\u0120") for part in merge)
        if not isinstance(merge, str) or merge.count(" ") != 1:
            raise CheckpointError(f"{folder}/tokenizer.json: merge {_short(merge)} is malformed")
        result.append(merge)
    if not result:
        raise CheckpointError(f"{folder}/tokenizer.json has no merges; copy the model's own tokenizer files")
    return tuple(result)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def load_tokenizer(folder: Path, added: Mapping[int, AddedToken]) -> Any:
    """The checkpoint's tokenizer, with all its added tokens, as the `tokenizers` library runs it."""
    try:
        return tokenizer_files.library(folder / "tokenizer.json", added)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{folder}/tokenizer.json cannot be used: {str(error)[:200]}") from error
