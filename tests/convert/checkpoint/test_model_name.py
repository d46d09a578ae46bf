"""What names say, against examples from the hub (the golden test holds the rest against llama.cpp's converter)."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgellm.convert.checkpoint.model_card import general_keys, read_card
from edgellm.convert.checkpoint.model_name import NameParts, file_stem, read_name, size_label, title


@pytest.mark.parametrize(
    ("model_id", "n_params", "parts"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768,
         NameParts("Qwen2.5-0.5B-Instruct", "Qwen", "Qwen2.5", "Instruct", None, "0.5B")),
        ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400,
         NameParts("Llama-3.2-1B-Instruct", "meta-llama", "Llama-3.2", "Instruct", None, "1B")),
        ("Qwen3-30B-A3B", 30_532_122_624, NameParts("Qwen3-30B-A3B", None, "Qwen3", None, None, "30B-A3B")),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000,
         NameParts("DeepSeek-R1-Distill-Qwen-1.5B", "deepseek-ai", "DeepSeek-R1-Distill-Qwen", None, None, "1.5B")),
        ("phi-3-mini-128k-instruct", 3_821_079_552,
         NameParts("phi-3-mini-128k-instruct", None, "phi-3", "128k-instruct", None, "mini")),
        ("mixtral-8x7B-v0.1", 46_702_792_704, NameParts("mixtral-8x7B-v0.1", None, "mixtral", None, "v0.1", "8x7B")),
        ("bloom-7b1", 7_069_016_064, NameParts("bloom-7b1", None, "bloom", None, None, "7.1B")),
        ("tiny-qwen3", 5_000_000, NameParts("tiny-qwen3")),
        ("my fine model", 0, NameParts("my fine model")),
        ("./model", 0, NameParts("model")),
    ],
)  # fmt: skip
def test_read_name(model_id: str, n_params: int, parts: NameParts) -> None:
    assert read_name(model_id, n_params) == parts


def test_title() -> None:
    assert title("some-model-v2-7b-Instruct") == "Some Model v2 7b Instruct"


@pytest.mark.parametrize(
    ("counts", "label"),
    [((494_032_768, 0, 0, 0), "494M"), ((1_235_814_400, 0, 0, 0), "1.2B"), ((8_030_261_248, 0, 0, 0), "8.0B"),
     ((84_000, 0, 0, 0), "84K"), ((30_532_122_624, 1_541_093_376, 226_492_416, 128), "128x1.8B")],
)  # fmt: skip
def test_size_label(counts: tuple[int, int, int, int], label: str) -> None:
    assert size_label(*counts) == label


def test_file_stem() -> None:
    assert (
        file_stem("Some Model", "Qwen2.5", "0.5B", "Instruct", "v1", "q4_k_m")
        == "Qwen2.5-0.5B-Instruct-v1-Q4_K_M"
    )
    assert file_stem("Some Model/x", None, None, None, None, "F16") == "Some-Model-x-F16"
    assert file_stem(None, None, None, "../../evil", None, "F16") == "model-..-..-evil-F16"


def test_a_hub_cache_folder_has_its_repository_s_name(tmp_path: Path) -> None:
    folder = tmp_path / "models--Qwen--Qwen3-0.6B" / "snapshots" / "c1899de289a04d12100db370d81485cdf75e47ca"
    folder.mkdir(parents=True)
    keys = general_keys(folder, {}, {}, 596_049_920)
    assert keys["general.name"] == ("str", "Qwen3 0.6B")
    assert keys["general.organization"] == ("str", "Qwen")


@pytest.mark.parametrize(
    "text",
    ["", "# No front matter", "---\nunclosed: true\n", "---\n: : :\n---\n", "---\n- a list\n---\n",
     "---\na: &a [*a]\n---\n", "---\nx: !!python/object/apply:os.system ['id']\n---\n"],
)  # fmt: skip
def test_a_card_that_says_nothing_or_nonsense_is_no_card(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    read_card(tmp_path)
    assert "general.license" not in general_keys(tmp_path, {}, {}, 0)


def test_scalars_of_a_card_stay_text(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nversion: 1.0\nlanguage: [no, yes]\nlicense:\n---\n", encoding="utf-8"
    )
    keys = general_keys(tmp_path, {}, {}, 0)
    assert keys["general.version"] == ("str", "1.0")
    assert keys["general.languages"] == ("arr[str]", ["no", "yes"])
    assert "general.license" not in keys


def test_aliases_do_not_explode(tmp_path: Path) -> None:
    """A billion laughs: lists of lists of lists; the keys we read are no such lists."""
    lines = ["---", "a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    (tmp_path / "README.md").write_text(
        "\n".join([*lines, "tags: *a1", "license: mit", "---"]), encoding="utf-8"
    )
    keys = general_keys(tmp_path, {}, {}, 0)
    assert keys["general.license"] == ("str", "mit")
