"""An ONNX decoder opened in ONNX Runtime: session options, and what its inputs and outputs are called.

Knows the names onnxruntime-genai and optimum give a decoder's inputs; knows no tokens and no sampling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgellm import files, privacy
from edgellm.errors import EngineError
from edgellm.machine import hardware

#: Threads spin this long for work before they sleep: longer than the gap between two operators or two tokens,
#: shorter than a person would notice as a hot laptop.
SPIN_MICROSECONDS = 2000

#: Past and present of one layer's key or value, as genai and optimum spell them.
_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_PRESENT = re.compile(r"present(?:_key_values)?\.(\d+)\.(key|value)")
#: A delta net's states, as genai spells them.
_STATE = re.compile(r"past(\.\d+\.(?:conv|recurrent))")

LOGITS, HIDDEN = "logits", "hidden_states"

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True)
class CacheSlot:
    """One layer's keys or values: where they go in, where they come out, and their shape without the length."""

    past: str
    present: str
    n_head_kv: int
    head_dim: int  # 0: the graph does not say
    dtype: Any


@dataclass(frozen=True)
class StateSlot:
    """A delta net's state: where it goes in, where it comes out, and its shape for one sequence."""

    past: str
    present: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """An open graph."""

    session: Any  # onnxruntime.InferenceSession
    slots: tuple[CacheSlot, ...]
    states: tuple[StateSlot, ...]
    inputs: frozenset[str]
    outputs: frozenset[str] = field(default=frozenset())
    n_embd: int = 0  # width of the hidden states it gives; 0: it does not give them
    positions: tuple[int, ...] = (1,)  # axes of position_ids before the tokens'; (3, 1) in M-RoPE's graphs

    @property
    def picks_logits(self) -> bool:
        """Whether it computes logits of the asked positions only."""
        return "logits_index" in self.inputs

    @property
    def has_head(self) -> bool:
        """Whether it computes logits at all; a prompt's graph may not."""
        return "logits" in self.outputs


def library() -> Any:
    """onnxruntime, its log kept to errors. Raises EngineError when it is missing or another one lies over it."""
    onnxruntime = privacy.onnxruntime()
    if not hasattr(onnxruntime, "InferenceSession"):
        raise EngineError("two onnxruntime packages overwrite each other; see: edgellm doctor")
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def session_options(n_threads: int, spin_us: int | None = None) -> Any:
    """Options for a graph on the CPU."""
    ort = library()
    spin = SPIN_MICROSECONDS if spin_us is None else spin_us
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # a plan for every length of the attention mask would pile up
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin))
    if not hardware.cpu().has("avx512_vnni") and not hardware.cpu().has("avx_vnni"):
        # Without VNNI the kernels for u8 x s8 add pairs in 16 bits, which can overflow.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def load(model: Path, options: Any, providers: list[Any]) -> Graph:
    """Load a graph. Raises EngineError when the library refuses it."""
    ort = library()
    if files.as_text(str(model)) != str(model):
        raise EngineError(f"{model}: ONNX Runtime opens no path that is not UTF-8; rename it")
    try:
        session = ort.InferenceSession(str(model), options, providers=providers)
    except Exception as error:  # the library's own exceptions share no base
        raise EngineError(f"ONNX Runtime cannot load {model}: {first_line(error)}") from error
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    slots, states = tuple(_slots(model, inputs, outputs)), tuple(_states(model, inputs, outputs))
    known = {"input_ids", "attention_mask", "position_ids", "logits_index"}
    known |= {slot.past for slot in (*slots, *states)}
    if unknown := sorted(inputs.keys() - known):
        raise EngineError(f"{model} wants the input {unknown[0]}, which is not a plain decoder's")
    positions = (3, 1) if "position_ids" in inputs and len(inputs["position_ids"].shape) == 3 else (1,)
    return Graph(session, slots, states, frozenset(inputs), frozenset(outputs), _n_embd(outputs), positions)


def _n_embd(outputs: dict[str, Any]) -> int:
    width = outputs[HIDDEN].shape[-1] if HIDDEN in outputs else 0
    return width if isinstance(width, int) else 0


def _slots(model: Path, inputs: dict[str, Any], outputs: Iterable[str]) -> Any:
    presents = {match.groups(): name for name in outputs if (match := _PRESENT.fullmatch(name))}
    pasts = {match.groups(): node for name, node in inputs.items() if (match := _PAST.fullmatch(name))}
    if not pasts or pasts.keys() != presents.keys():
        raise EngineError(f"{model} has no KV cache (past_key_values.*, present.*); export it with one")
    for key in sorted(pasts, key=lambda key: (int(key[0]), key[1])):
        node = pasts[key]
        if len(node.shape) != 4 or not isinstance(node.shape[1], int):
            raise EngineError(
                f"{model}: {node.name} has shape {node.shape}, not [batch, heads, length, size]"
            )
        if node.type not in _DTYPES:
            raise EngineError(f"{model}: {node.name} is {node.type}, which is not known here")
        size = node.shape[3] if isinstance(node.shape[3], int) else 0
        yield CacheSlot(node.name, presents[key], node.shape[1], size, _DTYPES[node.type])


def _states(model: Path, inputs: dict[str, Any], outputs: Iterable[str]) -> Any:
    for name, node in inputs.items():
        if match := _STATE.fullmatch(name):
            sizes = node.shape[1:]
            if node.type != "tensor(float)" or not all(isinstance(n, int) and n > 0 for n in sizes):
                raise EngineError(f"{model}: {name} is {node.type} {node.shape}, not float32 [batch, sizes]")
            if (present := f"present{match[1]}") not in outputs:
                raise EngineError(f"{model} takes {name} and gives no {present}")
            yield StateSlot(name, present, (1, *sizes))


def first_line(error: Exception) -> str:
    """The library's messages have source paths and many lines; the first says it."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
