"""The plugin for `llm`, with the real `llm` in a process of its own, which finds it by the entry point."""

import json
import os
import subprocess
import sys

import pytest
from places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytest.importorskip("llm")


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A user's environment: llm's own folder, and edgellm's metadata as an installation would have it."""
    home = tmp_path_factory.mktemp("llm")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = home / "site" / "edgellm-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: edgellm\nVersion: 0\n")
    lines = [f"{name} = {target}" for name, target in project["entry-points"]["llm"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[llm]", *lines]) + "\n")
    paths = os.pathsep.join([str(home / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "LLM_USER_PATH": str(home), "PYTHONPATH": paths, "EDGELLM_NO_TUNE": "1"}


def llm(user, *arguments, stdin=None):
    command = [sys.executable, "-m", "llm", *arguments]
    run = subprocess.run(command, env=user, capture_output=True, text=True, timeout=120, input=stdin)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.wide
def test_it_answers_goes_on_and_is_logged(user):
    said = llm(user, "-m", "edgellm/tiny-qwen3", "What is the capital of France?", "-o", "temperature", "0")
    assert "Paris" in said
    assert llm(user, "-c", "And of Italy?", "-o", "temperature", "0").strip()
    logged = json.loads(llm(user, "logs", "list", "--json", "-n", "2"))
    assert {one["model"] for one in logged} == {"edgellm/tiny-qwen3"}
    first, second = sorted(one["input_tokens"] for one in logged)
    assert second > first + 8  # the second prompt has the first question and its answer in it


@pytest.mark.wide
def test_a_schema_holds_the_answer_to_it(user):
    said = llm(
        user,
        "-m",
        "edgellm/tiny-qwen3",
        "Rome?",
        "--schema",
        "name, size int",
        "-o",
        "max_tokens",
        "80",
        "--no-log",
    )
    assert json.loads(said).keys() == {"name", "size"}


SCRIPT = """
import asyncio, llm
model = llm.get_async_model("edgellm/tiny-qwen3")
async def main():
    response = model.prompt("What is the capital of France?", system="Be brief.", temperature=0)
    pieces = [piece async for piece in response]
    usage = await response.usage()
    print(len(pieces) > 1, "Paris" in "".join(pieces), usage.output > 1)
    task = asyncio.create_task(model.prompt("Tell me a story", max_tokens=2000, temperature=0).text())
    await asyncio.sleep(0.05)
    task.cancel()
    again = await model.prompt("What is the capital of France?", temperature=0).text()
    print(task.cancelled() or task.done(), "Paris" in again)
asyncio.run(main())
any_model = llm.get_model("edgellm")
asked = any_model.prompt("What is the capital of France?", stream=False, model="tiny-qwen3", temperature=0)
print("Paris" in asked.text())
try:
    any_model.prompt("x").text()
except Exception as error:
    print(error)
"""


def test_python_s_side_of_it(user):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=user, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.splitlines() == [
        "True True True",
        "True True",
        "True",
        "the model edgellm needs to be told which: -o model FILE, FOLDER or HUB ID",
    ], run.stderr


def test_without_llm_nothing_imports_it():
    code = "import edgellm, edgellm.api.model, edgellm.cli, sys; print('llm' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
