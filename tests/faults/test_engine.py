"""An engine whose process is killed in the middle of an answer is a clear error, and the next question is answered."""

import random
import signal

import fault_rows
import pytest
import tinymodels

import edgellm
from edgellm.backends import worker
from edgellm.catalog import conversion
from edgellm.errors import EdgellmError, EngineCrashError
from edgellm.session import EngineOptions, Sampling


@pytest.mark.fault(15, 0)
@pytest.mark.parametrize("model", ["tiny-qwen3", "tiny-qwen3:onnx-int4"])
def test_a_killed_engine_is_an_error_and_the_next_one_serves(model, request):
    """The kill comes after a random number of tokens, so the clock decides nothing."""
    with edgellm.load(model) as one:
        artifact = one.artifact
        prompt = one.session.tokenize("What is the capital of France?")
        with one.session as session:
            expected = first_tokens(session, prompt, 3)
    rng, count = random.Random(model), fault_rows.trials(25, 2)
    for _ in range(count):
        session = worker.open_isolated(artifact, EngineOptions(n_ctx=256, n_threads=1))
        stream = session.stream(prompt, Sampling(temperature=0.0))
        for _ in range(rng.randrange(3)):
            next(stream)
        session._child.kill()
        with pytest.raises(EngineCrashError, match=r"died of SIGKILL; see: edgellm doctor") as caught:
            list(stream)
        assert "\n" not in str(caught.value)
        with worker.open_isolated(artifact, EngineOptions(n_ctx=256, n_threads=1)) as fresh:
            assert first_tokens(fresh, prompt, 3) == expected
    request.node.user_properties.append(("fault", (15, count)))


def first_tokens(session, prompt, n):
    session.rewind(0)
    stream = session.stream(prompt, Sampling(temperature=0.0))
    found = [next(stream) for _ in range(n)]
    stream.close()
    return found


@pytest.mark.own_process
@pytest.mark.parametrize("quant", ["Q8_0", "onnx-int4"])
def test_a_file_that_kills_its_engine_in_the_proof_is_one_line_and_not_kept(quant, tmp_path, monkeypatch):
    honest = worker.WorkerSession.eval_all

    def dying(self, tokens):
        self._child.send_signal(signal.SIGSEGV)
        return honest(self, tokens)

    source = tinymodels.write(tinymodels.variant("qwen3"), tmp_path / "source")
    conversion.convert_checkpoint(source, tmp_path / "kept", quant)
    monkeypatch.setattr(worker.WorkerSession, "eval_all", dying)
    with pytest.raises(EdgellmError, match="died of SIGSEGV") as caught:
        conversion.convert_checkpoint(source, tmp_path / "out", quant)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "kept"}
