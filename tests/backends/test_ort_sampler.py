"""The numpy sampler against llama.cpp's own chain: the same candidates on the same logits."""

import ctypes
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from edgellm.backends.ort import sampler as ort_sampler
from edgellm.session import Sampling

llama_cpp = pytest.importorskip("llama_cpp")

OFF = Sampling(top_k=0, top_p=1.0, min_p=0.0, temperature=1.0)


def logits(n: int, spread: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * spread).astype(np.float32)


def llama_candidates(values: np.ndarray, s: Sampling, recent: list[int]) -> tuple[list[int], list[float]]:
    """Ids and logits that llama.cpp's samplers leave, in the order our llama.cpp backend chains them."""
    lib, n = llama_cpp.llama_cpp, len(values)
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    if recent:
        lib.llama_sampler_chain_add(
            chain,
            lib.llama_sampler_init_penalties(
                n, s.repeat_last_n, s.repeat_penalty, s.frequency_penalty, s.presence_penalty
            ),
        )
    if s.top_k > 0:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_k(s.top_k))
    if s.top_p < 1:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_p(s.top_p, 1))
    if s.min_p > 0:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_min_p(s.min_p, 1))
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_temp(s.temperature))
    for token in recent:
        lib.llama_sampler_accept(chain, token)
    data = (lib.llama_token_data * n)(*(lib.llama_token_data(i, float(v), 0.0) for i, v in enumerate(values)))
    array = lib.llama_token_data_array(data, n, -1, False)
    lib.llama_sampler_apply(chain, ctypes.byref(array))
    left = [(array.data[i].id, array.data[i].logit * s.temperature) for i in range(array.size)]
    lib.llama_sampler_free(chain)
    left.sort(key=lambda pair: -pair[1])
    return [i for i, _ in left], [v for _, v in left]


SETTINGS = [
    OFF,
    replace(OFF, top_k=40),
    replace(OFF, top_k=1),
    replace(OFF, top_k=10**6, min_p=0.02),
    replace(OFF, top_p=0.9),
    replace(OFF, top_p=0.05),
    replace(OFF, min_p=0.1),
    Sampling(temperature=0.7),
    replace(OFF, top_k=40, top_p=0.5, min_p=0.2, temperature=2.0),
    Sampling(repeat_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.25),
]


@pytest.mark.parametrize("spread", [0.05, 1.0, 8.0])
@pytest.mark.parametrize("n", [300, 5000, 20000])
@pytest.mark.parametrize("sampling", SETTINGS)
def test_the_same_candidates_as_llama_cpp(sampling, n, spread):
    values = logits(n, spread)
    penalizes = sampling.repeat_penalty != 1.0
    recent = [int(i) for i in np.argsort(-values)[[0, 3, 3, 5, 250]]] if penalizes else []
    ids, left = llama_candidates(values, sampling, recent)
    given = ort_sampler.penalized(values, deque(recent), sampling) if recent else values
    ours = ort_sampler.candidates(given, sampling)
    # top-p adds float32 probabilities in another order: the cut may fall one or two of thousands later
    slack = 2 + len(ids) // 1000 if sampling.top_p < 1 else 0
    assert abs(len(ours.ids) - len(ids)) <= slack
    common = min(len(ids), len(ours.ids))
    np.testing.assert_allclose(ours.logits[:common], left[:common], rtol=1e-5, atol=1e-6)
    assert set(ours.ids[:common].tolist()) == set(ids[:common])


def test_draws_follow_the_softmax():
    values = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
    sampler = ort_sampler.Sampler(replace(OFF, seed=7))
    counts = np.bincount([sampler.draw(values) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.25, 0.15, 0.1], atol=0.03)


def test_temperature_sharpens():
    values = np.log(np.array([0.6, 0.4], np.float32))
    cold = ort_sampler.Sampler(replace(OFF, temperature=0.05, seed=7))
    assert [cold.draw(values) for _ in range(50)] == [0] * 50


def test_greedy_takes_the_first_of_equals_and_leaves_logits_alone():
    values = np.array([1, 3, 3, 2], np.float32)
    sampler = ort_sampler.Sampler(Sampling(temperature=0.0, repeat_penalty=2.0))
    assert sampler.draw(values) == 1 and sampler.draw(values) == 2
    assert values.tolist() == [1, 3, 3, 2]
