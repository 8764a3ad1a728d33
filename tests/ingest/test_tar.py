"""A tar, plain or packed, is read as a zip of the same files is, and held to the same safety."""

import gzip
import io
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ltx_trainer.artifacts import Manifest, Role
from ltx_trainer.errors import DatasetError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.modes import ENDPOINT, Mode, find_mode

MakeTar = Callable[..., Path]

MEMBERS = {
    "set/b.mp4": b"2" * 3000,
    "set/a.txt": "grün".encode(),
    "set/a.mp4": b"1" * 100_000,
    "set/c.txt": b"",
    "set/more/c\u0301.mp4": b"",
    "set/b.txt": b"second\r\n",
    "set/notes.json": b"{}",
    "set/.DS_Store": b"junk",
}


@pytest.fixture
def make_tar(tmp_path: Path) -> MakeTar:
    """Give a function that writes members, by their path or their TarInfo, to a tar and gives its path."""

    def make(
        members: Mapping[str | tarfile.TarInfo, bytes], *, packed: bool = False, format_: int = tarfile.PAX_FORMAT
    ) -> Path:
        path = tmp_path / "data.tar"
        with tarfile.open(path, "w:gz" if packed else "w", format=format_) as archive:
            for named, content in members.items():
                info = tarfile.TarInfo(named) if isinstance(named, str) else named
                info.size = info.size or len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return make


def member(name: str, **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info


def refuse(path: Path, mode: Mode, folder: Path, match: str) -> None:
    """Both verbs refuse, and nothing is written."""
    with pytest.raises(DatasetError, match=match):
        check_archive(path, mode)
    with pytest.raises(DatasetError, match=match):
        ingest_archive(path, mode, folder)
    assert not folder.exists()


def facts_of(manifest: Manifest) -> list[tuple[str, str | None, str, str, bytes]]:
    """Give what a manifest says, but for where the files lie."""
    sources = [(item, item.files[Role.TARGET]) for item in manifest.examples]
    return [(item.name, item.caption, source.name, source.sha256, source.path.read_bytes()) for item, source in sources]


def as_tar(make_tar: MakeTar, _: MakeTar, __: Path) -> Path:
    return make_tar(MEMBERS)


def as_packed_tar(make_tar: MakeTar, _: MakeTar, __: Path) -> Path:
    return make_tar(MEMBERS, packed=True)


def as_gnu_tar(make_tar: MakeTar, _: MakeTar, __: Path) -> Path:
    return make_tar(MEMBERS, format_=tarfile.GNU_FORMAT)


def as_folder(_: MakeTar, __: MakeTar, tmp_path: Path) -> Path:
    for name, content in MEMBERS.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "folder"


@pytest.mark.parametrize("pack", [as_tar, as_packed_tar, as_gnu_tar, as_folder])
def test_every_kind_of_archive_gives_the_manifest_that_the_zip_of_the_same_files_gives(
    t2v: Mode, make_tar: MakeTar, make_archive: MakeTar, store: Path, tmp_path: Path, pack: Callable[..., Path]
) -> None:
    expected = ingest_archive(make_archive(MEMBERS), t2v, store)
    path = pack(make_tar, make_archive, tmp_path)
    check_archive(path, t2v)
    found = ingest_archive(path, t2v, store)
    assert [item.name for item in found.examples] == ["a", "b", "more/\u0107"]
    assert facts_of(found) == facts_of(expected)
    assert found.left_out == expected.left_out


@pytest.mark.parametrize("packed", [False, True])
def test_a_second_run_uses_what_is_there(t2v: Mode, make_tar: MakeTar, store: Path, packed: bool) -> None:
    path = make_tar(MEMBERS, packed=packed)
    first = ingest_archive(path, t2v, store)
    before = first.examples[0].files[Role.TARGET].path.stat()
    assert ingest_archive(path, t2v, store) == first
    assert first.examples[0].files[Role.TARGET].path.stat() == before


@pytest.mark.parametrize("name", ["clips.zip", "clips.mp4", "clips"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_tar_is_told_by_its_content(t2v: Mode, make_tar: MakeTar, store: Path, name: str, packed: bool) -> None:
    path = make_tar({"a.mp4": b"1"}, packed=packed)
    assert len(ingest_archive(path.rename(path.with_name(name)), t2v, store).examples) == 1


def test_a_zip_that_is_called_a_tar_is_a_zip(t2v: Mode, make_archive: MakeTar, store: Path) -> None:
    path = make_archive({"a.mp4": b"1"})
    assert len(ingest_archive(path.rename(path.with_name("clips.tar.gz")), t2v, store).examples) == 1


def test_a_tar_that_ends_in_a_zip_is_a_tar(t2v: Mode, make_tar: MakeTar, make_archive: MakeTar, store: Path) -> None:
    inner = make_archive({"inner.mp4": b"1"}).read_bytes()
    path = make_tar({"a.mp4": b"1", "more.zip": inner})
    assert [item.name for item in ingest_archive(path, t2v, store).examples] == ["a"]


def test_a_tar_of_the_first_kind_without_a_mark_is_taken(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    path = make_tar({"a.mp4": b"1"}, format_=tarfile.USTAR_FORMAT)
    block = bytearray(path.read_bytes())
    block[257:265] = bytes(8)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    path.write_bytes(block)
    assert len(ingest_archive(path, t2v, store).examples) == 1


@pytest.mark.parametrize(
    "name", ["../a.mp4", "clips/../../a.mp4", "/etc/a.mp4", "C:/a.mp4", "..\\a.mp4", "__MACOSX/../../a"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_member_that_leads_out_of_the_archive_is_refused_by_name(
    t2v: Mode, make_tar: MakeTar, store: Path, name: str, packed: bool
) -> None:
    path = make_tar({"good.mp4": b"1", name: b"2"}, packed=packed)
    refuse(path, t2v, store, match=r"data\.tar holds '.*', which leads out of the archive")


@pytest.mark.parametrize(
    ("type_", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_a_link_or_device_is_refused_by_name(
    t2v: Mode, make_tar: MakeTar, store: Path, type_: bytes, what: str
) -> None:
    path = make_tar({"good.mp4": b"1", member("odd.mp4", type=type_, linkname="/etc/passwd"): b""})
    refuse(path, t2v, store, match=rf"'odd\.mp4', which is {what}")


def test_a_file_with_holes_is_refused_by_name(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    holes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000000"}
    holes["GNU.sparse.name"] = "holes.mp4"
    path = make_tar({member("x", pax_headers=holes): b"0\n".ljust(512, b"\0")})
    refuse(path, t2v, store, match=r"'holes\.mp4' has holes \(sparse\).* without --sparse")


def test_one_name_twice_is_refused(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    path = make_tar({member("clip/a.mp4"): b"1", member("./clip/a.mp4"): b"2"})
    refuse(path, t2v, store, match=r"holds 'clip/a\.mp4' twice")


def test_a_name_that_is_not_utf_8_is_refused(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    path = make_tar({"gr____n.mp4": b"1"}, format_=tarfile.GNU_FORMAT)
    block = bytearray(path.read_bytes().replace(b"gr____n", b"gr\xfc___n"))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    path.write_bytes(block)
    refuse(path, t2v, store, match="a name that is not UTF-8")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("left", [0.05, 0.3, 0.6, 0.85])
def test_a_truncated_tar_is_refused(t2v: Mode, make_tar: MakeTar, store: Path, left: float, packed: bool) -> None:
    path = make_tar({f"{number}.mp4": bytes(range(256)) * 40 for number in range(5)}, packed=packed)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    refuse(path, t2v, store, match="is a tar that is cut off or damaged")


def test_a_tar_cut_off_between_two_files_is_refused(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    path = make_tar({"a.mp4": b"1" * 512, "b.mp4": b"2" * 512}, format_=tarfile.USTAR_FORMAT)
    path.write_bytes(path.read_bytes()[:1024])
    refuse(path, t2v, store, match="it does not end as a tar does, after 1024 bytes")


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    path = make_tar({"a.mp4": b"1" * 512, "b.mp4": b"2" * 512}, format_=tarfile.USTAR_FORMAT)
    content = bytearray(path.read_bytes())
    content[1024:1030] = b"xxxxxx"
    path.write_bytes(content)
    refuse(path, t2v, store, match="no file begins at byte 1024")


def test_two_tars_joined_are_not_read_as_the_first(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    first = make_tar({"a.mp4": b"1"}).read_bytes()
    path = make_tar({"b.mp4": b"2"})
    path.write_bytes(first + path.read_bytes())
    refuse(path, t2v, store, match="were two tars joined")


def test_damaged_packed_bytes_are_found_by_their_checksum(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    path = make_tar({"a.mp4": b"1"}, packed=True)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    refuse(path, t2v, store, match="CRC check failed")


def test_a_packed_file_that_is_no_tar_is_refused(t2v: Mode, tmp_path: Path, store: Path) -> None:
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(b"this is text" * 100))
    refuse(path, t2v, store, match=r"data\.gz .* is a tar that is cut off or damaged")


@pytest.mark.parametrize(
    ("beginning", "name"),
    [(b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"Rar!\x1a\x07\x01\x00", "RAR"), (b"\xfd7zXZ\x00", "xz"), (b"BZh9", "bzip2")],
)
def test_another_kind_of_archive_is_refused_by_name(
    t2v: Mode, tmp_path: Path, store: Path, beginning: bytes, name: str
) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(beginning + bytes(100))
    refuse(path, t2v, store, match=rf"is packed by {name}, .* a \.zip, \.tar or \.tar\.gz file, or a folder")


def test_a_bomb_of_zeros_is_refused_without_unpacking_it_all(t2v: Mode, tmp_path: Path, store: Path) -> None:
    path = tmp_path / "data.tar.gz"
    with gzip.open(path, "wb", compresslevel=9) as packed:
        packed.write(member("bomb.mp4", size=10**11).tobuf(tarfile.GNU_FORMAT))
        packed.write(bytes(30_000_000))
    began = time.process_time()
    refuse(path, t2v, store, match=r"would unpack from \d+ to more than \d+ bytes, as a bomb does")
    assert time.process_time() - began < 1


def test_more_members_than_the_limit_are_refused(
    t2v: Mode, make_tar: MakeTar, make_archive: MakeTar, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltx_trainer.ingest.archive.MAX_MEMBERS", 2)
    for path in (
        make_tar({"a.mp4": b"", "b.mp4": b"", "c/": b""}),
        make_archive({"a.mp4": b"", "b.mp4": b"", "c/": b""}),
    ):
        refuse(path, t2v, store, match="holds more than 2 files and folders")


def test_a_header_that_would_fill_the_memory_is_refused(t2v: Mode, tmp_path: Path, store: Path) -> None:
    path = tmp_path / "data.tar"
    header = member("x", type=tarfile.XHDTYPE, size=10**11).tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(header + bytes(10_000))
    refuse(path, t2v, store, match=r"is damaged: a header of 1000000\d+ bytes")


def test_a_member_of_less_than_no_bytes_is_refused(t2v: Mode, tmp_path: Path, store: Path) -> None:
    path = tmp_path / "data.tar"
    good = member("a.mp4").tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(good + member("b.mp4", size=-1024).tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    refuse(path, t2v, store, match="-1024 bytes")


def test_more_than_the_limit_in_all_is_refused(t2v: Mode, tmp_path: Path, store: Path) -> None:
    path = tmp_path / "data.tar"
    path.write_bytes(member("a.mp4", size=6 * 10**11).tobuf(tarfile.GNU_FORMAT))
    refuse(path, t2v, store, match="would unpack to 600000000000 bytes or more; an archive may have 500000000000")


def test_a_caption_too_large_to_be_kept_is_read_from_the_archive(t2v: Mode, make_tar: MakeTar, store: Path) -> None:
    path = make_tar({"a.txt": b"w" * 100_000, "a.mp4": b"1"}, packed=True)
    assert ingest_archive(path, t2v, store).examples[0].caption == "w" * 100_000


def test_a_packed_tar_in_any_order_is_gone_through_twice_and_not_once_for_each_file(
    make_tar: MakeTar, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewound: list[int] = []
    rewind = gzip._GzipReader._rewind  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda self: (rewound.append(1), rewind(self)))  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001
    contents = {".txt": b"x" * 20_000, ".wav": b"x" * 20_000, "_mask.json": b"[[1, 2]]" + b" " * 20_000}
    members = {f"{number:03d}{end}": content for number in range(99, -1, -1) for end, content in contents.items()}
    ingest_archive(make_tar(members, packed=True), find_mode(f"{ENDPOINT}audio-inpaint"), store)
    # Once to list it and keep its texts, and once more for the media.
    assert len(rewound) == 1
