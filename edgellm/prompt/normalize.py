"""What a tokenizer does to text before it looks at it, and llama.cpp does not: Unicode normalization.

Qwen's tokenizers compose characters first (NFC): "e" and a combining acute become "é". llama.cpp takes text as
it is, so a decomposed text - file names from macOS, some input methods - gives other tokens than the model was
trained on. Text between special tokens is normalized, never across one, as the `tokenizers` library does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

KEY = "edgellm.tokenizer.normalizer"
Form = Literal["NFC"] | None


def form(metadata: Mapping[str, Any]) -> Form:
    """The normalization of a GGUF model's tokenizer, by its header."""
    # Files of other programs do not say; every Qwen tokenizer with this name has NFC.
    return "NFC" if metadata.get(KEY, _usual(metadata)) == "NFC" else None


def normalized(text: str, form: Form) -> str:
    """`text`, which has no special tokens in it, as the tokenizer sees it."""
    return text if form is None else unicodedata.normalize(form, text)


def _usual(metadata: Mapping[str, Any]) -> str:
    return "NFC" if metadata.get("tokenizer.ggml.pre") == "qwen2" else "none"
