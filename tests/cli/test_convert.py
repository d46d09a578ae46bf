"""`edgellm convert` and `edgellm inspect` as a user meets them: exit codes, one line, nothing left behind."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensor_files
import tinymodels

from edgellm import cli, files
from edgellm.formats.gguf.reader import read_header


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `edgellm ...` in an empty folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["edgellm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out, err)

    return call


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tinymodels.write(tinymodels.variant("qwen3", n_shards=2), tmp_path / "Tiny-Chat")


def edit_json(path: Path, **changes: object) -> None:
    data = json.loads(path.read_text(encoding="utf-8")) | changes
    data = {key: value for key, value in data.items() if value is not None}
    tensor_files.write_json(path, data)


def no_architecture(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=None, model_type=None)


def unknown_architecture(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=["GPTNeoXForCausalLM"], model_type="gpt_neox")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def slow_tokenizer_only(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "vocab.json")


def sentencepiece(folder: Path) -> None:
    edit_json(folder / "tokenizer.json", model={"type": "Unigram", "vocab": []})


def unknown_pre_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace(r"\\p{N}", r"\\p{Nd}"), encoding="utf-8")


def unknown_normalizer(folder: Path) -> None:
    edit_json(folder / "tokenizer.json", normalizer={"type": "Lowercase"})


def vocabulary_too_large(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    entry = dict(tokenizer["added_tokens"][0], id=500, content="<beyond>")
    edit_json(folder / "tokenizer.json", added_tokens=[*tokenizer["added_tokens"], entry])


def eos_out_of_range(folder: Path) -> None:
    edit_json(folder / "generation_config.json", eos_token_id=[302, 100_000])


def no_eos(folder: Path) -> None:
    edit_json(folder / "config.json", eos_token_id=None)
    edit_json(folder / "generation_config.json", eos_token_id=None)
    edit_json(folder / "tokenizer_config.json", eos_token=None)


def a_token_twice(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    entry = dict(tokenizer["added_tokens"][0], id=310)
    edit_json(folder / "tokenizer.json", added_tokens=[*tokenizer["added_tokens"], entry])


def missing_shard(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()


def truncated_shard(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def pickle_weights(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")


def nan_weights(folder: Path) -> None:
    tiny = tinymodels.variant("qwen3", n_shards=2)
    values = {name: (tiny.dtype, value) for name, value in tinymodels.tensors(tiny).items()}
    values["model.layers.1.mlp.up_proj.weight"][1][3, 4] = np.nan
    tensor_files.write_shards(folder, values, 2)


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


BAD_SOURCES = {
    no_architecture: "names no architecture",
    unknown_architecture: "GPTNeoXForCausalLM'? is not supported; supported are",
    no_tokenizer: "no tokenizer.json",
    slow_tokenizer_only: "save_pretrained",
    sentencepiece: "tokenizer model 'Unigram' is unknown",
    unknown_pre_tokenizer: r"p{Nd}.* is unknown; known pre-tokenizers are llama-bpe, qwen2",
    unknown_normalizer: "Lowercase",
    vocabulary_too_large: "ids up to 500 but the model only 320 rows",
    eos_out_of_range: "eos_token_id is 100000, outside the 320 tokens",
    no_eos: "names no eos token",
    a_token_twice: "is there twice",
    missing_shard: "model-00002-of-00002.safetensors",
    truncated_shard: "model-00002-of-00002.safetensors",
    pickle_weights: "pickle",
    nan_weights: "layers.1.mlp.up_proj.weight holds NaN",
    broken_config: "not valid JSON",
}


@pytest.mark.parametrize("spoil", BAD_SOURCES, ids=lambda spoil: spoil.__name__)
def test_a_bad_source_is_one_line_and_leaves_nothing(
    run: Run, checkpoint: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(checkpoint)
    assert_refused(run("convert", checkpoint, "--quant", "q8_0"), 1, BAD_SOURCES[spoil])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"# A readme, long enough to hold a header\n", "not a GGUF file"),
        (b"GGUF", "too few"),
        (b"GGUF" + bytes(100), "version 0|big-endian"),
        (b"", "too few"),
    ],
)
def test_a_file_that_is_no_gguf(run: Run, tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert_refused(run("convert", path, "--quant", "q8_0"), 1, words)
    assert_refused(run("inspect", path), 1, words)


def test_a_truncated_gguf(run: Run, checkpoint: Path) -> None:
    assert run("convert", checkpoint, "--quant", "f16", "-o", "whole.gguf", "--no-verify").code == 0
    whole = Path("whole.gguf").read_bytes()
    for n in (len(whole) - 100, 3000):
        Path("cut.gguf").write_bytes(whole[:n])
        assert_refused(
            run("convert", "cut.gguf", "--quant", "q8_0"), 1, "cut off", {"whole.gguf", "cut.gguf"}
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--quant", "q9_9"), "unknown quantization type 'q9_9'; choose one of"),
        (("--max-ram", "lots"), "'lots' is no size"),
        (("--split-max-size", "0"), "no size above zero"),
        (("--tensor-type", "ffn_down"), "is not PATTERN=TYPE"),
        (("--tensor-type", "ffn_down=Q9"), "Q9"),
        (("--output-tensor-type", "huge"), "HUGE"),
        (("--quant", "q8_0", "--max-ram", "1M"), "--max-ram"),
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense(
    run: Run, checkpoint: Path, arguments: tuple[str, ...], words: str
) -> None:
    assert_refused(run("convert", checkpoint, *arguments), 2, words)


def test_a_source_that_is_not_there(run: Run) -> None:
    assert_refused(run("convert", "./nowhere"), 1, "nowhere .*bundled are")
    assert_refused(run("inspect", "./nowhere"), 1, "no such file")


def test_an_output_that_exists_is_kept_without_force(run: Run, checkpoint: Path) -> None:
    Path("out.gguf").write_text("mine", encoding="utf-8")
    assert_refused(run("convert", checkpoint, "-o", "out.gguf"), 1, "exists; give --force", {"out.gguf"})
    assert Path("out.gguf").read_text(encoding="utf-8") == "mine"
    done = run("convert", checkpoint, "-o", "out.gguf", "--force", "--no-verify", "--quant", "q8_0")
    assert done.code == 0 and read_header(Path("out.gguf")).quantization == "Q8_0"


def test_no_space(run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    assert_refused(run("convert", checkpoint, "-q", "q8_0"), 1, "not enough space .* 1,000 free")


def test_a_conversion_is_verified_and_says_so(run: Run, checkpoint: Path) -> None:
    done = run("convert", checkpoint, "--quant", "q8_0")
    assert done.code == 0 and done.err == ""
    (path,) = Path().iterdir()
    assert re.fullmatch(r"Tiny-\S+-Chat-Q8_0\.gguf", path.name), path.name  # base, size, finetune, encoding
    first, second = done.out.splitlines()
    assert first.startswith(f"{path}: Q8_0, ") and "bits per weight" in first
    assert re.match(
        r"verified: NMSE \S+, mean KLD \S+, same top \d+% over 100 tokens; .* tensors match", second
    )
    assert read_header(path).get("edgellm.verification").startswith("passed: NMSE")


def test_what_is_left_out_and_what_is_kept_is_said(run: Run, tmp_path: Path) -> None:
    sees = tinymodels.write(tinymodels.variant("qwen35-grouped"), tmp_path / "Sees")
    done = run("convert", sees, "--quant", "q8_0", "-o", "m.gguf")
    assert done.code == 0 and "verified: NMSE" in done.out
    assert [line.removeprefix("edgellm: ") for line in done.err.splitlines()] == [
        "the checkpoint's vision tower is left out: the converted model reads text alone",
        "the block that predicts a further token (MTP) is kept, behind the layers",
    ]
    shown = " ".join(run("inspect", "m.gguf").out.split())
    assert "layers 4 of them gated delta nets 2 predicts further tokens 1" in shown
    shown = " ".join(run("inspect", sees).out.split())
    assert "layers 4 of them gated delta nets 2" in shown and "left out vision tower" in shown
    onnx = run("convert", sees, "--quant", "onnx-fp32", "--no-verify", "-o", "onnx")
    assert "(MTP) is left out" in onnx.err
    tuned = tinymodels.variant(
        "qwen35", extra_config={"mtp_num_hidden_layers": 1}
    )  # as transformers saves it
    done = run("convert", tinymodels.write(tuned, tmp_path / "Tuned"), "-q", "q8_0", "--dry-run")
    assert done.err == (
        "edgellm: config.json tells of a block that predicts a further token (MTP), and the checkpoint has none: "
        "converted without\n"
    )


def test_a_dry_run_writes_nothing_and_is_right_to_the_byte(run: Run, checkpoint: Path) -> None:
    done = run("convert", checkpoint, "--quant", "q4_0", "--dry-run")
    assert done.code == 0 and list(Path().iterdir()) == []
    match = re.search(r"^(\S+\.gguf): ([\d,]+) bytes$", done.out, re.MULTILINE)
    assert match
    run("convert", checkpoint, "--quant", "q4_0", "--no-verify")
    assert Path(match[1]).stat().st_size == int(match[2].replace(",", ""))


def test_options_reach_the_plan(run: Run, checkpoint: Path) -> None:
    arguments = (
        "--quant",
        "q4_0",
        "--tensor-type",
        "ffn_up=q8_0",
        "--token-embedding-type",
        "q5_1",
        "-t",
        "1",
    )
    assert run("convert", checkpoint, *arguments, "-o", "a.gguf", "--no-verify").code == 0
    types = {name: tensor.type.name for name, tensor in read_header(Path("a.gguf")).tensors.items()}
    assert (types["blk.0.ffn_up.weight"], types["blk.0.attn_q.weight"]) == ("Q8_0", "Q4_0")
    assert types["token_embd.weight"] == "Q5_1"


def test_a_split_output_is_verified_as_a_whole(run: Run, checkpoint: Path) -> None:
    done = run("convert", checkpoint, "--quant", "f16", "-o", "m.gguf", "--split-max-size", "60K")
    assert done.code == 0 and "and" in done.out.splitlines()[0] and "verified" in done.out
    assert len(list(Path().glob("m-0000?-of-*.gguf"))) == len(list(Path().iterdir())) > 1
    shown = run("inspect", sorted(Path().iterdir())[0], "--json")
    assert json.loads(shown.out)["facts"]["files"] == len(list(Path().iterdir()))
    last = sorted(Path().iterdir())[-1]
    last.unlink()
    refused = run("inspect", sorted(Path().iterdir())[0])
    assert refused.code == 1 and last.name in refused.err and len(refused.err.splitlines()) == 1


def test_a_gguf_source_is_verified_against_itself(run: Run, checkpoint: Path) -> None:
    run("convert", checkpoint, "--quant", "f16", "-o", "f16.gguf", "--no-verify")
    done = run("convert", "f16.gguf", "--quant", "q8_0", "-o", "q8.gguf")
    assert done.code == 0 and "keys match" in done.out
    again = run("convert", "q8.gguf", "--quant", "q4_0", "-o", "q4.gguf")
    assert again.code == 2 and "--allow-requantize" in again.err and not Path("q4.gguf").exists()


class TestInspect:
    def test_a_file(self, run: Run, checkpoint: Path) -> None:
        run("convert", checkpoint, "--quant", "q8_0", "-o", "m.gguf", "--no-verify")
        shown = run("inspect", "m.gguf", "--tensors")
        assert shown.code == 0
        for words in (
            "architecture qwen3",
            "type Q8_0",
            "stops at 300 <|endoftext|>, 302 <|im_end|>",
            "blk.1.ffn_down.weight",
            "made by edgellm",
            "verification not verified",
            "runs here yes",
        ):
            assert words in " ".join(shown.out.split()), words

    def test_json_is_whole(self, run: Run, checkpoint: Path) -> None:
        run("convert", checkpoint, "--quant", "q8_0", "-o", "m.gguf", "--no-verify")
        found = json.loads(run("inspect", "m.gguf", "--json", "--tensors").out)
        assert found["facts"]["chat template"] == tinymodels.TEMPLATES["qwen"]
        assert sum(kind["weights"] for kind in found["types"].values()) == found["facts"]["weights"]
        assert {t["name"] for t in found["tensors"]} == set(read_header(Path("m.gguf")).tensors)
        assert len(found["provenance"]["source"]["config.json"]) == 64

    def test_a_folder(self, run: Run, checkpoint: Path) -> None:
        shown = run("inspect", checkpoint)
        assert shown.code == 0 and "BF16" in shown.out and "gpt2 qwen2" in shown.out

    def test_a_bundled_name(self, run: Run) -> None:
        assert "llama" in run("inspect", "tiny-llama3").out

    def test_control_characters_do_not_reach_the_terminal(self, run: Run, checkpoint: Path) -> None:
        (checkpoint / "README.md").write_text("---\nlicense: a\x1b[31mb\n---\n", encoding="utf-8")
        edit_json(checkpoint / "tokenizer_config.json", chat_template="\x1b]0;title\x07{{ 1 }}")
        run("convert", checkpoint, "--quant", "q8_0", "-o", "m.gguf", "--no-verify")
        assert "\x1b" not in run("inspect", "m.gguf").out


def assert_refused(ended: Ended, code: int, words: str, left: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    assert ended.code == code, ended
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1 and ended.err.startswith("edgellm: "), ended.err
    assert re.search(words, ended.err), ended.err
    assert {path.name for path in Path().iterdir()} == set(left)


def test_without_a_type_the_types_are_shown_and_nothing_is_written(run: Run) -> None:
    done = run("convert", "tiny-qwen3")
    head, *rows, command = done.out.splitlines()
    assert done.code == 0 and list(Path().iterdir()) == []
    assert head.split() == ["type", "file", "RAM", "at", "2k", "loss", "tok/s"]
    (best,) = (row.split()[0] for row in rows if row.endswith("<- take this"))
    assert command == f"edgellm convert tiny-qwen3 --quant {best}"
    q8_0 = next(row for row in rows if row.startswith("Q8_0"))
    foretold = run("convert", "tiny-qwen3", "--quant", "q8_0", "--dry-run").out
    size = int(re.findall(r"([\d,]+) bytes", foretold)[0].replace(",", ""))
    assert f"{size / 1e6:.3g} MB" in q8_0 and q8_0.split()[:4] == foretold.splitlines()[-1].split()[:4]
    assert "blk.0" not in foretold
    assert "blk.0.attn_k.weight" in run("convert", "tiny-qwen3", "-q", "q8_0", "--dry-run", "--tensors").out


def test_fit_takes_the_best_type_that_runs_in_so_much_memory(run: Run) -> None:
    table = run("convert", "tiny-llama3", "--dry-run").out
    peaks = {row.split()[0]: row.split("~")[1].split()[0] for row in table.splitlines()[1:-1]}
    least = min(map(float, peaks.values()))
    done = run("convert", "tiny-llama3", "--fit", f"{least + 1}M", "--no-verify", "-o", "m.gguf")
    taken = re.search(r": (\w+), [\d.]+ MB", done.out)
    assert done.code == 0 and taken and float(peaks[taken[1]]) <= least + 1
    assert_refused(run("convert", "tiny-llama3", "--fit", "1M"), 3, "no type will do", {"m.gguf"})
    assert_refused(run("convert", "tiny-llama3", "--fit", "1G", "-q", "Q8_0"), 2, "--fit chooses", {"m.gguf"})


def test_bits_per_weight_are_one_number(run: Run) -> None:
    foretold = run("convert", "tiny-qwen3", "-q", "Q4_0", "--dry-run").out
    done = run("convert", "tiny-qwen3", "-q", "Q4_0", "--no-verify", "-o", "m.gguf").out
    told = {text: re.findall(r"([\d.]+) bits per weight", text)[0] for text in (foretold, done)}
    assert len(set(told.values())) == 1
    assert re.search(rf"bits per weight +{next(iter(told.values()))}", run("inspect", "m.gguf").out)
