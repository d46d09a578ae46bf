"""Types of our own: what they keep in richer types, whose bytes these are, and what it is good for."""

from __future__ import annotations

from pathlib import Path

import llama_quantize
import numpy as np
import pytest
import tinymodels

from edgellm import backends
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.gguf.recipes import OWN
from edgellm.errors import UsageError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf.reader import read_header
from edgellm.formats.gguf.types import OWN_TYPES
from edgellm.generation import scoring
from edgellm.models import bundled
from edgellm.profiles.quality import dialogues
from edgellm.prompt.model_template import template_of
from edgellm.session import EngineOptions

HYBRID = tinymodels.variant("qwen35-256", n_layer=8, full_attention_interval=4)


@pytest.mark.parametrize("quant", OWN)
def test_bytes_are_llama_cpps_with_the_same_exceptions(quant: str, tmp_path: Path) -> None:
    source = tinymodels.write(HYBRID, tmp_path / "source")
    base, ours, theirs = (tmp_path / f"{name}.gguf" for name in ("base", "ours", "theirs"))
    imatrix, weights = llama_quantize.make_base(source, base, "BF16")
    convert(ConvertRequest(source, quant, ours, imatrix=imatrix))
    exceptions = [(rf"\.{rule.text}\.weight", rule.type) for rule in OWN[quant]]
    llama_quantize.quantize(base, theirs, OWN_TYPES[quant], weights=weights, tensor_types=exceptions)
    n, found = llama_quantize.differences(ours, theirs)
    assert found == [] and n > 100
    assert read_header(ours).quantization == Artifact.open(ours).quantization == quant
    # A program that quantizes our file again takes our key along, under a number of its own.
    other = tmp_path / "other.gguf"
    llama_quantize.quantize(ours, other, "Q4_0", allow_requantize=True)
    assert quant in read_header(other).get("edgellm.recipe") and read_header(other).quantization == "Q4_0"


def test_a_model_without_delta_nets_is_refused(tmp_path: Path) -> None:
    source = tinymodels.write(tinymodels.CASES["qwen2-256"], tmp_path / "source")
    with pytest.raises(UsageError, match=r"Q4_K_H is for hybrids .* use Q4_K_M"):
        convert(ConvertRequest(source, "q4_k_h", tmp_path / "out.gguf"))


@pytest.mark.wide
@pytest.mark.parametrize("own", OWN)
def test_a_trained_model_is_nearer_to_its_original_at_about_the_same_size(own: str, tmp_path: Path) -> None:
    """Mean divergence from float32 on held-out dialogues, against llama.cpp's type that it is made like."""
    usual = OWN_TYPES[own]
    source = bundled.path("tiny-qwen35")
    assert source is not None
    original, size = distributions(source, "F32", tmp_path)
    found = {}
    for quant in (own, usual):
        log_probs, size = distributions(source, quant, tmp_path)
        kld = float(np.mean((np.exp(original) * (original - log_probs)).sum(axis=1)))
        found[quant] = kld, size
    assert found[own][1] < 1.02 * found[usual][1]
    assert found[own][0] < 0.95 * found[usual][0], found


def distributions(source: Path, quant: str, folder: Path) -> tuple[np.ndarray, int]:
    artifact = convert(ConvertRequest(source, quant, folder / "model.gguf", n_threads=1, force=True))
    template = template_of(artifact)
    with backends.open_session(artifact, EngineOptions(n_ctx=512, n_threads=1, n_threads_batch=1)) as session:
        chunks = dialogues.chunks(session, lambda m: template.render(m, add_generation_prompt=False), 100)
        blocks = [block for chunk in chunks for block in scoring.blocks(session, chunk)]
    return np.concatenate([block.log_probs for block in blocks]), artifact.size_bytes
