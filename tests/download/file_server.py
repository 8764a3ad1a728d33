"""A real web server on this machine, which can break off, change its files, redirect and lie."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What one path answers.

    Attributes:
        content: The whole body.
        etag: None: no version is named.
        status: Of an answer with the whole body.
        refusals: Statuses of the first answers, which have no body.
        headers: More of them.
        ranges: Whether a part can be asked for.
        cuts: After how many bytes of the body each answer breaks off, one after the other; then none does.
        announced: Whether the length is.
        stall_seconds: Waited for before the body.
        pause_seconds: Waited for before each piece of 1000 bytes; 0 sends the body at once.
    """

    content: bytes = b""
    etag: str | None = '"1"'
    status: int = 200
    refusals: list[int] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    announced: bool = True
    stall_seconds: float = 0.0
    pause_seconds: float = 0.0


class FileServer:
    """Paths and what they answer, and what was asked."""

    def __init__(self, port: int) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = port
        self.ended = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def ranges(self) -> list[str | None]:
        """What part each question asked for."""
        return [headers.get("Range") for _, headers in self.asked]


@contextmanager
def serving() -> Iterator[FileServer]:
    """Serve until the `with` ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        http.daemon_threads = True
        files = FileServer(http.server_address[1])
        http.files = files  # pyright: ignore[reportAttributeAccessIssue]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield files
        finally:
            files.ended.set()
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: FileServer = self.server.files  # pyright: ignore[reportAttributeAccessIssue]
        server.asked.append((self.path, dict(self.headers)))
        served = server.files.get(self.path, Served(b"nothing here", etag=None, status=404))
        self.close_connection = True
        if served.refusals:
            return self._head(served.refusals.pop(0), served, 0)
        if served.etag and self.headers.get("If-None-Match") == served.etag:
            return self._head(304, served, None)
        status, body, ranged = self._answer(served)
        self._head(status, served, len(body), ranged)
        server.ended.wait(served.stall_seconds)
        cut = served.cuts.pop(0) if served.cuts else None
        piece = 1000 if served.pause_seconds else len(body) + 1
        for start in range(0, len(body[:cut]), piece):
            server.ended.wait(served.pause_seconds)
            self.wfile.write(body[:cut][start : start + piece])
        return None

    def _answer(self, served: Served) -> tuple[int, bytes, str | None]:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or not served.ranges or self.headers.get("If-Range", served.etag) != served.etag:
            return served.status, served.content, None
        first, size = int(asked[1]), len(served.content)
        if first >= size:
            return 416, b"", f"bytes */{size}"
        return 206, served.content[first:], f"bytes {first}-{size - 1}/{size}"

    def _head(self, status: int, served: Served, length: int | None, ranged: str | None = None) -> None:
        self.send_response(status)
        headers = {"ETag": served.etag, "Content-Range": ranged, **served.headers}
        if served.announced and length is not None:
            headers["Content-Length"] = str(length)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as in the base class
        """Keep quiet."""
