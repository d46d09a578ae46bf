"""A thousand answers constrained by fifty JSON schemas, on both engines: how many are valid, and what a mask costs.

    python bench/structured.py [MODEL...] [-n 1000] [-t 1] [--seed 0]

MODEL is anything `edgellm run` takes; without one, the bundled model for llama.cpp and for ONNX Runtime. Each answer
has a seed, temperature (0, 0.8, 2) and token limit of its own, the limit often just what the shortest answer needs.
Validity is what `jsonschema` says, with formats checked. The cost of masks is decode time per token of the
constrained answers against answers of the same lengths without a grammar, interleaved. The last line is one JSON
object.
"""

import argparse
import json
import random
import statistics
import time

import jsonschema
from schemas import schemas

from edgellm import backends
from edgellm.cli.shared import model_argument
from edgellm.generation import generate
from edgellm.generation.constraints import Grammar
from edgellm.generation.generate import GenerateOptions
from edgellm.session import EngineOptions, Sampling, Session

QUESTION = "<|im_start|>user\nDescribe a fox, 一只狐狸 🦊, as JSON.<|im_end|>\n<|im_start|>assistant\n"
MODELS = ("tiny-qwen3", "tiny-qwen3:onnx-int4")


def verdict(done: generate.Completion, schema: object) -> str:
    """What is wrong with an answer; empty when nothing is."""
    try:
        checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
        checker.validate(json.loads(done.text))
    except (ValueError, jsonschema.ValidationError) as error:
        return (
            f"{type(error).__name__} {str(error).splitlines()[0]}: {done.text[:200]!r} ({done.finish_reason})"
        )
    return "" if done.valid else f"said not to be valid: {done.text[:200]!r}"


def run(session: Session, n: int, seed: int) -> dict[str, object]:
    """`n` answers, the schemas in turn; beside every tenth, one of the same length without a grammar."""
    rng, prompt = random.Random(seed), session.tokenize(QUESTION)
    grammars = [(schema, Grammar.json_schema(schema)) for schema in schemas()]
    wrong, seconds, endings, tokens = [], [], {}, 0
    generate.stream(session, prompt, GenerateOptions(grammar=grammars[0][1], max_tokens=8)).completion  # noqa: B018
    for i in range(n):
        schema, grammar = grammars[i % len(grammars)]
        least = grammar.start(session, 1024).shortest or 0
        sampling = Sampling(temperature=(0.0, 0.8, 2.0)[i % 3], seed=seed + i)
        todo = GenerateOptions(
            max_tokens=max(least, 1) + rng.choice((0, 1, 3, 20, 100)), sampling=sampling, grammar=grammar
        )
        done = generate.stream(session, prompt, todo).completion
        if why := verdict(done, schema):
            wrong.append(why)
        endings[done.finish_reason] = endings.get(done.finish_reason, 0) + 1
        tokens += done.usage.n_generated
        if i % 10 == 0 and done.usage.n_generated > 8:
            free = GenerateOptions(max_tokens=done.usage.n_generated, sampling=sampling, ignore_eos=True)
            plain = generate.stream(session, prompt, free).completion.usage
            count = done.usage.n_generated - 1
            seconds.append((done.usage.decode_seconds / count, plain.decode_seconds / count))
    added = statistics.median(a - b for a, b in seconds) if seconds else None
    return {
        "answers": n,
        "valid": n - len(wrong),
        "wrong": wrong[:5],
        "endings": endings,
        "tokens": tokens,
        "mask_seconds_per_token": added,
        "decode_ratio": statistics.median(b / a for a, b in seconds) if seconds else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("-n", "--answers", type=int, default=1000)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    result = {}
    for name in args.models:
        artifact, start = model_argument.resolve(name), time.perf_counter()
        with backends.open_session(artifact, EngineOptions(n_ctx=1024, n_threads=args.threads)) as session:
            found = result[name] = run(session, args.answers, args.seed)
        print(
            f"{name}: {found['valid']} of {found['answers']} valid, {found['tokens']} tokens, "
            f"{time.perf_counter() - start:.0f} s, endings {found['endings']}"
        )
        if found["decode_ratio"] is not None:
            print(
                f"  a mask costs {1e6 * found['mask_seconds_per_token']:.0f} us a token; "
                f"decode {found['decode_ratio']:.2f} of plain"
            )
        for why in found["wrong"]:
            print("  wrong:", why)
    print(json.dumps({"schemas": len(schemas()), "models": result}))


if __name__ == "__main__":
    main()
