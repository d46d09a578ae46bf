"""How long a command takes to say its first word: edgellm beside the tools of its engines, whole processes in turns.

    python bench/startup.py --other OLD/edgellm --gguf MODEL.gguf --completion LLAMA_CPP/build/bin/llama-completion \
        --onnx FOLDER --genai-python VENV/bin/python --genai-folder GENAI_FOLDER [-t 2] [--rounds 9]

Each row is a command of this environment's `edgellm` and what stands beside it: the `edgellm` of another checkout
(`--other`: say, from before a change) and, where a model is named, the smallest program of each peer that answers "hi"
by the model's chat template with one token, in a window of 4,096 tokens on as many threads:

    llama-cpp-python   this environment's: `Llama(path, n_ctx, n_threads)`, then `create_chat_completion(max_tokens=1)`
    llama-completion   of llama.cpp, built from the engine's own sources (`cmake -B build -DCMAKE_BUILD_TYPE=Release
                       && cmake --build build --target llama-completion`), as it is and with --no-warmup
    onnxruntime-genai  in an environment of its own (`--genai-python`), on a folder of its own builder
                       (`python -m onnxruntime_genai.models.builder -i CHECKPOINT -o FOLDER -p int4 -e cpu`)

Files are in the page cache and byte code is compiled, as after an installation: the first round, not counted, sees to
it, and PYTHONDONTWRITEBYTECODE is taken out of the environment. Prints medians, the median of the rounds' ratios to
edgellm, and a line of JSON. Nine rounds with two GGUF files and a folder of half a billion weights: four minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BUNDLED = ("tiny-qwen3", "tiny-llama3")
N_CTX = "4096"
LLAMA_CPP_PYTHON = """
import sys
from llama_cpp import Llama
path, n_ctx, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
llama = Llama(path, n_ctx=n_ctx, n_threads=n, n_threads_batch=n, verbose=False)
hi = [{"role": "user", "content": "hi"}]
for chunk in llama.create_chat_completion(hi, max_tokens=1, stream=True):
    print(chunk["choices"][0]["delta"].get("content", ""), end="", flush=True)
"""
GENAI = """
import sys
import onnxruntime_genai as genai
model = genai.Model(sys.argv[1])
tokenizer, parameters = genai.Tokenizer(model), genai.GeneratorParams(model)
parameters.set_search_options(max_length=int(sys.argv[2]))
generator = genai.Generator(model, parameters)
hi = tokenizer.apply_chat_template('[{"role": "user", "content": "hi"}]', add_generation_prompt=True)
generator.append_tokens(tokenizer.encode(hi))
generator.generate_next_token()
print(tokenizer.decode(generator.get_next_tokens()), flush=True)
"""
Command = list[str]


def seconds(command: Command) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=surroundings,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime


def compare(sides: dict[str, Command], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of every side, and of edgellm's wall time over its, round by round; the first round warms up."""
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for index in range(rounds + 1):
        for side in sorted(sides, reverse=index % 2 == 1):
            found = seconds(sides[side])
            if index:
                taken[side].append(found)
    return {
        side: {
            "wall_seconds": round(statistics.median(wall for wall, _ in samples), 4),
            "cpu_seconds": round(statistics.median(cpu for _, cpu in samples), 4),
            "edgellm_over_it": round(
                statistics.median(a[0] / b[0] for a, b in zip(taken["edgellm"], samples, strict=True)), 3
            ),
        }
        for side, samples in taken.items()
    }


def rows(given: argparse.Namespace) -> dict[str, dict[str, Command]]:
    """What is compared, by the name of the row: each side's command."""
    own = {"edgellm": str(given.one)} | ({"edgellm, other": str(given.other)} if given.other else {})
    threads = str(given.threads)

    def ours(*arguments: str) -> dict[str, Command]:
        return {side: [program, *arguments] for side, program in own.items()}

    def first_token(model: str, n_threads: str) -> dict[str, Command]:
        return ours("run", model, "hi", "-n", "1", "-t", n_threads, "-c", N_CTX, "--no-tune")

    found = {
        "imports alone": {
            "edgellm": [str(given.one), "--version"],
            "numpy, llama_cpp": [sys.executable, "-c", "import numpy, llama_cpp"],
        },
        "--help": ours("--help"),
    }
    found |= {name: ours("run", name, "hi", "-n", "1", "-t", "1") for name in BUNDLED}
    for path in given.gguf:
        row = first_token(path, threads)
        row["llama-cpp-python"] = [sys.executable, "-c", LLAMA_CPP_PYTHON, path, N_CTX, threads]
        if given.completion:
            tool = [given.completion, "-m", path, "-p", "hi", "-n", "1", "-c", N_CTX, "-t", threads, "-st"]
            row |= {"llama-completion": tool, "llama-completion, no warm-up": [*tool, "--no-warmup"]}
        found[Path(path).stem] = row
    if given.onnx:
        row = first_token(given.onnx, threads)
        if given.genai_python:
            row["onnxruntime-genai"] = [given.genai_python, "-c", GENAI, given.genai_folder, N_CTX]
        found[Path(given.onnx).name] = row
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--one", type=Path, default=Path(sys.executable).with_name("edgellm"))
    parser.add_argument("--other", type=Path)
    parser.add_argument("--gguf", action="append", default=[], help="a model; may be given several times")
    parser.add_argument("--completion", help="llama.cpp's llama-completion")
    parser.add_argument("--onnx", help="a folder")
    parser.add_argument("--genai-python")
    parser.add_argument("--genai-folder")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", help="rows whose name has this in it")
    given = parser.parse_args()
    figures = {}
    for name, sides in rows(given).items():
        if given.only and given.only not in name:
            continue
        figures[name] = compare(sides, given.rounds)
        for side, row in figures[name].items():
            print(
                f"{name:32} {side:30} {row['wall_seconds']:.3f} s  edgellm / it {row['edgellm_over_it']:.2f}",
                flush=True,
            )
    print(json.dumps({"threads": given.threads, "rounds": given.rounds, "rows": figures}))


if __name__ == "__main__":
    main()
