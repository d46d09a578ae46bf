"""The reference for everything about a tokenizer: a checkpoint folder read as transformers reads it.

The proof's own eyes: the converter does not import this, and this imports nothing of the converter's, so that
neither can repeat the other's mistake. Follows transformers 5: PreTrainedTokenizerBase._from_pretrained,
TokenizersBackend.__init__ and Qwen2Tokenizer.__init__, step by step and with the same library, and
GenerationMixin.adjust_generation_fn for the ends. One thing is not copied: where Qwen2Tokenizer builds the
tokenizer anew and drops tokens that tokenizer.json alone names, they are kept, as transformers 4 does. And a
special token that has a name but no row in the embedding is no token here: its id stops transformers' model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm.errors import CheckpointError

_ATTRIBUTES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]


@dataclass(frozen=True)
class Reading:
    """What a stranger with transformers gets from a folder."""

    tokenizer: Any  # the `tokenizers` library's, with every added token
    special_tokens: Mapping[str, str]  # `tokenizer.special_tokens_map`, which templates are given
    templates: Mapping[str, str] = field(repr=False)  # by name; the usual one is "default"
    end_ids: frozenset[int]  # where `generate` ends

    def id_of(self, name: str) -> int | None:
        """The id of a named token, None when there is none."""
        text = self.special_tokens.get(name)
        index: int | None = None if text is None else self.tokenizer.token_to_id(text)
        return index

    def encode(self, text: str, *, framed: bool = False) -> list[int]:
        """Ids of `text`; `framed` with what the post-processor puts around it."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=framed).ids
        return ids


def read(folder: Path) -> Reading:
    """Read a folder. Raises CheckpointError when a file is no JSON or the library refuses it."""
    try:
        return _read(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: transformers could not read its tokenizer files: {error}"
        ) from error


def _read(folder: Path) -> Reading:
    settings = _load(folder, "tokenizer_config.json")
    listed = _listed(folder, settings)
    config = _load(folder, "config.json")
    config = {
        **config.get("text_config", {}),
        **config,
    }  # a model that also sees: the numbers are its reader's
    class_name = _class_name(config, settings)
    if class_name.startswith("Qwen"):  # the defaults of its __init__
        settings = {
            "unk_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
        } | settings
    elif padding := _load(folder, "tokenizer.json").get("padding"):  # TokenizersBackend's `setdefault`
        settings = {"pad_token": padding["pad_token"]} | settings
    special, extra = _special_tokens(settings)
    tokenizer = _tokenizer(folder / "tokenizer.json", listed, set(special.values()))
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for text in (*special.values(), *extra):
        if class_name == "Qwen2Tokenizer" or text not in known:  # Qwen2Tokenizer adds them all anew
            _add_special(tokenizer, text, config.get("vocab_size"))
    return Reading(tokenizer, special, _templates(folder, settings), _ends(folder, config))


def _load(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _class_name(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """AutoTokenizer's choice among the classes of our families (TOKENIZER_MAPPING_NAMES)."""
    model_type, hub = config.get("model_type", ""), settings.get("tokenizer_class") or ""
    if not model_type.startswith("qwen"):
        return "TokenizersBackend"
    if model_type in ("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text") or hub == "Qwen3_5Tokenizer":
        return "Qwen3_5Tokenizer"  # whatever the file says of the former
    if model_type == "qwen2" or hub in ("", "Qwen2Tokenizer", "Qwen2TokenizerFast"):
        return "Qwen2Tokenizer"
    return "TokenizersBackend"


def _listed(folder: Path, settings: dict[str, Any]) -> dict[int, Any]:
    """`added_tokens_decoder`, or what the older files give in its place; these change `settings` as well."""
    from tokenizers import AddedToken

    if "added_tokens_decoder" in settings:
        return {int(i): AddedToken(**token) for i, token in settings["added_tokens_decoder"].items()}
    if "extra_special_tokens" not in settings:
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens", None)
    settings |= _load(folder, "special_tokens_map.json")
    special = {_content(settings[key]) for key in _ATTRIBUTES if settings.get(key)}
    special |= {_content(token) for token in settings["extra_special_tokens"] or []}
    return {
        index: AddedToken(text, normalized=text not in special, special=text in special)
        for text, index in _load(folder, "added_tokens.json").items()
    }


def _special_tokens(settings: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Tokens with a name, and those without."""
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    named = {key: settings[key] for key in _ATTRIBUTES if settings.get(key)}
    for key, value in settings.items():
        if key.endswith("_token") and key not in _ATTRIBUTES and isinstance(value, (str, dict)):
            named[key] = value
    if isinstance(extra, dict):
        named |= extra
        extra = []
    return {key: _content(value) for key, value in named.items()}, [_content(token) for token in extra]


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _tokenizer(path: Path, listed: Mapping[int, Any], special: set[str]) -> Any:
    """The library on tokenizer.json, with what else is listed added in transformers' order."""
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_buffer(path.read_bytes())
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path} cannot be used: {str(error)[:200]}") from error
    made.no_truncation()  # each call of transformers sets its own
    made.no_padding()
    seen = {repr(token) for token in made.get_added_tokens_decoder().values()}
    tokens = [token for _, token in sorted(listed.items()) if repr(token) not in seen]
    for token in tokens:
        token.special = token.special or token.content in special
    made.add_tokens(tokens)
    return made


def _add_special(tokenizer: Any, text: str, n_rows: int | None) -> None:
    from tokenizers import AddedToken

    n_tokens = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if tokenizer.token_to_id(text) is not None or n_rows is None or n_tokens < n_rows:
        tokenizer.add_tokens([AddedToken(text, special=True)])


def _templates(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Files go before tokenizer_config.json; chat_template.json is what processors, not tokenizers, fall back to."""
    more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    files = {"default": folder / "chat_template.jinja"} | {path.stem: path for path in more}
    found = {name: path.read_text(encoding="utf-8") for name, path in files.items() if path.is_file()}
    if found:
        return found
    value = settings.get("chat_template") or _load(folder, "chat_template.json").get("chat_template")
    if isinstance(value, list):
        return {entry["name"]: entry["template"] for entry in value}
    return {"default": value} if isinstance(value, str) else dict(value or {})


def _ends(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """generation_config.json's ids; config.json's when there is none there."""
    value = _load(folder, "generation_config.json").get("eos_token_id")
    value = config.get("eos_token_id") if value is None else value
    ids = value if isinstance(value, list) else [value]
    return frozenset(index for index in ids if isinstance(index, int) and index >= 0)
