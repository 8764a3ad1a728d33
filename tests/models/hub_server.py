"""The little of the model hub that fetching a model takes, on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "c0ffee" + "0" * 34
"""The one commit of every repository."""


@dataclass
class Hub:
    """What the server has, and what it was asked.

    Attributes:
        url: Where it is.
        repositories: The folder of each repository by its id.
        gated: Ids whose files take the token `hf_good`.
        fetched: Files that were sent.
        asked: Paths of all requests.
        is_broken: Answers everything with an error of its own.
        cuts_at: Sends no more bytes of a file than this, then hangs up.
    """

    url: str
    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    is_broken: bool = False
    cuts_at: int | None = None


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve for the length of the `with`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}")  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.hub  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def stand_in_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve, and point the hub library at that, with an empty cache in a folder."""
    with serve_hub() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "no-token"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""

    def _answer(self) -> None:
        hub: Hub = self.server.hub  # pyright: ignore[reportAttributeAccessIssue]
        hub.asked.append(self.path)
        steps = unquote(urlsplit(self.path).path).strip("/").split("/")
        asks_api = steps[:2] == ["api", "models"]
        owner, name, *rest = steps[2:] if asks_api else steps
        repository = f"{owner}/{name}"
        if hub.is_broken:
            self._refuse(500, "")
        elif repository not in hub.repositories:
            self._refuse(404, "RepoNotFound")
        elif len(rest) > 1 and rest[1] not in {"main", COMMIT}:
            self._refuse(404, "RevisionNotFound")
        elif asks_api:
            self._tell(hub.repositories[repository], repository, is_tree=rest[:1] == ["tree"])
        elif repository in hub.gated and self.headers["Authorization"] != "Bearer hf_good":
            self._refuse(403, "GatedRepo")
        else:
            self._send_file(hub, hub.repositories[repository], "/".join(rest[2:]))

    def _tell(self, folder: Path, repository: str, *, is_tree: bool) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        tree = [
            {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "oid": "0" * 40}
            for path in files
        ]
        self._send(json.dumps(tree if is_tree else {"id": repository, "sha": COMMIT}).encode())

    def _send_file(self, hub: Hub, folder: Path, name: str) -> None:
        if not (folder / name).is_file():
            self._refuse(404, "EntryNotFound")
            return
        content = (folder / name).read_bytes()
        if self.command == "GET":
            hub.fetched.append(name)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if self.command == "GET" and hub.cuts_at is not None and len(content) > hub.cuts_at:
            self._send(content[: hub.cuts_at], {**headers, "Content-Length": str(len(content))})
            self.close_connection = True
        else:
            self._send(content, headers)

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"", {"X-Error-Code": code}, status)

    def _send(self, content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
