"""The whole job on the two bundled models: convert, talk in two languages, measure. What `make demo` runs.

Every step is a command a user could type; it is printed before it runs. Writes build/demo/.
"""

import shlex
import subprocess
import sys
import time
from pathlib import Path

OUT = Path("build/demo")
MODELS = ("tiny-qwen3", "tiny-llama3")
PROMPTS = (
    "Who are you?",
    "What is the capital of France?",
    "What is 27 + 45?",
    "How do I convert a model to q8_0?",
    "Translate to Chinese: The girl drinks water by the river.",
    "What is the sentiment of this sentence? In the end the game was awful.",
    "你好！你是谁？",
    "日本的首都是哪里？",
    "36减19等于多少？",
    "总结一下：街上很安静。莉莉在村里买了一辆自行车。新自行车是红色的，跑得很快。",
)


def edgellm(*arguments: str) -> None:
    """Print and run one edgellm command; stop the demo when it fails."""
    print(
        f"\n\x1b[1m$ edgellm {shlex.join(arguments)}\x1b[0m"
        if sys.stdout.isatty()
        else f"\n$ edgellm {shlex.join(arguments)}"
    )
    sys.stdout.flush()
    code = subprocess.run([sys.executable, "-m", "edgellm", *arguments], check=False).returncode
    if code:
        sys.exit(f"demo stopped: edgellm {arguments[0]} ended with exit code {code}")


def main() -> None:
    start = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    files = {name: str(OUT / f"{name}-Q8_0.gguf") for name in MODELS}
    for name, file in files.items():
        edgellm("convert", name, "--quant", "q8_0", "-o", file, "--force")
    for file in files.values():
        for prompt in PROMPTS:
            edgellm("run", file, prompt, "--temp", "0")
    report = ["--out", str(OUT / "report.html"), "--out", str(OUT / "report.json")]
    edgellm("profile", *files.values(), "-p", "128", "-n", "64", "-r", "5", *report, "--force")
    print(f"\nDone in {time.monotonic() - start:.0f} s. Open {OUT / 'report.html'} in a browser.")


if __name__ == "__main__":
    main()
