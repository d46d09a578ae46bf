"""The oracle: a decoder's forward pass in plain numpy, read straight from a checkpoint's tensors.

Slow next to an engine and made to be right instead: float32 weights and products, float64 where it is cheap
(norms, softmax, gates). Weights are streamed layer by layer in blocks of rows, so memory stays small whatever
the model. Knows no file: tensors come in as anything that gives rows. Held against transformers in tests.
"""

from edgellm.models.reference.forward import logits
from edgellm.models.reference.numerics import Rotation
from edgellm.models.reference.weights import BLOCK_BYTES, Cached, Rows, Watch

__all__ = ["BLOCK_BYTES", "Cached", "Rotation", "Rows", "Watch", "logits"]
