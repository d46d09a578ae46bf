"""Adds up squared inputs of matrix products. Knows no engine: products and arrays are handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgellm.errors import EngineError

if TYPE_CHECKING:
    from edgellm.backends.llama.observe import Product

Float32s = npt.NDArray[np.float32]
#: Weight name -> (sums of squares [n_counts, n_columns], tokens seen [n_counts]); n_counts is the number of
#: experts of a routed product and 1 otherwise.
Sums = dict[str, tuple[Float32s, npt.NDArray[np.int64]]]

#: llama.cpp's imatrix tool leaves smaller batches of a plain product out.
MIN_TOKENS = 16


class Collector:
    """Sums by weight. They are kept in float32, as files hold them, so that a run can go on from a file.

    `sums` gets new arrays with every product and never changes one, so a shallow copy keeps its values.
    """

    def __init__(self, start: Sums | None = None, *, process_output: bool = False) -> None:
        self.sums: Sums = dict(start or {})
        self._prefixes = ("blk.", "output.weight") if process_output else ("blk.",)

    def wants(self, product: Product) -> bool:
        """What llama.cpp's tool collects: every routed product, and plain ones of a block's weights."""
        if product.routed:
            return True
        return (
            product.input_is_f32
            and product.input_shape[-2] >= MIN_TOKENS
            and product.weight.startswith(self._prefixes)
        )

    def add(self, product: Product, inputs: Float32s, experts: npt.NDArray[np.int32] | None) -> None:
        """Add one product's inputs. Raises EngineError when they are not finite or change their width."""
        found = _plain(product, inputs) if experts is None else _routed(product, inputs[0], experts)
        sums, counts = self.sums.get(product.weight, (np.zeros_like(found[0]), np.zeros_like(found[1])))
        if sums.shape != found[0].shape:
            raise EngineError(
                f"{product.weight} has inputs of shape {found[0].shape} after {sums.shape}; start anew"
            )
        total = sums + found[0]
        if not np.isfinite(total).all():
            raise EngineError(
                f"the inputs of {product.weight} are NaN or infinite; the model's weights are damaged"
            )
        self.sums[product.weight] = total, counts + found[1]


def _plain(product: Product, inputs: Float32s) -> tuple[Float32s, npt.NDArray[np.int64]]:
    """Inputs [n3, n2, n_tokens, n_columns]; a stack of weight matrices has its sums side by side in one row."""
    n3, n2 = product.weight_shape[:2]
    n_columns = inputs.shape[-1]
    squares = np.square(inputs).sum(axis=2)  # [input n3, input n2, n_columns]
    sums = np.zeros((n3, n2, n_columns), np.float32)
    for i3, i2 in np.ndindex(*squares.shape[:2]):
        sums[i3 % n3, i2 % n2] += squares[i3, i2]
    n_tokens = int(np.prod(inputs.shape[:3])) // (n3 * n2)
    return sums.reshape(1, -1), np.array([n_tokens])


def _routed(
    product: Product, inputs: Float32s, experts: npt.NDArray[np.int32]
) -> tuple[Float32s, npt.NDArray[np.int64]]:
    """Inputs [n_tokens, 1 or n_expert_used, n_columns], experts [n_tokens, n_expert_used]."""
    n_expert = product.weight_shape[1]
    sums = np.zeros((n_expert, inputs.shape[-1]), np.float32)
    for expert in np.unique(experts):
        token, place = np.nonzero(experts == expert)
        sums[expert] = np.square(inputs[token, place % inputs.shape[1]]).sum(axis=0)
    return sums, np.bincount(experts.ravel(), minlength=n_expert).astype(np.int64)
