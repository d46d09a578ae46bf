"""How far converted models are from their originals: logits of the engine against a forward pass in plain numpy.

    python bench/fidelity.py [SRC ...] [--types F16,Q8_0,Q4_K_M]

SRC is a checkpoint folder or a bundled name; without any, both bundled models and a random one of each family.
Every conversion is proven in full on the way (tensors, tokens, template, stop ids). The last line is one JSON
object; the exit code is 1 when a trained model in F16 or Q8_0 is farther off than --max-f16 or --max-q8-0. The
random ones only inform: their attention is sharp on purpose and their routers are near ties, so they suffer more.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from edgellm.backends import worker
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.verify.gguf import verify
from edgellm.models import bundled

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

RANDOM = ("llama-256", "qwen2-256", "qwen3", "qwen2moe", "qwen3moe-256", "qwen35-256", "qwen35moe")


def sources(given: list[str], scratch: Path) -> dict[str, Path]:
    """Name -> checkpoint folder."""
    if given:
        return {Path(source).name: bundled.path(source) or Path(source) for source in given}
    import tinymodels

    found = {f"random {name}": tinymodels.write(tinymodels.variant(name), scratch / name) for name in RANDOM}
    return {name: bundled.path(name) for name in bundled.names()} | found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", metavar="SRC")
    parser.add_argument("--types", default="F16,Q8_0,Q4_K_M", help="comma-separated")
    parser.add_argument("--max-f16", type=float, default=1e-6)
    parser.add_argument("--max-q8-0", type=float, default=1e-3)
    arguments = parser.parse_args()
    bounds, rows, failed = {"F16": arguments.max_f16, "Q8_0": arguments.max_q8_0}, [], False
    print(f"{'model':22} {'type':8} {'NMSE':>9} {'mean KLD':>9} {'same top':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in sources(arguments.sources, Path(scratch)).items():
            for quant in arguments.types.split(","):
                output = Path(scratch) / "model.gguf"
                artifact = convert(ConvertRequest(folder, quant, output, force=True, hash_sources=False))
                found = verify(output, folder, worker.open_isolated).fidelity
                quant = artifact.quantization
                late = not name.startswith("random ") and found.nmse > bounds.get(quant, float("inf"))
                failed |= late
                print(
                    f"{name:22} {quant:8} {found.nmse:9.2g} {found.mean_kld:9.2g} {found.same_top:9.0%}"
                    f"{'  too far' if late else ''}",
                    flush=True,
                )
                rows.append({"model": name, "type": quant, "nmse": found.nmse, "mean_kld": found.mean_kld})
    print(json.dumps({"rows": rows, "failed": failed}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
