"""Archives as people really have them, and worse: each with what must come of it.

A cell is a function that makes one archive, or a folder, and what is expected: the names of its examples, those of what
is left out, or the message that it is refused with. What an archive must never do is asked of every cell: a refusal
writes nothing, an archive that is taken is extracted to plain files in the cache, and a second look gives the same.
"""

import gzip
import io
import os
import stat
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ltx_trainer.artifacts import Role
from ltx_trainer.errors import DatasetError, MediaError
from ltx_trainer.ingest import check_archive, ingest_archive
from ltx_trainer.media import scan_video
from ltx_trainer.modes import Mode

Make = Callable[[Path], Path]
Members = Mapping[str | zipfile.ZipInfo, bytes]

DIRECTORY_ENTRY, LOCAL_ENTRY, LAST_ENTRY = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
PAGE = b"<!DOCTYPE html><html><body>Sign in to download</body></html>"
GOOD: Members = {"good.mp4": b"1", "good.txt": b"words"}


@dataclass(frozen=True)
class Cell:
    """One archive and what must come of it.

    Attributes:
        make: Makes it in an empty folder.
        refused: What the message of its refusal matches; empty where it is taken.
        examples: Names of its examples.
        left_out: Parts of the names and reasons of what is left out, in their order.
    """

    make: Make
    refused: str = ""
    examples: tuple[str, ...] = ("good",)
    left_out: tuple[str, ...] = ()


def packed(members: Members, *, method: int = zipfile.ZIP_STORED, name: str = "data.zip") -> Make:
    """Make a zip."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w", method) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return folder / name

    return make


def beside(*names: str, **contents: bytes) -> Make:
    """Make a zip of a good example and other members."""
    return packed({**GOOD, **dict.fromkeys(names, b"2"), **contents})


def typed(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def changed(make: Make, change: Callable[[bytes], bytes]) -> Make:
    """Change the bytes of an archive."""

    def again(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return again


def patched(make: Make, signature: bytes, offset: int, format_: str, value: int) -> Make:
    """Overwrite a field of the last header that has a signature."""

    def patch(content: bytes) -> bytes:
        patched = bytearray(content)
        struct.pack_into(format_, patched, patched.rindex(signature) + offset, value)
        return bytes(patched)

    return changed(make, patch)


def file_of(content: bytes, name: str = "data.zip") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def renamed(make: Make, name: str) -> Make:
    def again(folder: Path) -> Path:
        path = make(folder)
        return path.rename(path.with_name(name))

    return again


def tarred(
    members: Mapping[str | tarfile.TarInfo, bytes], *, mode: str = "w", format_: int = tarfile.PAX_FORMAT
) -> Make:
    """Make a tar."""

    def make(folder: Path) -> Path:
        with tarfile.open(folder / "data.tar", mode, format=format_) as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
            for named, content in members.items():
                info = tarfile.TarInfo(named) if isinstance(named, str) else named
                info.size = info.size or len(content)
                archive.addfile(info, io.BytesIO(content))
        return folder / "data.tar"

    return make


def of_tar(name: str, **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info


def laid(arrange: Callable[[Path], object] = lambda _: None, members: Mapping[str, bytes] | None = None) -> Make:
    """Make a folder of a good example and more."""

    def make(folder: Path) -> Path:
        for name, content in {"good.mp4": b"1", "good.txt": b"words", **(members or {})}.items():
            path = folder / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        arrange(folder / "data")
        return folder / "data"

    return make


def streamed(folder: Path) -> Path:
    """Make a zip as it comes through a pipe: sizes follow the content."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in GOOD.items():
            archive.writestr(name, content)
    (folder / "data.zip").write_bytes(pipe.getvalue())
    return folder / "data.zip"


def large(folder: Path) -> Path:
    """Make a zip with the headers of files above 4 GB."""
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for name, content in GOOD.items():
            with archive.open(str(name), "w", force_zip64=True) as member:
                member.write(content)
    return folder / "data.zip"


def overlapping(folder: Path) -> Path:
    """Make a zip of which two entries share their bytes, as the bombs that quote each other do."""
    path = packed({"a.mp4": bytes(1000), "b.mp4": bytes(1000)}, method=zipfile.ZIP_DEFLATED)(folder)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rindex(DIRECTORY_ENTRY) + 42, 0)
    path.write_bytes(content)
    return path


def as_zip(members: Members, folder: Path) -> bytes:
    return packed(members, name="inner.zip")(folder).read_bytes()


def nested(folder: Path) -> Path:
    inner = as_zip({"inner.mp4": b"1"}, folder)
    return packed({**GOOD, "more.zip": inner, "part.tar.gz": gzip.compress(inner)})(folder)


def only_nested(folder: Path) -> Path:
    return packed({"clips.zip": as_zip(GOOD, folder), "__MACOSX/._clips.zip": b"junk"})(folder)


def tar_twice(folder: Path) -> Path:
    first = tarred({"a.mp4": b"1"})(folder).read_bytes()
    path = tarred({"b.mp4": b"2"})(folder)
    path.write_bytes(first + path.read_bytes())
    return path


def bomb(folder: Path) -> Path:
    with gzip.open(folder / "data.tar.gz", "wb", compresslevel=9) as file:
        file.write(of_tar("bomb.mp4", size=10**11).tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(20_000_000))
    return folder / "data.tar.gz"


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


LONG = "x" * 296
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
OUT = "which leads out of the archive"
CUT = "is no archive, or one that is cut off|is a zip that is cut off or damaged"

CELLS: dict[str, Cell] = {
    # What is dangerous.
    "a path upwards": Cell(beside("../a.mp4"), OUT),
    "a path upwards from a folder": Cell(beside("x/../../a.mp4"), OUT),
    "an absolute path": Cell(beside("/etc/a.mp4"), OUT),
    "a path with a drive": Cell(beside("C:\\a.mp4"), OUT),
    "a path to a share": Cell(beside("\\\\host\\a.mp4"), OUT),
    "a path upwards among junk": Cell(beside("__MACOSX/../../._a"), OUT),
    "a link in a zip": Cell(
        packed({**GOOD, typed("odd.mp4", stat.S_IFLNK | 0o777): b"/etc/passwd"}), "'odd.mp4', which is a link"
    ),
    "a device in a zip": Cell(packed({**GOOD, typed("odd.mp4", stat.S_IFCHR): b""}), "which is a device"),
    "a password": Cell(patched(beside("secret.mp4"), DIRECTORY_ENTRY, 8, "<H", 1), "'secret.mp4' .* is encrypted"),
    "deflate64, as Windows packs above 2 GB": Cell(
        patched(beside("odd.mp4"), DIRECTORY_ENTRY, 10, "<H", 9), "packed by method 9"
    ),
    "a bomb of zeros": Cell(packed({"bomb.mp4": bytes(12_000_000)}, method=zipfile.ZIP_DEFLATED), "as a zip bomb does"),
    "a bomb of shared bytes": Cell(overlapping, r"Overlapped entries|is damaged"),
    "a packed tar that is a bomb": Cell(bomb, "as a bomb does"),
    # What is damaged.
    "no bytes": Cell(file_of(b""), r"\(0 bytes\) is no archive"),
    "the first half of a zip": Cell(changed(beside("a.mp4"), half), CUT),
    "a zip without its directory": Cell(changed(beside("a.mp4"), lambda it: it[: it.index(DIRECTORY_ENTRY)]), CUT),
    "a zip without its last byte": Cell(changed(beside("a.mp4"), lambda it: it[:-1]), CUT),
    "a wrong checksum": Cell(
        changed(beside(**{"b.mp4": b"sound bytes"}), lambda it: it.replace(b"sound", b"wrong")),
        "'b.mp4' .* is damaged: Bad CRC",
    ),
    "a size that is not so": Cell(
        patched(packed({"a.mp4": bytes(9999)}, method=zipfile.ZIP_DEFLATED), DIRECTORY_ENTRY, 24, "<I", 10),
        "'a.mp4' .* is damaged",
    ),
    "one of several volumes": Cell(
        patched(beside("a.mp4"), LAST_ENTRY, 4, "<H", 1), r"is the last of 2 volumes of a zip\. Join them"
    ),
    "another name in the header of a file": Cell(
        changed(beside("a.mp4"), lambda it: it.replace(b"a.mp4", b"b.mp4", 1)), "'a.mp4' .* is damaged"
    ),
    "a tar cut off": Cell(changed(tarred({"a.mp4": bytes(9999)}), half), "is a tar that is cut off or damaged"),
    "a packed tar cut off": Cell(
        changed(tarred({"a.mp4": os.urandom(9999)}, mode="w:gz"), half), "is a tar that is cut off or damaged"
    ),
    "a packed tar with a wrong checksum": Cell(
        changed(tarred({"a.mp4": b"1"}, mode="w:gz"), lambda it: it[:-8] + b"\0" * 8), "CRC check failed"
    ),
    "two tars joined": Cell(tar_twice, "were two tars joined"),
    # What is no archive that is taken.
    "a page that asks to sign in": Cell(file_of(PAGE), "is no archive"),
    "a video in the place of an archive": Cell(file_of(b"\0\0\0\x18ftypmp42" + bytes(600)), "is no archive"),
    "7-Zip": Cell(file_of(b"7z\xbc\xaf\x27\x1c" + bytes(99)), "is packed by 7-Zip"),
    "RAR": Cell(file_of(b"Rar!\x1a\x07\x01\x00" + bytes(99)), "is packed by RAR"),
    "bzip2": Cell(tarred(GOOD, mode="w:bz2"), "is packed by bzip2"),  # pyright: ignore[reportArgumentType]
    "xz": Cell(tarred(GOOD, mode="w:xz"), "is packed by xz"),  # pyright: ignore[reportArgumentType]
    "Zstandard": Cell(file_of(b"\x28\xb5\x2f\xfd" + bytes(99)), "is packed by Zstandard"),
    "a packed text": Cell(file_of(gzip.compress(b"text" * 200)), "is a tar that is cut off or damaged"),
    # What is ambiguous, or nothing.
    "no files": Cell(packed({}), "Found: nothing, it is empty"),
    "nothing but junk": Cell(packed({"__MACOSX/._a.mp4": b"1", ".DS_Store": b"2", "Thumbs.db": b"3"}), "it is empty"),
    "nothing but captions": Cell(packed({"a.txt": b"words", "b.txt": b"more"}), r"Found: 2 x \.txt"),
    "nothing but an archive": Cell(only_nested, r"Found: 1 x \.zip.*Unpack"),
    "one name twice": Cell(packed({"x/a.mp4": b"1", "x//a.mp4": b"2"}), "holds 'x/a.mp4' twice"),
    "one name twice in Unicode": Cell(packed({"caf\u00e9.mp4": b"1", "cafe\u0301.mp4": b"2"}), "twice"),
    "one base name with two extensions": Cell(
        packed({"a.mp4": b"1", "a.mov": b"2"}), "'a.mp4' and 'a.mov' claim the same place"
    ),
    "one name in two cases": Cell(packed({"a.mp4": b"1", "a.MP4": b"2"}), "'a.mp4' and 'a.MP4' claim the same place"),
    "two captions in two cases": Cell(packed({"a.mp4": b"1", "a.txt": b"2", "a.TXT": b"3"}), "claim the same place"),
    "images among videos": Cell(packed({"a.mp4": b"1", "b.png": b"2"}), "a run takes one of the two"),
    "a caption in UTF-16": Cell(packed({"a.mp4": b"1", "a.txt": "words".encode("utf-16")}), "'a.txt' is not UTF-8"),
    "a caption of megabytes": Cell(packed({"a.mp4": b"1", "a.txt": b"w" * 1_200_000}), "a caption has at most"),
    # What is taken.
    "what macOS and Windows leave": Cell(
        beside("__MACOSX/._good.mp4", "._good.mp4", ".DS_Store", "x/Thumbs.db", "desktop.ini")
    ),
    "a leading dash": Cell(packed({"-h5KF-Scene-002.mp4": b"1"}), examples=("-h5KF-Scene-002",)),
    "spaces and dots": Cell(packed({" a  clip. 2.mp4": b"1", " a  clip. 2.txt": b"words"}), examples=(" a  clip. 2",)),
    "emoji": Cell(packed({f"{FAMILY}.mp4": b"1", f"{FAMILY}.txt": b"words"}), examples=(FAMILY,)),
    "code page 437": Cell(
        changed(packed({"gr___n.mp4": b"1"}), lambda it: it.replace(b"gr___n", b"gr\x81__n")), examples=("gr\u00fc__n",)
    ),
    "UTF-8 that is not declared": Cell(
        changed(packed({"gr___n.mp4": b"1"}), lambda it: it.replace(b"gr___n", b"gr\xc3\xbc_n")),
        examples=("gr\u00fc_n",),
    ),
    "Shift-JIS that is not declared": Cell(
        changed(packed({"____.mp4": b"1"}), lambda it: it.replace(b"____", b"\x94\x4c\x94\x4c")),
        examples=("\u00f6L\u00f6L",),
    ),
    "300 characters": Cell(packed({f"{LONG}.mp4": b"1", f"{LONG}.txt": b"words"}), examples=(LONG,)),
    "300 characters in a tar": Cell(tarred({f"{LONG}.mp4": b"1"}), examples=(LONG,)),
    "a hundred folders": Cell(
        packed({f"top/{'x/' * 100}a.mp4": b"1", "top/b.mp4": b"2"}), examples=("b", f"{'x/' * 100}a")
    ),
    "what Windows does not take as a name": Cell(packed({'con?:"<|>*.mp4': b"1"}), examples=('con?:"<|>*',)),
    "a break and an escape in a name": Cell(packed({"a\n\x1b[31mb.mp4": b"1"}), examples=("a\n\x1b[31mb",)),
    "extensions in upper case": Cell(packed({"CLIP.MP4": b"1", "CLIP.TXT": b"words"}), examples=("CLIP",)),
    "one folder around everything": Cell(
        packed({"set/": b"", "set/a.mp4": b"1", "set/x/b.mp4": b"2"}), examples=("a", "x/b")
    ),
    "two folders around everything": Cell(packed({"set/set/a.mp4": b"1"}), examples=("set/a",)),
    "one base name in two folders": Cell(packed({"x/a.mp4": b"1", "y/a.mp4": b"2"}), examples=("x/a", "y/a")),
    "backslashes": Cell(packed({"x\\a.mp4": b"1", "y\\a.mp4": b"2"}), examples=("x/a", "y/a")),
    "archives in an archive": Cell(
        nested, left_out=("more.zip: .zip files are not used", "part.tar.gz: .gz files are not used")
    ),
    "zip64": Cell(large),
    "10,000 entries": Cell(
        beside(*(f"{folder}/{number:04d}.txt" for folder in ("x", "__MACOSX") for number in range(5000))),
        left_out=tuple(f"x/{number:04d}.txt: is a caption without media" for number in range(5000)),
    ),
    "a zip that came through a pipe": Cell(streamed),
    "a program before the zip": Cell(changed(packed(GOOD), lambda it: b"MZ" + bytes(500) + it)),
    "a comment behind the zip": Cell(changed(packed(GOOD), lambda it: it[:-2] + b"\x05\x00hello")),
    "bzip2 and LZMA within a zip": Cell(packed(GOOD, method=zipfile.ZIP_LZMA)),
    "a tar that is called a zip": Cell(renamed(tarred(GOOD), "data.zip")),  # pyright: ignore[reportArgumentType]
    "a zip without an extension": Cell(packed(GOOD, name="data")),
    "what is no media": Cell(beside("a.webp2", "LICENSE", "notes.pdf"), left_out=("LICENSE", "a.webp2", "notes.pdf")),
    "orphans": Cell(beside("lost.txt"), left_out=("lost.txt: is a caption without media",)),
    # Tars and folders.
    "a link in a tar": Cell(
        tarred({"good.mp4": b"1", of_tar("odd.mp4", type=tarfile.SYMTYPE, linkname="good.mp4"): b""}), "which is a link"
    ),
    "a hard link in a tar": Cell(
        tarred({"good.mp4": b"1", of_tar("odd.mp4", type=tarfile.LNKTYPE, linkname="good.mp4"): b""}), "which is a link"
    ),
    "a path upwards in a tar": Cell(tarred({"good.mp4": b"1", "../a.mp4": b"2"}), OUT),
    "links in a folder": Cell(laid(lambda it: (it / "x.mp4").symlink_to(it / "good.mp4")), examples=("good", "x")),
    "a link to nowhere in a folder": Cell(
        laid(lambda it: (it / "x.mp4").symlink_to("gone.mp4")), "'x.mp4', a link that leads to no file"
    ),
    "a link to its own folder": Cell(laid(lambda it: (it / "x").symlink_to(it)), "a link to a folder"),
    "a pipe in a folder": Cell(laid(lambda it: os.mkfifo(it / "x.mp4")), "a device, socket or pipe"),
    "hidden files in a folder": Cell(laid(members={".git/a.mp4": b"2", ".b.mp4": b"3"})),
    "a name in a folder that is not UTF-8": Cell(
        laid(lambda it: (it / os.fsdecode(b"gr\xfcn.mp4")).write_bytes(b"2")), "not UTF-8"
    ),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


def test_there_are_sixty_cells_and_more_than_a_third_are_taken() -> None:
    taken = [name for name, cell in CELLS.items() if not cell.refused]

    assert len(CELLS) >= 60
    assert len(taken) > len(CELLS) / 3


@pytest.mark.parametrize("name", CELLS)
def test_an_archive_is_taken_whole_or_refused_by_name(t2v: Mode, place: Path, store: Path, name: str) -> None:
    cell = CELLS[name]
    path = cell.make(place)
    around = {entry for entry in place.parent.rglob("*") if not entry.is_relative_to(store)}
    if cell.refused:
        with pytest.raises(DatasetError, match=rf"(?s){cell.refused}"):
            ingest_archive(path, t2v, store)
        assert not store.exists() or not list((store / "archives").iterdir())
    else:
        check_archive(path, t2v)
        manifest = ingest_archive(path, t2v, store)
        sources = [example.files[Role.TARGET] for example in manifest.examples]

        assert tuple(example.name for example in manifest.examples) == cell.examples
        assert len(manifest.left_out) == len(cell.left_out)
        for item, told in zip(manifest.left_out, cell.left_out, strict=True):
            assert f"{item.name}: {item.reason}".startswith(told)
        for source in sources:
            assert source.path.is_file()
            assert source.path.is_relative_to(path if path.is_dir() else store)
            assert path.is_dir() or (not source.path.is_symlink() and source.path.name.isprintable())
        assert ingest_archive(path, t2v, store) == manifest
    assert {entry for entry in place.parent.rglob("*") if not entry.is_relative_to(store)} == around


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty: 0 bytes"),
        (b"this is text, whatever its name says", "a.mp4"),
        (PAGE, "a.mp4"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a.mp4"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_taken_from_the_archive_and_refused_by_name_where_it_is_decoded(
    t2v: Mode, place: Path, store: Path, content: bytes, told: str
) -> None:
    (example,) = ingest_archive(packed({"a.mp4": content})(place), t2v, store).examples

    with pytest.raises(MediaError, match=told):
        scan_video(example.files[Role.TARGET].path, find_cuts=False)


def test_names_in_the_order_of_two_systems_are_one(t2v: Mode, place: Path, store: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    (example,) = ingest_archive(packed({f"{apart}.mp4": b"1", f"{composed}.txt": b"words"})(place), t2v, store).examples

    assert (example.name, example.caption) == (composed, "words")
