"""What a tokenizer does to text before it looks at it, and llama.cpp does not.

Qwen's tokenizers compose characters first (NFC): "e" and a combining acute become "é". llama.cpp takes text as
it is, so a decomposed text - file names from macOS, some input methods - gives other tokens than the model was
trained on. Text between special tokens is normalized, never across one, as the `tokenizers` library does.

Some added tokens take the spaces beside them (`lstrip`, `rstrip`), which llama.cpp knows of a few models by
their names only; where a file says which, the spaces go before the engine sees the text.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from edgellm.formats.gguf.reader import read_header

KEY = "edgellm.tokenizer.normalizer"
#: Ids of the added tokens that take the spaces before, and after them.
LSTRIP_KEY, RSTRIP_KEY = "edgellm.tokenizer.lstrip_ids", "edgellm.tokenizer.rstrip_ids"
_CONTROL, _USER_DEFINED = 3, 4  # gguf's token types
#: Unicode's White_Space, which the library strips; Python's own `strip` takes four control characters more.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class Normalizer:
    """The normalization of one GGUF model's tokenizer. Calling it with a text gives the text to tokenize."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        """`metadata` has the header's scalars; lists are read from the file."""
        self._path = path
        # Files of other programs do not say; every Qwen tokenizer with this name has NFC.
        form = metadata.get(KEY, "NFC" if metadata.get("tokenizer.ggml.pre") == "qwen2" else "none")
        self._form = cast(Literal["NFC"], form) if form == "NFC" else None
        header = read_header(path)
        self._left, self._right = (_ids(header.get(key)) for key in (LSTRIP_KEY, RSTRIP_KEY))

    def __call__(self, text: str, *, special: bool = True) -> str:
        """`text` normalized; with `special`, control tokens written out in it are kept as they are."""
        composes = self._form is not None and not unicodedata.is_normalized(self._form, text)
        if not composes and not (self._left or self._right):
            return text
        pieces = self._patterns[special].split(text)
        self._strip(pieces)
        if composes and self._form:
            pieces[::2] = [unicodedata.normalize(self._form, piece) for piece in pieces[::2]]
        return "".join(pieces)

    def _strip(self, pieces: list[str]) -> None:
        """Take the spaces beside the tokens, which are every second of the pieces."""
        left, right = self._stripping
        for i in range(1, len(pieces), 2):
            if pieces[i] in left:
                pieces[i - 1] = pieces[i - 1].rstrip(_SPACES)
            if pieces[i] in right:
                pieces[i + 1] = pieces[i + 1].lstrip(_SPACES)

    @cached_property
    def _stripping(self) -> tuple[set[str], set[str]]:
        """The tokens that take spaces before, and after them."""
        tokens = read_header(self._path).get("tokenizer.ggml.tokens", ())
        known = range(len(tokens))
        return {tokens[i] for i in self._left if i in known}, {tokens[i] for i in self._right if i in known}

    @cached_property
    def _patterns(self) -> dict[bool, re.Pattern[str]]:
        """Regexes of all special tokens (True) and of those that are found even in plain text (False)."""
        header = read_header(self._path)
        tokens, types = header.get("tokenizer.ggml.tokens", ()), header.get("tokenizer.ggml.token_type", ())
        kinds = {tokens[i]: int(kind) for i, kind in enumerate(types) if kind in (_CONTROL, _USER_DEFINED)}
        plain = [token for token, kind in kinds.items() if kind == _USER_DEFINED]
        return {True: _any_of(list(kinds)), False: _any_of(plain)}


def _ids(value: object) -> Sequence[int]:
    """A list of ids in a header; what is none counts as empty."""
    return value if isinstance(value, array) and value.typecode not in "fd" else ()


def _any_of(tokens: list[str]) -> re.Pattern[str]:
    """A regex with one group that finds the longest of `tokens` at the first place there is one."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
