"""The compact reference file against the whole distributions, at a vocabulary of 151,936.

    python bench/reference_logits.py [--positions 256]

Distributions are made up, peaked as language models' are; the model differs from the reference by noise on the
logits: independent, of low rank (as an error in the last hidden state makes it), or a shift of the whole tail
against the likely tokens. Prints the error of the mean divergence for each; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgellm.profiles import reference_logits
from edgellm.profiles.reference_logits import CompactReference, Source
from edgellm.scoring import Block, Chunk, log_softmax

N_VOCAB = 151_936
BATCH = 16
RANK = 48
SCALES = (0.01, 0.05, 0.2, 0.5, 1.0)
KINDS = ("independent", "low rank", "tail shift")

Floats = npt.NDArray[np.float32]


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


def cases(n: int) -> Iterator[tuple[int, Floats, dict[tuple[str, float], Floats]]]:
    """Position, reference logits, and each model's logits."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(0, RANK**-0.5, (N_VOCAB, RANK)).astype(np.float32)
    for start in range(0, n, BATCH):
        logits = peaked(rng)
        noises = {kind: noise(kind, logits, embedding, rng) for kind in KINDS}
        yield start, logits, {(k, s): logits + np.float32(s) * noises[k] for k in KINDS for s in SCALES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--positions", type=int, default=256)
    n = parser.parse_args().positions // BATCH * BATCH
    chunk = Chunk(tuple(range(n + 1)), 1)
    exact: dict[tuple[str, float], list[float]] = {}
    compact: dict[tuple[str, float], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference"
        with reference_logits.create(path, [chunk], Source("m", "F16", "", "", "", N_VOCAB)) as writer:
            for start, logits, _ in cases(n):
                writer.add(Block(0, start, np.arange(start + 1, start + 1 + BATCH), log_softmax(logits)))
        reference = CompactReference(path)
        for start, logits, models in cases(n):
            log_p = log_softmax(logits)
            for key, model in models.items():
                log_q = log_softmax(model)
                found = reference.compare(Block(0, start, np.arange(start + 1, start + 1 + BATCH), log_q))
                exact.setdefault(key, []).extend((np.exp(log_p) * (log_p - log_q)).sum(axis=1).tolist())
                compact.setdefault(key, []).extend(found.kld.tolist())
        share = path.stat().st_size / reference_logits.full_bytes(n, N_VOCAB)
    report(n, share, exact, compact)


def report(
    n: int,
    share: float,
    exact: dict[tuple[str, float], list[float]],
    compact: dict[tuple[str, float], list[float]],
) -> None:
    print(f"{n} positions; the file has {share:.2%} of the size of 16-bit logits\n")
    print("| noise | its size | mean KLD | error of the mean | of the median | of the 99% quantile |")
    print("|---|---:|---:|---:|---:|---:|")
    worst = 0.0
    for (kind, scale), values in exact.items():
        pairs = [
            (f(compact[kind, scale]), f(values)) for f in (np.mean, np.median, lambda x: np.quantile(x, 0.99))
        ]
        errors = [found / true - 1 for found, true in pairs]
        worst = max(worst, abs(errors[0]))
        print(
            f"| {kind} | {scale} | {np.mean(values):.2e} | " + " | ".join(f"{e:+.2%}" for e in errors) + " |"
        )
    print(
        json.dumps({"positions": n, "n_vocab": N_VOCAB, "share_of_full": share, "worst_error_of_mean": worst})
    )


if __name__ == "__main__":
    main()
