"""The compact reference file against the whole distributions, at a vocabulary of 151,936 or a model's own.

    python bench/kld_reference.py [--positions 256] [--models REFERENCE.gguf MODEL.gguf]

Without models distributions are made up, peaked as language models' are; the model differs from the reference by
noise on the logits: independent, of low rank (as an error in the last hidden state makes it), or a shift of the
whole tail against the likely tokens. With two models of one vocabulary (the same weights in two quantizations) the
noise is theirs; both are sharpened alike until the reference's entropy is that of a trained model, for random
weights say nearly the same of every token. Prints the error of the mean divergence; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgellm import backends
from edgellm.formats.artifact import Artifact
from edgellm.generation.scoring import Block, Chunk, log_softmax
from edgellm.profiles.quality import reference_logits
from edgellm.profiles.quality.reference_logits import CompactReference, Source
from edgellm.session import EngineOptions

N_VOCAB = 151_936
BATCH = 16
RANK = 48
SCALES = (0.01, 0.05, 0.2, 0.5, 1.0)
KINDS = ("independent", "low rank", "tail shift")
#: What the file must keep: the error of the mean divergence, and its share of 16-bit logits.
MAX_ERROR, MAX_SHARE = 0.02, 0.02
#: Entropies in nats that a text's positions have in a trained model: sure, usual, open.
ENTROPIES = (0.5, 2.0, 4.0)

Floats = npt.NDArray[np.float32]
Key = tuple[str, float]
#: First position, reference logits [BATCH, n_vocab], and each model's.
Case = tuple[int, Floats, dict[Key, Floats]]


def peaked(rng: np.random.Generator) -> Floats:
    """Logits [BATCH, N_VOCAB]: a wide bulk and 1 to 200 tokens that stand out of it more or less."""
    logits = rng.normal(0, 2.2, (BATCH, N_VOCAB)).astype(np.float32)
    for row in logits:
        likely = rng.choice(N_VOCAB, rng.integers(1, 200), replace=False)
        row[likely] = rng.uniform(12, 24) - rng.exponential(3, len(likely))
    return logits


def noise(kind: str, logits: Floats, embedding: Floats, rng: np.random.Generator) -> Floats:
    """Noise of standard deviation about 1."""
    if kind == "low rank":
        return rng.normal(0, 1, (BATCH, RANK)).astype(np.float32) @ embedding.T
    white = rng.normal(0, 1, logits.shape).astype(np.float32)
    return white if kind == "independent" else (logits < 9) + white / 3


def made_up(n: int) -> Iterator[Case]:
    """The same cases whenever they are asked for."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(0, RANK**-0.5, (N_VOCAB, RANK)).astype(np.float32)
    for start in range(0, n, BATCH):
        logits = peaked(rng)
        noises = {kind: noise(kind, logits, embedding, rng) for kind in KINDS}
        yield start, logits, {(k, s): logits + np.float32(s) * noises[k] for k in KINDS for s in SCALES}


class Models:
    """Two models' logits at `n` positions of random tokens, sharpened alike."""

    def __init__(self, paths: list[str], n: int) -> None:
        tokens = np.random.default_rng(0).integers(1000, 100_000, n).tolist()
        self.logits = [_logits(path, tokens) for path in paths]

    def cases(self, entropy: float) -> Iterator[Case]:
        """At one entropy of the reference."""
        own, other = self.logits
        factor = _sharpness(own[:BATCH], entropy)
        for start in range(0, len(own), BATCH):
            rows = slice(start, start + BATCH)
            yield start, own[rows] * factor, {("models", entropy): other[rows] * factor}


def _logits(path: str, tokens: list[int]) -> Floats:
    options = EngineOptions(n_ctx=len(tokens) + 1, n_threads=2)
    with backends.open_session(Artifact.open(path), options) as session:
        return np.array(session.eval_all(tokens), np.float32)


def _sharpness(logits: Floats, entropy: float) -> np.float32:
    """The factor that gives the logits this mean entropy, by bisection: it falls as the factor grows."""
    low, high = 0.01, 1000.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        log_p = log_softmax(logits * np.float32(middle))
        too_flat = -(np.exp(log_p) * log_p).sum(axis=1).mean() > entropy
        low, high = (middle, high) if too_flat else (low, middle)
    return np.float32(low)


def measure(cases: list[Iterator[Case]], n: int, n_vocab: int) -> tuple[float, dict[Key, tuple[list, list]]]:  # type: ignore[type-arg]
    """The file's share of 16-bit logits, and (exact, compact) divergences of every model."""
    chunk = Chunk(tuple(range(n + 1)), 1)
    found: dict[Key, tuple[list[float], list[float]]] = {}
    targets = np.arange(1, BATCH + 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference"
        writing, reading = cases
        with reference_logits.create(path, [chunk], Source("m", "F16", "", "", "", n_vocab)) as writer:
            for start, logits, _ in writing:
                writer.add(Block(0, start, targets, log_softmax(logits)))
        reference = CompactReference(path)
        for start, logits, models in reading:
            log_p = log_softmax(logits)
            for key, model in models.items():
                log_q = log_softmax(model)
                exact, compact = found.setdefault(key, ([], []))
                exact += (np.exp(log_p) * (log_p - log_q)).sum(axis=1).tolist()
                compact += reference.compare(Block(0, start, targets, log_q)).kld.tolist()
        share = path.stat().st_size / reference_logits.full_bytes(n, n_vocab)
    return share, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--positions", type=int, default=256)
    parser.add_argument("--models", nargs=2, metavar=("REFERENCE", "MODEL"))
    args = parser.parse_args()
    n = args.positions // BATCH * BATCH
    if args.models:
        models = Models(args.models, n)
        n_vocab = models.logits[0].shape[1]
        runs = [measure([models.cases(e), models.cases(e)], n, n_vocab) for e in ENTROPIES]
    else:
        n_vocab, runs = N_VOCAB, [measure([made_up(n), made_up(n)], n, N_VOCAB)]
    report(n, n_vocab, max(share for share, _ in runs), {k: v for _, found in runs for k, v in found.items()})


def report(n: int, n_vocab: int, share: float, found: dict[Key, tuple[list, list]]) -> None:  # type: ignore[type-arg]
    print(f"{n} positions of {n_vocab:,}; the file has {share:.2%} of the size of 16-bit logits\n")
    print(
        "| difference | its size, or entropy | mean KLD | error of the mean | of the median | of the 99% quantile |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    worst = 0.0
    for (kind, scale), (exact, compact) in found.items():
        pairs = [(f(compact), f(exact)) for f in (np.mean, np.median, lambda x: np.quantile(x, 0.99))]
        errors = [value / true - 1 for value, true in pairs]
        worst = max(worst, abs(errors[0]))
        shown = " | ".join(f"{error:+.2%}" for error in errors)
        print(f"| {kind} | {scale} | {np.mean(exact):.2e} | {shown} |")
    figures = {"positions": n, "n_vocab": n_vocab, "share_of_full": share, "worst_error_of_mean": worst}
    print(json.dumps(figures | {"within_bounds": worst <= MAX_ERROR and share <= MAX_SHARE}))


if __name__ == "__main__":
    main()
