"""What a tokenizer does to text before it looks at it, and llama.cpp does not.

Qwen's tokenizers compose characters first (NFC): "e" and a combining acute become "é". llama.cpp takes text as
it is, so a decomposed text - file names from macOS, some input methods - gives other tokens than the model was
trained on. Text between special tokens is normalized, never across one, as the `tokenizers` library does.

Some added tokens take the spaces beside them (`lstrip`, `rstrip`), which llama.cpp knows of a few models by
their names only; where a file says which, the spaces go before the engine sees the text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Mapping
from typing import Any, Literal

KEY = "edgellm.tokenizer.normalizer"
#: Ids of the added tokens that take the spaces before, and after them.
LSTRIP_KEY, RSTRIP_KEY = "edgellm.tokenizer.lstrip_ids", "edgellm.tokenizer.rstrip_ids"
Form = Literal["NFC"] | None
#: Unicode's White_Space, which the library strips; Python's own `strip` takes four control characters more.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def form(metadata: Mapping[str, Any]) -> Form:
    """The normalization of a GGUF model's tokenizer, by its header."""
    # Files of other programs do not say; every Qwen tokenizer with this name has NFC.
    return "NFC" if metadata.get(KEY, _usual(metadata)) == "NFC" else None


def normalized(text: str, form: Form) -> str:
    """`text`, which has no special tokens in it, as the tokenizer sees it."""
    return text if form is None else unicodedata.normalize(form, text)


def strip(pieces: list[str], left: Container[str], right: Container[str]) -> None:
    """Take the spaces beside special tokens, every second of `pieces`, in place.

    `left` and `right` are the tokens that take those before, and after them.
    """
    for i in range(1, len(pieces), 2):
        if pieces[i] in left:
            pieces[i - 1] = pieces[i - 1].rstrip(_SPACES)
        if pieces[i] in right:
            pieces[i + 1] = pieces[i + 1].lstrip(_SPACES)


def _usual(metadata: Mapping[str, Any]) -> str:
    return "NFC" if metadata.get("tokenizer.ggml.pre") in ("qwen2", "qwen35") else "none"
