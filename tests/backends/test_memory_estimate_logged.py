"""What is foretold of llama.cpp's memory against what it logs: types that are repacked or not, odd shapes, settings."""

from dataclasses import replace

import pytest
import tiny_hybrid
import tinymodels
from tiny_hybrid import Hybrid

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


HYBRIDS = {
    "dense": Hybrid(
        n_layer=8, interval=4, n_embd=512, n_ff=1024, head_dim=128, n_group=8, n_rank=8, state=128, tied=True
    ),
    "grouped, drafting": Hybrid(n_embd=256, n_ff=512, head_dim=64, n_group=4, n_rank=8, state=128, n_nextn=1),
    "experts": Hybrid("qwen35moe", n_embd=256, head_dim=64, n_group=4, n_rank=8, state=128),
}


@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_hybrids_caches_are_foretold(tmp_path, name, settings):
    """Keys and values of the layers that attend, and the states of the others: to what the log's digits tell."""
    artifact = Artifact.open(tiny_hybrid.write(tmp_path / "h.gguf", HYBRIDS[name]))
    asked = EngineOptions(n_threads=1, **settings)
    with backends.open_session(artifact, asked) as session:
        logged = session.info.buffers
        predicted = memory_estimate.predict(artifact, replace(session.info.options, n_ctx=asked.n_ctx))
    assert logged and abs(predicted.kv - logged.kv) <= max(0.005 * logged.kv, 0.011 * 2**20)
    assert predicted.checkpoints == logged.checkpoints == 17 * memory_estimate.state_bytes(artifact)
    assert abs(predicted.total - logged.total) < 0.03 * logged.total, (predicted, logged)


def test_a_kept_state_takes_what_is_foretold(tmp_path):
    """The engine's own word on the size of what it hands out, by its header and a few bytes a layer."""
    artifact = Artifact.open(tiny_hybrid.write(tmp_path / "h.gguf", HYBRIDS["dense"]))
    with backends.open_session(artifact, EngineOptions(n_threads=1, n_ctx=256)) as session:
        session.eval([1, 2, 3])
        state = len(session._recurrent.read())
    assert 0 <= state - memory_estimate.state_bytes(artifact) < 1024


@pytest.mark.parametrize("use_mmap", [True, False])
def test_a_model_in_several_files_is_foretold_whole(tmp_path, use_mmap):
    source = tinymodels.write(replace(SHAPES["untied"], n_layer=3), tmp_path / "checkpoint")
    convert(ConvertRequest(source, "Q4_0", tmp_path / "out.gguf", split_max_bytes=1 << 20))
    artifact = Artifact.open(min(tmp_path.glob("out-*.gguf")))
    assert len(artifact.parts) > 1
    errors = off(artifact, EngineOptions(n_threads=1, n_ctx=512, use_mmap=use_mmap))
    assert max(map(abs, errors.values())) < 0.03, errors
