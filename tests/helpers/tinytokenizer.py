"""A byte-level BPE tokenizer of 300 tokens for each kind of pre-tokenizer, made in memory for tests."""

from __future__ import annotations

from functools import cache

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MARKED = _SPLIT.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"\s\p{L}\p{N}", r"\s\p{L}\p{M}\p{N}")
_TEXT = (
    "the quick brown fox jumps over the lazy dog; it's the end, isn't it? 1234 times 56 is 69104.",
    "The other thing is that there are three of them. They're here and we'll be there.",
    "你好，世界。今天天气很好，我们去公园。今天我们学习中文。",
)
SPECIALS = {  # in id order, after the BPE vocabulary; the third field says which are bos and eos
    "llama": (
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        r"\p{N}{1,3}",
        ("<|begin_of_text|>", "<|eot_id|>"),
    ),
    "qwen": (
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        r"\p{N}",
        ("<|endoftext|>", "<|im_end|>"),
    ),
}
SPECIALS["qwen35"] = SPECIALS["qwen"]
TEMPLATES = {
    "llama": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' "
        "+ m['content'] + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "qwen": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
}
TEMPLATES["qwen35"] = TEMPLATES["qwen"]


@cache
def tokenizer_json(kind: str) -> str:
    """A byte-level BPE tokenizer of 300 tokens and the special ones, of a `kind` of SPECIALS, as tokenizer.json."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from tokenizers.trainers import BpeTrainer

    specials, digits, (bos, _) = SPECIALS[kind]
    split = _MARKED if kind == "qwen35" else _SPLIT
    made = Tokenizer(models.BPE(ignore_merges=kind == "llama"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split.replace("DIGITS", digits)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    if kind != "llama":
        made.normalizer = normalizers.NFC()
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=sorted(alphabet), show_progress=False)
    made.train_from_iterator(_TEXT, trainer)
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    if kind == "llama":
        made.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
        )
    return str(made.to_str())
