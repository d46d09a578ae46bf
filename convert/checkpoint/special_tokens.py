"""Special tokens of a checkpoint: which ids begin and end a sequence, what is added by itself, the chat template.

What transformers reads in a folder's files (formats/tokenizer_files.py) decides what begins and ends a text.
Which id gets which of GGUF's keys is as in llama.cpp's converter (gguf-py/gguf/vocab.py, SpecialVocab), so that
its programs find what they know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm.errors import CheckpointError
from edgellm.formats.tokenizer_files import TokenizerFiles, processors, special_token

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
    names: Mapping[str, str]  # what templates know: "bos_token" and so on, for those that are named
    chat_template: str | None
    named_templates: Mapping[str, str] = field(default_factory=dict)


def read_special_tokens(folder: Path, said: TokenizerFiles, tokens: Sequence[str]) -> SpecialTokens:
    """Settle the special tokens. Raises CheckpointError."""
    names = _Names(said)
    add = _additions(names, said)
    named = _ids(names, said)
    stop = _stop_ids(folder, said, named, len(tokens))
    ids = {**_config_ids(folder, said.config, len(tokens)), **named, "eos": _end(named, said, stop)}
    templates = {_template_name(name): text for name, text in said.chat_templates.items()}
    return SpecialTokens(
        ids=_with_all_ends({kind: ids[kind] for kind in names.kinds if kind in ids}, stop, tokens),
        add=add,
        stop_ids=stop,
        names=said.names,
        chat_template=templates.pop("default", None),
        named_templates={name: text for name, text in templates.items() if name},
    )


def _additions(names: _Names, said: TokenizerFiles) -> dict[str, bool]:
    """What is put around a text, by the post-processors. Corrects `names` by what they say.

    BOS is always told: without it, llama.cpp goes by the pre-tokenizer's name. A flag of tokenizer_config.json
    counts in transformers without a tokenizer.json only, so no flag that is set is taken from there.
    """
    add = {"bos": False}
    for processor in processors(said.tokenizer):
        add |= names.learn(processor, add)
    for kind in ("eos", "sep"):
        if said.settings.get(f"add_{kind}_token") is False:
            add.setdefault(kind, False)
    return add


class _Names:
    """Token texts by kind, as the files name them and corrected by the post-processor."""

    def __init__(self, said: TokenizerFiles) -> None:
        self.kinds = list(KINDS)
        self.texts = {kind: said.written_names.get(f"{kind}_token") for kind in KINDS}
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
            first, last = special_token(single[0]), special_token(single[-1])
            if first:
                self._learn_first(first)
                add["bos"] = first in (self.texts["bos"], self.texts["cls"])
            if last:
                self._learn_last(last)
                add["eos"] = last == self.texts["eos"]
        middle = _middle(pair, first, last)
        if middle:
            ends = (self.texts["sep"], self.texts["eos"])
            add["sep"] = (special_token(middle[0]) in ends and not last) or (
                len(middle) == 2 and special_token(middle[1]) in ends
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


def _middle(pair: Sequence[Any], first: str | None, last: str | None) -> Sequence[Any]:
    """What stands between A and B in a pair template."""
    if not pair:
        return ()
    start = 1 if first and special_token(pair[0]) == first else 0
    stop = -1 if last and special_token(pair[-1]) == last else None
    inner = pair[start:stop]
    sides = [item.get("Sequence", {}).get("id") for item in (inner[0], inner[-1])] if inner else []
    return inner[1:-1] if sides == ["A", "B"] else ()


def _ids(names: _Names, said: TokenizerFiles) -> dict[str, int]:
    """The ids of the named tokens."""
    by_text = {token.content: index for index, token in said.added.items()}
    return {kind: by_text[text] for kind, text in names.texts.items() if text in by_text}


def _config_ids(folder: Path, config: Mapping[str, Any], n_vocab: int) -> dict[str, int]:
    """The ids config.json has for kinds that no file names; eos is settled with the other ends."""
    found = {}
    for kind in KINDS:
        index = config.get(f"{kind}_token_id")
        if kind != "eos" and isinstance(index, int) and not isinstance(index, bool) and index >= 0:
            found[kind] = _in_range(index, f"{kind}_token_id", folder, n_vocab)
    return found


def _stop_ids(folder: Path, said: TokenizerFiles, ids: Mapping[str, int], n_vocab: int) -> tuple[int, ...]:
    """Where transformers' generate ends, and the tokenizer's own end of a text or turn.

    config.json counts where generation_config.json names none: Llama's class writes its default there, 2, which
    is `#` in Llama 3's vocabulary.
    """
    stop = {ids[kind] for kind in ("eos", "eot", "eom") if kind in ids}
    stop |= {_in_range(index, "eos_token_id", folder, n_vocab) for index in said.ends}
    if not stop:
        raise CheckpointError(
            f"{folder} names no eos token, so answers would never end; add eos_token to tokenizer_config.json"
        )
    return tuple(sorted(stop))


def _end(named: Mapping[str, int], said: TokenizerFiles, stop: Sequence[int]) -> int:
    """The one id GGUF's eos key takes."""
    index = named.get("eos", said.config.get("eos_token_id"))
    if isinstance(index, int) and index in stop:
        return index
    return said.ends[0] if said.ends else stop[0]


def _with_all_ends(ids: dict[str, int], stop: Sequence[int], tokens: Sequence[str]) -> dict[str, int]:
    """Give stop ids that llama.cpp would not recognise by their text a kind of their own, as far as there are.

    `eom` before `eot`: llama.cpp looks for an end-of-turn token by text when none is given.
    """
    ids = dict(ids)
    rest = [i for i in stop if i not in ids.values() and tokens[i] not in ENDS_BY_TEXT]
    for kind in ("eom", "eot"):
        if kind not in ids and rest:
            ids[kind] = rest.pop(0)
    return ids


def _template_name(name: str) -> str:
    """A template's name as part of a GGUF key."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def _in_range(index: int, what: str, folder: Path, n_vocab: int) -> int:
    if not 0 <= index < n_vocab:
        raise CheckpointError(
            f"{folder}: {what} is {index}, outside the {n_vocab} tokens; correct config.json or generation_config.json"
        )
    return index
