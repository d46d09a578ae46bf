"""The canary's child process: a small random model, a 32-token prefill, plain then repacked kernels.

Prints one JSON line per stage survived: {"stage": "plain"}, {"stage": "repack", "nmse": ...}. The types are
those with kernels of their own for repacking or AMX; the model has no tokenizer, for none is needed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgellm import lifeline
from edgellm.backends.llama import session as llamacpp
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions

_N_VOCAB, _N_EMBD, _N_FF, _N_TOKENS = 512, 256, 512, 32
_TYPES = ("Q4_0", "Q8_0")  # quantized in numpy by the gguf package


def write_model(path: Path) -> None:
    """A one-layer random Llama per quantization type, stacked as layers of one model."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(len(_TYPES))
    writer.add_context_length(128)
    writer.add_embedding_length(_N_EMBD)
    writer.add_feed_forward_length(_N_FF)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(_N_VOCAB)
    writer.add_tokenizer_model("no_vocab")
    for name, data, kind in _tensors():
        quantization = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(data, quantization), raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors() -> Iterator[tuple[str, np.ndarray, str]]:
    rng = np.random.default_rng(0)
    shapes = {
        "attn_q": (_N_EMBD, _N_EMBD),
        "attn_k": (_N_EMBD, _N_EMBD),
        "attn_v": (_N_EMBD, _N_EMBD),
        "attn_output": (_N_EMBD, _N_EMBD),
        "ffn_gate": (_N_FF, _N_EMBD),
        "ffn_up": (_N_FF, _N_EMBD),
        "ffn_down": (_N_EMBD, _N_FF),
    }
    yield "token_embd.weight", rng.standard_normal((_N_VOCAB, _N_EMBD), np.float32), "Q8_0"
    for layer, kind in enumerate(_TYPES):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{norm}.weight", np.ones(_N_EMBD, np.float32), "F32"
        for name, shape in shapes.items():
            yield f"blk.{layer}.{name}.weight", 0.05 * rng.standard_normal(shape, np.float32), kind
    yield "output_norm.weight", np.ones(_N_EMBD, np.float32), "F32"
    yield "output.weight", 0.05 * rng.standard_normal((_N_VOCAB, _N_EMBD), np.float32), "Q4_0"


def _logits(path: Path, *, repack: bool) -> np.ndarray:
    artifact = Artifact(path, "gguf", "llama", "canary", "Q4_0", path.stat().st_size, 128, None)
    with llamacpp.open_session(artifact, EngineOptions(n_ctx=128, repack=repack, device="cpu")) as session:
        logits: np.ndarray = session.eval(range(_N_TOKENS)).copy()
        return logits


def main() -> None:
    """Run both stages on the model written to the path in argv."""
    lifeline.follow()
    path = Path(sys.argv[1])
    write_model(path)
    plain = _logits(path, repack=False)
    print(json.dumps({"stage": "plain"}), flush=True)
    repacked = _logits(path, repack=True)
    nmse = float(np.sum((plain - repacked) ** 2) / np.sum(plain**2))
    print(json.dumps({"stage": "repack", "nmse": nmse}), flush=True)


if __name__ == "__main__":
    main()
