"""Special tokens of a checkpoint: which ids begin and end a sequence, what is added by itself, the chat template.

Four files have a say (tokenizer.json, tokenizer_config.json, config.json, generation_config.json), and they
disagree; the order of precedence is that of llama.cpp's converter (gguf-py/gguf/vocab.py, SpecialVocab), so that
its programs and ours see the same model. What it leaves out - all stop ids of generation_config.json - is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm.convert.checkpoint.folder import find_file, read_json
from edgellm.errors import CheckpointError

KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

#: Tokens llama.cpp ends a generation at because of their text (src/llama-vocab.cpp, special_eog_ids).
ENDS_BY_TEXT = frozenset(
    {
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "<|end_of_text|>",
        "<eos>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    }
)


@dataclass(frozen=True)
class SpecialTokens:
    """Special ids and settings by GGUF's kinds: bos, eos, unk, sep, pad, mask, eot, eom."""

    ids: Mapping[str, int]
    add: Mapping[str, bool]  # whether bos, eos or sep is put around a text by itself
    stop_ids: tuple[int, ...]  # every id that ends an answer, sorted
    chat_template: str | None
    named_templates: Mapping[str, str] = field(default_factory=dict)


def read_special_tokens(
    folder: Path,
    tokenizer: Mapping[str, Any],
    settings: Mapping[str, Any],
    configs: tuple[Mapping[str, Any], Mapping[str, Any]],
    tokens: Sequence[str],
) -> SpecialTokens:
    """Settle the special tokens. Raises CheckpointError.

    `settings` is tokenizer_config.json, `configs` config.json and generation_config.json.
    """
    names = _Names(settings)
    add: dict[str, bool] = {}
    for processor in _processors(tokenizer.get("post_processor")):
        add |= names.learn(processor, add)
    ids = _ids(names, tokenizer, configs[0], folder, len(tokens))
    for kind in names.kinds:
        flag = settings.get(f"add_{kind}_token")
        if isinstance(flag, bool):
            add.setdefault(kind, flag)
    stop = _stop_ids(folder, configs, ids, len(tokens))
    template, named = _templates(folder, settings)
    return SpecialTokens(
        ids=_with_all_ends(ids, stop, tokens),
        add={kind: value for kind, value in add.items() if kind in ("bos", "eos", "sep")},
        stop_ids=stop,
        chat_template=template,
        named_templates=named,
    )


class _Names:
    """Token texts by kind, from tokenizer_config.json and corrected by the post-processor."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.kinds = list(KINDS)
        self.texts = {kind: _text(settings.get(f"{kind}_token")) for kind in KINDS}
        self.known = bool(settings)
        for kind, stand_in in (("bos", "cls"), ("eos", "sep")):
            self.texts[kind] = self.texts[kind] or self.texts[stand_in]

    def learn(self, processor: Mapping[str, Any], add: Mapping[str, bool]) -> dict[str, bool]:
        """What a post-processor says is added around a text."""
        if processor.get("type") == "ByteLevel":
            return {kind: add.get(kind, False) for kind in ("bos", "eos")}
        if processor.get("type") == "TemplateProcessing":
            return self._learn_template(processor.get("single") or [], processor.get("pair") or [])
        return {}

    def _learn_template(self, single: Sequence[Any], pair: Sequence[Any]) -> dict[str, bool]:
        add: dict[str, bool] = {}
        first = last = None
        if len(single) > 1:
            first, last = _special(single[0]), _special(single[-1])
            if first:
                self._learn_first(first)
                add["bos"] = first in (self.texts["bos"], self.texts["cls"])
            if last:
                self._learn_last(last)
                add["eos"] = last == self.texts["eos"]
        middle = _middle(pair, first, last)
        if middle:
            ends = (self.texts["sep"], self.texts["eos"])
            add["sep"] = (_special(middle[0]) in ends and not last) or (
                len(middle) == 2 and _special(middle[1]) in ends
            )
        return add

    def _learn_first(self, text: str) -> None:
        if text not in (self.texts["bos"], self.texts["cls"]):
            self.texts["bos"] = self.texts["bos"] or text
            self.texts["cls"] = self.texts["cls"] or text

    def _learn_last(self, text: str) -> None:
        """The template's ending is the eos; what was called eos then ends a turn."""
        if text != self.texts["eos"]:
            for kind in ("eot", "eom"):
                if kind not in self.kinds:
                    self.kinds.append(kind)
                    self.texts[kind] = self.texts["eos"]
                    break
            self.texts["eos"] = text


def _processors(post_processor: Any) -> list[Mapping[str, Any]]:
    if not isinstance(post_processor, dict):
        return []
    processors = post_processor.get("processors", [post_processor])
    return [p for p in processors if isinstance(p, dict)]


def _special(item: Any) -> str | None:
    """The text of a template item that is a special token."""
    value = item.get("SpecialToken", {}).get("id") if isinstance(item, dict) else None
    return value if isinstance(value, str) else None


def _middle(pair: Sequence[Any], first: str | None, last: str | None) -> Sequence[Any]:
    """What stands between A and B in a pair template."""
    if not pair:
        return ()
    start = 1 if first and _special(pair[0]) == first else 0
    stop = -1 if last and _special(pair[-1]) == last else None
    inner = pair[start:stop]
    sides = [item.get("Sequence", {}).get("id") for item in (inner[0], inner[-1])] if inner else []
    return inner[1:-1] if sides == ["A", "B"] else ()


def _text(entry: Any) -> str | None:
    """A token of tokenizer_config.json: a string, or an object with its content."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) and entry else None


def _ids(
    names: _Names, tokenizer: Mapping[str, Any], config: Mapping[str, Any], folder: Path, n_vocab: int
) -> dict[str, int]:
    by_text: dict[str, int] = {}
    for entry in tokenizer.get("added_tokens") or ():
        by_text.setdefault(entry["content"], entry["id"])
    ids = {}
    for kind in names.kinds:
        text = names.texts.get(kind)
        index = by_text.get(text) if text and names.known else None
        index = config.get(f"{kind}_token_id") if index is None else index
        if isinstance(index, int) and not isinstance(index, bool):
            ids[kind] = _in_range(index, f"{kind}_token_id", folder, n_vocab)
    return ids


def _stop_ids(
    folder: Path, configs: Sequence[Mapping[str, Any]], ids: Mapping[str, int], n_vocab: int
) -> tuple[int, ...]:
    """Every id any file calls an end of sequence."""
    stop = {ids[kind] for kind in ("eos", "eot", "eom") if kind in ids}
    for source in configs:
        value = source.get("eos_token_id")
        for index in value if isinstance(value, list) else [value]:
            if isinstance(index, int) and not isinstance(index, bool):
                stop.add(_in_range(index, "eos_token_id", folder, n_vocab))
    if not stop:
        raise CheckpointError(
            f"{folder} names no eos token, so answers would never end; add eos_token to tokenizer_config.json"
        )
    return tuple(sorted(stop))


def _with_all_ends(ids: dict[str, int], stop: Sequence[int], tokens: Sequence[str]) -> dict[str, int]:
    """Give stop ids that llama.cpp would not recognise by their text a kind of their own, as far as there are.

    `eom` before `eot`: llama.cpp looks for an end-of-turn token by text when none is given.
    """
    ids = dict(ids)
    if "eos" not in ids:
        ids["eos"] = stop[0]
    rest = [i for i in stop if i not in ids.values() and tokens[i] not in ENDS_BY_TEXT]
    for kind in ("eom", "eot"):
        if kind not in ids and rest:
            ids[kind] = rest.pop(0)
    return ids


def _templates(folder: Path, settings: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The chat template and the ones with a name: tokenizer_config.json first, then files beside it."""
    value = settings.get("chat_template", _template_file(folder))
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, list):
        return None, {}
    named = {}
    for choice in value:
        if isinstance(choice, dict) and isinstance(choice.get("template"), str):
            name = "".join(c if c.isascii() and c.isalnum() else "_" for c in str(choice.get("name", "")))
            if name:
                named[name] = choice["template"]
    return named.pop("default", None), named


def _template_file(folder: Path) -> object:
    path = find_file(folder, "chat_template.jinja")
    if path is None:
        return (read_json(folder, "chat_template.json") or {}).get("chat_template")
    more = folder / "additional_chat_templates"
    names = sorted(p.name for p in more.glob("*.jinja"))
    if not names:
        return _read_text(path)
    found = [(name, find_file(more, name)) for name in names]
    return [{"name": "default", "template": _read_text(path)}] + [
        {"name": name.removesuffix(".jinja"), "template": _read_text(file)} for name, file in found if file
    ]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _in_range(index: int, what: str, folder: Path, n_vocab: int) -> int:
    if not 0 <= index < n_vocab:
        raise CheckpointError(
            f"{folder}: {what} is {index}, outside the {n_vocab} tokens; correct config.json or generation_config.json"
        )
    return index
