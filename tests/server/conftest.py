"""One server for the tests with official clients: a model that recites, and a bundled one. It lives on loopback."""

import sys

import pytest
import reciter
import serving

from edgellm.session import EngineOptions

_outside: list[object] = []
_watching = False


def _audit(event: str, args: tuple) -> None:
    if _watching and event in ("socket.connect", "socket.sendto"):
        address = args[1] if len(args) > 1 else None
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        if host not in ("127.0.0.1", "::1", "localhost"):
            _outside.append(address)
    elif (
        _watching and event == "socket.getaddrinfo" and args[0] not in ("127.0.0.1", "::1", "localhost", None)
    ):
        _outside.append(args[0])


sys.addaudithook(_audit)


@pytest.fixture
def loopback_alone():
    """The test fails where anything in this process looks for another machine."""
    global _watching
    _outside.clear()
    _watching = True
    yield
    _watching = False
    assert not _outside


@pytest.fixture(scope="session")
def agents_server(tmp_path_factory):
    pytest.importorskip("llguidance")
    path = reciter.write(tmp_path_factory.mktemp("reciter"))
    engine = EngineOptions(n_ctx=8192, n_threads=1, n_threads_batch=1)
    with serving.served(path, "tiny-qwen3", engine=engine, api_key="a key") as running:
        yield running
