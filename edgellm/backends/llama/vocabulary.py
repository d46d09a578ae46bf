"""Text to token ids and back: the file's token types say what is special, llama.cpp tokenizes what is plain text.

llama.cpp overrides the types by spelling (src/llama-vocab.cpp, "control-looking token"): `</s>`, a scrap of HTML in
Qwen's vocabulary, becomes a control token that ends answers. So special tokens are found here, as the `tokenizers`
library finds them - the leftmost, of several the longest - and llama.cpp never looks for any. A file without types,
and one with a tokenizer outside the verified families, is left to llama.cpp. Knows no session.
"""

from __future__ import annotations

import ctypes
import re
import sys
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgellm.errors import EngineError
from edgellm.formats.gguf.header import GgufFile
from edgellm.formats.gguf.reader import read_header
from edgellm.prompt import normalize

# gguf's token types (llama.h, enum llama_token_type).
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
#: The low byte of a special token's type: a loop in Python over 150,000 types takes 8 ms.
_SPECIAL = re.compile(b"[\x02\x03\x04]")
#: Keys that name a token at which an answer ends, whatever its type.
_ENDS = ("eos", "eot", "eom")
_STRIPS = (normalize.LSTRIP_KEY, normalize.RSTRIP_KEY)


class Vocabulary:
    """One model's tokens. `vocab` is its llama_vocab *; of a `foreign` one only llama.cpp knows the rules."""

    def __init__(
        self, lib: Any, vocab: Any, path: Path, metadata: Mapping[str, Any], *, foreign: bool = False
    ) -> None:
        self._lib, self._vocab = lib, vocab
        self.n_tokens: int = lib.llama_vocab_n_tokens(vocab)
        self._form = normalize.form(metadata)
        header = read_header(path)
        types, tokens = header.get("tokenizer.ggml.token_type"), header.get("tokenizer.ggml.tokens")
        self._typed = types is not None and not foreign
        found = {i: tokens[i] for i in _special_ids(types) if tokens[i]} if self._typed else {}
        self._ids = {token: i for i, token in found.items()}
        self.control = frozenset(i for i in found if types[i] != _USER_DEFINED)
        self._left, self._right = (_named(header, key, tokens) for key in _STRIPS)
        self._plain = _any_of(found[i] for i in found.keys() - self.control)
        self._all = _any_of(self._ids)
        self._named = {metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in _ENDS}
        self._pieces: dict[int, bytes] = {}

    @property
    def ends(self) -> frozenset[int]:
        """Ids that end an answer: those the file names, and control tokens that llama.cpp takes for ends."""
        candidates = self.control if self._typed else range(self.n_tokens)
        guessed = (i for i in candidates if self._lib.llama_vocab_is_eog(self._vocab, i))
        return frozenset((*guessed, *(i for i in self._named if isinstance(i, int))))

    @property
    def add_bos(self) -> bool:
        """Whether a text begins with BOS."""
        return bool(self._lib.llama_vocab_get_add_bos(self._vocab))

    @property
    def closing_id(self) -> int | None:
        """What is put after a whole text that nothing follows; a prompt is to be continued, and ends without."""
        adds = self._lib.llama_vocab_get_add_eos(self._vocab)
        return int(self._lib.llama_vocab_eos(self._vocab)) if adds else None

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Ids of `text`; BOS is put before it with `add_bos`, where the model wants one and the text has none."""
        ids: list[int] = []
        parts = (self._all if special else self._plain).split(text)
        normalize.strip(parts, self._left, self._right)
        for i, part in enumerate(parts):
            ids += [self._ids[part]] if i % 2 else self._plain_ids(part, special=special)
        bos = self._lib.llama_vocab_bos(self._vocab)
        return [bos, *ids] if add_bos and self.add_bos and ids[:1] != [bos] else ids

    def piece(self, token: int) -> bytes:
        """The bytes of a token, empty for control tokens."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = b"" if token in self.control else self._piece(token)
        return known

    def _plain_ids(self, text: str, *, special: bool) -> list[int]:
        data = normalize.normalized(text, self._form).encode()
        if not data:
            return []
        guess, room = special and not self._typed, len(data)
        for _ in range(2):
            ids = (self._lib.llama_token * room)()
            n = self._lib.llama_tokenize(self._vocab, data, len(data), ids, room, False, guess)
            if n >= 0:
                return list(ids[:n])
            room = -n  # more tokens than bytes: some vocabularies put a space before the text
        raise EngineError(f"the tokenizer failed on a text of {len(data)} bytes")

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = self._lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, self._typed)
            if n >= 0:
                return buffer.raw[:n]
            size = -n


def _special_ids(types: Any) -> Iterator[int]:
    """Where an array of i32 types holds a special one."""
    low = types.tobytes()[0 if sys.byteorder == "little" else types.itemsize - 1 :: types.itemsize]
    return (place.start() for place in _SPECIAL.finditer(low) if types[place.start()] < 256)


def _named(header: GgufFile, key: str, tokens: Any) -> frozenset[str]:
    """The tokens that a list of ids in the header names; what is no such list names none."""
    ids = header.get(key)
    known = range(len(tokens or ()))
    return frozenset(tokens[i] for i in ids if i in known) if isinstance(ids, array) else frozenset()


def _any_of(tokens: Any) -> re.Pattern[str]:
    """A regex with one group that finds the longest of `tokens` at the first place there is one."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
