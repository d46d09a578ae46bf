"""Every type, every kind of model: our tensors against llama.cpp's quantizer, byte for byte, counted.

    python bench/quant_bytes.py [--cases llama,qwen3moe] [--types Q4_K_M,IQ3_S]

For small random checkpoints of every family and awkward shape, from their bf16 and float32 forms, with and
without an importance matrix, each type is converted our way in one pass and llama.cpp's way from an
unquantized file. Takes some ten minutes on two cores. Ends with one JSON line; any difference is printed and
makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

import llama_quantize
import tinymodels

from edgellm.convert.gguf.recipes import RECIPES
from edgellm.models import bundled

#: Beside the tests' cases: every layer rule of the recipes, and the exceptions for eight experts.
MORE = {
    "deep": tinymodels.variant(
        "qwen3", n_layer=17, n_embd=256, n_ff=256, n_head=2, n_head_kv=1, head_dim=64, seed=6
    ),
    "grouped": tinymodels.variant(
        "llama-256", n_layer=9, n_ff=256, n_head=8, n_head_kv=1, head_dim=32, seed=8
    ),
    "eight": tinymodels.variant("qwen3moe-256", n_layer=9, n_expert=8, n_ff_expert=32, seed=7),
}


def sources(names: list[str], folder: Path) -> Iterator[tuple[str, Path, tuple[str, ...], bool]]:
    """(name, checkpoint, types of its unquantized forms, whether it has experts)."""
    cases = tinymodels.CASES | tinymodels.HYBRIDS | MORE
    for name in names:
        if name in cases:
            tiny = cases[name]
            forms = ("BF16", "F32") if tiny.dtype == "BF16" else ("F32",)
            yield name, tinymodels.write(tiny, folder / name), forms, tiny.moe
        elif (path := bundled.path(name)) is not None:
            yield name, path, ("BF16",), False


def compare_source(
    name: str, source: Path, forms: tuple[str, ...], quants: list[str], folder: Path
) -> tuple[int, int, list[str]]:
    """(conversions, tensors compared, differences) over all types, forms and both matrices."""
    conversions = tensors = 0
    differences: list[str] = []
    for form in forms:
        base = folder / f"{name}-{form}.gguf"
        weights = llama_quantize.make_base(source, base, form)
        for quant in quants:
            for given in (weights, None):
                n, found = llama_quantize.compare(source, base, given, folder, {"quant": quant})
                conversions, tensors = conversions + (n > 0), tensors + n
                what = f"{name} from {form} to {quant} {'with' if given else 'without'} importance matrix"
                differences += [f"{what}: {line}" for line in found]
        base.unlink()
    return conversions, tensors, differences


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everything = [*tinymodels.CASES, *tinymodels.HYBRIDS, *MORE, *bundled.names()]
    parser.add_argument("--cases", default=",".join(everything))
    parser.add_argument("--types", default=",".join(RECIPES))
    options = parser.parse_args()
    started = time.monotonic()
    total = {"models": 0, "conversions": 0, "tensors": 0, "differences": 0}
    with tempfile.TemporaryDirectory() as work:
        for name, source, forms, moe in sources(options.cases.split(","), Path(work)):
            quants = [quant for quant in options.types.split(",") if quant != "MXFP4_MOE" or moe]
            conversions, tensors, found = compare_source(name, source, forms, quants, Path(work))
            print(
                f"{name:18} {conversions:4} conversions {tensors:6} tensors {len(found):4} differences",
                flush=True,
            )
            print("".join(f"  {line}\n" for line in found), end="")
            for key, value in zip(total, (1, conversions, tensors, len(found)), strict=True):
                total[key] += value
    print(json.dumps({"bench": "quant_bytes", **total, "seconds": round(time.monotonic() - started)}))
    sys.exit(1 if total["differences"] else 0)


if __name__ == "__main__":
    main()
