"""Tokens longer than the 64 bytes that an engine's first buffer holds, against the `tokenizers` library."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tensor_files
import tinymodels
from tokenizers import Tokenizer

from edgellm import backends
from edgellm.catalog import conversion
from edgellm.convert.gguf.convert import ConvertRequest
from edgellm.convert.verify.gguf import ENGINE

LONG = ["=" * 63, "=" * 64, "-" * 65, "你" * 40, "#" * 1000]  # 63, 64, 65, 120 and 1,000 bytes


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint whose tokenizer has long tokens, and its verified conversion."""
    place = tmp_path_factory.mktemp(request.param)
    folder = tinymodels.write(tinymodels.CASES[request.param], place / "model")
    file = folder / "tokenizer.json"
    made = json.loads(file.read_text(encoding="utf-8"))
    first = max(token["id"] for token in made["added_tokens"]) + 1
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for index, text in enumerate(LONG, first):
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        made["added_tokens"].append({"id": index, "content": text, **flags})
        config["added_tokens_decoder"][str(index)] = {"content": text, **flags}
    file.write_text(json.dumps(made), encoding="utf-8")
    tensor_files.write_json(folder / "tokenizer_config.json", config)
    done = conversion.run(ConvertRequest(folder, "F16", place / "model.gguf"))
    return folder, done.artifact.path


def test_their_bytes_and_ids_are_the_librarys(model: tuple[Path, Path]) -> None:
    folder, path = model
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    from edgellm.formats.artifact import Artifact

    with backends.open_session(Artifact.open(path), replace(ENGINE, n_ctx=96)) as session:
        for text in LONG:
            index = library.token_to_id(text)
            assert session.piece(index) == text.encode()
            assert (
                session.tokenize(f"a {text} b") == library.encode(f"a {text} b", add_special_tokens=False).ids
            )
        ids = session.tokenize("".join(LONG))
        assert ids == library.encode("".join(LONG), add_special_tokens=False).ids
        assert b"".join(map(session.piece, ids)).decode() == "".join(LONG)
