"""Who may ask, and what one request may hold: the real server, asked over sockets."""

import http.client
import json
import socket

import pytest
import serving

from edgellm.errors import EdgellmError, UsageError
from edgellm.server import listen
from edgellm.server.settings import ServerSettings

KEY = "k-0123456789-ü"


@pytest.fixture(scope="module")
def open_server():
    with serving.served() as server:
        yield server


@pytest.fixture(scope="module")
def locked_server():
    with serving.served(
        api_key=KEY, allow_origins=("https://app.example",), allow_hosts=("box.lan",)
    ) as server:
        yield server


def test_only_names_of_this_machine_are_answered_to(open_server):
    port = open_server.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}", "localhost."):
        assert open_server.ask("GET", "/v1/models", headers={"host": host}).status == 200, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost@evil",
        "",
        "[",
        "0",
    ):
        said = open_server.ask("GET", "/v1/models", headers={"host": host})
        assert (said.status, said.code) == (403, "host_not_allowed"), host


def test_two_host_headers_or_none_are_refused(open_server):
    for lines in ("", "Host: localhost\r\nHost: evil.example\r\n"):
        said = open_server.raw(f"GET /v1/models HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
        assert said.split(b" ", 2)[1] in (b"400", b"403")


def test_a_name_that_was_allowed_is_answered_to(locked_server):
    headers = {"host": "box.lan:80", "authorization": f"Bearer {KEY}".encode()}
    assert locked_server.ask("GET", "/v1/models", headers=headers).status == 200


def test_a_server_on_all_addresses_answers_to_addresses_and_no_names():
    with serving.served(host="0.0.0.0", api_key=KEY) as server:
        key = {"x-api-key": KEY.encode()}
        for host, status in (
            ("192.168.1.5:8080", 200),
            ("[fe80::1]", 200),
            ("localhost", 200),
            ("evil.example", 403),
        ):
            assert server.ask("GET", "/v1/models", headers={"host": host, **key}).status == status, host


def test_pages_of_other_origins_may_not_ask(open_server):
    own = f"http://127.0.0.1:{open_server.port}"
    assert open_server.ask("GET", "/v1/models", headers={"origin": own}).status == 200
    for origin in ("https://evil.example", "null", "file://", f"{own}.evil.example", "http://127.0.0.1:1"):
        said = open_server.ask("GET", "/v1/models", headers={"origin": origin})
        assert (said.status, said.code) == (403, "origin_not_allowed"), origin
        assert "access-control-allow-origin" not in said.headers


def test_a_page_that_is_allowed_is_let_through_by_name(locked_server):
    origin = {"origin": "https://app.example"}
    asked = {
        **origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    preflight = locked_server.ask("OPTIONS", "/v1/chat/completions", headers=asked)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert "content-type" in preflight.headers["access-control-allow-headers"]
    said = locked_server.ask("GET", "/v1/models", headers={**origin, "x-api-key": KEY.encode()})
    assert said.status == 200 and said.headers["access-control-allow-origin"] == "https://app.example"
    assert "origin" in said.headers["vary"].lower()
    assert (
        locked_server.ask("OPTIONS", "/v1/models", headers={"origin": "https://evil.example"}).status == 403
    )


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/chat/completions", "/metrics", "/openapi.json", "/nothing"]
)
def test_without_the_key_nothing_is_told(locked_server, path):
    wrong = [None, b"", KEY[:-1].encode(), f"{KEY}x".encode(), KEY.upper().encode(), b"\xff" * 40]
    for key in wrong:
        for name, value in (("authorization", b"Bearer "), ("authorization", b"Basic "), ("x-api-key", b"")):
            headers = {} if key is None else {name: value + key}
            said = locked_server.ask("GET", path, headers=headers)
            assert (said.status, said.code) == (401, "invalid_api_key"), (key, name)
            assert said.headers["www-authenticate"] == "Bearer"


def test_either_header_shows_the_key(locked_server):
    for headers in ({"authorization": f"Bearer {KEY}".encode()}, {"x-api-key": KEY.encode()}):
        assert locked_server.ask("GET", "/v1/models", headers=headers).status == 200


def test_health_is_open_and_says_nothing_of_models(locked_server):
    said = locked_server.ask("GET", "/health")
    assert said.status == 200 and set(said.json) == {"status", "version"}


def test_responses_carry_no_banner_but_edgellm(open_server):
    for path in ("/health", "/nothing"):
        assert open_server.ask("GET", path).headers["server"] == "edgellm"


def test_other_addresses_need_a_key():
    for host in ("0.0.0.0", "::", "192.168.1.5"):
        with pytest.raises(UsageError, match="needs a key"):
            listen.bound(ServerSettings(host=host))
    with listen.bound(ServerSettings(host="0.0.0.0", port=0, api_key="k")) as listening:
        assert listening.getsockname()[0] == "0.0.0.0"


def test_a_port_that_is_taken_is_told(open_server):
    with pytest.raises(EdgellmError, match="in use"):
        listen.bound(ServerSettings(port=open_server.port))


def test_a_body_has_to_be_json(open_server):
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/jsonp",
    ):
        said = open_server.ask("POST", "/tokenize", b'{"content": "x"}', {"content-type": kind})
        assert said.status == 415, kind
    latin = {"content-type": "application/json; charset=latin-1"}
    assert open_server.ask("POST", "/tokenize", b"{}", latin).status == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"content": NaN}',
        b'{"content": Infinity}',
        b'{"content": "\\ud800"}',
        b'{"content": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"content": ' + b"9" * 100_000 + b"}",
        b"null",
        b"[]",
        b'"text"',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_json_that_is_none_or_a_bomb(open_server, body):
    said = open_server.ask("POST", "/tokenize", body)
    assert said.status == 400 and said.json["error"]["type"] == "invalid_request_error"


def test_unknown_fields_are_named(open_server):
    said = open_server.ask(
        "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "wat": 1}
    )
    assert (said.status, said.code, said.json["error"]["param"]) == (400, "unknown_field", "wat")
    message = {"role": "user", "content": "x", "path": "/etc/passwd"}
    said = open_server.ask("POST", "/v1/chat/completions", {"messages": [message]})
    assert said.json["error"]["param"] == "messages[0].path"


@pytest.mark.parametrize(
    "field", ["chat_template", "model_path", "lora", "image_url", "url", "template", "file"]
)
def test_no_path_template_or_address_comes_from_a_client(open_server, field):
    body = {"messages": [{"role": "user", "content": "x"}], field: "http://127.0.0.1:1/x"}
    assert open_server.ask("POST", "/v1/chat/completions", body).code == "unknown_field"
    body = {"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {field: "x"}}
    assert open_server.ask("POST", "/v1/chat/completions", body).code == "unknown_field"


@pytest.mark.parametrize(
    "model", ["../x", "/etc/passwd", "https://evil.example/m.gguf", "hf.co/a/b", "Qwen/Qwen3-0.6B"]
)
def test_no_model_is_named_but_those_offered(open_server, model):
    for path in ("/models/load", "/models/unload", "/tokenize"):
        body = {"model": model} if path != "/tokenize" else {"model": model, "content": "x"}
        assert open_server.ask("POST", path, body).status == 404


def test_images_are_said_to_be_unsupported(open_server):
    with socket.socket() as nobody:  # it would be connected to, were the address looked at
        nobody.bind(("127.0.0.1", 0))
        nobody.listen()
        nobody.settimeout(0.2)
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/x.png"
        part = {"type": "image_url", "image_url": {"url": url}}
        body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "what"}, part]}]}
        said = open_server.ask("POST", "/v1/chat/completions", body)
        assert said.status == 400 and "images" in said.json["error"]["message"]
        with pytest.raises(TimeoutError):
            nobody.accept()


def test_a_body_over_the_limit_is_cut_off():
    with serving.served(max_body_bytes=10_000) as server:
        for size in (20_000, 35_000):
            body = json.dumps({"content": "x" * size}).encode()
            assert server.ask("POST", "/tokenize", body).status == 413
        head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        declared = head + b"Content-Length: 99999999999999999999999\r\n\r\n"
        assert server.raw(declared).split(b" ", 2)[1] in (b"400", b"413")
        chunk = b"%x\r\n%s\r\n" % (1000, b"x" * 1000)
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 11
        assert server.raw(chunked + b"0\r\n\r\n").split(b" ", 2)[1] == b"413"
        assert server.ask("GET", "/health").status == 200


def test_a_client_that_sends_too_much_reads_why(open_server):
    """Which it does when it has sent everything, not before."""
    body = b'{"content": "' + b"x" * (20 << 20) + b'"}'
    assert open_server.ask("POST", "/tokenize", body).status == 413
    expecting = {
        "expect": "100-continue",
        "content-length": str(len(body)),
        "content-type": "application/json",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in expecting.items())
    said = open_server.raw(f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    assert said.startswith(b"HTTP/1.1 413 ")


def test_methods_that_a_path_has_not(open_server):
    said = open_server.ask("DELETE", "/v1/chat/completions")
    assert said.status == 405 and said.headers["allow"] == "POST"
    for method in ("TRACE", "CONNECT", "PATCH", "BREW"):
        assert open_server.ask(method, "/health").status in (400, 405)


def test_the_log_holds_no_text_and_no_key(capfd):
    with serving.served(api_key=KEY) as server:
        body = {"messages": [{"role": "user", "content": "my secret"}], "wat": "other secret"}
        server.ask("POST", "/v1/chat/completions?key=secret", body, {"x-api-key": KEY.encode()})
        server.ask("GET", "/x\x1b[2J" if False else "/%1b[2J", headers={"x-api-key": KEY.encode()})
    log = capfd.readouterr().err
    assert "POST /v1/chat/completions 400" in log and "404" in log
    assert "secret" not in log and KEY not in log and "\x1b" not in log


def test_requests_smuggled_by_two_lengths(open_server):
    head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for lengths in (
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked, identity\r\n",
        b"Content-Length: -1\r\n",
    ):
        said = open_server.raw(
            head + lengths + b"\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        assert said.split(b" ", 2)[1] in (b"400", b"501") and said.count(b"HTTP/1.1 ") == 1


def test_http_client_sees_a_response_that_ends(open_server):
    connection = http.client.HTTPConnection("127.0.0.1", open_server.port, timeout=10)
    for _ in range(3):  # on one connection
        connection.request("GET", "/v1/models")
        response = connection.getresponse()
        assert response.status == 200 and json.loads(response.read())["object"] == "list"
    connection.close()
