"""The public path of wrong inputs: the message, the exit status, and that nothing is left half done."""

import base64
import json
import re
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ltx_trainer.cli import main
from tests.download.file_server import FileServer, Served, serving
from tests.families import FIRST_FRAME, LTX23, LTX_VIDEO, both_families, ltx_video_only

Command = Callable[..., subprocess.CompletedProcess[str]]
UNPACKED_SIZE_IN_ENTRY = 24
FLAGS_IN_ENTRY = 8
CONFIG = """
endpoint: {endpoint}
input:
  training_data_url: {archive}
  number_of_frames: 9
  resolution: low
  number_of_steps: 2
model:
  base: {base}
paths:
  output: {folder}/out
  cache: {folder}/cache
"""


@pytest.fixture
def refuse(tmp_path: Path, command: Command, miniature_folder: Path, endpoint: str) -> Callable[..., str]:
    """Run on an archive and give the one message of the refusal."""

    def run(
        archive: Path | str,
        *options: str,
        endpoint: str = endpoint,
        base: Path = miniature_folder,
        stage: str = "run",
    ) -> str:
        config = tmp_path / "run.yaml"
        config.write_text(CONFIG.format(endpoint=endpoint, archive=archive, base=base, folder=tmp_path))
        ended = command(stage, config, *options)
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        *_, message = ended.stderr.split("error: ")
        return message

    return run


@pytest.fixture
def refuse_here(
    tmp_path: Path,
    miniature_folder: Path,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Do what `refuse` does in this process, where it takes no seconds to begin."""
    monkeypatch.setattr("ltx_trainer.cli.handle_signals", lambda: None)

    def run(
        archive: Path | str,
        *options: str,
        endpoint: str = endpoint,
        base: Path = miniature_folder,
        stage: str = "run",
        status: int = 2,
    ) -> str:
        config = tmp_path / "run.yaml"
        config.write_text(CONFIG.format(endpoint=endpoint, archive=archive, base=base, folder=tmp_path))
        assert main([stage, str(config), *options]) == status
        said = capsys.readouterr().err
        assert "Traceback" not in said
        *_, message = said.split("error: ")
        return message

    return run


def half_written(folder: Path) -> list[str]:
    """List what a refused run has left beside its status: nothing but a lock, and whole archives and scans."""
    left = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    whole = {"run.yaml", "out/status.json", "out/.lock", "cache/.lock"}
    return [
        str(path)
        for path in left
        if str(path) not in whole and path.parts[:2] not in {("cache", "archives"), ("cache", "scans")}
    ]


@pytest.fixture
def clip(tmp_path_factory: pytest.TempPathFactory, write_clip: Any) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4")


@pytest.fixture
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "p.png"
    Image.new("RGB", (64, 64), "red").save(path)
    return path


@pytest.fixture
def zipped(tmp_path_factory: pytest.TempPathFactory, write_archive: Any) -> Callable[..., Path]:
    return lambda **members: write_archive(tmp_path_factory.mktemp("zip") / "data.zip", members["of"])


def test_no_archive(refuse: Callable[..., str], tmp_path: Path) -> None:
    assert "absent.zip" in refuse(tmp_path / "absent.zip")
    assert json.loads((tmp_path / "out/status.json").read_text())["code"] == 2


@both_families
def test_an_archive_without_media(refuse_here: Callable[..., str], zipped: Callable[..., Path], tmp_path: Path) -> None:
    message = refuse_here(zipped(of={"notes.pdf": b"x", "a.txt": "a caption"}))

    assert ".pdf" in message
    assert half_written(tmp_path) == []


@both_families
@pytest.mark.parametrize("name", ["../escape.mp4", "/etc/escape.mp4", "a/../../escape.mp4"])
def test_a_member_that_would_leave_the_folder(
    refuse_here: Callable[..., str], zipped: Callable[..., Path], clip: Path, tmp_path: Path, name: str
) -> None:
    message = refuse_here(zipped(of={name: clip, "b.mp4": clip}))

    assert "escape.mp4" in message
    assert not list(tmp_path.rglob("escape*"))
    assert half_written(tmp_path) == []


@both_families
def test_a_bomb_of_10_gigabytes(
    refuse_here: Callable[..., str], zipped: Callable[..., Path], clip: Path, tmp_path: Path
) -> None:
    archive = zipped(of={"a.mp4": clip, **{f"bomb-{index}.mp4": bytes(1000) for index in range(4)}})
    content = bytearray(archive.read_bytes())
    entry = -1
    while (entry := content.find(b"PK\x01\x02", entry + 1)) >= 0:
        struct.pack_into("<I", content, entry + UNPACKED_SIZE_IN_ENTRY, 2_500_000_000)
    archive.write_bytes(content)

    message = refuse_here(archive)

    assert "as a zip bomb does" in message
    assert half_written(tmp_path) == []
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 10**6


@both_families
def test_a_truncated_archive(refuse_here: Callable[..., str], clip_archive: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.zip"
    cut.write_bytes(clip_archive.read_bytes()[:-200])

    message = refuse_here(cut)

    assert "cut.zip" in message
    cut.unlink()
    assert half_written(tmp_path) == []


def test_images_mixed_with_videos(
    refuse: Callable[..., str], zipped: Callable[..., Path], clip: Path, picture: Path
) -> None:
    message = refuse(zipped(of={"a.mp4": clip, "b.png": picture}))

    assert "1 video" in message
    assert "1 image" in message


def test_images_only_for_i2v(refuse: Callable[..., str], zipped: Callable[..., Path], picture: Path) -> None:
    assert "i2v" in refuse(zipped(of={"b.png": picture}), endpoint=FIRST_FRAME[LTX23])


@both_families
def test_every_clip_too_short(refuse_here: Callable[..., str], clip_archive: Path) -> None:
    message = refuse_here(clip_archive, "--set", "input.number_of_frames=25", stage="inspect")

    assert re.search(r"clip-0: has 12 frames at 2[45] fps, 25 are needed", message)
    assert "clip-3" in message


def test_sound_that_one_file_lacks(
    refuse: Callable[..., str], zipped: Callable[..., Path], clip: Path, tmp_path: Path, write_clip: Any
) -> None:
    silent = write_clip(tmp_path / "silent.mp4", with_sound=False)

    message = refuse(zipped(of={"a.mp4": clip, "mute.mp4": silent}), "--set", "input.with_audio=true")

    assert "mute.mp4" in message


@ltx_video_only
def test_sound_of_a_family_that_has_none(refuse_here: Callable[..., str], clip_archive: Path) -> None:
    message = refuse_here(clip_archive, "--set", "input.with_audio=true")

    assert "input.with_audio is not a field of fal-ai/ltx-video-trainer" in message


@both_families
def test_a_caption_that_is_not_utf_8(refuse_here: Callable[..., str], zipped: Callable[..., Path], clip: Path) -> None:
    message = refuse_here(zipped(of={"a.mp4": clip, "a.txt": "caf\xe9".encode("latin-1")}))

    assert "a.txt" in message
    assert "UTF-8" in message


@both_families
@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("input.number_of_frames=90", "Nearest: 89 or 97"),
        ("input.rank=7", "8, 16, 32, 64 or 128"),
        ("trainin.seed=7", "Did you mean training?"),
        ("input.resolution=huge", "'low', 'medium' or 'high'"),
        ("lora.targets=[attn1, attn9]", "LoRA target 'attn9' is not known. Did you mean attn"),
        ("validation.stg_blocks=[28]", "names block 28; this model has blocks 0 to 3"),
        ("input.training_data_url=s3://bucket/clips.zip", "s3://bucket/clips.zip is of no kind that is known"),
        ("input.number_of_steps=true", "number, not true or false"),
    ],
)
def test_a_wrong_setting(refuse_here: Callable[..., str], clip_archive: Path, option: str, answer: str) -> None:
    assert answer in refuse_here(clip_archive, "--set", option)


def test_targets_that_a_silent_run_cannot_train(refuse: Callable[..., str], clip_archive: Path) -> None:
    options = ("--set", "input.with_audio=false", "--set", "lora.targets=[attn1, audio_attn1]")

    assert "'audio_attn1' learns nothing in a silent run" in refuse(clip_archive, *options)


@ltx_video_only
def test_targets_that_a_family_has_not(refuse_here: Callable[..., str], clip_archive: Path) -> None:
    message = refuse_here(clip_archive, "--set", "lora.targets=[attn1, audio_attn1]")

    assert "LoRA target 'audio_attn1' is not known. Did you mean attn1? Known: attn1, attn2, ff." in message


@both_families
def test_a_config_refused_is_told_in_the_status_of_its_folder(
    refuse_here: Callable[..., str], clip_archive: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/status.json").write_text('{"code": 0, "message": "done"}')

    refuse_here(clip_archive, "--set", "input.rank=7")

    assert json.loads((tmp_path / "out/status.json").read_text())["code"] == 2


@pytest.mark.parametrize(
    ("family_name", "component"), [(LTX23, "vocoder"), (LTX_VIDEO, "text_encoder")], indirect=["family_name"]
)
def test_a_model_without_a_component(
    refuse_here: Callable[..., str], clip_archive: Path, own_miniature: Path, component: str
) -> None:
    (own_miniature / component / "config.json").unlink()

    assert component in refuse_here(clip_archive, base=own_miniature)


@both_families
def test_a_validation_image_that_is_not_there(
    refuse_here: Callable[..., str], clip_archive: Path, family_name: str
) -> None:
    item = "input.validation=[{prompt: a fox, image_url: absent.png}]"

    assert "absent.png" in refuse_here(clip_archive, "--set", item, endpoint=FIRST_FRAME[family_name])


def cpu_seconds_of_children() -> float:
    """Tell how long processors have worked for the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@both_families
@pytest.mark.parametrize("option", ["input.rank=7", "input.training_data_url=absent.zip"])
def test_a_refusal_of_config_or_archive_comes_within_a_second_and_without_torch(
    tmp_path: Path, clip_archive: Path, endpoint: str, option: str
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(endpoint=endpoint, archive=clip_archive, base="miniature", folder=tmp_path))
    script = (
        "import sys; from ltx_trainer.cli import main; "
        f"code = main(['run', {str(config)!r}, '--set', {option!r}]); "
        "sys.exit(90 if 'torch' in sys.modules else code)"
    )

    before = cpu_seconds_of_children()
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ended.returncode == 2, ended.stderr
    # Its own work, which other work on the machine hardly adds to; a slow machine is given twice what is promised.
    assert cpu_seconds_of_children() - before < 2


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


NEAR = ("--set", "downloads.allow_private_addresses=true")


@both_families
def test_an_encrypted_archive(refuse_here: Callable[..., str], clip_archive: Path, tmp_path: Path) -> None:
    content = bytearray(clip_archive.read_bytes())
    content[content.rindex(b"PK\x01\x02") + FLAGS_IN_ENTRY] |= 1
    (tmp_path / "secret.zip").write_bytes(content)

    assert "in secret.zip is encrypted. Make the archive again without a password" in refuse_here(
        tmp_path / "secret.zip"
    )


@both_families
def test_a_url_that_answers_with_a_page(refuse_here: Callable[..., str], server: FileServer, tmp_path: Path) -> None:
    server.files["/share/7"] = Served(b"<!DOCTYPE html><title>Sign in</title>", headers={"Content-Type": "text/html"})

    message = refuse_here(server.url("/share/7"), *NEAR)

    assert f"input.training_data_url: {server.url('/share/7')} answers with a web page" in message
    assert not [path for path in (tmp_path / "cache/downloads").rglob("*") if path.is_file() and path.name != ".lock"]


@both_families
def test_a_url_that_redirects_to_a_file(
    refuse_here: Callable[..., str], server: FileServer, clip_archive: Path
) -> None:
    server.files["/a.zip"] = Served(status=302, headers={"Location": clip_archive.as_uri()})

    assert "only http and https are followed" in refuse_here(server.url("/a.zip"), *NEAR)


@both_families
def test_a_url_of_this_machine_unless_it_is_allowed(
    refuse_here: Callable[..., str], server: FileServer, clip_archive: Path
) -> None:
    server.files["/a.zip"] = Served(clip_archive.read_bytes())

    message = refuse_here(server.url("/a.zip"))

    assert "leads to 127.0.0.1" in message
    assert "downloads.allow_private_addresses" in message
    assert server.asked == []


@both_families
def test_a_url_of_too_large_a_file(refuse_here: Callable[..., str], server: FileServer, clip_archive: Path) -> None:
    server.files["/a.zip"] = Served(clip_archive.read_bytes())

    assert "downloads.max_gigabytes" in refuse_here(
        server.url("/a.zip"), *NEAR, "--set", "downloads.max_gigabytes=0.00001"
    )


@both_families
def test_a_url_of_nothing_shows_no_secret_of_it(refuse_here: Callable[..., str], server: FileServer) -> None:
    message = refuse_here(server.url("/a.zip?sig=s3cret").replace("//", "//me:pa55@"), *NEAR)

    assert f"{server.url('/a.zip')} answers 404 Not Found" in message
    assert "s3cret" not in message
    assert "pa55" not in message


@both_families
def test_a_data_uri_that_does_not_decode(refuse_here: Callable[..., str]) -> None:
    assert "does not decode as base64" in refuse_here("data:application/zip;base64,UEsFBgA*")


@both_families
def test_an_image_url_that_answers_with_a_page(
    refuse_here: Callable[..., str], server: FileServer, clip_archive: Path, family_name: str
) -> None:
    server.files["/p.png"] = Served(b"<html><body>Sign in</body></html>")
    item = f"input.validation=[{{prompt: a fox, image_url: '{server.url('/p.png')}'}}]"

    message = refuse_here(clip_archive, "--set", item, *NEAR, endpoint=FIRST_FRAME[family_name])

    assert f"input.validation.0.image_url: {server.url('/p.png')} answers with a web page" in message


def test_a_url_that_stops_half_way_and_the_same_command_that_goes_on(
    tmp_path: Path, server: FileServer, clip_archive: Path, miniature_folder: Path, endpoint: str
) -> None:
    content = clip_archive.read_bytes()
    server.files["/clips.zip"] = Served(content, cuts=[1000, *[0] * 5])
    config = tmp_path / "run.yaml"
    config.write_text(
        CONFIG.format(endpoint=endpoint, archive=server.url("/clips.zip"), base=miniature_folder, folder=tmp_path)
    )
    # The waits of a real run add up to half a minute.
    script = (
        "import sys; from ltx_trainer.cli import main; from ltx_trainer.download import Patience, web; "
        f"web.Patience = lambda: Patience((0.01,) * 5); sys.exit(main(['inspect', {str(config)!r}, *{NEAR!r}]))"
    )
    command = [sys.executable, "-c", script]

    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    went_on = subprocess.run(command, capture_output=True, text=True, check=False)

    assert stopped.returncode == 2, stopped.stderr
    assert f"1000 of {len(content)} of its bytes came. The same command goes on from there" in stopped.stderr
    assert went_on.returncode == 0, went_on.stderr
    assert server.ranges == [None, *["bytes=1000-"] * 6]


@pytest.mark.parametrize("kind", ["data", "folder"])
def test_inputs_of_other_kinds_that_are_not_refused(
    tmp_path: Path, command: Command, clip_archive: Path, miniature_folder: Path, endpoint: str, kind: str
) -> None:
    with zipfile.ZipFile(clip_archive) as archive:
        archive.extractall(tmp_path / "folder")
    sources = {
        "data": f"data:;base64,{base64.b64encode(clip_archive.read_bytes()).decode()}",
        "folder": (tmp_path / "folder").as_uri(),
    }
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(endpoint=endpoint, archive=sources[kind], base=miniature_folder, folder=tmp_path))

    ended = command("inspect", config)

    assert ended.returncode == 0, ended.stderr
    for index in range(4):
        assert f"clip number {index}" in ended.stdout


@both_families
def test_a_folder_that_holds_the_folder_of_the_run(refuse_here: Callable[..., str], clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())

    assert "which the run writes to" in refuse_here(tmp_path)


def test_a_caption_without_its_clip_unless_it_is_skipped(
    refuse_here: Callable[..., str], zipped: Callable[..., Path], clip: Path, tmp_path: Path, command: Command
) -> None:
    message = refuse_here(zipped(of={"a.mp4": clip, "a.txt": "a", "b.txt": "b"}))

    assert "b.txt: is a caption without media" in message
    assert "data.incomplete: skip" in message
    ended = command("inspect", tmp_path / "run.yaml", "--set", "data.incomplete=skip")
    assert ended.returncode == 0, ended.stderr


def test_a_caption_of_a_scene_that_a_video_does_not_have(
    refuse_here: Callable[..., str], zipped: Callable[..., Path], clip: Path
) -> None:
    message = refuse_here(zipped(of={"a.mp4": clip, "a.txt": "a", "a#scene-002.txt": "b"}))

    assert "a#scene-002: has a caption ('a#scene-002.txt') and is no clip: a.mp4 gives a\n" in message


def test_more_than_half_of_the_files_lost_unless_it_is_allowed(
    refuse_here: Callable[..., str], zipped: Callable[..., Path], clip: Path, tmp_path: Path, command: Command
) -> None:
    message = refuse_here(zipped(of={"a.mp4": clip, "b.mp4": b"no video", "c.mp4": b"none either"}))

    assert "2 of 3 media files would be left out" in message
    assert "b.mp4" in message
    ended = command("inspect", tmp_path / "run.yaml", "--set", "data.max_left_out=0.67")
    assert ended.returncode == 0, ended.stderr


def test_images_mixed_with_videos_if_sound_is_required(
    refuse_here: Callable[..., str], zipped: Callable[..., Path], clip: Path, picture: Path
) -> None:
    archive = zipped(of={"a.mp4": clip, "b.png": picture})

    assert "data.mixed: true" in refuse_here(archive)
    assert "images such as 'b.png' have no sound" in refuse_here(
        archive, "--set", "data.mixed=true", "--set", "input.with_audio=true"
    )
