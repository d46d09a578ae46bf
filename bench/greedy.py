"""Greedy answers to held-out prompts in transformers, GGUF F16 and ONNX fp32: how many are the same, token for token.

    python bench/greedy.py [MODEL] [--prompts 50] [--tokens 48] [--reference-python PYTHON]

MODEL is a bundled name (default tiny-qwen3) or a checkpoint folder. transformers computes in float32, in the Python
that has it (`pip install edgellm[train]`); every engine gets the same ids and its own end is a stop id of the model.
Prints each prompt where one differs and the gap between the two likeliest tokens there. Ends with one JSON line; the
exit code is 1 where texts differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

Answers = list[list[int]]


def transformers_answers(folder: str, n_tokens: int, stops: list[int], prompts: Answers) -> Answers:
    """What transformers' model says, its cache in use."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    found = []
    for prompt in prompts:
        given, cache, answer = torch.tensor([prompt]), None, []
        while len(answer) < n_tokens and (not answer or answer[-1] not in stops):
            with torch.no_grad():
                out = model(given, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            answer.append(int(out.logits[0, -1].argmax()))
            given = torch.tensor([answer[-1:]])
        found.append(answer)
    return found


def engine_answers(path: Path, n_tokens: int, prompts: Answers) -> tuple[Answers, list[list[float]]]:
    """What an engine says, and by how much each token was the likeliest."""
    import numpy as np

    from edgellm import backends
    from edgellm.formats.artifact import Artifact
    from edgellm.session import EngineOptions

    found, gaps = [], []
    with backends.open_session(
        Artifact.open(path), EngineOptions(n_ctx=1024, n_threads=1, n_threads_batch=1)
    ) as session:
        for prompt in prompts:
            session.rewind(0)
            logits, answer, gap = session.eval(prompt), [], []
            while True:
                second, first = np.sort(np.asarray(logits))[-2:]
                answer.append(int(np.argmax(logits)))
                gap.append(float(first - second))
                if len(answer) == n_tokens or answer[-1] in session.info.eos_ids:
                    break
                logits = session.eval(answer[-1:])
            found.append(answer)
            gaps.append(gap)
    return found, gaps


def prompts_of(path: Path, n: int) -> tuple[Answers, list[int]]:
    """Ids of rendered held-out questions, spread over the suite, and the ids that end an answer."""
    from edgellm import backends
    from edgellm.formats.artifact import Artifact
    from edgellm.profiles.quality import tasks
    from edgellm.prompt.model_template import template_of
    from edgellm.session import EngineOptions

    artifact, items = Artifact.open(path), tasks.load()
    template = template_of(artifact)
    with backends.open_session(artifact, EngineOptions(n_ctx=64, n_threads=1)) as session:
        texts = [template.render(list(items[i * len(items) // n].messages)) for i in range(n)]
        ids = [session.tokenize(text, add_bos=False, special=True) for text in texts]
        return ids, sorted(session.info.eos_ids)


def child(arguments: list[str]) -> None:
    """Runs where transformers is: prompts on standard input, answers on standard output."""
    given = json.load(sys.stdin)
    print(json.dumps(transformers_answers(arguments[0], given["n"], given["stops"], given["prompts"])))


def compare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All three on one checkpoint."""
    from edgellm.convert.gguf.convert import ConvertRequest, convert
    from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx

    with tempfile.TemporaryDirectory() as work:
        gguf = convert(ConvertRequest(folder, "F16", Path(work) / "model.gguf", n_threads=1)).path
        onnx = convert_onnx(OnnxRequest(folder, "onnx-fp32", Path(work) / "onnx", n_threads=1)).path
        prompts, stops = prompts_of(gguf, options.prompts)
        asked = {"prompts": prompts, "stops": stops, "n": options.tokens}
        command = [options.reference_python, __file__, "--child", str(folder)]
        said = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True)
        expected: Answers = json.loads(said.stdout.splitlines()[-1])
        result: dict[str, Any] = {"model": folder.name, "prompts": len(prompts)}
        result["tokens"] = sum(map(len, expected))
        for name, path in (("gguf-f16", gguf), ("onnx-fp32", onnx)):
            found, gaps = engine_answers(path, options.tokens, prompts)
            result[name] = sum(a == b for a, b in zip(found, expected, strict=True))
            for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
                if ours != theirs:
                    pairs = enumerate(zip(ours, theirs, strict=False))
                    at = next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)) - 1)
                    print(
                        f"{name}, prompt {i}: differs at token {at}, the two likeliest {gaps[i][at]:.2g} apart"
                    )
    return result


def main() -> None:
    """Compare, print, and exit 1 where something differs."""
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2:])
    from edgellm.models import bundled

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="tiny-qwen3")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--reference-python", default=sys.executable, help="the Python that has torch")
    options = parser.parse_args()
    result = compare(bundled.path(options.model) or Path(options.model), options)
    print(json.dumps({"bench": "greedy"} | result))
    sys.exit(0 if result["gguf-f16"] == result["onnx-fp32"] == result["prompts"] else 1)


if __name__ == "__main__":
    main()
