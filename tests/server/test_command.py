"""`edgellm serve` as a program: what it prints, how it ends, what it refuses to begin."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import serving
from plain import check, edgellm


@contextlib.contextmanager
def program(*arguments, env=None):
    """The running program and the port it printed."""
    command = [sys.executable, "-m", "edgellm", "serve", "--port", "0", "-c", "512", "-t", "1", *arguments]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    try:
        line = child.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, (line, child.stderr.read() if child.poll() is not None else "")
        yield child, serving.Served(int(found[1])), line
    finally:
        child.kill()
        child.communicate()


def ended(child, seconds=20.0):
    out, errors = child.communicate(timeout=seconds)
    check(out + errors)
    return child.returncode, errors.decode()


def test_one_line_says_where_it_is_and_how_to_point_a_client_at_it():
    with program() as (child, server, line):
        assert "tiny-qwen3" in line and f":{server.port}/v1" in line and line.count("\n") == 1
        said = server.post("/v1/completions", prompt="The capital of France is", temperature=0)
        assert said.json["choices"][0]["text"] == " Paris."
        child.send_signal(signal.SIGTERM)
        code, errors = ended(child)
        assert code == 0 and "POST /v1/completions 200" in errors and "Paris" not in errors


@pytest.mark.wide
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_lets_answers_end_within_bounds(number):
    """One answer can end in time, the other is cut; no process is left."""
    with program("--grace", "1.5") as (child, server, _):
        server.post("/v1/completions", prompt="x", max_tokens=1)
        engines = children(child.pid)
        assert engines
        with endless(server) as response:
            begin = time.monotonic()
            child.send_signal(number)
            code, _ = ended(child)
            assert code == 0 and 1 < time.monotonic() - begin < 8
            with contextlib.suppress(OSError, http.client.HTTPException):
                response.read()
        wait_until(lambda: not any(map(alive, engines)))
        with pytest.raises(OSError):
            server.connect().close()


def test_a_second_signal_ends_it_at_once():
    with program("--grace", "60") as (child, server, _):
        server.post("/v1/completions", prompt="x", max_tokens=1)
        engines = children(child.pid)
        with endless(server):
            child.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert child.poll() is None
            begin = time.monotonic()
            child.send_signal(signal.SIGTERM)
            assert ended(child)[0] == 128 + signal.SIGTERM and time.monotonic() - begin < 2
        wait_until(lambda: not any(map(alive, engines)))


def test_aliases_and_models():
    with program("tiny-qwen3", "tiny-llama3", "--alias", "gpt-4o=tiny-llama3") as (_, server, _line):
        names = [one["id"] for one in server.ask("GET", "/v1/models").json["data"]]
        assert names == ["tiny-qwen3", "tiny-llama3"]
        message = {"role": "user", "content": "What is the capital of France?"}
        said = server.post(
            "/v1/chat/completions", messages=[message], model="gpt-4o", temperature=0, max_tokens=12
        )
        assert said.json["model"] == "gpt-4o"
        loaded = {one["id"]: one["status"]["value"] for one in server.ask("GET", "/v1/models").json["data"]}
        assert loaded == {"tiny-qwen3": "unloaded", "tiny-llama3": "loaded"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "needs a key"),
        (["--host", "no.such.name.invalid", "--api-key", "k"], 2, "no.such.name.invalid"),
        (["nothing-of-this-name"], 1, "nothing-of-this-name"),
        (["--alias", "x"], 2, "NAME=MODEL"),
        (["--alias", "x=tiny-llama3"], 2, "tiny-llama3"),
        (["tiny-qwen3", "tiny-qwen3"], 2, "twice"),
        (["--keep", "soon"], 2, "forever"),
        (["--draft", "tiny-llama3", "--lookup"], 2, "exclude"),
        (["--api-key", ""], 2, "empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_it_does_not_begin(arguments, code, said):
    done = edgellm("serve", "--port", "0", "--offline", *arguments, timeout=60)
    assert done.returncode == code and said in check(done.stderr), done.stderr


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = edgellm("serve", "--port", other.getsockname()[1], timeout=60)
        assert done.returncode == 1 and "in use" in check(done.stderr) and "--port" in check(done.stderr)


def test_the_key_may_lie_in_a_file_or_the_environment(tmp_path):
    key = tmp_path / "key.txt"
    key.write_text("secret-1\n")
    for arguments, env in ((["--api-key-file", str(key)], {}), ([], {"EDGELLM_API_KEY": "secret-1"})):
        with program(*arguments, env=env) as (_, server, line):
            assert "secret" not in line
            assert server.ask("GET", "/v1/models").status == 401
            assert server.ask("GET", "/v1/models", headers={"x-api-key": "secret-1"}).status == 200


def test_without_the_extra_it_says_what_to_install(tmp_path):
    for name in ("starlette", "uvicorn", "pydantic"):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name}', name={name!r})\n")
        env = {"PYTHONPATH": os.pathsep.join([str(folder.parent), *sys.path])}
        done = edgellm("serve", env=env, timeout=60)
        assert done.returncode == 1
        assert check(done.stderr).splitlines()[-1].endswith("pip install 'edgellm[server]'")


def test_help_loads_nothing_of_the_server():
    code = "import edgellm.cli as c, sys\ntry: c.cli(['serve', '--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"starlette", "uvicorn", "pydantic", "numpy"} & set(done.stdout.splitlines()[-1].split())


@contextlib.contextmanager
def endless(server):
    """A response that has begun to stream and would go on for long."""
    asked = {"prompt": "Once", "ignore_eos": True, "max_tokens": -1, "n": 16, "stream": True}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(asked), {"content-type": "application/json"})
        with connection.getresponse() as response:
            assert response.status == 200 and response.readline().startswith(b"data: ")
            yield response


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(holds, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
