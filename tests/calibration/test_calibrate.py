"""Importance matrices collected from llama.cpp: against the oracle's activations, interrupted, and used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tinymodels

from edgellm import calibration
from edgellm.calibration import Calibration, store
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.gguf.imatrix import Imatrix
from edgellm.errors import ArtifactError
from edgellm.formats.artifact import Artifact
from edgellm.generation import scoring
from edgellm.generation.scoring import Chunk
from edgellm.models import reference
from edgellm.models.base import Role
from edgellm.models.registry import spec_of
from edgellm.session import EngineOptions

# Without these, llama.cpp keeps keys and values in half precision.
EXACT = EngineOptions(n_ctx=64, n_threads=1, flash_attn="off", type_k="f32", type_v="f32")
N_TOKENS = 48


def chunks(n: int, vocabulary: int = 300) -> list[Chunk]:
    rng = np.random.default_rng(7)
    return [Chunk(tuple(rng.integers(0, vocabulary, N_TOKENS).tolist()), N_TOKENS // 2 + 1) for _ in range(n)]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Writes a random checkpoint and its F32 GGUF, once per case."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def one(case: str) -> tuple[Path, Artifact]:
        if case not in made:
            source = tinymodels.write(tinymodels.variant(case), folder / case)
            made[case] = source, convert(ConvertRequest(source, "F32", folder / f"{case}.gguf"))
        return made[case]

    return one


def by_hand(case: str, tokens: list[Chunk]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sums of squares and counts from the numpy oracle's own activations."""
    tiny = tinymodels.variant(case)
    spec = spec_of(tinymodels.config(tiny), tinymodels.shapes(tiny))
    sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    class Rows:
        def __init__(self, value: np.ndarray) -> None:
            self.matrix = value.reshape(-1, value.shape[-1])

        def rows(self, start: int, stop: int) -> np.ndarray:
            return self.matrix[start:stop]

    def watch(role: Role, layer: int | None, expert: int | None, x: np.ndarray) -> None:
        tensor = spec.tensor(role, layer)
        assert tensor is not None
        if tensor.column_order:  # the engine's value heads stand in turns
            x = tensor.column_order(x.T).T
        n = 1 if expert is None else tiny.n_expert
        values, counts = sums.setdefault(tensor.gguf_name, (np.zeros((n, x.shape[-1])), np.zeros(n)))
        values[expert or 0] += np.square(x, dtype=np.float64).sum(axis=0)
        counts[expert or 0] += len(x)

    weights = {name: Rows(value) for name, value in tinymodels.tensors(tiny).items()}
    for chunk in tokens:
        reference.logits(spec, weights, chunk.tokens, watch=watch)
    return {name: value for name, value in sums.items() if name.startswith("blk.")}


@pytest.mark.parametrize("case", ["llama", "qwen3", "qwen2moe", "qwen3moe", "qwen35-grouped", "qwen35moe"])
def test_the_sums_are_those_of_the_oracles_activations(case, make):
    _, artifact = make(case)
    found = calibration.calibrate(artifact, chunks(2), engine=EXACT).sums
    expected = by_hand(case, chunks(2))
    assert found.keys() == expected.keys()
    for name, (sums, counts) in expected.items():
        np.testing.assert_array_equal(found[name][1], counts, err_msg=name)
        np.testing.assert_allclose(found[name][0], sums, rtol=1e-3, atol=1e-6 * sums.max(), err_msg=name)


def test_an_interrupted_run_goes_on_to_the_same_bytes(make, tmp_path):
    _, artifact = make("qwen3moe")
    runs, identity = chunks(5), store.Identity.of("0" * 64, chunks(5), process_output=False)
    whole = calibration.calibrate(artifact, runs, engine=EXACT)
    store.save(tmp_path / "whole.gguf", whole, identity, "text")

    def interrupt(state: Calibration) -> None:
        store.save(tmp_path / "part.gguf", state, identity, "text")
        if state.n_chunks == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibration.calibrate(artifact, runs, engine=EXACT, after_chunk=interrupt)
    half = store.load(tmp_path / "part.gguf", identity)
    assert half.n_chunks == 3
    joined = calibration.calibrate(artifact, runs, engine=EXACT, start=half)
    store.save(tmp_path / "joined.gguf", joined, identity, "text")
    assert (tmp_path / "joined.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert joined.perplexity == whole.perplexity


def test_a_run_of_another_text_is_not_continued(make, tmp_path):
    identity = store.Identity.of("0" * 64, chunks(2), process_output=False)
    store.save(tmp_path / "part.gguf", Calibration(), identity, "text")
    with pytest.raises(ArtifactError, match="another text"):
        store.load(tmp_path / "part.gguf", store.Identity.of("0" * 64, chunks(3), process_output=False))
    with pytest.raises(ArtifactError, match="another model"):
        store.load(tmp_path / "part.gguf", store.Identity.of("1" * 64, chunks(2), process_output=False))


def test_the_perplexity_is_that_of_the_session(make):
    _, artifact = make("qwen3")
    found = calibration.calibrate(artifact, chunks(3), engine=EXACT)
    from edgellm import backends

    with backends.open_session(artifact, EXACT) as session:
        nll = []
        for chunk in chunks(3):
            session.rewind(0)
            log_probs = scoring.log_softmax(session.eval_all(chunk.tokens))
            nll += [-log_probs[i - 1, chunk.tokens[i]] for i in range(N_TOKENS // 2 + 1, N_TOKENS)]
    assert found.n_scored == len(nll) == 3 * 23
    assert found.perplexity == pytest.approx(np.exp(np.mean(nll)), rel=1e-6)
    expected = np.exp(np.mean(nll)) * np.std(nll) / np.sqrt(len(nll) - 1)
    assert found.perplexity_error == pytest.approx(expected, rel=1e-6)


def test_the_output_matrix_is_collected_when_asked_for(make):
    _, artifact = make("llama")
    without = calibration.calibrate(artifact, chunks(1), engine=EXACT).sums
    found = calibration.calibrate(artifact, chunks(1), engine=EXACT, process_output=True).sums
    assert found.keys() - without.keys() == {"output.weight"}


def test_a_failure_in_the_callback_comes_out(make, monkeypatch):
    from edgellm.calibration.collector import Collector

    def fail(*_: object) -> None:
        raise ZeroDivisionError("seen")

    _, artifact = make("qwen3")
    monkeypatch.setattr(Collector, "add", fail)
    with pytest.raises(ZeroDivisionError, match="seen"):
        calibration.calibrate(artifact, chunks(1), engine=EXACT)


def test_others_read_the_file(make, tmp_path):
    """The gguf package's reader finds what llama.cpp's common/imatrix-loader.cpp looks for."""
    import gguf

    _, artifact = make("qwen3moe")
    state = calibration.calibrate(artifact, chunks(1), engine=EXACT)
    path = tmp_path / "imatrix.gguf"
    store.save(path, state, store.Identity.of("0" * 64, chunks(1), process_output=False), "text")
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["general.type"] == "imatrix" and keys["imatrix.datasets"] == ["text"]
    assert (keys["imatrix.chunk_count"], keys["imatrix.chunk_size"]) == (1, N_TOKENS)
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    for name, (sums, counts) in state.sums.items():
        np.testing.assert_array_equal(found[f"{name}.in_sum2"], sums)
        np.testing.assert_array_equal(found[f"{name}.counts"].ravel(), counts)
    assert found["blk.0.ffn_down_exps.weight.in_sum2"].shape == (6, 40)


def test_convert_takes_the_matrix(make, tmp_path):
    source, artifact = make("qwen3")
    state = calibration.calibrate(artifact, chunks(2), engine=EXACT)
    path = tmp_path / "imatrix.gguf"
    store.save(path, state, store.Identity.of("0" * 64, chunks(2), process_output=False), "text")
    assert Imatrix.open(path).chunk_count == 2
    plain = convert(ConvertRequest(source, "Q4_0", tmp_path / "plain.gguf"))
    weighted = convert(ConvertRequest(source, "Q4_0", tmp_path / "weighted.gguf", imatrix=path))
    assert weighted.metadata["quantize.imatrix.entries_count"] == len(state.sums)
    assert plain.sha256 != weighted.sha256


def test_the_command_writes_resumes_and_reports(make, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from edgellm.cli import cli

    _, artifact = make("llama")
    output = tmp_path / "imatrix.gguf"
    arguments = ["calibrate", str(artifact.path), "-o", str(output), "-c", "64", "--chunks", "4", "-t", "1"]
    stopped = store.calibrate

    def stop_after_two(*args, after_chunk, **options):
        def after(state: Calibration) -> None:
            after_chunk(state)
            if state.n_chunks == 2:
                raise KeyboardInterrupt

        return stopped(*args, after_chunk=after, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store, "calibrate", stop_after_two)
        interrupted = CliRunner().invoke(cli, arguments)
    assert interrupted.exit_code == 1 and "--resume goes on" in interrupted.output
    assert not output.exists() and store.partial_path(output).exists()
    resumed = CliRunner().invoke(cli, [*arguments, "--resume"], catch_exceptions=False)
    assert "14 matrices, 4 chunks, 256 tokens" in resumed.output and "PPL = " in resumed.output
    assert not store.partial_path(output).exists()
    again = tmp_path / "again.gguf"
    CliRunner().invoke(cli, [*arguments[:3], str(again), *arguments[4:]], catch_exceptions=False)
    assert again.read_bytes() == output.read_bytes()
