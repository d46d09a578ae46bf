"""Byte-level BPE vocabularies of the two families, trained on the corpus.

The pre-tokenizer, normalizer, decoder and post-processor are those of the real families, so every tool that
recognises `qwen2` and `llama-bpe` recognises these; special tokens keep the real names, order and flags and
come after the BPE vocabulary. Digits never merge and Chinese content words are cut out first, so that tokens
do not glue a sentence's parts together.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgellm.models.training import corpus
from edgellm.models.training.tasks import facts, memory, sentiment, smalltalk, story, summary, translation

VOCAB_SIZE = 4096
#: Where the Chinese content words are read from.
_LEXICON_MODULES = (
    facts,
    sentiment,
    translation,
    summary,
    story,
    memory,
    smalltalk,
)
TRAINING_DIALOGUES = 60_000
SEED = 7

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?LETTERS+|DIGITS| ?[^\sMARKS\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
_QWEN_PLAIN = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
_LLAMA_SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", *(f"<|reserved_special_token_{i}|>" for i in range(3, 24)),
)  # fmt: skip
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """What sets one family's tokenizer and dialogue format apart."""

    marks: bool  # combining marks belong to the letters before them
    digits: str
    normalizer: dict[str, str] | None
    ignore_merges: bool
    special: tuple[tuple[str, bool], ...]
    bos: str | None
    before_role: str
    after_role: str
    end_of_turn: str
    after_turn: str
    pad: str
    template: str
    tokenizer_class: str
    eos: tuple[str, ...]


FAMILIES: dict[str, Family] = {
    "tiny-qwen3": Family(
        marks=False,
        digits=r"\p{N}",
        normalizer={"type": "NFC"},
        ignore_merges=False,
        special=(*((t, True) for t in _QWEN_SPECIAL), *((t, False) for t in _QWEN_PLAIN)),
        bos=None,
        before_role="<|im_start|>",
        after_role="\n",
        end_of_turn="<|im_end|>",
        after_turn="\n",
        pad="<|endoftext|>",
        template=CHATML,
        tokenizer_class="Qwen2Tokenizer",
        eos=("<|im_end|>", "<|endoftext|>"),
    ),
    "tiny-llama3": Family(
        marks=False,
        digits=r"\p{N}{1,3}",
        normalizer=None,
        ignore_merges=True,
        special=tuple((t, True) for t in _LLAMA_SPECIAL),
        bos="<|begin_of_text|>",
        before_role="<|start_header_id|>",
        after_role="<|end_header_id|>\n\n",
        end_of_turn="<|eot_id|>",
        after_turn="",
        pad="<|finetune_right_pad_id|>",
        template=HEADERS,
        tokenizer_class="PreTrainedTokenizerFast",
        eos=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
}


# Qwen3.5 is Qwen3 with marks counted as letters (Qwen3_5Tokenizer in transformers).
FAMILIES["tiny-qwen35"] = replace(FAMILIES["tiny-qwen3"], marks=True)


def render(family: Family, turns: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bool]]:
    """Pieces of a dialogue as (text, whether the model should learn to say it); equals the chat template."""
    if family.bos:
        yield family.bos, False
    for role, content in turns:
        yield f"{family.before_role}{role}{family.after_role}", False
        yield f"{content}{family.end_of_turn}", role == "assistant"
        if family.after_turn:
            yield family.after_turn, False


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif hasattr(value, "__dataclass_fields__"):
        yield from _strings(list(vars(value).values()))


def lexicon() -> list[str]:
    """The Chinese content words of the task tables, longest first."""
    words = {
        text
        for module in _LEXICON_MODULES
        for table in vars(module).values()
        for text in _strings(table)
        if re.fullmatch(r"[\u4e00-\u9fff]{1,5}", text)
    }
    return sorted(words, key=lambda word: (-len(word), word))


def training_lines(count: int = TRAINING_DIALOGUES, seed: int = SEED) -> Iterator[str]:
    """Corpus text with every Chinese content word on a line of its own."""
    cut = re.compile("(" + "|".join(lexicon()) + ")")
    for dialogue in itertools.islice(corpus.dialogues(seed, "tiny-model"), count):
        for turn in dialogue.turns:
            for text in turn:
                yield from (part for part in cut.split(text) if part)


def _split(family: Family) -> str:
    """The pre-tokenizer's pattern."""
    letters, marks = (r"[\p{L}\p{M}]", r"\p{L}\p{M}") if family.marks else (r"\p{L}", r"\p{L}")
    return _SPLIT.replace("LETTERS", letters).replace("MARKS", marks).replace("DIGITS", family.digits)


def train(name: str) -> dict[str, Any]:
    """Train one family's vocabulary; returns the content of tokenizer.json."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    family = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE())
    pattern = _split(replace(family, digits=r"\p{N}"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(family.special),
        min_frequency=2,
        max_token_length=24,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_lines(), trainer)
    return _assemble(family, json.loads(tokenizer.to_str())["model"])


def _assemble(family: Family, trained: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json with the family's own pipeline around a trained vocabulary."""
    vocab: dict[str, int] = trained["vocab"]
    ids = {text: len(vocab) + i for i, (text, _) in enumerate(family.special)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    split = {"Regex": _split(family)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[text], "content": text, **flags, "special": special}
            for text, special in family.special
        ],
        "normalizer": family.normalizer,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": split, "behavior": "Isolated", "invert": False},
                {**byte_level, "add_prefix_space": False, "use_regex": False},
            ],
        },
        "post_processor": _post_processor(family, ids),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": family.ignore_merges,
            "vocab": vocab,
            "merges": trained["merges"],
        },
    }


def _post_processor(family: Family, ids: dict[str, int]) -> dict[str, Any] | None:
    """Llama 3 puts its BOS before every text; Qwen adds nothing."""
    if family.bos is None:
        return None
    bos = {"SpecialToken": {"id": family.bos, "type_id": 0}}
    a, b = ({"Sequence": {"id": which, "type_id": 0}} for which in "AB")
    entry = {"id": family.bos, "ids": [ids[family.bos]], "tokens": [family.bos]}
    return {
        "type": "TemplateProcessing",
        "single": [bos, a],
        "pair": [bos, a, bos, b],
        "special_tokens": {family.bos: entry},
    }


def save(name: str, out_dir: Path) -> dict[str, int]:
    """Train and write tokenizer.json and tokenizer_config.json; returns the ids of the special tokens."""
    family = FAMILIES[name]
    data = train(name)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "tokenizer.json").write_text(
        json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    decoder = {str(each["id"]): {k: v for k, v in each.items() if k != "id"} for each in data["added_tokens"]}
    config = {
        "add_bos_token": family.bos is not None,
        "added_tokens_decoder": decoder,
        "bos_token": family.bos,
        "chat_template": family.template,
        "clean_up_tokenization_spaces": False,
        "eos_token": family.end_of_turn,
        "model_max_length": 2048,
        "pad_token": family.pad,
        "tokenizer_class": family.tokenizer_class,
    }
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (out_dir / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    return {each["content"]: each["id"] for each in data["added_tokens"]}
