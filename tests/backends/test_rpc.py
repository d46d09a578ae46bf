"""A model spread over processes by llama.cpp's RPC: the same ids as on one, and an error for whatever a server does.

The servers are real, on loopback; what is not one is played by a socket.
"""

import asyncio
import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
import rpc_servers
from click.testing import CliRunner

from edgellm import backends
from edgellm.backends.llama import remote, rpc_server
from edgellm.catalog import first_use
from edgellm.cli import doctor
from edgellm.errors import EngineCrashError, EngineError, UsageError
from edgellm.machine.devices import Device
from edgellm.serving.job import Done, Failed, Job, Piece
from edgellm.serving.remote import Engine
from edgellm.session import GREEDY, EngineOptions

OPTIONS = EngineOptions(n_ctx=256, n_threads=1)


def on(*there: rpc_servers.Server, **more: object) -> EngineOptions:
    device = ",".join(one.device for one in there)
    return EngineOptions(n_ctx=256, n_threads=1, device=device, **more)


@pytest.fixture(scope="module")
def two():
    with rpc_servers.server() as one, rpc_servers.server() as other:
        yield one, other


def greedy(session, n: int = 100) -> list[int]:
    ids = session.tokenize("Tell me about the sea.")
    return list(itertools.islice(session.stream(ids, GREEDY), n))


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-llama3"])
def test_two_servers_give_the_same_ids_as_one_machine(two, name):
    artifact = first_use.resolve(name)
    with backends.open_session(artifact, OPTIONS) as session:
        expected = greedy(session)
        assert not session.info.places
    with backends.open_session(artifact, on(*two)) as session:
        assert greedy(session) == expected
        info = session.info
    n_layer = artifact.metadata[f"{artifact.architecture}.block_count"]
    here, *there = info.places
    assert here.device == "CPU" and [place.device for place in there] == [f"127.0.0.1:{s.port}" for s in two]
    assert [layer for place in info.places for layer in place.layers] == list(range(n_layer + 1))
    assert all(place.layers and place.weights and place.kv and place.compute for place in info.places)
    assert info.device == on(*two).device
    assert info.options.n_gpu_layers == sum(len(place.layers) for place in there)


def test_layers_asked_for_are_taken(two):
    artifact = first_use.resolve("tiny-qwen3")
    with backends.open_session(artifact, on(two[0], n_gpu_layers=1)) as session:
        here, there = session.info.places
    assert len(there.layers) == 1 and there.weights < here.weights


def test_several_sequences_are_decoded_over_servers(two):
    """As `serve` does; and what it says of a server that goes."""
    artifact = first_use.resolve("tiny-qwen3")
    job = Job(
        messages=({"role": "user", "content": "Hello"},), settings={"temperature": 0.0, "max_tokens": 24}
    )

    async def answers(options: EngineOptions, *, then=lambda: None) -> list[str]:
        engine = await Engine.open(artifact, options)
        try:
            found = await asyncio.gather(*(text(engine, job) for _ in range(2)))
            then()
            with contextlib.suppress(EngineError):
                found.append(await text(engine, job))
            return found
        finally:
            await engine.close(0)

    async def text(engine: Engine, asked: Job) -> str:
        events = [event async for event in engine.run(asked)]
        if isinstance(events[-1], Failed):
            raise EngineCrashError(events[-1].message)
        assert isinstance(events[-1], Done)
        return "".join(event.text for event in events if isinstance(event, Piece))

    expected = asyncio.run(answers(OPTIONS))
    assert asyncio.run(answers(on(*two))) == expected
    with rpc_servers.server() as own:
        assert asyncio.run(answers(on(own), then=own.process.kill)) == expected[:2]


def test_a_server_that_dies_in_an_answer_is_an_error_and_the_next_call_opens_again():
    artifact = first_use.resolve("tiny-qwen3")
    with rpc_servers.server() as own, backends.open_session(artifact, on(own)) as session:
        expected = greedy(session)
        session.rewind(0)
        stream = session.stream(session.tokenize("Tell me about the sea."), GREEDY)
        next(stream)
        own.process.kill()
        with pytest.raises(EngineCrashError, match="Remote RPC server crashed") as caught:
            list(stream)
        assert "\n" not in str(caught.value)
        with pytest.raises(
            EngineError, match=r"is not there \(Connection refused\); start it on that machine"
        ):
            session.eval([1])
        own.process.wait()
        with rpc_servers.server(port=own.port):
            assert greedy(session) == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_answer_that_waits_for_a_hung_server_ends_when_told(number, code):
    """An answer of several words: one of a text the tokenizer has seen would need no engine when it is kept."""
    with rpc_servers.server() as own:
        (engine,) = psutil.Process(own.process.pid).children()
        line = [
            "run",
            "tiny-qwen3",
            "Tell me about the sea.",
            "--ignore-eos",
            "-n",
            "1900",
            "--device",
            own.device,
        ]
        run = subprocess.Popen(
            [sys.executable, "-m", "edgellm", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with run:
            assert run.stdout.read(20)
            engine.suspend()
            time.sleep(0.5)  # until what was under way is written
            run.send_signal(number)
            assert run.wait(60) == code
            engine.resume()


def asked(port: int) -> Device:
    return remote.ask(Device("rpc", f"rpc://127.0.0.1:{port}"))


def test_a_server_tells_its_memory_and_serves_one_client_at_a_time(two, monkeypatch):
    device = asked(two[0].port)
    assert device.total_bytes == pytest.approx(psutil.virtual_memory().total, rel=0.01)
    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 3.0)
    with (
        backends.open_session(first_use.resolve("tiny-qwen3"), on(two[0])),
        pytest.raises(EngineError, match="it serves another client"),
    ):
        asked(two[0].port)


@contextlib.contextmanager
def playing(reply: bytes | None):
    """A socket that answers every client with `reply` and hangs up; None: says nothing."""
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    kept.append(client)
                    if reply is not None:
                        with client, contextlib.suppress(OSError):
                            client.recv(1 + 8 + 24, socket.MSG_WAITALL)
                            client.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    for client in kept:
        client.close()


#: The answer to HELLO: its size, the version in three bytes and a padding, 24 bytes of capabilities (ggml-rpc.cpp).
OLDER = (28).to_bytes(8, "little") + bytes((6, 1, 2, 0)) + bytes(24)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (OLDER, r"speaks version 6\.1\.2 of llama.cpp's RPC protocol.*install the same llama-cpp-python"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", r"does not speak the RPC protocol"),
        (None, r"took the connection and says nothing"),
    ],
)
def test_what_is_no_server_of_this_version_is_one_line(reply, words, monkeypatch):
    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 3.0)
    with playing(reply) as port, pytest.raises(EngineError, match=words) as caught:
        asked(port)
    assert "\n" not in str(caught.value)


def test_the_kernel_asks_whether_the_server_is_still_there():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as line, socket.socket() as other:
            remote.keep_alive([f"127.0.0.1:{port}"])
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert not other.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_doctor_shows_which_layers_lie_where(two):
    device = on(*two).device
    done = CliRunner().invoke(
        doctor.command, ["tiny-qwen3", "--device", device, "--json"], catch_exceptions=False
    )
    found = {row["name"]: row["value"] for row in json.loads(done.stdout)}
    assert found["this machine"].startswith("layers 0 to ")
    assert "and the output: weights " in found[f"127.0.0.1:{two[1].port}"]
    assert "memory" not in found  # what one machine would take


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_ends_in_order_and_its_engine_with_it(number):
    with rpc_servers.server() as own:
        (engine,) = psutil.Process(own.process.pid).children()
        own.process.send_signal(number)
        assert own.process.wait(30) == {"SIGTERM": 143, "SIGINT": 130}.get(number.name, -number)
        engine.wait(30)
        with rpc_servers.server(port=own.port):
            pass


def test_a_port_that_is_taken_is_one_line(two):
    line = [sys.executable, "-m", "edgellm", "rpc-serve", "--port", str(two[0].port)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Address already in use; choose another --port" in done.stderr


def test_addresses_by_who_can_reach_them():
    reach = {
        "127.0.0.1": "loopback",
        "127.8.8.8": "loopback",
        "192.168.1.7": "private",
        "10.1.1.1": "private",
    }
    reach |= {"8.8.8.8": "public", "0.0.0.0": "public", "::": "public", "100.64.0.1": "public"}
    assert {host: rpc_server.reach(host) for host in reach} == reach
    for wrong in ("::1", "fe80::1", "board", ""):
        with pytest.raises(UsageError, match="address"):
            rpc_server.reach(wrong)


def test_a_public_address_is_refused():
    for host in ("0.0.0.0", "8.8.8.8", "::"):
        line = [sys.executable, "-m", "edgellm", "rpc-serve", "--host", host]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "encrypts nothing" in done.stderr and "--i-know" in done.stderr
