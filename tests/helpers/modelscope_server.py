"""A server on loopback that speaks as much of ModelScope's protocol as a download needs, with faults to order.

Paths and shapes as ModelScope's own client uses them (modelscope/hub/api.py, file_download.py).
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import loopback


class Scope:
    """One repository's files, the requests that came, and what is to go wrong."""

    def __init__(self, repo_id: str, folder: Path):
        self.repo_id, self.folder = repo_id, folder
        self.requests: list[str] = []  # path, and the file asked for
        self.ranges: list[str | None] = []
        self.tokens: set[tuple[str | None, str | None]] = set()  # Authorization, Cookie
        self.cut_at: int | None = None  # bytes after which transfers break off
        self.corrupt = False
        self.ignores_ranges = False
        self.status = 200  # of every answer
        self.success = True
        self.elsewhere: str | None = None  # another server's address, which files are fetched from
        self.listing: object = None  # instead of the true one

    def files(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = [
            {"Name": "sub", "Path": "sub", "Type": "tree", "Size": 0, "Sha256": ""}
        ]
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            data = path.read_bytes()
            found.append(
                {
                    "CommitMessage": "upload",
                    "CommittedDate": 1700000000,
                    "IsLFS": len(data) > 10000,
                    "Mode": "33188",
                    "Name": path.name,
                    "Path": path.relative_to(self.folder).as_posix(),
                    "Revision": "0123456789abcdef0123456789abcdef01234567",
                    "Sha256": hashlib.sha256(data).hexdigest(),
                    "Size": len(data),
                    "Type": "blob",
                }
            )
        return found


@contextmanager
def serve(repo_id: str, folder: Path) -> Iterator[tuple[Scope, str]]:
    """Run the server; yields it and its address."""
    scope = Scope(repo_id, folder)
    with loopback.serve(_handler(scope)) as address:
        yield scope, address


def _handler(scope: Scope) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one class, many small methods
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            scope.requests.append(f"{url.path} {query.get('FilePath', '')}".strip())
            scope.tokens.add((self.headers.get("Authorization"), self.headers.get("Cookie")))
            api = f"/api/v1/models/{scope.repo_id}/repo"
            if scope.status != 200:
                self.reply(b"{}", scope.status)
            elif (
                url.path == f"{api}/files" and query["Revision"] == "master" and query["Recursive"] == "True"
            ):
                answer = {"Code": 200, "Data": {"Files": scope.files()}, "Message": "", "RequestId": "1"}
                if scope.listing is not None:
                    answer["Data"] = scope.listing
                if not scope.success:
                    answer |= {"Code": 10010205001, "Data": None, "Message": "record not found"}
                self.reply(json.dumps(answer | {"Success": scope.success}).encode())
            elif url.path == api and query["Revision"] == "master":
                self.send_file(scope.folder / query["FilePath"])
            else:
                self.reply(b'{"Code":10010205001,"Message":"not found","Success":false}', 404)

        def send_file(self, path: Path) -> None:
            if scope.elsewhere:
                return self.reply(b"", 302, {"Location": scope.elsewhere + self.path})
            if not path.is_file():
                return self.reply(b"", 404)
            data = path.read_bytes()
            if scope.corrupt:
                data = data[:-1] + bytes([data[-1] ^ 1])
            wanted = self.headers.get("Range")
            scope.ranges.append(wanted)
            if wanted and not scope.ignores_ranges:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                return self.reply(data[start:], 206, headers)
            self.reply(data)

        def reply(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if scope.cut_at is not None and len(data) > scope.cut_at and status in (200, 206):
                self.wfile.write(data[: scope.cut_at])
                self.close_connection = True
            else:
                self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
