"""A checkpoint's vocabulary, converted and loaded into llama.cpp without weights."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path

import metadata_cases as cases

from edgellm.backends.llama import lib, vocabulary
from edgellm.convert.checkpoint.tokenizer import CONTROL, USER_DEFINED
from edgellm.convert.gguf.writer import encode, layout
from edgellm.formats.gguf.header import GgufFile
from edgellm.formats.gguf.reader import read_header


class EngineVocabulary:
    """Our runtime's tokenizer on the keys we write for a folder, and llama.cpp's alone beside it."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        keys = cases.our_metadata(folder)
        self.path = scratch / f"{folder.name}.gguf"
        self.path.write_bytes(layout({k: encode(*v) for k, v in keys.items()}, []).header)
        kinds = zip(keys["tokenizer.ggml.tokens"][1], keys["tokenizer.ggml.token_type"][1], strict=True)
        self.special = [token for token, kind in kinds if kind in (CONTROL, USER_DEFINED)]
        self._metadata = {k: v for k, (_, v) in keys.items()}

    def __enter__(self) -> EngineVocabulary:
        self._lib = lib.load()
        params = self._lib.llama_model_default_params()
        params.vocab_only = True
        self._model = self._lib.llama_model_load_from_file(str(self.path).encode(), params)
        assert self._model
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.engine = vocabulary.Vocabulary(self._lib, self._vocab, self.path, self._metadata)
        return self

    def __exit__(self, *exc: object) -> None:
        self._lib.llama_model_free(self._model)

    def header(self) -> GgufFile:
        """The file's header, as our runtime reads it."""
        return read_header(self.path)

    def ids(self, text: str) -> list[int]:
        """Our ids of `text`."""
        return self.engine.tokenize(text, special=True, add_bos=False)

    def engine_ids(self, text: str, *, framed: bool = False) -> list[int]:
        """llama.cpp's ids of `text` as it is; `framed` with what it adds by itself."""
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 2))()
        n = self._lib.llama_tokenize(self._vocab, data, len(data), ids, len(ids), framed, True)
        return list(ids[:n])

    def ends(self, ids: Iterable[int]) -> set[int]:
        """Those of `ids` that llama.cpp ends an answer at."""
        return {index for index in ids if self._lib.llama_vocab_is_eog(self._vocab, index)}
