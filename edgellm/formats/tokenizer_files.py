"""What the files of a Hugging Face folder say of its tokenizer, each file in its rank.

Up to nine files name tokens, templates and ends of answers, and they disagree. Who wins is what transformers
does (tokenization_utils_base.py, tokenization_utils_tokenizers.py, generation/utils.py; release 5), with one
difference: a token that tokenizer.json names is kept even where tokenizer_config.json lists others, as
transformers 4 has it. Knows parsed JSON only: who reads the files decides how, and what an error is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgellm.formats.nested_config import language_model

Json = Mapping[str, Any]

#: transformers' SPECIAL_TOKENS_ATTRIBUTES, in its order.
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: Models whose class transformers takes whatever the file says (MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS).
_OWN_CLASS = {"qwen2": "Qwen2Tokenizer"}
_OWN_CLASS |= dict.fromkeys(("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text"), "Qwen3_5Tokenizer")
#: What either takes for these when no file names them (models/qwen2/tokenization_qwen2.py).
_QWEN_DEFAULTS = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
TEMPLATE_FILE, TEMPLATE_FOLDER = "chat_template.jinja", "additional_chat_templates"


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text before it is split. `lstrip` and `rstrip` take the spaces beside it."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = False

    @classmethod
    def of(cls, entry: Any) -> AddedToken:
        """A token of any of the files. Raises ValueError when it is none."""
        if isinstance(entry, str):
            return cls(entry, special=True)
        if not isinstance(entry, Mapping) or not isinstance(entry.get("content"), str):
            raise ValueError(f"added token {str(entry)[:60]!r} is malformed")
        special = bool(entry.get("special"))
        flags = {name: bool(entry.get(name)) for name in ("single_word", "lstrip", "rstrip")}
        return cls(
            entry["content"], **flags, normalized=bool(entry.get("normalized", not special)), special=special
        )

    def as_json(self, index: int) -> dict[str, Any]:
        """The entry of tokenizer.json."""
        return {"id": index, **asdict(self)}


@dataclass(frozen=True)
class TokenizerFiles:
    """The files' contents; empty where there is none."""

    tokenizer: Json  # tokenizer.json
    settings: Json  # tokenizer_config.json
    legacy_names: Json  # special_tokens_map.json
    legacy_added: Json  # added_tokens.json
    config: Json
    generation: Json  # generation_config.json
    template_files: Mapping[str, str]  # chat_template.jinja is "default"; the others by their names
    old_template: Any  # chat_template.json's, which only transformers' processors read

    @cached_property
    def is_legacy(self) -> bool:
        """Whether tokenizer_config.json lists no tokens, so that the two older files count."""
        return not isinstance(self.settings.get("added_tokens_decoder"), Mapping)

    @cached_property
    def names(self) -> dict[str, str]:
        """Special tokens by name, as templates know them: `bos_token`, ..., and names of the model's own."""
        padding = self.tokenizer.get("padding")
        pad = _text(padding.get("pad_token")) if isinstance(padding, Mapping) else None
        defaults = _QWEN_DEFAULTS if self._class else {"pad_token": pad} if pad else {}
        found = {key: text for key, text in defaults.items() if key not in self._sources}  # null says: none
        found |= self.written_names
        return {key: found[key] for key in (*NAMES, *found) if key in found}

    @cached_property
    def written_names(self) -> dict[str, str]:
        """The names that stand in a file; `names` has the class's defaults, too."""
        source, extra = self._sources, self._sources.get("extra_special_tokens")
        own = {key: value for key, value in source.items() if key.endswith("_token") and key not in NAMES}
        own |= extra if isinstance(extra, Mapping) else {}
        named = {key: _text(value) for key, value in ({key: source.get(key) for key in NAMES} | own).items()}
        return {key: text for key, text in named.items() if text is not None}

    @cached_property
    def _sources(self) -> dict[str, Any]:
        return {**self.settings, **(self.legacy_names if self.is_legacy else {})}

    @cached_property
    def _class(self) -> str:
        """The class that transformers takes for a Qwen (models/auto/tokenization_auto.py), else nothing."""
        kind = str(self.config.get("model_type"))
        own = _OWN_CLASS.get(kind)
        named = str(self.settings.get("tokenizer_class") or "Qwen2Tokenizer").removesuffix("Fast")
        return own or (named if kind.startswith("qwen") and named in _OWN_CLASS.values() else "")

    @cached_property
    def added(self) -> dict[int, AddedToken]:
        """Every added token by its id: tokenizer.json's, those other files list, and the special ones by name."""
        n_rows = next(iter(_ids(self.config.get("vocab_size"))), None)
        book = _Book(self.tokenizer)
        for token in self._listed():
            named = token.content in self.names.values()
            book.add(replace(token, special=True) if named else token)
        extra = list(map(AddedToken.of, _extra(self._sources)))
        special = [AddedToken(text, special=True) for text in self.names.values()]
        for token in (*special, *extra):
            if n_rows is not None and book.index(token.content) >= n_rows:
                continue  # a name alone makes no row in the embedding: in transformers this id is an error, too
            if self._class == "Qwen2Tokenizer":  # adds them all anew
                book.add(AddedToken(token.content, special=True))
            elif not book.has(token.content):
                book.add(token)
        return book.by_id

    def _listed(self) -> list[AddedToken]:
        """The tokens listed outside tokenizer.json, in the order of the ids they are listed with."""
        if self.is_legacy:
            extra = _extra(self.settings) or self.legacy_names.get("extra_special_tokens") or ()
            names = {*self.names.values(), *(AddedToken.of(entry).content for entry in extra)}
            entries = {
                int(index): AddedToken(text, normalized=text not in names, special=text in names)
                for text, index in self.legacy_added.items()
            }
        else:
            decoder = self.settings["added_tokens_decoder"]
            entries = {int(index): AddedToken.of(entry) for index, entry in decoder.items()}
        return [entries[index] for index in sorted(entries)]

    @cached_property
    def chat_templates(self) -> dict[str, str]:
        """Chat templates by name; "default" is the usual one. A file goes before tokenizer_config.json."""
        if self.template_files:
            return dict(self.template_files)
        value = self.settings.get("chat_template")
        value = self.old_template if value is None else value
        if isinstance(value, list):
            value = {c.get("name"): c.get("template") for c in value if isinstance(c, Mapping)}
        named = value if isinstance(value, Mapping) else {"default": value}
        return {str(name): text for name, text in named.items() if isinstance(text, str)}

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Ids transformers' generate ends at: generation_config.json's where it has some, else config.json's."""
        found = _ids(self.generation.get("eos_token_id"))
        return tuple(found or _ids(self.config.get("eos_token_id")))

    @cached_property
    def opening(self) -> int | None:
        """The id of the token that the post-processor puts before every text, if it does.

        tokenizer_config.json's `add_bos_token` counts only where there is no tokenizer.json.
        """
        return self._framing(0)

    @cached_property
    def closing(self) -> int | None:
        """The same for the token after every text."""
        return self._framing(-1)

    def _framing(self, place: int) -> int | None:
        for processor in processors(self.tokenizer):
            single = processor.get("single") or []
            token = special_token(single[place]) if len(single) > 1 else None
            if token is not None:
                known = (processor.get("special_tokens") or {}).get(token) or {}
                return next(iter(_ids(known.get("ids"))), None)
        return None


def read(
    folder: Path,
    json_of: Callable[[str], Json | None],
    text_of: Callable[[Path, str], str | None],
    config: Json,
    generation: Json,
) -> TokenizerFiles:
    """The files of a folder. `json_of(name)` reads one of its JSON files, `text_of(folder, name)` a text.

    Raises ValueError where they hold what cannot be understood, and what the two functions raise.
    """
    more = folder / TEMPLATE_FOLDER
    names = sorted(path.name for path in more.glob("*.jinja")) if more.is_dir() else []
    texts = {"default": text_of(folder, TEMPLATE_FILE)}
    texts |= {name.removesuffix(".jinja"): text_of(more, name) for name in names}
    found = TokenizerFiles(
        tokenizer=json_of("tokenizer.json") or {},
        settings=json_of("tokenizer_config.json") or {},
        legacy_names=json_of("special_tokens_map.json") or {},
        legacy_added=json_of("added_tokens.json") or {},
        config=language_model(config),
        generation=generation,
        template_files={name: text for name, text in texts.items() if text is not None},
        old_template=(json_of("chat_template.json") or {}).get("chat_template"),
    )
    try:
        _ = found.added, found.names, found.chat_templates, found.ends, found.opening, found.closing
    except (TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"the tokenizer's files hold a value of a wrong type ({error})") from error
    return found


def library(path: Path, added: Mapping[int, AddedToken]) -> Any:
    """The `tokenizers` library on a tokenizer.json, with `added`. Raises what the library raises, a bare Exception.

    Truncation and padding belong to a call, and transformers resets them for each; a file may have kept some.
    """
    import tokenizers

    made = tokenizers.Tokenizer.from_buffer(path.read_bytes())
    made.no_truncation()
    made.no_padding()
    made.add_tokens([tokenizers.AddedToken(**asdict(token)) for _, token in sorted(added.items())])
    return made


def processors(tokenizer: Json) -> list[Json]:
    """tokenizer.json's post-processors, one after the other."""
    found = tokenizer.get("post_processor")
    parts = found.get("processors", [found]) if isinstance(found, Mapping) else []
    return [part for part in parts if isinstance(part, Mapping)]


def special_token(item: Any) -> str | None:
    """The text of a post-processor's template item that is a special token."""
    value = item.get("SpecialToken", {}).get("id") if isinstance(item, Mapping) else None
    return value if isinstance(value, str) else None


class _Book:
    """Added tokens by id, numbered as the `tokenizers` library does (tokenizer/added_vocabulary.rs)."""

    def __init__(self, tokenizer: Json) -> None:
        self._vocab: Mapping[str, int] = (tokenizer.get("model") or {}).get("vocab") or {}
        self.by_id: dict[int, AddedToken] = {}
        self._ids: dict[str, int] = {}
        for entry in tokenizer.get("added_tokens") or ():
            token = AddedToken.of(entry)
            if not _ids(entry.get("id")):
                raise ValueError(f"added token {str(entry)[:60]!r} is malformed")
            self._put(entry["id"], token)

    def _put(self, index: int, token: AddedToken) -> None:
        self.by_id[index] = token
        self._ids[token.content] = index

    def has(self, text: str) -> bool:
        return text in self._ids

    def add(self, token: AddedToken) -> None:
        """Add a token, or give one that is there other flags: it keeps its id, a new one gets the next."""
        self._put(self.index(token.content), token)

    def index(self, text: str) -> int:
        """The id a token has, or will get."""
        known = self._ids.get(text, self._vocab.get(text))
        last = max(self._ids.values(), default=-1)
        return max(last + 1, len(self._vocab)) if known is None else known


def _extra(source: Json) -> Sequence[Any]:
    """Special tokens without a name."""
    extra = source.get("extra_special_tokens") or source.get("additional_special_tokens")
    return extra if isinstance(extra, (list, tuple)) else ()


def _text(entry: Any) -> str | None:
    """A token's text: a string, or an object with its content."""
    if isinstance(entry, Mapping):
        entry = entry.get("content")
    return entry if isinstance(entry, str) and entry else None


def _ids(value: Any) -> list[int]:
    """The ids of a value that is one or a list. -1 stands for none."""
    return list(_each_id(value))


def _each_id(value: Any) -> Iterator[int]:
    for index in value if isinstance(value, list) else [value]:
        if isinstance(index, int) and not isinstance(index, bool) and index >= 0:
            yield index
