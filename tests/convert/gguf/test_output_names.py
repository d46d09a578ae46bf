"""What a file is called when nobody says so: llama.cpp's naming convention, from a checkpoint and from a GGUF file.

Authority: `gguf.naming_convention` of the gguf package, given the keys that its reader finds in the file.
"""

from pathlib import Path

import gguf
import pytest
import tinymodels

from edgellm.convert.gguf.convert import ConvertRequest, convert


def said(path: Path) -> dict[str, str]:
    fields = gguf.GGUFReader(path).fields
    keys = ("name", "basename", "finetune", "version", "size_label")
    return {key: fields[f"general.{key}"].contents() for key in keys if f"general.{key}" in fields}


def conventional(path: Path, quant: str) -> str:
    keys = said(path)
    return gguf.naming_convention(
        keys.get("name"),
        keys.get("basename"),
        keys.get("finetune"),
        keys.get("version"),
        keys.get("size_label"),
        quant,
    )


@pytest.mark.parametrize("folder", ["Tiny-Qwen3-0.5B-Instruct-v2", "plain"])
def test_files_are_named_by_the_convention_whatever_they_come_from(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tinymodels.write(tinymodels.CASES["llama-256"], tmp_path / folder)
    first = convert(ConvertRequest(source, "F16")).path
    assert first.name == f"{conventional(first, 'F16')}.gguf"
    again = convert(ConvertRequest(first, "Q8_0")).path
    assert said(again) == said(first)
    assert again.name == f"{conventional(first, 'Q8_0')}.gguf"
