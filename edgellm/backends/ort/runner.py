"""A decoder's graph run on bound buffers: tokens in, logits or hidden states out, the cache updated in place.

Knows one graph and its cache; knows neither sampling nor the sequence's ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgellm.backends.ort import graph as ort_graph
from edgellm.backends.ort.cache import Cache
from edgellm.errors import EngineError

if TYPE_CHECKING:
    from edgellm.session import Logits


class Runner:
    """Runs a graph on bound buffers. What does not change between two calls is not bound again.

    `output` is what it is run for, `width` values for each position.
    """

    def __init__(
        self, graph: ort_graph.Graph, cache: Cache, width: int, n_ctx: int, output: str = ort_graph.LOGITS
    ) -> None:
        self._graph, self._cache, self.width = graph, cache, width
        self._output, self._has_output = output, output in graph.outputs
        self._options: Any = None
        self._binding = graph.session.io_binding()
        self._mask = np.ones((1, n_ctx), np.int64)
        self._positions = np.zeros((1, 1), np.int64)
        self._ids = np.zeros((1, 1), np.int64)
        self._index = np.array([-1], np.int64)
        self._logits = np.empty((1, 1, width if self._has_output else 0), np.float32)
        self._bound: tuple[int, int, int] | None = None  # new tokens, positions asked for, cache's version

    def for_hidden(self, n_ctx: int) -> Runner:
        """One for the same graph's hidden states, which leaves its head out. Raises EngineError without them."""
        if not self._graph.n_embd:
            raise EngineError("this ONNX graph gives no hidden states; convert the model again with edgellm")
        runner = Runner(self._graph, self._cache, self._graph.n_embd, n_ctx, ort_graph.HIDDEN)
        runner._options = ort_graph.library().RunOptions()
        runner._options.only_execute_path_to_fetches = True
        return runner

    def run(self, tokens: Sequence[int], asked: int = 1) -> Logits:
        """Evaluate `tokens` after the cached ones; logits [asked, n_vocab] after the last of them.

        The array is valid until the next call. Raises EngineError.
        """
        self._run(tokens, asked)
        found: Logits = self._logits[0] if self._graph.picks_logits else self._logits[0, -asked:]
        return found

    def fill(self, tokens: Sequence[int]) -> None:
        """Evaluate `tokens` for the cache alone, with a graph that has no head. Raises EngineError."""
        self._run(tokens, 0)

    def _run(self, tokens: Sequence[int], asked: int) -> None:
        past, n = self._cache.length, len(tokens)
        total = past + n
        self._cache.reserve(total)
        self._bind(n, asked)
        self._ids[0, :] = tokens
        bind, inputs = self._binding.bind_input, self._graph.inputs
        if "attention_mask" in inputs:
            bind("attention_mask", "cpu", 0, np.int64, (1, total), self._mask.ctypes.data)
        if "position_ids" in inputs:
            shape = (*self._graph.positions, n)
            self._positions = np.ascontiguousarray(np.broadcast_to(np.arange(past, total), shape))
            bind("position_ids", "cpu", 0, np.int64, shape, self._positions.ctypes.data)
        try:
            self._graph.session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # the library's own exceptions share no base
            self._bound = None
            self._cache.lose()
            raise EngineError(
                f"ONNX Runtime failed at position {past} of {total}: {ort_graph.first_line(error)}"
            ) from error
        self._cache.keep(self._binding, total)

    def _bind(self, n: int, asked: int) -> None:
        """Bind ids, wanted positions, cache and logits for a run of this shape."""
        shape = (n, asked, self._cache.version)
        if self._bound == shape:
            return
        binding = self._binding
        self._ids = np.empty((1, n), np.int64)
        binding.bind_input("input_ids", "cpu", 0, np.int64, (1, n), self._ids.ctypes.data)
        self._cache.bind(binding)
        if self._has_output:
            rows = asked if self._graph.picks_logits else n
            if self._graph.picks_logits:
                self._index = np.arange(n - asked, n, dtype=np.int64)
                binding.bind_input("logits_index", "cpu", 0, np.int64, (asked,), self._index.ctypes.data)
            if self._logits.shape[1] != rows:
                self._logits = np.empty((1, rows, self.width), np.float32)
            binding.bind_output(
                self._output, "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data
            )
        self._bound = shape
