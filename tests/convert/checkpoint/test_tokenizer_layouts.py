"""Tokens, names, templates and ends of every layout of a folder, against what transformers says of it.

The authority is tests/golden/tokenizer_layouts.json, made by transformers; where it is installed, the file is
held against it as well. Held to it, each by itself: what the converter reads, what the proof's reference reads,
what either engine makes of the converted model, and what is read of other people's ONNX folders.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import layouts
import pytest
from places import GOLDEN
from vocab_only import EngineVocabulary

from edgellm.backends.ort.tokenizer import Tokenizer
from edgellm.convert.checkpoint.folder import read_json
from edgellm.convert.checkpoint.tokenizer import CONTROL, Vocabulary, load_tokenizer, read_tokenizer
from edgellm.convert.onnx import manifest, proto, writer
from edgellm.convert.verify import transformers_rules
from edgellm.formats import onnx_folder
from edgellm.models import bundled
from edgellm.prompt.model_template import names_of
from edgellm.prompt.template import ChatTemplate

_SPEC = importlib.util.spec_from_file_location("golden_layouts", GOLDEN / "make_tokenizer_layouts.py")
assert _SPEC and _SPEC.loader
golden_layouts = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden_layouts)
MESSAGES, TOOL = golden_layouts.MESSAGES, golden_layouts.TOOL

EXPECTED: dict[str, Any] = json.loads(golden_layouts.GOLDEN.read_text(encoding="utf-8"))
VERSION = EXPECTED.pop("transformers")
ALL = pytest.mark.parametrize("name", EXPECTED)


def folder_of(name: str, path: Path) -> Path:
    family, layout = name.split(": ", 1)
    return layouts.write(family, layout, path / "model")


def vocabulary_of(folder: Path) -> Vocabulary:
    config, generation = (read_json(folder, f"{name}config.json") or {} for name in ("", "generation_"))
    config = config.get("text_config", {}) | config
    return read_tokenizer(folder, config, generation, config["vocab_size"])


def ends(expected: dict[str, Any]) -> tuple[set[int], set[int]]:
    """The ids at which transformers' generate ends, and the tokenizer's own end as well."""
    eos = expected["special_tokens"].get("eos_token")
    own = {int(index) for index, token in expected["added"].items() if token[0] == eos}
    return set(expected["stop_ids"]), set(expected["stop_ids"]) | own


def test_every_layout_is_in_the_golden_file() -> None:
    assert set(EXPECTED) == {f"{family}: {name}" for family in layouts.FAMILIES for name in layouts.LAYOUTS}


@pytest.mark.transformers
def test_the_golden_file_is_what_transformers_says(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for n, (name, expected) in enumerate(EXPECTED.items()):
        assert golden_layouts.ask(folder_of(name, tmp_path / str(n))) == expected, name


@ALL
def test_the_converter_reads_what_transformers_reads(name: str, tmp_path: Path) -> None:
    expected, vocabulary = EXPECTED[name], vocabulary_of(folder_of(name, tmp_path))
    added = {str(i): [t.content, t.special, t.lstrip, t.rstrip] for i, t in vocabulary.added.items()}
    assert added == expected["added"]
    assert [vocabulary.tokens[int(i)] for i in added] == [token[0] for token in added.values()]
    assert all(vocabulary.types[int(i)] == CONTROL for i, token in added.items() if token[1])
    assert vocabulary.special.names == expected["special_tokens"]
    needed, allowed = ends(expected)
    assert needed <= set(vocabulary.special.stop_ids) <= allowed
    assert vocabulary.special.ids["eos"] in allowed


@ALL
def test_the_proof_reads_what_transformers_reads(name: str, tmp_path: Path) -> None:
    expected, reading = EXPECTED[name], transformers_rules.read(folder_of(name, tmp_path))
    added = reading.tokenizer.get_added_tokens_decoder()
    assert {str(i): [t.content, t.special, t.lstrip, t.rstrip] for i, t in added.items()} == expected["added"]
    assert {text: reading.encode(text) for text in expected["plain"]} == expected["plain"]
    assert reading.encode("the end", framed=True) == expected["framed"]
    assert reading.special_tokens == expected["special_tokens"]
    assert reading.end_ids == set(expected["stop_ids"])
    templates = dict(reading.templates)
    assert rendered(templates.pop("default", None), reading.special_tokens, templates) == prompts(expected)


@ALL
def test_llama_cpp_gets_what_transformers_reads(name: str, tmp_path: Path) -> None:
    expected = EXPECTED[name]
    with EngineVocabulary(folder_of(name, tmp_path), tmp_path) as engine:
        found = {text: engine.ids(text) for text in expected["plain"]}
        assert found == expected["plain"]
        assert engine.engine_ids("the end", framed=True) == expected["framed"]
        header = engine.header()
    assert names_of(header) == expected["special_tokens"]
    named = {"tool_use": header.get("tokenizer.chat_template.tool_use")}
    assert rendered(header.get("tokenizer.chat_template"), names_of(header), named) == prompts(expected)
    needed, allowed = ends(expected)
    assert needed <= header.stop_ids <= allowed


@ALL
def test_onnx_runtime_gets_what_transformers_reads(name: str, tmp_path: Path) -> None:
    expected, source = EXPECTED[name], folder_of(name, tmp_path)
    vocabulary, folder = vocabulary_of(source), tmp_path / "onnx"
    folder.mkdir()
    writer.write_tokenizer(source, vocabulary, folder)
    said = manifest.tokenizer(vocabulary)
    tokenizer = Tokenizer(folder, said["control_ids"], said["bos_token_id"], {})
    assert ids(tokenizer, expected) == expected["plain"]
    assert tokenizer.encode("the end", special=True, add_bos=said["add_bos"]) == expected["framed"]
    assert said["names"] == expected["special_tokens"]
    special = vocabulary.special
    assert rendered(special.chat_template, special.names, special.named_templates) == prompts(expected)
    # Other programs read the folder we write as they would have read the checkpoint, and cut nothing.
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert written["truncation"] is None and written["padding"] is None
    again = transformers_rules.read(folder)
    assert {text: again.encode(text) for text in expected["plain"]} == expected["plain"]
    assert again.special_tokens == expected["special_tokens"]


@ALL
@pytest.mark.parametrize("maker", ["optimum", "genai"])
def test_other_peoples_folders_are_read_as_transformers_reads_them(
    name: str, maker: str, tmp_path: Path
) -> None:
    expected, path = EXPECTED[name], folder_of(name, tmp_path)
    (path / "model.onnx").write_bytes(proto.model("g", [], [], [], [], {}, ("test", "1")))
    if maker == "genai":
        model = {
            "decoder": {"filename": "model.onnx"},
            "type": "qwen2",
            "context_length": 64,
            "vocab_size": 336,
        }
        (path / "genai_config.json").write_text(
            json.dumps({"model": model | {"eos_token_id": expected["stop_ids"]}})
        )
    folder = onnx_folder.read(path)
    tokenizer = Tokenizer(path, folder.control_ids, folder.bos_id, folder.added)
    assert ids(tokenizer, expected) == expected["plain"]
    assert tokenizer.encode("the end", special=True, add_bos=folder.add_bos) == expected["framed"]
    assert folder.names == expected["special_tokens"]
    assert rendered(folder.chat_template, folder.names, folder.named_templates) == prompts(expected)
    needed, allowed = ends(expected)
    assert needed <= folder.eos_ids <= allowed


@ALL
def test_calibration_text_is_tokenized_as_transformers_does(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path)
    library, expected = load_tokenizer(folder, vocabulary_of(folder).added), EXPECTED[name]["plain"]
    assert {text: library.encode(text, add_special_tokens=False).ids for text in expected} == expected


def ids(tokenizer: Tokenizer, expected: dict[str, Any]) -> dict[str, list[int]]:
    return {text: tokenizer.encode(text, special=True, add_bos=False) for text in expected["plain"]}


def prompts(expected: dict[str, Any]) -> tuple[str | None, str | None]:
    return expected["prompt"], expected["tool_prompt"]


def rendered(source: str | None, names: Any, named: Any) -> tuple[str | None, str | None]:
    if source is None:
        return None, None
    template = ChatTemplate(source, names, named.get("tool_use"))
    return template.render(MESSAGES), template.for_tools().render(MESSAGES, tools=[TOOL])


def test_llama_cpp_ends_at_stop_ids_that_their_text_does_not_tell(tmp_path: Path) -> None:
    folder = shutil.copytree(bundled.path("tiny-qwen3"), tmp_path / "model")
    table = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    ids = {token["content"]: token["id"] for token in table}
    stop = {ids[text] for text in ("<|im_end|>", "<|quad_end|>", "<|box_end|>")}
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": sorted(stop)}))
    with EngineVocabulary(folder, tmp_path) as engine:
        assert engine.ends(stop | {ids["<|quad_start|>"]}) == stop
