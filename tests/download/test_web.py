"""A file from a web server comes whole, once, and through breaks; what is no file is refused."""

import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from ltx_trainer.config.schema import DownloadSection
from ltx_trainer.download import Patience, fetch
from ltx_trainer.errors import DatasetError, OutOfResources
from tests.download.conftest import Shown
from tests.download.file_server import FileServer, Served, serving

Get = Callable[..., Path]

CONTENT = bytes(range(256)) * 2000


def kept(folder: Path) -> dict[str, int]:
    """Give the sizes of what lies in the one download's folder, but for its lock."""
    (place,) = folder.iterdir()
    return {path.name: path.stat().st_size for path in place.iterdir() if path.name != ".lock"}


def test_a_file_comes_whole_under_its_own_name_and_its_bytes_are_shown(
    get: Get, server: FileServer, shown: Shown
) -> None:
    server.files["/sets/my%20clips.zip"] = Served(CONTENT)
    path = get(server.url("/sets/my clips.zip"))
    assert path.read_bytes() == CONTENT
    assert path.name == "my_clips.zip"
    assert shown.downloads == [("my_clips.zip", len(CONTENT), len(CONTENT))]


def test_nothing_is_unpacked_on_the_way(get: Get, server: FileServer) -> None:
    server.files["/a.tar.gz"] = Served(CONTENT, headers={"Content-Encoding": "gzip"})
    assert get(server.url("/a.tar.gz")).read_bytes() == CONTENT
    assert server.asked[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="clips.zip"', "clips.zip"),
        ("attachment; filename*=UTF-8''caf%C3%A9.zip", "café.zip"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="..\\\\..\\\\a.zip"', "a.zip"),
        ('attachment; filename=".facts.json"', "facts.json"),
        (f'attachment; filename="{"x" * 300}.zip"', "x" * 56 + ".zip"),
        ("attachment", "get"),
    ],
)
def test_the_name_that_the_server_gives_is_only_a_name(
    get: Get, server: FileServer, folder: Path, disposition: str, name: str
) -> None:
    server.files["/get?id=7"] = Served(CONTENT, headers={"Content-Disposition": disposition})
    path = get(server.url("/get?id=7"))
    assert path.name == name
    assert path.parent.parent == folder


def test_a_break_is_gone_on_from_where_it_was(get: Get, server: FileServer, shown: Shown) -> None:
    server.files["/a.zip"] = Served(CONTENT, cuts=[1000, 2000])
    assert get(server.url("/a.zip")).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=3000-"]
    assert [headers.get("If-Range") for _, headers in server.asked] == [None, '"1"', '"1"']
    assert shown.downloads[-1] == ("a.zip", len(CONTENT), len(CONTENT))


def test_a_server_that_always_breaks_off_is_given_up_with_what_came_and_the_next_run_goes_on(
    get: Get, server: FileServer, folder: Path
) -> None:
    server.files["/a.zip"] = Served(CONTENT, cuts=[5000, *[0] * 5])
    with pytest.raises(
        DatasetError, match=r"broke off, and 5 more tries .* 5000 of 512000 .* The same command goes on"
    ):
        get(server.url("/a.zip"))
    assert kept(folder)[".partial"] == 5000
    server.asked.clear()
    assert get(server.url("/a.zip")).read_bytes() == CONTENT
    assert server.ranges == ["bytes=5000-"]


def test_tries_that_bring_something_are_not_counted(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(CONTENT, cuts=[100] * 20)
    assert get(server.url("/a.zip")).read_bytes() == CONTENT


def test_a_file_that_changes_on_the_server_is_never_mixed_with_what_came_before(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(b"old" * 1000, cuts=[500, *[0] * 5])
    with pytest.raises(DatasetError, match="broke off"):
        get(server.url("/a.zip"))
    server.files["/a.zip"] = Served(b"new" * 1000, etag='"2"')
    assert get(server.url("/a.zip")).read_bytes() == b"new" * 1000


def test_a_rest_of_another_version_is_not_taken_whatever_the_server_says(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(b"old" * 1000, cuts=[500, *[0] * 5])
    with pytest.raises(DatasetError, match="broke off"):
        get(server.url("/a.zip"))
    # If-Range is answered as if it held, and the header names another version.
    server.files["/a.zip"] = Served(b"new" * 1000, headers={"ETag": '"2"'})
    assert get(server.url("/a.zip")).read_bytes() == b"new" * 1000


@pytest.mark.parametrize("served", [{"ranges": False}, {"etag": None}, {"etag": 'W/"1"'}])
def test_where_no_part_can_be_asked_for_the_file_is_begun_anew(
    get: Get, server: FileServer, served: dict[str, object]
) -> None:
    server.files["/a.zip"] = Served(CONTENT, cuts=[1000], **served)  # pyright: ignore[reportArgumentType]
    assert get(server.url("/a.zip")).read_bytes() == CONTENT
    assert "etag" not in served or server.ranges == [None, None]


def test_a_rest_that_does_not_begin_where_the_part_ends_is_not_taken(get: Get, server: FileServer) -> None:
    lie = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    server.files["/a.zip"] = Served(CONTENT, cuts=[1000], headers=lie)
    assert get(server.url("/a.zip")).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", None]


def test_a_part_longer_than_the_file_is_begun_anew(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(CONTENT, cuts=[1000, *[0] * 5])
    with pytest.raises(DatasetError, match="broke off"):
        get(server.url("/a.zip"))
    server.files["/a.zip"] = Served(b"short")
    assert get(server.url("/a.zip")).read_bytes() == b"short"
    assert server.ranges[-2:] == ["bytes=1000-", None]


def test_a_part_whose_note_is_damaged_is_not_used(get: Get, server: FileServer, folder: Path) -> None:
    server.files["/a.zip"] = Served(CONTENT, cuts=[1000, *[0] * 5])
    with pytest.raises(DatasetError, match="broke off"):
        get(server.url("/a.zip"))
    next(folder.rglob(".facts.json")).write_text("{")
    assert get(server.url("/a.zip")).read_bytes() == CONTENT
    assert server.ranges[-1] is None


def test_what_a_run_killed_before_the_last_rename_left_is_taken_without_a_byte_more(
    get: Get, server: FileServer
) -> None:
    server.files["/a.zip"] = Served(CONTENT)
    path = get(server.url("/a.zip"))
    path.rename(path.with_name(".partial"))
    assert get(server.url("/a.zip")).read_bytes() == CONTENT
    assert server.asked[-1][1]["If-None-Match"] == '"1"'


def test_an_unchanged_file_is_asked_after_and_not_fetched_again(
    get: Get, server: FileServer, shown: Shown, folder: Path
) -> None:
    server.files["/a.zip"] = Served(CONTENT)
    first = get(server.url("/a.zip"))
    before = first.stat()
    assert get(server.url("/a.zip")) == first
    assert first.stat() == before
    assert len(server.asked) == 2
    assert len(shown.downloads) == 1
    assert set(kept(folder)) == {"a.zip", ".facts.json"}


def test_a_changed_file_is_fetched_again(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(b"old")
    get(server.url("/a.zip"))
    server.files["/a.zip"] = Served(b"new", etag='"2"', headers={"Content-Disposition": "attachment; filename=b.zip"})
    path = get(server.url("/a.zip"))
    assert (path.name, path.read_bytes()) == ("b.zip", b"new")
    assert [item.name for item in path.parent.iterdir() if not item.name.startswith(".")] == ["b.zip"]


def test_a_server_that_dates_by_time_alone_is_asked_by_it(get: Get, server: FileServer, shown: Shown) -> None:
    dated = {"Last-Modified": "Tue, 01 Jul 2025 10:00:00 GMT"}
    server.files["/a.zip"] = Served(CONTENT, etag=None, headers=dated)
    get(server.url("/a.zip"))
    get(server.url("/a.zip"))
    assert server.asked[1][1]["If-Modified-Since"] == dated["Last-Modified"]
    assert len(shown.downloads) == 1


def test_a_server_that_names_no_version_is_held_to_the_size_and_that_is_said(
    get: Get, server: FileServer, shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    server.files["/a.zip"] = Served(b"12345", etag=None)
    get(server.url("/a.zip"))
    get(server.url("/a.zip"))
    assert len(shown.downloads) == 1
    assert "its size has not, so the file of an earlier run is used" in caplog.text
    server.files["/a.zip"] = Served(b"123456", etag=None)
    assert get(server.url("/a.zip")).read_bytes() == b"123456"


@pytest.mark.parametrize(
    ("status", "told"), [(404, "404 Not Found"), (503, "503 Service Unavailable"), (None, "cannot")]
)
def test_a_file_that_is_there_is_used_with_a_warning_if_the_server_does_not_give_it_any_more(
    get: Get, status: int | None, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as server:
        server.files["/a.zip"] = Served(CONTENT)
        first = get(server.url("/a.zip"))
        server.files["/a.zip"] = Served(b"sorry", etag=None, status=status or 500)
        if status:
            assert get(server.url("/a.zip")) == first
    if not status:
        assert get(server.url("/a.zip")) == first
    assert first.read_bytes() == CONTENT
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.endswith("The file that an earlier run fetched is used.")
    assert told in warning


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_a_server_that_is_not_there_is_refused_at_once(get: Get) -> None:
    with pytest.raises(
        DatasetError, match=r"^input.training_data_url: http://127.0.0.1:\d+/a.zip cannot be reached: con"
    ):
        get(f"http://127.0.0.1:{free_port()}/a.zip", patience=Patience())


def test_a_name_without_an_address_is_refused(get: Get) -> None:
    with pytest.raises(DatasetError, match=r"no address of 'no-such-host.invalid' is found"):
        get("https://no-such-host.invalid/a.zip")


def test_a_file_of_unknown_size_comes_whole_and_its_size_is_known_afterwards(
    get: Get, server: FileServer, shown: Shown
) -> None:
    server.files["/a.zip"] = Served(CONTENT, announced=False)
    path = get(server.url("/a.zip"))
    assert path.read_bytes() == CONTENT
    assert shown.downloads == [("a.zip", None, len(CONTENT))]
    path.write_bytes(CONTENT[:-1])
    assert get(server.url("/a.zip")).read_bytes() == CONTENT


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_above_the_limit_is_refused_and_leaves_nothing(
    get: Get, server: FileServer, folder: Path, announced: bool, shown: Shown
) -> None:
    server.files["/a.zip"] = Served(CONTENT, announced=announced)
    with pytest.raises(DatasetError, match=r"GB or more; downloads.max_gigabytes takes 0.0005"):
        get(server.url("/a.zip"), max_gigabytes=0.0005)
    assert kept(folder) == {}
    assert len(shown.downloads) == (0 if announced else 1)


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(
    server: FileServer, shown: Shown, small_disk: Callable[[int], Path]
) -> None:
    server.files["/a.zip"] = Served(CONTENT)
    limits = DownloadSection(allow_private_addresses=True)
    with pytest.raises(OutOfResources, match=r"a.zip brings 512000 bytes, and the disk of .* has \d+ free"):
        fetch(server.url("/a.zip"), small_disk(100), limits, shown, what="x")
    assert shown.downloads == []


def test_a_server_that_stalls_is_given_up(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(CONTENT, stall_seconds=5)
    with pytest.raises(DatasetError, match="does not answer in time"):
        get(server.url("/a.zip"), patience=Patience((), stall_seconds=0.2))


def test_the_time_of_all_tries_together_is_limited(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(CONTENT, cuts=[100] * 50)
    with pytest.raises(
        DatasetError, match=r"takes more than downloads.timeout_minutes: 0.005. What came so far is kept"
    ):
        get(server.url("/a.zip"), timeout_minutes=0.005, patience=Patience((0.1,) * 50))


def test_the_time_is_limited_while_bytes_still_come(get: Get, server: FileServer, folder: Path) -> None:
    server.files["/a.zip"] = Served(CONTENT, pause_seconds=0.02)
    with pytest.raises(DatasetError, match=r"takes more than downloads\.timeout_minutes: 0\.005"):
        get(server.url("/a.zip"), timeout_minutes=0.005)
    assert 0 < kept(folder)[".partial"] < len(CONTENT)


@pytest.mark.parametrize(
    "served",
    [
        Served(b"anything", headers={"Content-Type": "text/html; charset=utf-8"}),
        Served(b"\n <!DOCTYPE html><title>Sign in</title>", headers={"Content-Type": "application/zip"}),
        Served(b"\xef\xbb\xbf<HTML lang=en>"),
    ],
)
def test_a_web_page_is_refused_as_one(get: Get, server: FileServer, folder: Path, served: Served) -> None:
    server.files["/share/7"] = served
    with pytest.raises(DatasetError, match=r"answers with a web page, not a file. Is it a share page"):
        get(server.url("/share/7"))
    assert kept(folder) == {}


@pytest.mark.parametrize(
    ("status", "match"),
    [
        (401, "401 Unauthorized. It wants a login"),
        (403, "403 Forbidden. .* the link has expired"),
        (404, "404 Not Found. Is the link right"),
        (500, "500 Internal Server Error. Try again later"),
        (501, "501 Not Implemented. Try again later"),
        (206, "206 Partial Content"),
        (299, "answers 299"),
    ],
)
def test_a_status_that_brings_no_file_is_told(get: Get, server: FileServer, status: int, match: str) -> None:
    server.files["/a.zip"] = Served(b"x", status=status)
    with pytest.raises(DatasetError, match=match):
        get(server.url("/a.zip"))
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again(get: Get, server: FileServer, status: int) -> None:
    server.files["/a.zip"] = Served(CONTENT, refusals=[status] * 5)
    assert get(server.url("/a.zip")).read_bytes() == CONTENT
    assert len(server.asked) == 6


def test_a_server_that_stays_busy_is_given_up_with_what_it_answers(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = Served(b"sorry", status=503)
    with pytest.raises(DatasetError, match=r"a.zip answers 503 Service Unavailable. It was asked 6 times. Try again"):
        get(server.url("/a.zip"))
    assert len(server.asked) == 6


def test_a_server_that_is_busy_in_between_does_not_lose_what_came(get: Get, server: FileServer) -> None:
    server.files["/a.zip"] = served = Served(CONTENT, cuts=[1000, *[0] * 5])
    with pytest.raises(DatasetError, match="broke off"):
        get(server.url("/a.zip"))
    server.asked.clear()
    served.refusals += [503, 502]
    assert get(server.url("/a.zip")).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"] * 3


@pytest.mark.parametrize(
    ("wanted", "waited"),
    [
        (lambda: "1", 0.3),
        (lambda: formatdate(time.time() + 100, usegmt=True), 0.3),
        (lambda: formatdate(time.time() - 100, usegmt=True), 0.01),
        (lambda: "soon", 0.01),
        (lambda: "0", 0.01),
    ],
)
def test_a_busy_server_is_left_alone_as_long_as_it_wants_up_to_the_longest_wait(
    get: Get,
    server: FileServer,
    wanted: Callable[[], str],
    waited: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    server.files["/a.zip"] = Served(CONTENT, refusals=[503], headers={"Retry-After": wanted()})
    began = time.monotonic()
    get(server.url("/a.zip"), patience=Patience((0.01, 0.3)))
    assert time.monotonic() - began >= waited
    assert f"answers 503 Service Unavailable; trying again in {waited:g} s." in caplog.text


def test_a_note_of_a_download_holds_neither_password_nor_query(get: Get, server: FileServer, folder: Path) -> None:
    server.files["/a.zip?sig=s3cret"] = Served(CONTENT)
    get(server.url("/a.zip?sig=s3cret").replace("//", "//me:pa55@"))
    get(server.url("/a.zip?sig=s3cret"))
    (note,) = folder.rglob(".facts.json")
    assert json.loads(note.read_text())["url"] == server.url("/a.zip")
    for path in folder.rglob("*"):
        assert "s3cret" not in str(path)
        assert "pa55" not in str(path)
        assert path.is_dir() or (b"s3cret" not in path.read_bytes() and b"pa55" not in path.read_bytes())


def test_the_room_reaches_neither_torch_nor_for_a_path_the_libraries_of_the_web() -> None:
    code = "import sys, ltx_trainer.download; print({'torch', 'numpy', 'requests', 'urllib3'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == "set()"
