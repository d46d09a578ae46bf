"""Clients that are slow, silent or loud on purpose: the others are served meanwhile, and they are sent away."""

import contextlib
import socket
import time

import pytest
import serving
from fault_rows import FULL

#: For /health, whatever others do; a test run that shares its machine only has to get there.
PROMPT_SECONDS = 0.2 if FULL else 2.0
HEAD = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server():
    with serving.served(read_seconds=1.0, max_connections=40) as running:
        yield running


def health_seconds(server: serving.Served) -> float:
    """How long somebody else waits."""
    begin = time.monotonic()
    assert server.ask("GET", "/health").status == 200
    return time.monotonic() - begin


def is_over(connection: socket.socket) -> bool:
    """Whether the server hung up."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1 << 16) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET /health HTTP/1.1\r\nX-a: ",
        HEAD,
        HEAD + b"Content-Length: 5000\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n",
    ],
    ids=["silent", "line", "headers", "body", "chunk"],
)
def test_a_byte_now_and_then_is_no_excuse(server, begin):
    """Slow-loris in every part of a request: gone after the time for a whole one, however much trickles in."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(20)]
        for connection in slow:
            connection.sendall(begin)
        opened, waits = time.monotonic(), []
        while time.monotonic() - opened < 0.8:
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.sendall(begin and b"x")
            waits.append(health_seconds(server))
            time.sleep(0.1)
        assert max(waits) < PROMPT_SECONDS
        deadline = time.monotonic() + 5
        while not all(map(is_over, slow)):
            assert time.monotonic() < deadline


def test_more_connections_than_are_taken(server):
    """The one that has asked nothing for longest makes room."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(120)]
        assert health_seconds(server) < PROMPT_SECONDS
        assert is_over(silent[0])


def test_heads_without_end(server):
    for flood in (
        b"GET /" + b"a" * 100_000,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-a: b\r\n" * 20_000,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-a: " + b"b" * 100_000,
    ):
        assert server.raw(flood).split(b" ", 2)[1:2] in ([b"400"], [b"431"], [])
        assert health_seconds(server) < PROMPT_SECONDS


def test_more_headers_than_anybody_needs(server):
    many = b"".join(b"X-%d: y\r\n" % i for i in range(150))
    said = server.raw(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")
    assert said.startswith(b"HTTP/1.1 431 ")


def test_what_is_no_http(server):
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"\n\n\n\n",
        b"HELO\r\n\r\n",
    ):
        assert server.raw(garbage, seconds=3.0).split(b" ", 2)[1:2] in ([b"400"], [])
    assert health_seconds(server) < PROMPT_SECONDS


def test_an_upgrade_is_not_followed(server):
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert server.raw(head).startswith(b"HTTP/1.1 200 ")


def test_many_requests_in_one_go_are_answered_in_order(server):
    """Pipelining is HTTP/1.1; a thousand of them are bounded by the connection's own pace."""
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert server.raw(one * 50, seconds=20.0).count(b"HTTP/1.1 200 ") == 50


def test_a_reader_that_never_reads_is_hung_up_on():
    with serving.served(write_seconds=0.5) as server, server.connect() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with contextlib.suppress(OSError):  # what is not read in the end stops what is sent
            lazy.settimeout(3.0)
            lazy.sendall(ask * 20_000)
        time.sleep(1.5)
        assert health_seconds(server) < PROMPT_SECONDS
        with pytest.raises(OSError):
            for _ in range(100):
                lazy.sendall(ask)
                time.sleep(0.02)


@pytest.mark.wide
@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_a_response_that_nobody_takes_is_not_kept_for_ever(connection):
    """Where it is the last of its connection, which is closed when it has been written, and where it is not."""
    with serving.served(write_seconds=0.5, idle_seconds=0.3) as server, server.connect() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        body = b'{"tokens": [' + b"1000," * 300_000 + b"1000]}"
        lazy.sendall(HEAD.replace(b"/tok", b"/detok") + b"Connection: " + connection + b"\r\n")
        lazy.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        first = lazy.recv(1000)
        length = int(first.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        time.sleep(1.5)
        got = len(first)
        with contextlib.suppress(ConnectionError):
            while piece := lazy.recv(1 << 20):
                got += len(piece)
        assert first.startswith(b"HTTP/1.1 200 ") and got < length


def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_fault(server, capfd):
    with server.connect() as connection:
        connection.sendall(HEAD + b'Content-Length: 5000\r\n\r\n{"content": "x')
        time.sleep(0.1)
    logged = ""
    deadline = time.monotonic() + 10
    while "POST /tokenize" not in logged:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        logged += capfd.readouterr().err
    assert "POST /tokenize 499" in logged and "fault" not in logged
