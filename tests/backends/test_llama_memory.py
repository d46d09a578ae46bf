"""What gives when memory is short: the least painful thing that is open, said in a line; nothing the user set."""

from dataclasses import replace

import pytest
import tiny_gguf
import tiny_hybrid

from edgellm.backends import checkpoints
from edgellm.backends.llama import memory, memory_estimate
from edgellm.backends.llama.memory_estimate import Buffers
from edgellm.formats.artifact import Artifact
from edgellm.machine import hardware
from edgellm.session import EngineOptions

GB = 10**9


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Artifact:
    path = tiny_gguf.write(tmp_path_factory.mktemp("model") / "m.gguf")
    return replace(Artifact.open(path), size_bytes=4 * GB)


@pytest.fixture(autouse=True)
def four_gigabytes(monkeypatch):
    """4 GB of weights, of which 3 are repacked; 1 GB of f16 cache for 4096 tokens; half a GB of scratch memory."""

    def predict(artifact: Artifact, options: EngineOptions) -> Buffers:
        repacked = 0 if options.repack is False else 3 * GB
        per_token = GB / 4096 * (34 / 64 if options.type_k == "q8_0" else 1)
        weights = 4 * GB - repacked if options.use_mmap is False else 4 * GB
        return Buffers(weights, repacked, round((options.n_ctx or 0) * per_token), GB // 2, "prediction")

    monkeypatch.setattr(memory_estimate, "predict", predict)


def fit(artifact: Artifact, available: float, monkeypatch, **given) -> tuple[EngineOptions, list[str]]:
    monkeypatch.setattr(hardware, "available_bytes", lambda: int(available * GB / memory._SHARE) + 1)
    notes: list[str] = []
    return memory.fit(artifact, EngineOptions(**given), notes), notes


def test_with_memory_to_spare_nothing_is_looked_at(artifact, monkeypatch):
    monkeypatch.setattr(memory_estimate, "predict", lambda *_: pytest.fail("looked"))
    options, notes = fit(artifact, 20, monkeypatch)
    assert (options.n_ctx, options.type_k, options.use_mmap, options.repack) == (4096, "f16", True, None)
    assert not notes


def test_where_all_fits_nothing_gives(artifact, monkeypatch):
    options, notes = fit(artifact, 8.5, monkeypatch)
    assert (options.n_ctx, options.use_mmap, options.repack) == (4096, True, None)
    assert not notes


def test_first_the_second_copy_of_the_weights_goes(artifact, monkeypatch):
    options, notes = fit(artifact, 5.5, monkeypatch)
    assert (options.n_ctx, options.use_mmap, options.repack) == (4096, False, None)
    assert [note.split(":")[0] for note in notes] == ["reading the model into memory instead of mapping it"]


def test_then_the_context(artifact, monkeypatch):
    options, notes = fit(artifact, 5.0, monkeypatch)
    assert (options.n_ctx, options.use_mmap, options.repack) == (2048, False, None)
    assert notes[1] == "context reduced from 4096 to 2048 tokens to fit in memory; set it with n_ctx"


def test_what_the_user_set_stays_and_the_rest_gives(artifact, monkeypatch):
    options, notes = fit(artifact, 5.1, monkeypatch, n_ctx=4096)
    assert (options.n_ctx, options.type_k, options.type_v) == (4096, "q8_0", "q8_0")
    assert "type_k f16 type_v f16 insists" in notes[-1]
    options, _ = fit(artifact, 5.5, monkeypatch, n_ctx=4096, type_k="f16", use_mmap=True)
    assert (options.n_ctx, options.type_k, options.use_mmap, options.repack) == (4096, "f16", True, False)


def test_what_cannot_fit_is_said_and_the_smallest_is_tried(artifact, monkeypatch):
    options, notes = fit(artifact, 2.0, monkeypatch)
    assert options.n_ctx == 512
    assert "this model needs 4.6" in notes[-1] and "expect it to be slow" in notes[-1]


def test_a_header_that_does_not_tell_changes_nothing(artifact, monkeypatch):
    def unknown(*_: object) -> Buffers:
        raise KeyError("token_embd.weight")

    monkeypatch.setattr(memory_estimate, "predict", unknown)
    options, notes = fit(artifact, 2.0, monkeypatch)
    assert (options.n_ctx, options.use_mmap) == (4096, True)
    assert not notes


def test_small_weights_with_large_scratch_memory_are_looked_at(artifact, monkeypatch):
    """A vocabulary of 150,000 tokens takes more room for its logits than a tiny model does for its weights."""
    monkeypatch.setattr(
        memory_estimate, "predict", lambda *_: Buffers(GB // 100, 0, 0, GB // 2, "prediction")
    )
    tiny = replace(artifact, size_bytes=GB // 100)
    assert fit(tiny, 0.6, monkeypatch)[1] == []
    assert "this model needs 510" in fit(tiny, 0.45, monkeypatch)[1][-1]


def test_small_weights_with_large_states_are_looked_at(tmp_path, monkeypatch):
    """Four states of 440 MB, and the one it is in, beside 10 MB of weights."""
    one = 440 << 20
    hybrid = Artifact.open(tiny_hybrid.write(tmp_path / "h.gguf", tiny_hybrid.Hybrid(n_layer=2)))
    hybrid = replace(hybrid, size_bytes=GB // 100)
    monkeypatch.setattr(memory_estimate, "state_bytes", lambda _: one)
    monkeypatch.setattr(
        memory_estimate,
        "predict",
        lambda _, options: Buffers(GB // 100, 0, 0, 0, "prediction", (options.n_checkpoints + 1) * one),
    )
    needed = (GB // 100 + (1 + checkpoints.LEAST) * one) / GB
    assert fit(hybrid, needed, monkeypatch)[1] == []
    assert "this model needs" in fit(hybrid, needed - 0.01, monkeypatch)[1][-1]


def test_of_a_hybrid_the_kept_states_go_first(tmp_path, monkeypatch):
    """A state of 42 MB, 6 of which are kept where there is room, 3 where there is little."""
    hybrid = Artifact.open(
        tiny_hybrid.write(tmp_path / "h.gguf", tiny_hybrid.Hybrid(n_layer=2, n_rank=4, state=16))
    )
    monkeypatch.setattr(memory_estimate, "state_bytes", lambda _: 42 << 20)
    monkeypatch.setattr(
        memory_estimate,
        "predict",
        lambda _, options: Buffers(GB, 0, 0, 0, "prediction", (options.n_checkpoints + 1) * (42 << 20)),
    )
    hybrid = replace(hybrid, size_bytes=GB)
    options, notes = fit(hybrid, 1.0 + 7.1 * 42 * 2**20 / GB, monkeypatch)
    assert (options.n_checkpoints, options.use_mmap, notes) == (6, True, [])
    options, notes = fit(hybrid, 1.0 + 4.1 * 42 * 2**20 / GB, monkeypatch)
    assert (options.n_checkpoints, options.use_mmap) == (3, True)
    assert [note.split(",")[0] for note in notes] == ["fewer states are kept to go back to"]
    options, _ = fit(hybrid, 1.0 + 4.1 * 42 * 2**20 / GB, monkeypatch, n_checkpoints=6)
    assert options.n_checkpoints == 6
