"""Which kind of source a text is, and data URIs."""

import base64
import hashlib
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pytest

from ltx_trainer.errors import ConfigError, DatasetError

Get = Callable[..., Path]

CONTENT = b"BZ\x03\x04" + bytes(range(256)) + b"\xfb\xef\xbe\xff\xfe"


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("clips.zip", "clips.zip"),
        ("/data/my clips.zip", "/data/my clips.zip"),
        ("~/clips", str(Path("~/clips").expanduser())),
        ("a:b.zip", "a:b.zip"),
        ("my:clips.zip", "my:clips.zip"),
        ("file:///data/my%20clips.zip", "/data/my clips.zip"),
        ("FILE:/data/a.zip", "/data/a.zip"),
        ("file://localhost/data/a#1?.zip", "/data/a#1?.zip"),
    ],
)
def test_a_path_is_given_as_it_is_and_nothing_is_copied(get: Get, folder: Path, source: str, path: str) -> None:
    assert get(source) == Path(path)
    assert not folder.exists()


@pytest.mark.parametrize("source", ["file://server/share/a.zip", "file:a.zip", "file://"])
def test_a_file_url_of_no_file_of_this_machine_is_refused(get: Get, source: str) -> None:
    with pytest.raises(ConfigError, match=r"input.training_data_url: file:.* names no file of this machine"):
        get(source)


@pytest.mark.parametrize("source", ["s3://bucket/a.zip", "ftp://host/a.zip", "hf://datasets/a/b"])
def test_a_url_of_another_kind_is_refused_with_those_that_work(get: Get, source: str) -> None:
    with pytest.raises(ConfigError, match=rf"{source} is of no kind that is known. A path, .* and a base64 data URI"):
        get(source)


def in_lines(text: str) -> str:
    return "\n  ".join(text[start : start + 76] for start in range(0, len(text), 76))


@pytest.mark.parametrize("head", ["data:application/zip;base64,", "data:;base64,", "DATA:a/b;name=x;BASE64,"])
@pytest.mark.parametrize(
    "encode",
    [
        lambda content: base64.b64encode(content).decode(),
        lambda content: base64.b64encode(content).decode().rstrip("="),
        lambda content: base64.urlsafe_b64encode(content).decode(),
        lambda content: quote(base64.b64encode(content).decode(), safe=""),
        lambda content: in_lines(base64.b64encode(content).decode()),
    ],
)
def test_a_data_uri_is_decoded_to_a_file_named_by_its_digest(
    get: Get, folder: Path, head: str, encode: Callable[[bytes], str]
) -> None:
    path = get(head + encode(CONTENT))
    assert path.read_bytes() == CONTENT
    assert path.parent == folder
    assert path.stem == f"data-uri-{hashlib.sha256(CONTENT).hexdigest()}"


def test_a_data_uri_is_written_once_with_the_extension_of_its_type(get: Get) -> None:
    source = "data:image/png;base64," + base64.b64encode(CONTENT).decode()
    path = get(source)
    before = path.stat()
    assert get(source).stat() == before
    assert path.suffix == ".png"


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("data:application/zip;base64,AAAA*AAA", r"of 8 characters does not decode as base64: .* Is it cut off\?"),
        ("data:application/zip;base64,AAAA****", ".*does not decode as base64"),
        ("data:application/zip;base64,AAAAA", ".*does not decode as base64"),
        ("data:application/zip;base64,AA=AAAAA", ".*does not decode as base64"),
        ("data:application/zip;base64,", "is empty"),
        ("data:application/zip;base64", "is not written as data:application/zip;base64,..."),
        ("data:text/plain,hello", "is not written as data:application/zip;base64,..."),
    ],
)
def test_a_data_uri_that_does_not_decode_is_refused(get: Get, folder: Path, source: str, match: str) -> None:
    with pytest.raises(DatasetError, match=f"^input.training_data_url: the data URI {match}"):
        get(source)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("media_type", "content"),
    [("text/html", b"Sign in"), ("application/zip", b"\n<!DOCTYPE html><title>Sign in</title>")],
)
def test_a_data_uri_of_a_web_page_is_refused_and_nothing_stays(
    get: Get, folder: Path, media_type: str, content: bytes
) -> None:
    with pytest.raises(DatasetError, match=r"^input.training_data_url: the data URI holds a web page, not a file"):
        get(f"data:{media_type};base64,{base64.b64encode(content).decode()}")
    assert not folder.exists()


def test_a_data_uri_of_a_zip_that_is_cut_off_is_refused_and_nothing_stays(get: Get, folder: Path) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.mp4", bytes(1000))
    text = base64.b64encode(packed.getvalue()).decode()
    with pytest.raises(
        DatasetError, match=r"^input.training_data_url: the data URI holds a zip that is cut off .* its 600 bytes"
    ):
        get(f"data:application/zip;base64,{text[:800]}")
    assert not folder.exists()
    assert get(f"data:application/zip;base64,{text}").read_bytes() == packed.getvalue()


def test_a_data_uri_above_the_limit_is_refused(get: Get) -> None:
    with pytest.raises(DatasetError, match=r"holds 265 bytes; downloads.max_gigabytes takes 1e-07"):
        get("data:;base64," + base64.b64encode(CONTENT).decode(), max_gigabytes=1e-7)
