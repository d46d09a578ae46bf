"""Tokenizer files with any value of a wrong type: read as if it were not there, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import layouts
import pytest

from edgellm.convert.checkpoint.folder import read_json
from edgellm.convert.checkpoint.tokenizer import load_tokenizer, read_tokenizer
from edgellm.convert.onnx import proto
from edgellm.convert.verify import transformers_rules
from edgellm.errors import EdgellmError
from edgellm.formats import onnx_folder

WRONG: tuple[Any, ...] = (None, 7, -1, 1e99, True, "x", [], [1], [[]], {}, {"a": 1}, {"content": 3})
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.json",
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, but for the vocabulary's own tokens and merges."""
    yield path
    if path[-1:] in (("vocab",), ("merges",)):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def _convert(folder: Path) -> None:
    config, generation = (
        read_json(folder, "config.json") or {},
        read_json(folder, "generation_config.json") or {},
    )
    load_tokenizer(folder, read_tokenizer(folder, config, generation, config["vocab_size"]).added)


READERS = {
    "converter": _convert,
    "proof": transformers_rules.read,
    "other people's folders": onnx_folder.read,
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("reader", READERS)
def test_wrong_types_are_one_line(reader: str, file: str, tmp_path: Path) -> None:
    folder = layouts.write("llama", "added_tokens.json and special_tokens_map.json", tmp_path)
    made = layouts.Folder(folder)
    made.change(
        "tokenizer_config.json",
        chat_template=[{"name": "default", "template": "x"}],
        extra_special_tokens={"e": "<e>"},
    )
    made.change("chat_template.json", chat_template="y")
    (folder / "model.onnx").write_bytes(proto.model("g", [], [], [], [], {}, ("test", "1")))
    whole, refused = made.read(file), 0
    for place in places(whole):
        for wrong in WRONG:
            (folder / file).write_text(json.dumps(put(whole, place, wrong)), encoding="utf-8")
            try:
                READERS[reader](folder)
            except EdgellmError as error:
                refused += 1
                assert "\n" not in str(error), (place, wrong)
    assert refused or file == "chat_template.json"
    (folder / file).write_text(json.dumps(whole), encoding="utf-8")
    READERS[reader](folder)
