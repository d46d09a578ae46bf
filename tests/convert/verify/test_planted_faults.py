"""Every fault a converter has been known to make, planted in a good file: the proof must find and name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import tinymodels
from click.testing import CliRunner
from gguf_edit import Change, Floats, edited

from edgellm import backends
from edgellm.cli import convert as cli_convert
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.verify import logits
from edgellm.convert.verify.gguf import ENGINE, Target, verify
from edgellm.convert.verify.original import Original
from edgellm.convert.verify.tensors import check_numbers, wrong_tensor
from edgellm.errors import CheckFailedError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.models import registry

SQUARE = {"n_head": 4, "n_head_kv": 4}  # Q, K and V of one shape, so that mixing them up goes unnoticed


def swap(a: str, b: str) -> Change:
    def change(tensors: dict[str, Floats]) -> None:
        tensors[a], tensors[b] = tensors[b], tensors[a]

    return change


def drop(name: str) -> Change:
    def change(tensors: dict[str, Floats]) -> None:
        del tensors[name]

    return change


def transpose(name: str) -> Change:
    def change(tensors: dict[str, Floats]) -> None:
        assert tensors[name].shape[0] == tensors[name].shape[1]
        tensors[name] = tensors[name].T

    return change


def scale(name: str, factor: float) -> Change:
    def change(tensors: dict[str, Floats]) -> None:
        tensors[name] = tensors[name] * np.float32(factor)

    return change


def unpermute(name: str, n_head: int) -> Change:
    """Undo the reordering that llama.cpp's rope of Llama needs."""

    def change(tensors: dict[str, Floats]) -> None:
        value = tensors[name]
        pairs = value.reshape(n_head, value.shape[0] // n_head // 2, 2, -1)
        tensors[name] = pairs.swapaxes(1, 2).reshape(value.shape)

    return change


def roll_experts(name: str) -> Change:
    def change(tensors: dict[str, Floats]) -> None:
        tensors[name] = np.roll(tensors[name], 1, axis=0)

    return change


def row_off_by_one(name: str) -> Change:
    def change(tensors: dict[str, Floats]) -> None:
        tensors[name] = np.roll(tensors[name], 1, axis=0)

    return change


def regroup(name: str, first: int, inner: int, axis: int = 0) -> Change:
    """Value heads behind place `first` as the checkpoint groups them: the three of key head 0, the three of 1."""

    def change(tensors: dict[str, Floats]) -> None:
        value = np.moveaxis(tensors[name], axis, 0)
        heads = value[first:].reshape(3, 2, inner, -1).swapaxes(0, 1)
        whole = np.concatenate([value[:first], heads.reshape(value[first:].shape)])
        tensors[name] = np.ascontiguousarray(np.moveaxis(whole, 0, axis))

    return change


def stored(name: str, function: Callable[[Floats], Floats]) -> Change:
    """A tensor as the checkpoint stores it, not as the model computes with it."""

    def change(tensors: dict[str, Floats]) -> None:
        tensors[name] = function(tensors[name]).astype(np.float32)

    return change


@dataclass(frozen=True)
class Fault:
    """A planted fault, and what the failure must name."""

    case: str  # of MODELS
    named: tuple[str, ...]
    change: Change | None = None
    keys: Mapping[str, tuple[str, object] | None] = field(default_factory=dict)
    logits_alone: bool = True  # the logits would show it too


MODELS = {
    "llama": tinymodels.variant("llama", **SQUARE, n_shards=1),
    "qwen2": tinymodels.variant("qwen2", **SQUARE, n_shards=1),
    "qwen3": tinymodels.variant("qwen3", **SQUARE),
    "yarn": tinymodels.variant("qwen2-odd", n_embd=64, n_head=4, n_head_kv=2),
    "qwen2moe": tinymodels.variant("qwen2moe", n_shards=1),
    "qwen3moe": tinymodels.variant("qwen3moe", n_shards=1),
    "qwen35": tinymodels.variant("qwen35-grouped", n_shards=1),
}
FAULTS = {
    "q and k swapped": Fault(
        "qwen2", ("blk.1.attn_q.weight",), swap("blk.1.attn_q.weight", "blk.1.attn_k.weight")
    ),
    "llama's q not permuted": Fault("llama", ("blk.0.attn_q.weight",), unpermute("blk.0.attn_q.weight", 4)),
    "a bias dropped": Fault("qwen2", ("blk.0.attn_k.bias", "missing"), drop("blk.0.attn_k.bias")),
    "rope factors lost": Fault("llama", ("rope_freqs.weight", "missing"), drop("rope_freqs.weight")),
    "yarn lost": Fault(
        "yarn",
        ("qwen2.rope.scaling", "None"),
        keys={"qwen2.rope.scaling.type": None, "qwen2.rope.scaling.factor": None},
    ),
    "wrong rope base": Fault("qwen3", ("rope.freq_base",), keys={"qwen3.rope.freq_base": ("f32", 10000.0)}),
    "wrong eos": Fault(
        "qwen3", ("eos_token_id", "7"), keys={"tokenizer.ggml.eos_token_id": ("u32", 7)}, logits_alone=False
    ),
    "a stop id lost": Fault(
        "llama",
        ("stop ids",),
        keys={
            "edgellm.tokenizer.eos_token_ids": ("arr[i32]", [304]),
        },
        logits_alone=False,
    ),
    "wrong pre-tokenizer": Fault(
        "qwen3",
        ("tokenizer.ggml.pre",),
        keys={"tokenizer.ggml.pre": ("str", "llama-bpe")},
        logits_alone=False,
    ),
    "normalizer lost": Fault(
        "qwen3", ("tokens",), keys={"edgellm.tokenizer.normalizer": ("str", "none")}, logits_alone=False
    ),
    "bos no longer added": Fault(
        "llama", ("bos",), keys={"tokenizer.ggml.add_bos_token": ("bool", False)}, logits_alone=False
    ),
    "another template": Fault(
        "qwen2",
        ("chat template",),
        keys={"tokenizer.chat_template": ("str", "{{ messages }}")},
        logits_alone=False,
    ),
    "a square matrix transposed": Fault(
        "llama", ("blk.1.attn_output.weight",), transpose("blk.1.attn_output.weight")
    ),
    "a norm off": Fault("qwen3", ("output_norm.weight",), scale("output_norm.weight", 1.02)),
    "a q norm off": Fault("qwen3", ("blk.0.attn_q_norm.weight",), scale("blk.0.attn_q_norm.weight", 1.1)),
    "gate and up swapped": Fault(
        "qwen2", ("blk.0.ffn_gate.weight",), swap("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight")
    ),
    "layers mixed up": Fault(
        "qwen3", ("blk.0.ffn_norm.weight",), swap("blk.0.ffn_norm.weight", "blk.1.ffn_norm.weight")
    ),
    "embedding off by one row": Fault("qwen3", ("token_embd.weight",), row_off_by_one("token_embd.weight")),
    "experts in another order": Fault(
        "qwen3moe",
        ("blk.0.ffn_down_exps.weight",),
        roll_experts("blk.0.ffn_down_exps.weight"),
    ),
    "a shared expert's gate off": Fault(
        "qwen2moe",
        ("blk.1.ffn_gate_inp_shexp.weight",),
        scale("blk.1.ffn_gate_inp_shexp.weight", -1.0),
    ),
    "values of the net grouped": Fault(
        "qwen35", ("blk.0.attn_qkv.weight",), regroup("blk.0.attn_qkv.weight", 64, 16)
    ),
    "the net's gates grouped": Fault(
        "qwen35", ("blk.0.attn_gate.weight",), regroup("blk.0.attn_gate.weight", 0, 16)
    ),
    "its convolution grouped": Fault(
        "qwen35", ("blk.2.ssm_conv1d.weight",), regroup("blk.2.ssm_conv1d.weight", 64, 16)
    ),
    "its time steps grouped": Fault(
        "qwen35", ("blk.0.ssm_alpha.weight",), regroup("blk.0.ssm_alpha.weight", 0, 1)
    ),
    "its writing grouped": Fault(
        "qwen35", ("blk.0.ssm_beta.weight",), regroup("blk.0.ssm_beta.weight", 0, 1)
    ),
    "its steps' bias grouped": Fault("qwen35", ("blk.0.ssm_dt.bias",), regroup("blk.0.ssm_dt.bias", 0, 1)),
    "its fading grouped": Fault("qwen35", ("blk.0.ssm_a ",), regroup("blk.0.ssm_a", 0, 1)),
    "columns of its result grouped": Fault(
        "qwen35", ("blk.0.ssm_out.weight",), regroup("blk.0.ssm_out.weight", 0, 16, axis=1)
    ),
    "its fading as stored": Fault("qwen35", ("blk.0.ssm_a ",), stored("blk.0.ssm_a", lambda a: np.log(-a))),
    "a norm as stored": Fault(
        "qwen35",
        ("blk.1.post_attention_norm.weight",),
        stored("blk.1.post_attention_norm.weight", lambda norm: norm - 1),
    ),
    "the net's norm raised too": Fault(
        "qwen35", ("blk.0.ssm_norm.weight",), stored("blk.0.ssm_norm.weight", lambda norm: norm + 1)
    ),
    "gates before queries": Fault(
        "qwen35",
        ("blk.1.attn_q.weight",),
        stored("blk.1.attn_q.weight", lambda q: q.reshape(4, 2, 16, -1)[:, ::-1].reshape(q.shape)),
    ),
    "whole heads turned": Fault(
        "qwen35", ("rope.dimension_count",), keys={"qwen35.rope.dimension_count": ("u32", 16)}
    ),
    "the block that predicts mixed up": Fault(
        "qwen35",
        ("blk.4.nextn.enorm.weight",),
        swap("blk.4.nextn.enorm.weight", "blk.4.nextn.hnorm.weight"),
        logits_alone=False,
    ),
    "marks apart from words": Fault(
        "qwen35", ("tokenizer.ggml.pre",), keys={"tokenizer.ggml.pre": ("str", "qwen2")}, logits_alone=False
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Model -> (checkpoint, its conversion to F16)."""
    root, made = tmp_path_factory.mktemp("good"), {}
    for name, tiny in MODELS.items():
        folder = tinymodels.write(tiny, root / name)
        made[name] = folder, convert(ConvertRequest(folder, "F32", root / f"{name}.gguf")).path
    return made


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_and_named(good, tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    folder, path = good[fault.case]
    faulty = edited(path, tmp_path / "faulty.gguf", fault.change, fault.keys)
    with pytest.raises(CheckFailedError) as caught:
        verify(faulty, folder, backends.open_session)
    for word in fault.named:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.logits_alone])
def test_logits_alone_show_the_fault(good, tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    folder, path = good[fault.case]
    faulty = edited(path, tmp_path / "faulty.gguf", fault.change, fault.keys)
    with Original.open(folder) as source:
        tokens = [(37 * i) % 300 for i in range(28)]  # with more, one fault's numbers grow beyond float32
        with backends.open_session(Artifact.open(faulty), ENGINE) as session:
            found = session.eval_all(tokens)
        original = source.logits(tokens)
        rounding = logits.ROUNDING[
            "F16"
        ]  # coarser than the file's F32, so that there is something to hide in
        with pytest.raises(CheckFailedError, match="logits"):
            logits.check(
                logits.compare(original, found),
                rounding,
                lambda: logits.expected_nmse(source, tokens, original, lambda tensor: rounding),
                lambda: "",
            )
        if fault.change and "missing" not in fault.named:
            assert fault.named[0] in wrong_tensor(Target.open(faulty).tensors, source)


@pytest.mark.parametrize("name", MODELS)
def test_good_file_passes(good, tmp_path: Path, name: str) -> None:
    folder, path = good[name]
    assert verify(edited(path, tmp_path / "same.gguf"), folder, backends.open_session).fidelity.nmse < 1e-10


def test_layers_of_another_kind_are_named(good) -> None:
    """Where the file is whole for its own kinds of layers, and they are not the checkpoint's."""
    folder, path = good["qwen35"]
    with Original.open(folder) as source:
        other = replace(source.spec, layer_kinds=source.spec.layer_kinds[::-1])
    with pytest.raises(CheckFailedError, match=r"recurrent_layers is .* asks for"):
        check_numbers(read_header(path), other)


class TestCommand:
    """The same through the command line, the fault in the program itself: Llama's rows are not permuted."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        families = tuple(replace(family, permute_qk=False) for family in registry.architectures())
        monkeypatch.setattr(registry, "architectures", lambda: families)
        monkeypatch.chdir(tmp_path)
        return tinymodels.write(MODELS["llama"], tmp_path / "checkpoint")

    def test_exit_3_one_line_nothing_left(self, folder: Path, tmp_path: Path) -> None:
        result = run([str(folder), "--quant", "q8_0", "-o", "out.gguf"])
        assert isinstance(result.exception, CheckFailedError) and result.exception.exit_code == 3
        assert "attn_q" in str(result.exception) and "--keep-unverified" in str(result.exception)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]

    def test_keep_unverified_leaves_the_file_and_its_verdict(self, folder: Path, tmp_path: Path) -> None:
        result = run([str(folder), "--quant", "q8_0", "-o", "out.gguf", "--keep-unverified"])
        assert isinstance(result.exception, CheckFailedError)
        verdict = read_header(tmp_path / "out.gguf").get("edgellm.verification")
        assert verdict.startswith("failed: the check of the tensors failed")

    def test_no_verify_says_so(self, folder: Path, tmp_path: Path) -> None:
        result = run([str(folder), "--quant", "q8_0", "-o", "out.gguf", "--no-verify"])
        assert result.exit_code == 0 and "not verified" in result.stdout
        assert read_header(tmp_path / "out.gguf").get("edgellm.verification").strip() == "not verified"


def run(arguments: list[str]):
    return CliRunner().invoke(cli_convert.command, arguments)
