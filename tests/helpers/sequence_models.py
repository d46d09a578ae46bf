"""Small models of every family in every engine's format, for tests of what sessions do with their caches.

All experts of a mixture are in use, so that rounding cannot choose others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import foreign_gguf
import tiny_hybrid
import tinymodels
from tiny_hybrid import Hybrid

from edgellm.catalog import conversion, first_use
from edgellm.formats.artifact import Artifact
from edgellm.models import bundled

_EXPERTS = {"n_expert": 3, "n_expert_used": 3}
_FAMILIES = {
    "llama": tinymodels.CASES["llama"],
    "qwen2": tinymodels.CASES["qwen2"],
    "qwen2moe": tinymodels.variant("qwen2moe", **_EXPERTS),
    "qwen3": tinymodels.CASES["qwen3"],
    "qwen3moe": tinymodels.variant("qwen3moe", **_EXPERTS),
    **{name: replace(tiny, **(_EXPERTS if tiny.moe else {})) for name, tiny in tinymodels.HYBRIDS.items()},
}
#: As no checkpoint of the tests has them.
_HYBRIDS = {
    "qwen35-alternating": Hybrid(),
    "qwen35-one-group": Hybrid(n_group=1, n_rank=3, interval=4, tied=True, n_nextn=1),
    "qwen35moe-alternating": Hybrid("qwen35moe", n_expert_used=4),
    "qwen3next": Hybrid("qwen3next", n_expert_used=4),
}


def _converted(tiny: tinymodels.Tiny, quant: str) -> Callable[[Path], Artifact]:
    def make(folder: Path) -> Artifact:
        source = tinymodels.write(tiny, folder / "checkpoint")
        output = folder / ("onnx" if quant.startswith("onnx") else "model.gguf")
        return conversion.convert_checkpoint(source, output, quant)

    return make


def _foreign(name: str) -> Callable[[Path], Artifact]:
    return lambda folder: Artifact.open(foreign_gguf.write(folder / "model.gguf", foreign_gguf.CASES[name]))


def _written(hybrid: Hybrid) -> Callable[[Path], Artifact]:
    return lambda folder: Artifact.open(tiny_hybrid.write(folder / "model.gguf", hybrid))


_ONNX_HYBRIDS = {
    "qwen35": tinymodels.HYBRIDS["qwen35"],
    "qwen35-grouped": tinymodels.HYBRIDS["qwen35-grouped"],
    "qwen35moe": tinymodels.variant("qwen35moe", **_EXPERTS),
}

#: Name -> how to make it in an empty folder.
SMALL: dict[str, Callable[[Path], Artifact]] = {
    **{f"{name}:gguf": _converted(tiny, "F16") for name, tiny in _FAMILIES.items()},
    **{f"{name}:onnx": _converted(tiny, "onnx-fp32") for name, tiny in (_FAMILIES | _ONNX_HYBRIDS).items()},
    **{f"{name}:gguf": _written(hybrid) for name, hybrid in _HYBRIDS.items()},
    **{f"{name}:gguf": _foreign(name) for name in ("gemma3", "mamba", "falcon-h1", "rwkv7")},
}

#: Those that were trained, converted at their first use.
BUNDLED: dict[str, Callable[[Path], Artifact]] = {
    f"{name}:{quant}": lambda _, wanted=f"{name}:{quant}": first_use.resolve(wanted)  # type: ignore[misc]
    for name in bundled.names()
    for quant in ("F16", "onnx-fp32")
}
