"""A server on loopback that speaks as much of the hub's protocol as a download needs, with faults to order."""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import loopback

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """One repository's files, the requests that came, and how often to cut a transfer short."""

    def __init__(self, repo_id: str, folder: Path):
        self.repo_id, self.folder = repo_id, folder
        self.requests: list[str] = []
        self.bytes_sent = 0  # of files
        self.tokens: set[str | None] = set()
        self.cuts_left = 0
        self.chance = random.Random(0)  # where they are cut
        self.gated = False
        self.ignores_ranges = False  # sends all of a file to whoever asks for its end
        self.lies_by = 0  # bytes that the length of a file is announced too long, or too short
        self.corrupt = False  # one bit of every very large file
        self.elsewhere: str | None = None  # another server's address, which large files are fetched from

    def file(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def sent(self, data: bytes) -> bytes:
        """What goes over the wire for a file's bytes."""
        return data[:-1] + bytes([data[-1] ^ 1]) if self.corrupt and len(data) > 1_000_000 else data


@contextmanager
def serve(repo_id: str, folder: Path) -> Iterator[tuple[Hub, str]]:
    """Run the server; yields the hub and its address."""
    hub = Hub(repo_id, folder)
    with loopback.serve(_handler(hub)) as address:
        yield hub, address


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one class, many small methods
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(self.path.split("?")[0])
            hub.requests.append(f"{self.command} {path}")
            hub.tokens.add(self.headers.get("Authorization"))
            resolve = f"/{hub.repo_id}/resolve/"
            if hub.gated:
                self.error(403, "GatedRepo")
            elif path.startswith(f"/api/models/{hub.repo_id}/tree/"):
                self.reply(json.dumps(self.tree()).encode(), {"Content-Type": "application/json"}, body)
            elif path.startswith(f"/api/models/{hub.repo_id}"):
                siblings = [{"rfilename": hub.name(p)} for p in hub.files()]
                info = {"id": hub.repo_id, "modelId": hub.repo_id, "sha": COMMIT, "siblings": siblings}
                self.reply(json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
            elif path.startswith(resolve) and (data := hub.file(path.removeprefix(resolve).split("/", 1)[1])):
                self.send_file(data, body)
            else:
                self.error(404, "RepoNotFound" if not path.startswith(resolve) else "EntryNotFound")

        def tree(self) -> list[dict[str, object]]:
            return [
                {
                    "type": "file",
                    "path": hub.name(p),
                    "size": p.stat().st_size,
                    "oid": hashlib.sha1(p.name.encode()).hexdigest(),
                }
                for p in hub.files()
            ]

        def send_file(self, data: bytes, body: bool) -> None:
            headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            headers["Accept-Ranges"] = "bytes"
            if hub.elsewhere and len(data) > 10000:
                headers |= {"Location": hub.elsewhere + self.path, "X-Linked-Etag": headers["ETag"]}
                headers["X-Linked-Size"] = str(len(data))
                return self.reply(b"", headers, body, status=302)
            data = hub.sent(data)
            if hub.lies_by and not body:
                headers["X-Linked-Size"] = str(len(data) + hub.lies_by)
            start = 0
            wanted = None if hub.ignores_ranges else self.headers.get("Range")
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                whole, start = len(data), int(first)
                data = data[: int(last) + 1] if last else data
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{whole}"
            hub.bytes_sent += len(data) - start if body else 0
            self.reply(data[start:], headers, body, status=206 if wanted else 200)

        def reply(self, data: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body and hub.cuts_left and len(data) > 10000:
                hub.cuts_left -= 1
                self.wfile.write(data[: hub.chance.randrange(len(data))])
                self.close_connection = True
            elif body:
                self.wfile.write(data)

        def error(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    return Handler
