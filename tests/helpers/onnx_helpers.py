"""What tests of ONNX models share: errors, and the oracle on a checkpoint folder."""

from pathlib import Path

import numpy as np

from edgellm.convert.checkpoint.folder import Checkpoint
from edgellm.models import reference
from edgellm.models.registry import spec_of


def nmse(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sum((found - expected) ** 2) / np.sum(expected**2))


def typical_nmse(found: np.ndarray, expected: np.ndarray) -> float:
    """The median over positions: a router near a tie may send a single token to another expert."""
    return float(np.median(np.sum((found - expected) ** 2, axis=1) / np.sum(expected**2, axis=1)))


def oracle(folder: Path, tokens: list[int]) -> np.ndarray:
    with Checkpoint.open(folder) as checkpoint:
        spec = spec_of(checkpoint.config, checkpoint.shapes)
        return reference.logits(spec, checkpoint.tensors, tokens)
