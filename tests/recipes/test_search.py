"""A search from end to end on a bundled model: limits kept, forecast and proof, both formats, what cannot be asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgellm import backends, cli
from edgellm.convert.gguf.source_model import open_model
from edgellm.convert.onnx import options
from edgellm.convert.onnx.options import OnnxOptions, encoding_of
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.convert.recipes import recipe
from edgellm.errors import UsageError
from edgellm.fit import figures
from edgellm.fit.figures import Figures, Kernel
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME
from edgellm.models import bundled
from edgellm.models.base import Role
from edgellm.profiles.quality import quality
from edgellm.profiles.quality.reference_logits import CompactReference
from edgellm.recipes import costs, search
from edgellm.recipes.costs import Goal
from edgellm.recipes.matrices import matrices
from edgellm.session import EngineOptions

SOURCE = bundled.path("tiny-llama3")
#: Seconds a weight, as a made-up machine has them: finer blocks cost more, and eight bits most.
PACE = {
    "int4a/128": 1.0,
    "int4a/64": 1.2,
    "int4a/32": 1.5,
    "int4a/16": 1.9,
    "int4/32": 1.4,
    "int8/128": 2.0,
    "int8/32": 2.4,
}


def machine(engine: str, pace: dict[str, float]) -> Figures:
    kernels = {name: Kernel(each * 1e-11, 0.0, each * 1e-11, 0.0) for name, each in pace.items()}
    return Figures(engine, 2, "a made-up machine", "none", "2026-01-01", kernels)


def asked(output: Path, goal: Goal, speeds: Figures | None) -> search.Request:
    return search.Request(
        SOURCE,
        output,
        goal,
        seconds=60.0,
        speeds=(lambda _: speeds) if speeds else None,
        n_tokens=64,
        n_threads=2,
    )


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    """As fast as 0.9 of onnx-int4, in its bytes."""
    output = tmp_path_factory.mktemp("search") / "mine.toml"
    goal = Goal("onnx-int4", decode=0.9, onnx=True)
    return output, search.search(asked(output, goal, machine("onnxruntime", PACE)), lambda *_: None)


def like_onnx_int4() -> tuple[float, float]:
    """Bytes and seconds of the type itself, from the converter's own graph."""
    from edgellm.fit import builds

    build = builds.of_checkpoint(SOURCE, "m", ["onnx-int4"]).types["onnx-int4"]
    return build.weight_bytes, sum(m.n_weights * PACE[m.kernel] * 1e-11 for m in build.matrices)


@pytest.fixture(scope="module")
def made(onnx, tmp_path_factory):
    """The model that it makes."""
    output, found = onnx
    folder = tmp_path_factory.mktemp("made") / "model"
    return convert_onnx(OnnxRequest(SOURCE, found.recipe.base, folder, recipe=recipe.load(str(output))))


def test_an_onnx_recipe_keeps_both_limits(onnx, made):
    from edgellm.fit import builds

    _, found = onnx
    nbytes, seconds = like_onnx_int4()
    (build,) = builds.of_artifact(made).types.values()
    taken = sum(m.n_weights * PACE[m.kernel] * 1e-11 for m in build.matrices)
    assert build.weight_bytes <= nbytes
    assert taken <= seconds / 0.9
    assert found.decode_ms == pytest.approx(1e3 * taken, rel=1e-6)
    assert found.machine == "a made-up machine"


def test_its_divergence_is_measured_on_the_model_it_makes(onnx, made):
    output, found = onnx
    reference = CompactReference(output.with_name("mine.toml.search") / "reference-64")
    with backends.open_session(made, EngineOptions(n_ctx=512, n_threads=2)) as session:
        seen = quality.evaluate(session, reference.chunks, reference=reference)
    assert found.measured_kld == pytest.approx(seen.divergence.kld_mean.value, rel=1e-3)
    assert not list(output.with_name("mine.toml.search").glob("candidate*"))


def test_less_speed_asked_for_is_less_divergence(onnx, tmp_path):
    """The same measurements, gone on with: the other goal measures no group anew."""
    output, found = onnx
    request = asked(
        tmp_path / "slow.toml",
        Goal("onnx-int4", max_bytes=1 << 30, decode=0.5, onnx=True),
        machine("onnxruntime", PACE),
    )
    shutil.copytree(output.with_name("mine.toml.search"), request.folder)
    kept = request.folder / "sensitivity.json"
    before = kept.stat().st_mtime_ns
    again = search.search(request, lambda *_: None)
    assert again.predicted_kld < found.predicted_kld
    assert kept.stat().st_mtime_ns == before


def test_of_experts_a_token_pays_for_those_it_asks(tmp_path):
    import tinymodels

    source = tinymodels.write(tinymodels.CASES["qwen3moe-256"], tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    with open_model(source, "Q8_0") as model:
        stacks = [matrix for matrix in matrices(model) if "_exps." in matrix.name]
        assert stacks
        assert {m.share for m in stacks} == {config["num_experts_per_tok"] / config["num_experts"]}
        assert all(m.share == 1.0 for m in matrices(model) if m not in stacks)


@pytest.mark.parametrize(
    ("like", "onnx", "words"), [("Q4_0", True, "onnx-int4"), ("onnx-int4", False, "--format onnx")]
)
def test_a_measure_of_the_other_format_is_refused_before_anything_is_measured(like, onnx, words):
    with pytest.raises(UsageError, match=words):
        Goal(like, decode=1.0, onnx=onnx)


def test_speeds_of_the_other_engine_are_refused(tmp_path):
    figures.save(tmp_path / "board.json", machine("llamacpp", PACE))
    asked_for = ["recipe", "search", "tiny-llama3", "--format", "onnx", "--decode", "1", "--for"]
    result = CliRunner().invoke(
        cli.cli, [*asked_for, str(tmp_path / "board.json"), "-o", str(tmp_path / "r.toml")]
    )
    assert isinstance(result.exception, UsageError) and "--format onnx -o" in str(result.exception)


def test_kernels_are_those_of_the_types():
    assert all(encoding_of(name).label == name for name in costs.kernels(onnx=True))


@pytest.mark.parametrize("name", recipe.names())
def test_recipes_that_come_with_edgellm_say_types_that_there_are(name):
    found = recipe.load(name)
    if not found.base.startswith("onnx"):
        assert {pattern.type for pattern in found.patterns} <= GGML_TYPES_BY_NAME.keys()
        return
    chosen = options.recipe(found.base, OnnxOptions(), found.patterns, weighed=found.imatrix)
    assert chosen.head_encoding(tied=True).label == chosen.head_encoding(tied=False).label == "int4a/32"
    assert chosen.encoding((Role.FFN_UP,), 3, 24).label == "int8/128"
