"""Names that people bring from other tools, and what is near to what they mistype: the real command line."""

import subprocess
import sys

import pytest


def said(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "edgellm", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("lst",), 2, "Did you mean list?"),
        (("quantise", "x"), 2, "Did you mean quantize?"),
        (("run", "tiny-qwen", "hi"), 1, "did you mean tiny-qwen3"),
        (("run", "tiny-qwen3:q4km", "hi"), 2, "did you mean Q4_K_M?"),
        (("run", "tiny-qwen3", "hi", "--num-ctxx", "3"), 2, "--num-ctx"),
        (("run", "-m", "tiny-qwen3", "tiny-llama3", "hi"), 2, "given twice"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(arguments, code, told):
    found, _, error = said(*arguments)
    assert (found, told in error) == (code, True), error


def test_the_neighbours_names_do_the_same():
    assert said("ls")[1] == said("list")[1]
    assert said("show", "tiny-qwen3") == said("inspect", "tiny-qwen3")


def test_a_lone_prompt_goes_to_the_default_model():
    spelled = said(
        "run", "-m", "tiny-qwen3", "What is 2 + 3?", "--temp", "0", "--num-predict", "4", "--num-ctx", "256"
    )
    code, text, _ = said("run", "What is 2 + 3?", "--temp", "0", "-n", "4", "-c", "256")
    assert (code, text) == (0, spelled[1]) and "5" in text


def test_pull_makes_ready_what_run_then_uses():
    code, text, _ = said("pull", "tiny-qwen3:Q4_0")
    assert code == 0 and "tiny-qwen3-Q4_0.gguf" in text
    assert "converting" not in said("run", "tiny-qwen3:Q4_0", "hi", "-n", "1")[2]
