"""A file from a web server: gone on with after a break, asked for again only if it has changed."""

import logging
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

from requests import Response

from ltx_trainer.atomic import check_space, disk_errors, locked
from ltx_trainer.download.connect import Asking, chunks_of, status_of
from ltx_trainer.download.page import HEAD_BYTES, is_page, is_page_type
from ltx_trainer.download.place import Facts, Place, facts_of, folder_of
from ltx_trainer.download.rules import BYTES_IN_A_GIGABYTE, Limits, Patience, Progress
from ltx_trainer.download.url import Unavailable, Url
from ltx_trainer.errors import DatasetError

logger = logging.getLogger(__name__)

OK, PARTIAL, NOT_MODIFIED, NOT_SATISFIABLE = 200, 206, 304, 416

BUSY = frozenset({429, 502, 503, 504})
"""Statuses of a server that may well give the file a moment later."""


class _Busy(Unavailable):
    """A server that asks for patience.

    Args:
        message: What it answers.
        wait_seconds: How long it wants to be left alone; 0 if it does not say.
    """

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


def fetch_url(
    url: Url, folder: Path, limits: Limits, show: Progress, *, what: str, patience: Patience | None = None
) -> Path:
    """Give the file of a URL, from the server or, unless it has changed there, from an earlier run.

    A break is gone on from where it was, by this run or by the next. A server that is busy is asked again. A file that
    is there is used if the server does not give it any more.

    Args:
        url: Where it is.
        folder: Of all downloads.
        limits: The user's.
        show: Shows how far it is.
        what: Field that names the file, for messages.
        patience: With the server.

    Raises:
        DatasetError: The server cannot be reached, breaks off again and again, gives no file, one too large, or a web
            page, or is one that may not be asked.
        OutOfResources: The disk is full.
        ConfigError: The folder cannot be written to.
    """
    asking = Asking(what, limits, patience or Patience())
    place = folder_of(url, folder)
    with locked(place / ".lock"):
        return _Transfer(url, Place(place), asking, show).run()


class _Transfer:
    def __init__(self, url: Url, place: Place, asking: Asking, show: Progress) -> None:
        self._url = url
        self._place = place
        self._asking = asking
        self._show = show
        self._most_bytes = 0
        self._has_come = False

    def run(self) -> Path:
        """Ask until the file is there."""
        waits = iter(self._asking.patience.waits_seconds)
        while True:
            try:
                return self._ask()
            except Unavailable as error:
                if not self._has_come and not isinstance(error, _Busy):
                    return self._as_found_before(error)
                if self._place.num_bytes > self._most_bytes:
                    waits = iter(self._asking.patience.waits_seconds)
                self._most_bytes = max(self._most_bytes, self._place.num_bytes)
                seconds = next(waits, None)
                if seconds is None:
                    return self._give_up(error)
                self._wait(seconds, error)

    def _ask(self) -> Path:
        place, question = self._place, _question(self._place)
        with self._asking.answer(self._url, question) as response:
            if response.status_code == NOT_MODIFIED and place.finished:
                return place.finished
            if "Range" in question and not self._goes_on(response):
                place.clear()
                return self._ask()
            self._check_status(response, rest="Range" in question)
            facts = facts_of(self._url, response.headers, _whole_size(response))
            if place.finished and self._is_same(facts):
                return place.finished
            self._check_size(facts.size)
            if response.status_code == OK:
                place.begin(facts)
            self._receive(response, facts.size)
        self._check_content()
        return place.finish()

    def _goes_on(self, response: Response) -> bool:
        """Say whether what is there is still of use: not if it is longer than the file, or of another version."""
        if response.status_code != PARTIAL:
            return response.status_code != NOT_SATISFIABLE
        known, facts = self._place.facts, facts_of(self._url, response.headers, _whole_size(response))
        if known is None or _first_byte(response) != self._place.num_bytes or known.size != facts.size:
            return False
        return facts.is_version_of(known) or not (facts.etag or facts.last_modified)

    def _check_status(self, response: Response, *, rest: bool) -> None:
        """Refuse what is no file, or, unless it was asked for, the rest of one."""
        if response.status_code != OK and not (rest and response.status_code == PARTIAL):
            remedy = {
                401: "It wants a login: a URL may hold one, as https://user:password@host/path.",
                403: "It wants a login, or the link has expired: make a new one.",
                404: "Is the link right?",
                410: "The file is gone for good.",
            }.get(response.status_code, "Try again later.")
            answer = f"{self._name} answers {status_of(response)}."
            if response.status_code in BUSY:
                raise _Busy(answer, _seconds_wanted(response))
            raise Unavailable(f"{answer} {remedy}")
        if is_page_type(response.headers.get("Content-Type", "")):
            raise Unavailable(self._page())

    def _page(self) -> str:
        return (
            f"{self._name} answers with a web page, not a file. Is it a share page? Give the link that the download "
            "itself has: Dropbox has ?dl=1 at its end, Hugging Face /resolve/ in place of /blob/."
        )

    @property
    def _name(self) -> str:
        return f"{self._asking.what}: {self._url.shown}"

    def _is_same(self, facts: Facts) -> bool:
        """Say whether the server has what is there; by its size alone if it dates and names nothing."""
        known = self._place.facts
        assert known is not None
        if facts.etag or facts.last_modified:
            return facts.is_version_of(known)
        if facts.size is None or facts.size != known.size:
            return False
        logger.warning(
            "%s does not say whether it has changed; its size has not, so the file of an earlier run is used. "
            "Remove %s to fetch it again.",
            self._name,
            self._place.folder,
        )
        return True

    def _check_size(self, size: int | None) -> None:
        limit = self._asking.limits.max_gigabytes
        if size is not None and size > limit * BYTES_IN_A_GIGABYTE:
            raise DatasetError(
                f"{self._name} has {size / BYTES_IN_A_GIGABYTE:.3g} GB or more; "
                f"downloads.max_gigabytes takes {limit:g}."
            )

    def _receive(self, response: Response, size: int | None) -> None:
        """Write the body behind what is there."""
        place, asking = self._place, self._asking
        num_bytes = place.num_bytes
        if size is not None:
            check_space(place.folder, size - num_bytes, f"{self._name} brings")
        assert place.facts is not None
        with place.partial.open("ab") as file, self._show(place.facts.name, size) as received:
            received.advance(num_bytes)
            for chunk in chunks_of(response):
                self._has_come = True
                num_bytes += len(chunk)
                self._check_growth(num_bytes)
                self._write(file, chunk)
                received.advance(len(chunk))
                asking.check_time(self._url)
        if size is not None and num_bytes != size:
            raise Unavailable("the connection breaks off")

    def _check_growth(self, num_bytes: int) -> None:
        """Refuse a file that did not say how large it is, and give its room back."""
        try:
            self._check_size(num_bytes)
        except DatasetError:
            self._place.clear()
            raise

    def _write(self, file: BinaryIO, chunk: bytes) -> None:
        with disk_errors(self._place.partial):
            file.write(chunk)

    def _check_content(self) -> None:
        """Refuse a web page that does not say that it is one."""
        with self._place.partial.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if is_page(head):
            self._place.clear()
            raise DatasetError(self._page())

    def _as_found_before(self, error: Unavailable) -> Path:
        """Use what is there, or refuse."""
        if self._place.finished is None:
            raise error
        logger.warning("%s The file that an earlier run fetched is used.", error)
        return self._place.finished

    def _give_up(self, error: Unavailable) -> Path:
        """Use what is there if the server gives nothing, or refuse."""
        tries = len(self._asking.patience.waits_seconds)
        if not self._has_come:
            return self._as_found_before(Unavailable(f"{error} It was asked {tries + 1} times. Try again later."))
        raise DatasetError(
            f"{self._name} broke off, and {tries} more tries brought nothing more: {self._why(error)}. "
            f"{self._come()} of its bytes came. {self._outlook()}"
        ) from error

    def _wait(self, seconds: float, error: Unavailable) -> None:
        """Wait, and longer if the server wants it, but never longer than the longest wait."""
        if isinstance(error, _Busy):
            seconds = min(max(seconds, error.wait_seconds), max(self._asking.patience.waits_seconds))
        logger.info("%s: %s; trying again in %g s.", self._name, self._why(error), seconds)
        time.sleep(max(0.0, min(seconds, self._asking.seconds_left)))

    def _why(self, error: Unavailable) -> str:
        return str(error).removeprefix(f"{self._name} ").rstrip(".")

    def _come(self) -> str:
        facts = self._place.facts
        size = "an unknown number" if facts is None or facts.size is None else str(facts.size)
        return f"{self._most_bytes} of {size}"

    def _outlook(self) -> str:
        facts = self._place.facts
        if facts is not None and facts.validator:
            return "The same command goes on from there, if the server lets it."
        return "The server does not name its version, so the same command begins anew."


def _question(place: Place) -> Mapping[str, str]:
    """Ask for what is not there yet: a newer version, the rest, or all."""
    facts = place.facts
    if facts is None:
        return {}
    if place.finished:
        asked = {"If-None-Match": facts.etag, "If-Modified-Since": facts.last_modified}
        return {name: value for name, value in asked.items() if value}
    if place.num_bytes and facts.validator:
        return {"Range": f"bytes={place.num_bytes}-", "If-Range": facts.validator}
    return {}


def _seconds_wanted(response: Response) -> float:
    """Give what Retry-After says, which is seconds or a date; 0 without one."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0


def _whole_size(response: Response) -> int | None:
    if response.status_code == PARTIAL:
        found = re.search(r"/(\d+)\s*$", response.headers.get("Content-Range", ""))
        return int(found[1]) if found else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _first_byte(response: Response) -> int | None:
    found = re.match(r"\s*bytes\s+(\d+)-", response.headers.get("Content-Range", ""), re.IGNORECASE)
    return int(found[1]) if found else None
