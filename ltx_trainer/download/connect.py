"""One question to a server, and its answer: redirects followed by hand, each to an address that was looked at."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from time import monotonic
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from ltx_trainer import __version__
from ltx_trainer.download.rules import Limits, Patience
from ltx_trainer.download.url import Unavailable, Url, addresses_of, follow
from ltx_trainer.errors import DatasetError

MAX_REDIRECTS = 10
CHUNK_BYTES = 1 << 20
REDIRECTS = {301, 302, 303, 307, 308}

HEADERS = {
    "User-Agent": f"ltx-trainer/{__version__}",
    "Accept": "*/*",
    # What is packed on the way would have no ranges, and what is a .gz is not to be unpacked.
    "Accept-Encoding": "identity",
}


class Asking:
    """All questions about one file.

    Args:
        what: Field that names the file, for messages.
        limits: The user's.
        patience: With the server.
    """

    def __init__(self, what: str, limits: Limits, patience: Patience) -> None:
        self.what = what
        self.limits = limits
        self.patience = patience
        self._deadline = monotonic() + 60 * limits.timeout_minutes

    @property
    def seconds_left(self) -> float:
        """Until the user's limit."""
        return self._deadline - monotonic()

    def check_time(self, url: Url) -> None:
        """Refuse to go on after the user's limit.

        Raises:
            DatasetError: The time is over.
        """
        if self.seconds_left <= 0:
            raise DatasetError(
                f"{self.what}: {url.shown} takes more than downloads.timeout_minutes: {self.limits.timeout_minutes:g}. "
                "What came so far is kept: the same command goes on from there."
            )

    @contextmanager
    def answer(self, url: Url, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        """Ask for a file, and give the answer that is no redirect; its body is not read yet.

        Raises:
            Unavailable: The server, or one that it redirects to, cannot be reached.
            DatasetError: An address is private, a redirect leads away from http(s), or there are too many.
        """
        hop = url
        for _ in range(MAX_REDIRECTS + 1):
            self.check_time(hop)
            with requests.Session() as session, self._open(session, hop, headers) as response:
                if response.status_code not in REDIRECTS or "Location" not in response.headers:
                    yield response
                    return
                hop = follow(hop, response.headers["Location"], self.what)
        raise DatasetError(f"{self.what}: {url.shown} redirects more than {MAX_REDIRECTS} times. Give the last URL.")

    def _open(self, session: requests.Session, url: Url, headers: Mapping[str, str]) -> requests.Response:
        """Ask the first address that answers."""
        failure: Exception | None = None
        for address in self._addresses(url):
            if address is not None:
                session.mount(f"{url.scheme}://", _Pinned(url, address))
            try:
                return session.get(
                    url.asked,
                    headers={**HEADERS, **headers, "Host": url.netloc},
                    auth=url.user,
                    stream=True,
                    allow_redirects=False,
                    timeout=(self.patience.connect_seconds, self._stall_seconds()),
                )
            except (requests.RequestException, HTTPError, OSError) as error:
                failure = error
        raise Unavailable(f"{self.what}: {url.shown} cannot be reached: {cause_of(failure)}.") from failure

    def _addresses(self, url: Url) -> list[str] | list[None]:
        """Give the addresses to connect to; only None where a proxy finds them itself."""
        allow_private = self.limits.allow_private_addresses
        if not select_proxy(url.asked, get_environ_proxies(url.asked)):
            return list(addresses_of(url, self.what, allow_private=allow_private))
        # Behind a proxy, names of the internet often have no address; those that have one are held to it.
        with suppress(Unavailable):
            addresses_of(url, self.what, allow_private=allow_private)
        return [None]

    def _stall_seconds(self) -> float:
        return max(0.1, min(self.patience.stall_seconds, self.seconds_left))


class _Pinned(HTTPAdapter):
    """Connects to one address, and asks it for, and holds its certificate to, the host that it was found by."""

    def __init__(self, url: Url, address: str) -> None:
        self._host = url.host
        self._address = address
        super().__init__()

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        host["host"] = self._address
        if host["scheme"] == "https":
            tls = {**tls, "server_hostname": self._host}
        return host, tls  # pyright: ignore[reportReturnType]


def chunks_of(response: requests.Response) -> Iterator[bytes]:
    """Give the body as it comes, and as it was sent.

    Raises:
        Unavailable: It breaks off, or nothing comes any more.
    """
    body = response.raw
    assert isinstance(body, BaseHTTPResponse)
    try:
        while chunk := body.read1(CHUNK_BYTES, decode_content=False):
            yield chunk
    except (HTTPError, OSError) as error:
        raise Unavailable(cause_of(error)) from error


def status_of(response: requests.Response) -> str:
    """Give the status in numbers and words."""
    try:
        return f"{response.status_code} {HTTPStatus(response.status_code).phrase}"
    except ValueError:
        return str(response.status_code)


def cause_of(error: BaseException | None) -> str:
    """Say what kept a connection, in words that hold nothing of the URL."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
    if any("timeout" in type(cause).__name__.lower() or isinstance(cause, TimeoutError) for cause in causes):
        return "it does not answer in time"
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return f"it does not speak TLS as it should ({cause.reason or 'the connection is cut'})"
    spoken = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return spoken[-1][:1].lower() + spoken[-1][1:] if spoken else "the connection breaks off"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Go through an error and what the libraries wrapped in it."""
    waiting, seen = [error], set()
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
