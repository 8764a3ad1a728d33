"""What of a zip is refused before anything is unpacked."""

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.modes import Mode

DIRECTORY_ENTRY = b"PK\x01\x02"


def patch(path: Path, signature: bytes, offset: int, format_: str, value: int) -> None:
    """Overwrite a field of the last header that has this signature."""
    content = bytearray(path.read_bytes())
    struct.pack_into(format_, content, content.rindex(signature) + offset, value)
    path.write_bytes(content)


def declare_size(path: Path, num_bytes: int) -> None:
    """Let the directory say that the first member unpacks to so many bytes."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist[0].file_size = num_bytes
        archive.writestr("added.txt", b"so that the directory is written again")


def unix_member(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def refuse(path: Path, mode: Mode, folder: Path, match: str) -> None:
    """Both verbs refuse, and nothing is written."""
    with pytest.raises(DatasetError, match=match):
        check_archive(path, mode)
    with pytest.raises(DatasetError, match=match):
        ingest_archive(path, mode, folder)
    assert not folder.exists()


def test_a_missing_archive_is_refused_with_its_path(t2v: Mode, tmp_path: Path, store: Path) -> None:
    refuse(tmp_path / "none.zip", t2v, store, match=r"There is no file .*none\.zip")


def test_a_file_that_is_no_archive_is_refused(t2v: Mode, tmp_path: Path, store: Path) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(b"this is text")
    refuse(
        path,
        t2v,
        store,
        match=r"data\.zip \(12 bytes\) is no archive, .* a \.zip, \.tar or \.tar\.gz file, or a folder",
    )


@pytest.mark.parametrize("left", [0.0, 0.3, 0.9])
def test_a_truncated_zip_is_refused(t2v: Mode, make_archive: Callable[..., Path], store: Path, left: float) -> None:
    path = make_archive({f"{number}.mp4": bytes(1000) for number in range(5)})
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    refuse(path, t2v, store, match="is no archive, or one that is cut off|is a zip that is cut off")


@pytest.mark.parametrize(
    "name",
    [
        "../a.mp4",
        "clips/../../a.mp4",
        "/etc/a.mp4",
        "C:/a.mp4",
        "c:a.mp4",
        "..\\a.mp4",
        "\\\\host\\share\\a.mp4",
        "../",
    ],
)
def test_a_member_that_leads_out_of_the_archive_is_refused_by_name(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, name: str
) -> None:
    path = make_archive({"good.mp4": b"1", name: b"2"})
    refuse(path, t2v, store, match=r"data\.zip holds '.*', which leads out of the archive")


def test_a_traversal_hidden_in_a_junk_folder_is_refused(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"good.mp4": b"1", "__MACOSX/../../a.mp4": b"2"})
    refuse(path, t2v, store, match=r"'__MACOSX/\.\./\.\./a\.mp4', which leads out")


@pytest.mark.parametrize(
    ("file_type", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device"), (stat.S_IFIFO, "a device")]
)
def test_a_link_or_device_is_refused_by_name(
    t2v: Mode, make_archive: Callable[..., Path], store: Path, file_type: int, what: str
) -> None:
    path = make_archive({"good.mp4": b"1", unix_member("odd.mp4", file_type | 0o777): b"/etc/passwd"})
    refuse(path, t2v, store, match=rf"'odd\.mp4', which is {what}")


def test_an_encrypted_member_is_refused_by_name(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    path = make_archive({"good.mp4": b"1", "secret.mp4": b"2"})
    patch(path, DIRECTORY_ENTRY, 8, "<H", 0x1)
    refuse(path, t2v, store, match=r"'secret\.mp4' in data\.zip is encrypted")


def test_an_unknown_packing_method_is_refused_by_name(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"good.mp4": b"1", "odd.mp4": b"2"})
    patch(path, DIRECTORY_ENTRY, 10, "<H", 9)
    refuse(path, t2v, store, match=r"'odd\.mp4' in data\.zip is packed by method 9")


def test_a_member_of_zeros_that_unpacks_a_thousandfold_is_refused(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"bomb.mp4": bytes(12_000_000)}, method=zipfile.ZIP_DEFLATED)
    refuse(path, t2v, store, match="would unpack from .* to 12000000 bytes, as a zip bomb does")


def test_a_directory_that_declares_ten_gigabytes_for_a_small_file_is_refused(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"bomb.mp4": bytes(1000)}, method=zipfile.ZIP_DEFLATED)
    declare_size(path, 10_000_000_000)
    refuse(path, t2v, store, match=r"would unpack from \d+ to 100000000\d\d bytes, as a zip bomb does")


def test_a_directory_that_also_lies_about_the_packed_size_is_held_against_the_file(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"bomb.mp4": bytes(1000)}, method=zipfile.ZIP_DEFLATED)
    patch(path, DIRECTORY_ENTRY, 20, "<I", 3_900_000_000)
    patch(path, DIRECTORY_ENTRY, 24, "<I", 4_000_000_000)
    refuse(path, t2v, store, match=r"^data\.zip would unpack from \d+ to 4000000000 bytes, as a zip bomb does")


def test_more_than_the_limit_in_all_is_refused(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    path = make_archive({"a.mp4": b"1"})
    declare_size(path, 600_000_000_000)
    refuse(path, t2v, store, match=r"would unpack to 6000000000\d\d bytes or more; an archive may have 500000000000")


def test_a_highly_packed_but_small_file_is_taken(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    path = make_archive({"a.mp4": b"1", "a.txt": b" " * 500_000}, method=zipfile.ZIP_BZIP2)
    (example,) = ingest_archive(path, t2v, store).examples
    assert example.caption is None


def test_one_name_twice_is_refused(t2v: Mode, make_archive: Callable[..., Path], store: Path) -> None:
    path = make_archive({"clip/a.mp4": b"1", "clip//a.mp4": b"2"})
    refuse(path, t2v, store, match=r"holds 'clip/a\.mp4' twice")


def test_a_header_that_declares_less_than_there_is_is_found_while_extracting(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"good.mp4": b"1", "more.mp4": bytes(100_000)}, method=zipfile.ZIP_DEFLATED)
    patch(path, DIRECTORY_ENTRY, 24, "<I", 10)
    with pytest.raises(DatasetError, match=r"'more\.mp4' in data\.zip is damaged"):
        ingest_archive(path, t2v, store)
    assert list((store / "archives").iterdir()) == []


def test_a_header_that_declares_more_than_there_is_is_found_while_extracting(
    t2v: Mode, make_archive: Callable[..., Path], store: Path
) -> None:
    path = make_archive({"good.mp4": b"1", "less.mp4": bytes(100_000)}, method=zipfile.ZIP_DEFLATED)
    patch(path, DIRECTORY_ENTRY, 24, "<I", 100_001)
    with pytest.raises(DatasetError, match=r"'less\.mp4' in data\.zip is damaged: it has fewer than the 100001 bytes"):
        ingest_archive(path, t2v, store)
    assert list((store / "archives").iterdir()) == []
