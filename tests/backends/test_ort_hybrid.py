"""Hybrids in ONNX Runtime: logits as transformers computed them, and ways back by kept states, whatever happens."""

import itertools
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tinymodels
from golden.make_reference_logits import POSITIONS, TOKENS
from onnx_helpers import nmse
from places import GOLDEN
from sequences import MixedDrafter

from edgellm import backends
from edgellm.backends import checkpoints
from edgellm.backends.ort import cache as ort_cache
from edgellm.backends.ort import runner
from edgellm.calibration import text
from edgellm.convert.onnx.options import OnnxOptions
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.errors import EngineError
from edgellm.formats import onnx_folder
from edgellm.formats.artifact import Artifact
from edgellm.session import GREEDY, EngineOptions, Session, reuse_prefix

OPTIONS = EngineOptions(n_ctx=512, n_threads=1)
NAME = "qwen35-grouped"
SAME = 1e-11  # relative squared error between one way of evaluating the same ids and another


@pytest.mark.parametrize("name", tinymodels.HYBRIDS)
def test_logits_are_transformers(name, tmp_path):
    source = tinymodels.write(tinymodels.HYBRIDS[name], tmp_path / "source")
    artifact = convert_onnx(OnnxRequest(source, "onnx-fp32", tmp_path / "model", hash_sources=False))
    expected = np.load(GOLDEN / "logits" / f"{name}.npy")
    with backends.open_session(artifact, OPTIONS) as session:
        found = session.eval_all(TOKENS)
    assert np.abs(found[POSITIONS] - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tinymodels.write(tinymodels.HYBRIDS[NAME], tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def artifact(source, tmp_path_factory) -> Artifact:
    return convert_onnx(OnnxRequest(source, "onnx-fp32", tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def session(artifact):
    with backends.open_session(artifact, OPTIONS) as session:
        yield session


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """The number of tokens of every run of a graph."""
    runs: list[int] = []
    plain = runner.Runner._run

    def run(self, tokens, asked):
        runs.append(len(tokens))
        plain(self, tokens, asked)

    monkeypatch.setattr(runner.Runner, "_run", run)
    return runs


def ids(n: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(320) for _ in range(n)]


def anew(artifact: Artifact, tokens: list[int]) -> np.ndarray:
    with backends.open_session(artifact, OPTIONS) as fresh:
        return fresh.eval(tokens).copy()


@pytest.mark.parametrize("seed", range(4))
def test_drafted_answers_are_those_of_plain_decoding(artifact, session, seed, counted):
    prompt = ids(60, seed)
    plain = list(itertools.islice(session.stream(prompt, GREEDY), 150))
    n_plain = len(counted)
    session.rewind(0)
    drafter = MixedDrafter(plain, random.Random(seed), 320)
    assert list(itertools.islice(session.stream(prompt, GREEDY, drafter=drafter), 150)) == plain
    runs = counted[n_plain:]
    assert len(runs) < n_plain  # though accepted tokens of rejected drafts came again
    assert max(runs[2:]) <= 16  # the kernel for few rows all the way
    assert nmse(session.eval([5]), anew(artifact, [*session.tokens[:-1], 5])) < SAME


class NearlyRight:
    """Drafts what comes, but for the last token of each draft."""

    def __init__(self, truth: Sequence[int]) -> None:
        self.truth, self.at = truth, 0

    def begin(self, session: Session) -> None:
        self.at = 0

    def take(self, token: int) -> None:
        self.at += 1

    def draft(self, room: int) -> Sequence[int]:
        found = list(self.truth[self.at : self.at + room])
        return [*found[:-1], (found[-1] + 1) % 320] if found else []


def test_a_long_draft_that_fails_at_its_end_makes_no_run_longer(session, counted):
    """What was accepted comes again, up to 15 tokens, and more than 16 in one run go through another kernel."""
    plain = list(itertools.islice(session.stream(ids(30), GREEDY), 80))
    session.rewind(0)
    del counted[:]
    assert list(itertools.islice(session.stream(ids(30), GREEDY, drafter=NearlyRight(plain)), 80)) == plain
    assert max(counted[1:]) == 16 and counted.count(16) >= 4


def test_ten_turns_evaluate_what_is_new_and_little_more(session, counted):
    """A chat whose template writes an answer's head otherwise once it is history: 5 tokens before the prompt's end."""
    history, extra = ids(40), []
    for turn in range(10):
        prompt = [*history, *ids(25, turn), 1, 2, 3, 4, 5]
        start = reuse_prefix(session, prompt)
        del counted[:]
        answer = list(itertools.islice(session.stream(prompt[start:], GREEDY), 12))
        new = len(prompt) - len(history) + 12 if turn else len(prompt)
        extra.append(sum(counted) - 11 - new)
        history = [*prompt[:-3], *answer]
    assert max(extra) <= checkpoints.BEFORE_END and len(session.tokens) > 350


def test_a_run_that_fails_half_way_leaves_a_session_that_is_right(artifact, session, monkeypatch):
    prompt = ids(60)
    stream = session.stream(prompt, GREEDY)
    drawn = [next(stream) for _ in range(9)]
    stream.close()
    kept = list(session.tokens)
    graph = session._runner._graph.session

    class Failing:
        def run_with_iobinding(self, *arguments):
            graph.run_with_iobinding(*arguments)  # the states, in place, are those of more tokens now
            raise RuntimeError("out of memory")

    real = session._runner._graph
    object.__setattr__(real, "session", Failing())
    with pytest.raises(EngineError, match="out of memory"):
        session.eval([7, 8, 9])
    object.__setattr__(real, "session", graph)
    assert list(session.tokens) == kept == [*prompt, *drawn[:-1]]
    assert nmse(session.eval([7]), anew(artifact, [*kept, 7])) < SAME


def test_states_are_as_many_as_asked_for_and_as_large_as_said(artifact):
    for most in (2, 5):
        options = EngineOptions(n_ctx=512, n_threads=1, n_checkpoints=most)
        with backends.open_session(artifact, options) as session:
            for turn in range(9):
                list(itertools.islice(session.stream(ids(40, turn), GREEDY), 3))
            cache = session._cache
            assert len(cache._kept.positions) == most
            assert onnx_folder.read(artifact.path).state_bytes <= cache._nbytes
            assert cache._nbytes < 1.1 * onnx_folder.read(artifact.path).state_bytes + 64 * 8
    with backends.open_session(artifact, OPTIONS) as session:
        assert session.info.options.n_checkpoints == checkpoints.capacity(session._cache._nbytes)


def test_no_state_of_another_branch_is_taken_up(artifact, session):
    session.eval(ids(100)[:40])
    list(itertools.islice(session.stream(ids(100)[40:], GREEDY), 3))  # states are kept at 40 and 92
    session.rewind(50)
    other = ids(70, 1)
    for token in other:
        session.eval([token])  # too few to be worth another
    session.rewind(110)
    assert nmse(session.eval([5]), anew(artifact, [*ids(100)[:50], *other[:60], 5])) < SAME


def test_a_saved_state_brings_the_way_back_behind_the_answer_along(artifact, session, counted):
    prompt = ids(100)
    list(itertools.islice(session.stream(prompt, GREEDY), 30))
    kept, state = list(session.tokens), session.save_state()
    with backends.open_session(artifact, OPTIONS) as other:
        other.restore_state(state, kept)
        assert nmse(other.eval([5]), anew(artifact, [*kept, 5])) < SAME
        del counted[:]
        other.rewind(len(prompt) - 3)
        assert nmse(other.eval([6]), anew(artifact, [*prompt[:-3], 6])) < SAME
    assert counted[0] == checkpoints.BEFORE_END - 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s[:-4],
        lambda s: s[:9],
        lambda s: b"XXXX" + s[4:],
        lambda s: s[:4] + b"\2" + s[5:],  # more states than there are
        lambda s: s[:8] + b"\1" + s[9:],  # of another size
        lambda s: s[:16] + b"\1\0\0\0" + s[20:],  # after another number of tokens
        lambda s: s + b"\0\0\0\0",
    ],
)
def test_a_state_of_another_shape_is_refused_and_changes_nothing(artifact, session, damage):
    session.eval([1, 2, 3])
    state = session.save_state()
    session.eval([4])
    with pytest.raises(EngineError, match="does not fit"):
        session.restore_state(damage(state), [1, 2, 3])
    assert nmse(session.eval([5]), anew(artifact, [1, 2, 3, 4, 5])) < SAME
    session.restore_state(state, [1, 2, 3])
    assert nmse(session.eval([9]), anew(artifact, [1, 2, 3, 9])) < SAME


def test_a_state_of_a_plain_model_is_none_of_a_hybrid(session, tmp_path):
    source = tinymodels.write(tinymodels.CASES["qwen3"], tmp_path / "source")
    plain = convert_onnx(OnnxRequest(source, "onnx-fp32", tmp_path / "model", hash_sources=False))
    with backends.open_session(plain, OPTIONS) as other:
        other.eval([1, 2, 3])
        state = other.save_state()
    with pytest.raises(EngineError, match="does not fit"):
        session.restore_state(state, [1, 2, 3])


def test_an_int8_cache_is_that_of_the_layers_with_attention(source, artifact, tmp_path):
    options = OnnxOptions.parse(["kv=int8"])
    request = OnnxRequest(source, "onnx-fp32", tmp_path / "int8", options, calibration_text=text.text(4000))
    with backends.open_session(convert_onnx(request), OPTIONS) as small:
        found, bytes_small = small.eval_all(ids(200)), small.info.kv_bytes_per_token
    with backends.open_session(artifact, OPTIONS) as plain:
        assert 1e-9 < nmse(found, plain.eval_all(ids(200))) < 5e-3
        assert bytes_small and plain.info.kv_bytes_per_token == 4 * bytes_small
        tiny = tinymodels.HYBRIDS[NAME]
        slots = plain._runner._graph.slots
        assert len(slots) == 2 * sum(
            kind == "full_attention" for kind in tinymodels.config(tiny)["text_config"]["layer_types"]
        )


def test_a_second_graph_for_prompts_leaves_the_same_states(source, tmp_path):
    request = OnnxRequest(source, "onnx-int8", tmp_path / "both", OnnxOptions.parse(["prefill=w8a8"]))
    with backends.open_session(convert_onnx(request), OPTIONS) as session:
        through_prompts = session.eval(ids(90)).copy()
        session.rewind(0)
        session._prompts = None
        assert nmse(through_prompts, session.eval(ids(90))) < 3e-2


def test_a_cache_that_is_stretched_can_be_gone_back_to(session, counted):
    session.eval(ids(30))
    session.stretch(300)
    before = session.eval([5]).copy()
    session.rewind(300)
    del counted[:]
    assert np.array_equal(session.eval([5]), before) and counted == [1]
    assert isinstance(session._cache._kv, ort_cache.InPlaceCache)


def test_a_folder_as_onnxruntime_genai_builds_it_gives_the_same(artifact, session, tmp_path):
    """Heads of unknown width in the graph, three positions a token (which a text has the same), no manifest."""
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "theirs"
    shutil.copytree(artifact.path, folder)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.endswith((".key", ".value")):
            value.type.tensor_type.shape.dim[3].dim_param = "kv_cache_dim"
    shape = [3, "batch_size", "sequence_length"]
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("position_ids", onnx.TensorProto.INT64, shape)
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "edgellm.json").unlink()
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["filename"] = "model.onnx"
    (folder / "genai_config.json").write_text(json.dumps(config))
    expected = list(itertools.islice(session.stream(ids(20), GREEDY), 20))
    with backends.open_session(Artifact.open(folder), OPTIONS) as theirs:
        assert list(itertools.islice(theirs.stream(ids(20), GREEDY), 20)) == expected
        theirs.rewind(11)
        assert nmse(theirs.eval([5]), anew(artifact, [*ids(20)[:11], 5])) < SAME
    del config["model"]["decoder"]["head_size"]
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match="does not say how wide a head"):
        backends.open_session(Artifact.open(folder), OPTIONS)
