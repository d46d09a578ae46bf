"""Random sequences of session operations against fresh sessions: python bench/sequences.py [-n 100] [MODEL ...]

For every small model of the tests (families times formats), or those named; `--bundled` adds the trained ones. Ends
with one JSON line: sequences run, operations, how many were wrong, and the largest relative squared error of logits.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

import sequence_models
import sequences

_STEPS = 12


def main() -> None:
    """Run, print a line a model, end with the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(sequence_models.SMALL)}")
    parser.add_argument("-n", type=int, default=100, help="sequences a model")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--bundled", action="store_true", help="the bundled models too")
    args = parser.parse_args()
    known = sequence_models.SMALL | (sequence_models.BUNDLED if args.bundled else {})
    total = {"sequences": 0, "operations": 0, "wrong": 0}
    worst: dict[str, float] = {}
    for name in args.models or known:
        with tempfile.TemporaryDirectory() as folder:
            artifact = known[name](Path(folder))
            for seed in range(args.start, args.start + args.n):
                total["sequences"] += 1
                total["operations"] += _STEPS
                try:
                    error = sequences.run(artifact, sequences.options_of(seed), seed, _STEPS)
                    worst[name] = max(worst.get(name, 0.0), error)
                except sequences.Wrong as error:
                    total["wrong"] += 1
                    print(f"{name}: {error}", file=sys.stderr)
        print(f"{name}: {args.n} sequences, largest error {worst.get(name, 0.0):.1e}", file=sys.stderr)
    print(json.dumps(total | {"largest_error": worst}))


if __name__ == "__main__":
    main()
