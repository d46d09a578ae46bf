"""The proof of tokens, templates and ends: unusual folders pass whole, and a converter's misreading is found.

What is right is transformers' word (tests/golden/tokenizer_layouts.json). The misreadings are those the converter
once had, put back into it: the proof must not share them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import embedders
import layouts
import pytest
import tinymodels
from places import GOLDEN

from edgellm import backends
from edgellm.chat.conversation import Conversation, Message
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.convert.verify import gguf, transformers_rules
from edgellm.convert.verify.onnx import verify_onnx
from edgellm.errors import CheckFailedError
from edgellm.formats import onnx_folder
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.formats.tokenizer_files import AddedToken, TokenizerFiles
from edgellm.prompt.model_template import names_of, template_of
from edgellm.session import EngineOptions

EXPECTED: dict[str, Any] = json.loads((GOLDEN / "tokenizer_layouts.json").read_text(encoding="utf-8"))
FORMATS = pytest.mark.parametrize("made", ["gguf", "onnx"])


def converted(folder: Path, made: str, scratch: Path) -> Path:
    if made == "gguf":
        return convert(ConvertRequest(folder, "F32", scratch / "model.gguf")).path
    return convert_onnx(OnnxRequest(folder, "onnx-fp32", scratch / "out")).path


def verdict(path: Path, folder: Path) -> str:
    prove = verify_onnx if path.is_dir() else gguf.verify
    return prove(path, folder, backends.open_session).text


@FORMATS
@pytest.mark.parametrize("family", layouts.FAMILIES)
@pytest.mark.parametrize(
    "layout", ["everything at once", "tokens that strip", "post_processor null", "additional_chat_templates"]
)
def test_an_unusual_folder_is_converted_proved_and_run(
    family: str, layout: str, made: str, tmp_path: Path
) -> None:
    expected = EXPECTED[f"{family}: {layout}"]
    folder = layouts.write(family, layout, tmp_path / "model", weights=True)
    path = converted(folder, made, tmp_path)
    assert "give the same ids" in verdict(path, folder)
    artifact = Artifact.open(path)
    with backends.open_session(artifact, EngineOptions(n_ctx=512, n_threads=1)) as session:
        assert {text: session.tokenize(text) for text in expected["plain"]} == expected["plain"]
        framed = session.tokenize("the end", add_bos=session.info.add_bos)
        assert framed == expected["framed"]
        assert set(expected["stop_ids"]) <= session.info.eos_ids
        said = ["Grüße! What is 2 + 2?", "4", "And the other 1234?"]
        messages = [Message("user", said[0]), Message("assistant", said[1])]
        conversation = Conversation(session, template_of(artifact), messages=messages)
        conversation.ask(said[2]).close()
        rendered = template_of(artifact).render(
            [{"role": r, "content": c} for r, c in zip(("user", "assistant", "user"), said, strict=True)]
        )
        assert rendered == expected["prompt"]
    if made == "onnx":
        files = json.loads((path / "edgellm.json").read_text(encoding="utf-8"))["files"]
        assert {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()} == {*files, "edgellm.json"}


@FORMATS
@pytest.mark.parametrize("family", layouts.FAMILIES)
def test_a_special_token_without_a_row_is_no_token_of_the_model(
    family: str, made: str, tmp_path: Path
) -> None:
    """Fine-tunes name a pad token and leave the embedding as it was; transformers fails at its id alone."""
    whole = replace(layouts.FAMILIES[family], n_vocab={"llama": 305, "qwen3": 303, "qwen35": 303}[family])
    folder = tinymodels.write(whole, tmp_path / "model")
    layouts.Folder(folder).change("tokenizer_config.json", pad_token="<|pad_me|>")
    path = converted(folder, made, tmp_path)
    assert "give the same ids" in verdict(path, folder)
    assert tokenizer_names(path)["pad_token"] == "<|pad_me|>"


def tokenizer_names(path: Path) -> dict[str, str]:
    if path.is_dir():
        return dict(onnx_folder.read(path).names)
    return dict(names_of(read_header(path)))


@pytest.mark.parametrize("family", ["qwen3", "qwen35"])
def test_what_is_put_at_the_end_of_every_text_is_an_end(family: str, tmp_path: Path) -> None:
    """GGUF has one key for both, and llama.cpp ends an answer at what the key names."""
    folder = layouts.write(family, "plain", tmp_path / "model", weights=True)
    embedders.end_texts(folder)
    end = layouts.Folder(folder).added[0]["id"]
    for name in ("config.json", "generation_config.json"):
        layouts.Folder(folder).change(name, eos_token_id=EXPECTED[f"{family}: plain"]["stop_ids"][-1])
    path = converted(folder, "gguf", tmp_path)
    assert read_header(path).get("tokenizer.ggml.eos_token_id") == end
    assert transformers_rules.read(folder).encode("the end", framed=True)[-1] == end
    assert end not in transformers_rules.read(folder).end_ids
    assert "give the same ids" in verdict(path, folder)


@FORMATS
def test_an_ordinary_token_that_ends_answers_is_said(made: str, tmp_path: Path) -> None:
    folder = layouts.write(
        "llama", "eos 2 in config.json and no generation_config", tmp_path / "model", weights=True
    )
    assert "of which 2 ('#') is an ordinary token" in verdict(converted(folder, made, tmp_path), folder)


@FORMATS
def test_a_template_that_loses_the_user_is_refused(made: str, tmp_path: Path) -> None:
    folder = layouts.write("qwen3", "plain", tmp_path / "model", weights=True)
    layouts.Folder(folder).change("tokenizer_config.json", chat_template="{{ messages|length }} messages")
    with pytest.raises(CheckFailedError, match="leaves out"):
        verdict(converted(folder, made, tmp_path), folder)


def _tokenizer_json_alone(files: TokenizerFiles) -> dict[int, AddedToken]:
    return {entry["id"]: AddedToken.of(entry) for entry in files.tokenizer["added_tokens"]}


def _all_ends(files: TokenizerFiles) -> tuple[int, ...]:
    found = [source.get("eos_token_id") for source in (files.config, files.generation)]
    return tuple(
        i for value in found for i in (value if isinstance(value, list) else [value]) if i is not None
    )


def _config_names(files: TokenizerFiles) -> dict[str, str]:
    by_id = {entry["id"]: entry["content"] for entry in files.tokenizer["added_tokens"]}
    return files.written_names | {"bos_token": by_id[files.config["bos_token_id"]]}


def _settings_template(files: TokenizerFiles) -> dict[str, str]:
    return {"default": files.settings["chat_template"]}


def _no_strips(files: TokenizerFiles) -> dict[int, AddedToken]:
    return {index: AddedToken(token.content) for index, token in TRULY_ADDED(files).items()}


TRULY_ADDED: Callable[[TokenizerFiles], dict[int, AddedToken]] = TokenizerFiles.__dict__["added"].func
MISREADINGS = {  # what the converter takes from where, the layout that shows it, what the failure names
    "tokens of tokenizer.json alone": (
        "added",
        _tokenizer_json_alone,
        "added tokens only in tokenizer_config",
        "vocabulary",
    ),
    "tokens do not strip": ("added", _no_strips, "tokens that strip", "tokens|vocabulary"),
    "ends of all files": ("ends", _all_ends, "eos 2 left in config.json", "stop ids"),
    "bos from config.json": ("names", _config_names, "bos and pad in config.json alone", "chat template"),
    "tokenizer_config's template first": (
        "chat_templates",
        _settings_template,
        "chat_template.jinja beside tokenizer_config's",
        "chat template",
    ),
}


@FORMATS
@pytest.mark.parametrize("family", layouts.FAMILIES)
@pytest.mark.parametrize("name", MISREADINGS)
def test_a_misreading_of_the_converter_is_found(
    name: str, family: str, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attribute, wrong, layout, named = MISREADINGS[name]
    folder = layouts.write(family, layout, tmp_path / "model", weights=True)
    with monkeypatch.context() as patch:
        patch.setattr(TokenizerFiles, attribute, property(wrong))
        path = converted(folder, made, tmp_path)
    with pytest.raises(CheckFailedError, match=f"the check of the ({named})"):
        verdict(path, folder)
