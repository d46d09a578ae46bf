"""What is foretold of llama.cpp's memory against what it logs: types that are repacked or not, odd shapes, settings."""

from dataclasses import replace

import pytest
import tinymodels

from edgellm import backends
from edgellm.backends.llama import memory_estimate
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions

SHAPES = {
    # rows of 256 values for the K types; a head that is not the embedding; more query than key heads
    "untied": tinymodels.variant("llama", n_embd=256, n_ff=1024, n_head=8, n_head_kv=2, n_vocab=4096),
    "wide heads": tinymodels.variant("qwen3", n_embd=256, n_ff=768, n_head=4, n_head_kv=2, head_dim=128),
    "tied": tinymodels.variant(
        "qwen2", n_embd=256, n_ff=1280, n_head=4, n_head_kv=4, n_vocab=2048, tied=True
    ),
}
TYPES = ("F16", "Q8_0", "Q4_0", "Q4_K_M", "Q2_K", "Q5_K_M", "IQ4_NL")
SETTINGS = (
    {"n_ctx": 512},
    {"n_ctx": 300, "n_ubatch": 64},
    {"n_ctx": 2048, "flash_attn": "off"},
    {"n_ctx": 512, "use_mmap": False, "repack": False},
)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    made: dict[tuple[str, str], Artifact] = {}

    def get(shape: str, quant: str) -> Artifact:
        if (shape, quant) not in made:
            folder = tmp_path_factory.mktemp("shape")
            source = tinymodels.write(replace(SHAPES[shape], n_layer=3), folder / "checkpoint")
            request = ConvertRequest(source, quant, folder / "out.gguf")
            convert(request)
            made[shape, quant] = Artifact.open(folder / "out.gguf")
        return made[shape, quant]

    return get


def off(artifact: Artifact, asked: EngineOptions) -> dict[str, float]:
    """By how much of all that was logged each part was foretold wrong."""
    with backends.open_session(artifact, asked) as session:
        logged = session.info.buffers
        predicted = memory_estimate.predict(artifact, replace(session.info.options, n_ctx=asked.n_ctx))
    assert logged
    return {
        part: (getattr(predicted, part) - getattr(logged, part)) / logged.total
        for part in ("weights", "repacked", "kv", "compute", "total")
    }


@pytest.mark.parametrize("quant", TYPES)
def test_buffers_are_foretold_for_every_kind_of_type(converted, quant):
    errors = off(converted("untied", quant), EngineOptions(n_threads=1, n_ctx=512))
    assert max(map(abs, errors.values())) < 0.03, errors


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_buffers_are_foretold_for_every_shape_and_setting(converted, shape, settings):
    errors = off(converted(shape, "Q4_0"), EngineOptions(n_threads=1, **settings))
    assert max(map(abs, errors.values())) < 0.03, errors
