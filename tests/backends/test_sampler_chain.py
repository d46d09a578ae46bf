"""The samplers the engines really draw with, against the published definitions written down here in numpy.

Order: penalties, top-k, top-p, min-p, temperature (README, `Sampling`). Definitions:

- repeat penalty: Keskar et al. 2019, CTRL, section 4.1; a score below zero is multiplied, as all engines have it
- presence, frequency: OpenAI's API reference, mu[j] -= c[j] * frequency + (c[j] > 0) * presence
- top-k: Fan et al. 2018, Hierarchical Neural Story Generation, section 5.4
- top-p: Holtzman et al. 2019, The Curious Case of Neural Text Degeneration, section 3.1: the smallest set that
  reaches p
- min-p: Nguyen et al. 2024, Turning Up the Heat, section 3: at least min_p times the likeliest token's probability

Every id's probability is compared, of the product's own chain on llama.cpp and of its own sampler on ONNX Runtime.
"""

import ctypes
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tinymodels

from edgellm import backends
from edgellm.backends.llama import lib as llama_lib
from edgellm.backends.llama.sequence import sampler as llama_sampler
from edgellm.backends.ort import sampler as ort_sampler
from edgellm.catalog import conversion
from edgellm.generation.speculative import Lookup
from edgellm.session import EngineOptions, Sampling

N = 400
OFF = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, seed=1)
OFF_VALUES = {
    name: getattr(OFF, name)
    for name in (
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    )
}
#: Likely and unlikely ids, once and several times; the last eleven alone count where repeat_last_n is 11.
RANKS = (0, 1, 1, 2, 2, 2, 5, 8, 40, 399, 398, 398, 0, 30, 3, 3, 3, 12, 200, 397, 4)

CASES = {
    "nothing": OFF,
    "temperature": replace(OFF, temperature=0.6),
    "hot": replace(OFF, temperature=2.5),
    "top-k": replace(OFF, top_k=7),
    "top-p": replace(OFF, top_p=0.8),
    "min-p": replace(OFF, min_p=0.1),
    "repeat": replace(OFF, repeat_penalty=1.7),
    "presence": replace(OFF, presence_penalty=0.9),
    "frequency": replace(OFF, frequency_penalty=0.4),
    "presence is not frequency": replace(OFF, presence_penalty=1.1, frequency_penalty=-0.3),
    "all penalties": replace(OFF, repeat_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.25),
    "penalties look back so far": replace(OFF, repeat_penalty=1.3, frequency_penalty=0.5, repeat_last_n=11),
    "penalties look back on nothing": replace(OFF, repeat_penalty=1.3, repeat_last_n=0),
    "penalties, then top-k": replace(OFF, repeat_penalty=3.0, presence_penalty=2.0, top_k=5),
    "top-k, then top-p": replace(OFF, top_k=12, top_p=0.6),
    "top-p, then min-p": replace(OFF, top_p=0.85, min_p=0.12),
    "top-p, then temperature": replace(OFF, top_p=0.7, temperature=2.0),
    "min-p, then temperature": replace(OFF, min_p=0.2, temperature=2.0),
    "top-k, then temperature": replace(OFF, top_k=3, temperature=3.0),
    "the defaults": Sampling(seed=1),
    "everything": Sampling(1.4, 25, 0.9, 0.08, 1.2, 0.4, 0.3, 16, seed=1),
}


def scores(spread: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(5).standard_normal(N) * spread).astype(np.float32)


def by_the_papers(values: np.ndarray, s: Sampling, drawn: list[int]) -> dict[int, float]:
    """The probability of every id that may be drawn after `drawn`."""
    mu = values.astype(np.float64)
    for j, count in Counter(drawn[-s.repeat_last_n :] if s.repeat_last_n else []).items():
        mu[j] = mu[j] / s.repeat_penalty if mu[j] > 0 else mu[j] * s.repeat_penalty
        mu[j] -= count * s.frequency_penalty + s.presence_penalty
    ids = sorted(range(len(mu)), key=lambda j: -mu[j])
    ids = ids[: s.top_k] if s.top_k else ids
    shares = np.exp(mu[ids] - mu[ids[0]])
    reached = np.cumsum(shares / shares.sum())
    ids = ids[: int(np.argmax(reached >= s.top_p)) + 1] if s.top_p < 1 else ids
    ids = [j for j in ids if np.exp(mu[j] - mu[ids[0]]) >= s.min_p]
    weights = np.exp((mu[ids] - mu[ids[0]]) / s.temperature)
    return dict(zip(ids, (weights / weights.sum()).tolist(), strict=True))


def llama_distribution(values: np.ndarray, s: Sampling, drawn: list[int]) -> tuple[dict[int, float], int]:
    """What the product's chain leaves, and the id it draws from that."""
    lib = llama_lib.load()
    chain = llama_sampler.make_sampler(lib, s, N)
    for token in drawn:
        lib.llama_sampler_accept(chain, token)
    data = (lib.llama_token_data * N)(*(lib.llama_token_data(i, float(v), 0.0) for i, v in enumerate(values)))
    array = lib.llama_token_data_array(data, N, -1, False)
    lib.llama_sampler_apply(chain, ctypes.byref(array))
    left = [array.data[i] for i in range(array.size)]
    weights = np.exp(np.array([item.logit for item in left]) - max(item.logit for item in left))
    found = {item.id: float(w) for item, w in zip(left, weights / weights.sum(), strict=True)}
    token = left[array.selected].id
    lib.llama_sampler_free(chain)
    return found, token


def ort_distribution(values: np.ndarray, s: Sampling, drawn: list[int]) -> tuple[dict[int, float], int]:
    sampler = ort_sampler.Sampler(s)
    for token in drawn:  # scores that leave it no choice
        certain = np.full(N, -1e6, np.float32)
        certain[token] = 1e6
        assert sampler.draw(certain) == token
    ids, shares = sampler.distribution(values) if s.temperature else ([], [])
    return dict(zip(map(int, ids), map(float, shares), strict=True)), sampler.draw(values)


ENGINES = {"llama.cpp": llama_distribution, "ONNX Runtime": ort_distribution}


@pytest.mark.parametrize("distribution", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("sampling", CASES.values(), ids=CASES)
def test_every_ids_probability_is_the_papers(distribution, sampling):
    values = scores()
    drawn = [int(np.argsort(-values)[rank]) for rank in RANKS]
    expected = by_the_papers(values, sampling, drawn)
    found, token = distribution(values, sampling, drawn)
    assert found.keys() == expected.keys()
    assert token in expected
    for j in expected:
        assert found[j] == pytest.approx(expected[j], rel=2e-4, abs=1e-9)


@pytest.mark.parametrize("field", list(OFF_VALUES))
def test_no_setting_can_be_dropped_unseen(field):
    """The cases themselves: in some of them, each setting alone makes the difference."""
    values = scores()
    drawn = [int(np.argsort(-values)[rank]) for rank in RANKS]

    def matters(case: Sampling) -> bool:
        without = replace(case, **{field: OFF_VALUES[field]})
        return by_the_papers(values, without, drawn) != by_the_papers(values, case, drawn)

    assert sum(map(matters, CASES.values())) >= 2


@pytest.mark.parametrize("distribution", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("name", ["nothing", "repeat", "all penalties", "everything"])
def test_greedy_takes_the_first_by_the_penalized_scores(distribution, name):
    values = scores()
    drawn = [int(np.argsort(-values)[rank]) for rank in RANKS]
    sampling = replace(CASES[name], temperature=0.0)
    likeliest = by_the_papers(values, replace(sampling, temperature=1.0), drawn)
    assert distribution(values, sampling, drawn)[1] == max(likeliest, key=likeliest.__getitem__)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tinymodels.write(tinymodels.CASES["llama"], tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module", params=backends.names())
def session(request, source, tmp_path_factory):
    quant = {"llama": "F16", "ort": "onnx-fp32"}[request.param]
    output = tmp_path_factory.mktemp(request.param) / (quant if quant.startswith("onnx") else "tiny.gguf")
    artifact = conversion.convert_checkpoint(source, output, quant)
    with backends.open_session(artifact, EngineOptions(n_ctx=128, n_threads=1)) as opened:
        yield opened


@pytest.mark.parametrize("drafter", [None, Lookup()], ids=["one by one", "draft tokens"])
@pytest.mark.parametrize("name", ["top-k, then temperature", "everything"])
def test_a_streams_first_ids_are_drawn_from_that_distribution(session, name, drafter):
    n = 1500
    session.rewind(0)
    expected = by_the_papers(session.eval([1, 2, 3]), CASES[name], [])
    counts: Counter[int] = Counter()
    for seed in range(n):
        session.rewind(2)
        ids = session.stream([3], replace(CASES[name], seed=seed), drafter=drafter)
        counts[next(ids)] += 1
        ids.close()
    assert set(counts) <= set(expected)
    distance = sum(abs(counts[j] / n - p) for j, p in expected.items()) / 2  # total variation
    assert distance < 1.5 * (len(expected) / n) ** 0.5 / 2


@pytest.mark.parametrize("drafter", [None, Lookup()], ids=["one by one", "draft tokens"])
def test_penalties_look_back_on_what_the_stream_drew(session, drafter):
    """Greedily, so that each id follows from the one before: all of them are checked."""
    sampling = replace(CASES["all penalties"], temperature=0.0, repeat_penalty=1.6, repeat_last_n=9)
    session.rewind(0)
    ids = session.stream([1, 2, 3], sampling, drafter=drafter)
    drawn = [next(ids) for _ in range(40)]
    ids.close()
    session.rewind(0)
    rows = session.eval_all([1, 2, 3, *drawn])[2:]
    for i, token in enumerate(drawn):
        likeliest = by_the_papers(rows[i], replace(sampling, temperature=1.0), drawn[:i])
        best = max(likeliest, key=likeliest.__getitem__)
        assert likeliest[token] >= 0.98 * likeliest[best]  # rounding between one row and many
    assert len(set(drawn)) > 5
