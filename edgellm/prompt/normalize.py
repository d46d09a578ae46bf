"""What a tokenizer does to text before it looks at it, and llama.cpp does not: Unicode normalization.

Qwen's tokenizers compose characters first (NFC): "e" and a combining acute become "é". llama.cpp takes text as
it is, so a decomposed text - file names from macOS, some input methods - gives other tokens than the model was
trained on. Text between special tokens is normalized, never across one, as the `tokenizers` library does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from edgellm.formats.gguf.reader import read_header

KEY = "edgellm.tokenizer.normalizer"
_CONTROL, _USER_DEFINED = 3, 4  # gguf's token types


class Normalizer:
    """The normalization of one GGUF model's tokenizer. Calling it with a text gives the text to tokenize."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self._path = path
        # Files of other programs do not say; every Qwen tokenizer with this name has NFC.
        form = metadata.get(KEY, "NFC" if metadata.get("tokenizer.ggml.pre") == "qwen2" else "none")
        self._form = cast(Literal["NFC"], form) if form == "NFC" else None

    def __call__(self, text: str, *, special: bool = True) -> str:
        """`text` normalized; with `special`, control tokens written out in it are kept as they are."""
        if self._form is None or unicodedata.is_normalized(self._form, text):
            return text
        pieces = self._patterns[special].split(text)
        pieces[::2] = [unicodedata.normalize(self._form, piece) for piece in pieces[::2]]
        return "".join(pieces)

    @cached_property
    def _patterns(self) -> dict[bool, re.Pattern[str]]:
        """Regexes of all special tokens (True) and of those that are found even in plain text (False)."""
        header = read_header(self._path)
        tokens, types = header.get("tokenizer.ggml.tokens", ()), header.get("tokenizer.ggml.token_type", ())
        kinds = {tokens[i]: int(kind) for i, kind in enumerate(types) if kind in (_CONTROL, _USER_DEFINED)}
        plain = [token for token, kind in kinds.items() if kind == _USER_DEFINED]
        return {True: _any_of(list(kinds)), False: _any_of(plain)}


def _any_of(tokens: list[str]) -> re.Pattern[str]:
    """A regex with one group that finds the longest of `tokens` at the first place there is one."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
