"""A model's tokenizer through the `tokenizers` library, with the meaning llama.cpp gives special tokens.

Tokens are bytes, for a character may span several; control tokens stand for none. Knows no engine.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from edgellm.errors import ArtifactError
from edgellm.formats import tokenizer_files
from edgellm.formats.tokenizer_files import AddedToken

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer:
    """Text to ids and an id to its bytes."""

    def __init__(
        self,
        folder: Path,
        control_ids: Collection[int],
        bos_id: int | None,
        added: Mapping[int, AddedToken],
    ) -> None:
        """`added` are tokens by id that tokenizer.json has to be told."""
        self._tokenizer = tokenizer = _load(folder / "tokenizer.json", added)
        self._control = frozenset(control_ids)
        self._bos_id = bos_id
        known = tokenizer.get_added_tokens_decoder()
        self._added = {index: token.content for index, token in known.items()}
        # Tokens that only look special (`<|fim_prefix|>` of Qwen2.5) are control tokens to llama.cpp.
        lacking = [known[i] for i in sorted(self._control & known.keys()) if not known[i].special]
        for token in lacking:
            token.special = True
        if lacking:
            tokenizer.add_special_tokens(lacking)
        self._byte_level = _is_byte_level(tokenizer.decoder)

    def encode(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Ids of `text`; with `special`, control tokens written out in it become their ids."""
        self._tokenizer.encode_special_tokens = not special  # whether they are taken for plain text
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._bos_id, *ids] if add_bos and self._bos_id is not None else ids

    def piece(self, token: int) -> bytes:
        """The bytes of a token: none for control tokens and for ids beyond the vocabulary."""
        if token in self._control:
            return b""
        if token in self._added:
            return str(self._added[token]).encode()
        text = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if self._byte_level:
            return _from_byte_level(text)
        if match := _BYTE_FALLBACK.fullmatch(text):
            return bytes([int(match[1], 16)])
        return str(text).replace("\u2581", " ").encode()


def _load(path: Path, added: Mapping[int, AddedToken]) -> Any:
    try:
        return tokenizer_files.library(path, added)
    except Exception as error:  # the library raises bare Exception
        raise ArtifactError(f"{path} cannot be read ({error}); convert the model again") from error


def _is_byte_level(decoder: Any) -> bool:
    """Whether tokens are spelled in byte-level BPE's alphabet: the decoder, or one of its parts, says so."""
    return decoder is not None and b'"ByteLevel"' in decoder.__getstate__()


@cache
def _byte_of() -> dict[str, int]:
    """Byte-level BPE's alphabet: printable bytes are themselves, the others are moved past U+0100 in order.

    Source: `bytes_to_unicode` of GPT-2 (https://github.com/openai/gpt-2/blob/master/src/encoder.py).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    found = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return found | {chr(0x100 + place): byte for place, byte in enumerate(others)}


def _from_byte_level(text: str) -> bytes:
    alphabet = _byte_of()
    if all(char in alphabet for char in text):
        return bytes(alphabet[char] for char in text)
    return text.encode()  # not of the alphabet: stored as plain text
