"""The whole road from the command line: a zip goes in, a checked LoRA and a preview with sound come out."""

import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from forked import start_command
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ltx_trainer.config import load_settings

Command = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = """
endpoint: fal-ai/ltx23-trainer-v2/t2v
input:
  training_data_url: {archive}
  rank: 8
  number_of_steps: 3
  number_of_frames: 9
  resolution: low
  trigger_phrase: TOK
  validation: [{{prompt: a clip}}, {{prompt: another clip}}]
  validation_number_of_frames: 9
  validation_resolution: low
model: {{base: {base}}}
training: {{checkpoint_interval: 2}}
validation: {{steps: 2, interval: 2}}
paths: {{output: {folder}/out, cache: {folder}/cache}}
"""


class Road:
    """A run that has ended, and where it lies."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder = folder
        self.config = folder / "run.yaml"
        self.output = folder / "out"
        self._command = command

    def go(self, *options: object, stage: str = "run") -> str:
        """Run to a stage, and give what was said."""
        ended = self._command(stage, self.config, *options)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def road(
    tmp_path_factory: pytest.TempPathFactory, command: Command, clip_archive: Path, miniature_folder: Path
) -> Road:
    folder = tmp_path_factory.mktemp("road")
    archive = Path(shutil.copy(clip_archive, folder / "clips.zip"))
    road = Road(folder, command)
    road.config.write_text(CONFIG.format(archive=archive, base=miniature_folder, folder=folder))
    road.said = road.go()  # pyright: ignore[reportAttributeAccessIssue] - told once
    return road


def test_the_run_ends_with_the_hosted_result(road: Road) -> None:
    result = json.loads((road.output / "result.json").read_text())

    assert set(result) == {"lora_file", "config_file", "video"}
    assert result["lora_file"]["file_name"] == "lora.safetensors"
    assert result["video"]["content_type"] == "video/mp4"
    assert json.loads((road.output / "status.json").read_text()) == {"code": 0, "message": "done"}


def test_the_settings_are_saved_whole_and_load_back_equal(road: Road) -> None:
    assert load_settings(road.output / "config.yaml") == load_settings(road.config)


def test_the_lora_has_the_published_layout(road: Road) -> None:
    with safe_open(road.output / "lora.safetensors", "pt") as lora:
        keys, metadata = set(lora.keys()), lora.metadata()

    assert "diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight" in keys
    assert "diffusion_model.transformer_blocks.0.video_to_audio_attn.to_out.0.lora_B.weight" in keys
    assert (metadata["rank"], metadata["trigger_phrase"]) == ("8", "TOK")


def test_there_are_previews_before_during_and_after(road: Road) -> None:
    assert [path.name for path in sorted((road.output / "previews").iterdir())] == [
        "step-000000",
        "step-000002",
        "step-000003",
    ]


def test_a_preview_has_sound_as_long_as_its_pictures(road: Road) -> None:
    for path in (road.output / "previews").rglob("*.mp4"):
        num_items = 2 if path.stem == "all" else 1
        with av.open(path) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert video.average_rate == 24
            assert video.frames == 9 * num_items
            assert audio.duration is not None
            assert audio.time_base is not None
            assert abs(audio.duration * audio.time_base - num_items * 9 / 24) < 1 / 24
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")


def test_the_record_names_every_clip_with_its_caption(road: Road) -> None:
    record = json.loads((road.output / "dataset.json").read_text())

    assert {clip["name"]: clip["caption"] for clip in record["trained_on"]} == {
        f"clip-{index}": f"TOK clip number {index}" for index in range(4)
    }


def test_the_page_shows_every_clip_with_its_caption_and_pictures(road: Road) -> None:
    page = (road.output / "dataset.html").read_text()

    assert all(f"TOK clip number {index}" in page for index in range(4))
    assert page.count("data:image/jpeg;base64,") >= 3 * 4
    assert "There are 4 clips, and 15 to 40 are a good number" in page


def test_a_page_that_is_not_asked_for_is_not_there_but_the_record_is(road: Road, tmp_path: Path) -> None:
    road.go("--output", tmp_path, "--set", "report.dataset_page=false", stage="inspect")

    record = json.loads((tmp_path / "dataset.json").read_text())
    assert [clip["name"] for clip in record["trained_on"]] == [f"clip-{index}" for index in range(4)]
    assert not (tmp_path / "dataset.html").exists()


def test_plain_lines_tell_of_the_steps_where_there_is_no_terminal(road: Road) -> None:
    said = road.said  # pyright: ignore[reportAttributeAccessIssue] - told once

    assert "step 3/3  loss " in said
    assert "loss/audio" in said
    assert "s/step" in said


def test_a_second_run_computes_nothing_and_an_edited_caption_is_encoded_alone(road: Road, tmp_path: Path) -> None:
    again = road.go("--output", tmp_path / "again", stage="prepare")
    edited = tmp_path / "edited.zip"
    with zipfile.ZipFile(road.folder / "clips.zip") as old, zipfile.ZipFile(edited, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"something else" if name == "clip-2.txt" else old.read(name))

    changed = road.go("--output", tmp_path / "out", "--set", f"input.training_data_url={edited}", stage="prepare")

    assert "4 clips and their prompts are encoded already." in again
    assert "8 distinct, 1 to encode" in changed
    assert "Video: 4 clips, 0 to encode" in changed


def test_a_finished_run_said_again_gives_the_same_bytes(road: Road) -> None:
    before = (road.output / "lora.safetensors").read_bytes()

    said = road.go()

    assert "Continuing from step 3" in said
    assert (road.output / "lora.safetensors").read_bytes() == before


def test_inspection_in_the_folder_of_a_finished_run_leaves_the_run_s_own_report(road: Road) -> None:
    before = {name: (road.output / name).read_bytes() for name in ("dataset.json", "dataset.html")}

    said = road.go("--set", "input.trigger_phrase=XX", stage="inspect")

    assert "4 clips of 9 frames" in said
    assert str(road.output / "inspect" / "dataset.html") in said
    assert {name: (road.output / name).read_bytes() for name in before} == before
    record = json.loads((road.output / "inspect" / "dataset.json").read_text())
    assert record["trained_on"][0]["caption"] == "XX clip number 0"


def test_a_refused_run_leaves_the_finished_one_as_it_was(road: Road, command: Command) -> None:
    files = [road.output / name for name in ("config.yaml", "dataset.json", "config.json", "lora.safetensors")]
    before = [path.read_bytes() for path in files]

    ended = command("run", road.config, "--set", "input.rank=16", "--set", "input.trigger_phrase=XX")

    assert ended.returncode == 2
    assert "input.rank: 8 there, 16 here" in ended.stderr
    assert "clips: 4 changed (clip-0, clip-1, clip-2, ...)" in ended.stderr
    assert [path.read_bytes() for path in files] == before


def test_a_run_that_is_told_to_stop_ends_with_143_and_goes_on_from_its_checkpoint(road: Road, tmp_path: Path) -> None:
    arguments = ["train", str(road.config), "--output", str(tmp_path / "out")]
    arguments += ["--set", "input.number_of_steps=2000", "--set", "input.validation=[]"]
    process = start_command(arguments, tmp_path / "stdout.txt", tmp_path / "stderr.txt")
    checkpoints = tmp_path / "out/checkpoints"
    deadline = time.monotonic() + 60
    while not list(checkpoints.glob("step-*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.1)

    process.terminate()
    process.join(timeout=30)

    said = (tmp_path / "stderr.txt").read_text()
    assert process.exitcode == 143, said
    assert "Traceback" not in said
    assert json.loads((tmp_path / "out/status.json").read_text())["code"] == 143
    reached = int(max(checkpoints.glob("step-*.safetensors")).stem.removeprefix("step-"))
    goes_on = road.go(
        *("--output", tmp_path / "out", "--set", "input.validation=[]"),
        *("--set", f"input.number_of_steps={reached + 1}"),
        stage="train",
    )
    assert f"Continuing from step {reached}" in goes_on


def test_a_checkpoint_is_not_continued_on_latents_of_another_encoder(
    road: Road, command: Command, own_miniature: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(road.output, tmp_path / "out"))
    weights = own_miniature / "vae/diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(weights).items()}, weights)

    ended = command("train", road.config, "--output", output, "--set", f"model.base={own_miniature}")

    assert ended.returncode == 2
    assert "encoded clips: 4 changed (clip-0, clip-1, clip-2, ...)" in ended.stderr


def test_the_miniature_is_written_as_an_ordinary_folder_once(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "model"

    assert command("miniature", "ltx-2.3", folder).returncode == 0
    again, unknown = command("miniature", "ltx-2.3", folder), command("miniature", "ltx-9", tmp_path / "other")

    assert (folder / "model_index.json").is_file()
    assert again.returncode == unknown.returncode == 2
    assert "ltx-2.3" in unknown.stderr


def test_the_table_of_modes_names_what_each_one_takes(command: Command) -> None:
    said = command("modes").stdout

    assert all(word in said for word in ("t2v", "i2v", "first_frame_conditioning_p", "image_url", "with_audio"))


def test_help_reads_well(command: Command) -> None:
    said = command("run", "--help").stdout

    assert "CONFIG.yaml" in said
    assert "exit status: 0 done; 2 the config" in said.replace("\n", " ")


def test_what_is_prepared_is_told_at_once_and_without_torch(road: Road) -> None:
    record = json.loads((road.output / "dataset.json").read_text())
    script = (
        "import sys; from ltx_trainer.cli import main; "
        f"code = main(['prepare', {str(road.config)!r}]); "
        "sys.exit(90 if 'torch' in sys.modules else code)"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "clips and their prompts are encoded already." in ended.stderr
    assert json.loads((road.output / "dataset.json").read_text()) == record


def test_a_prepared_run_that_lost_a_tensor_computes_it_again(road: Road) -> None:
    (lost,) = sorted((road.folder / "cache" / "tensors" / "video").rglob("*.safetensors"))[:1]
    content = lost.read_bytes()
    lost.unlink()

    said = road.go(stage="prepare")

    assert "1 to encode" in said
    assert lost.read_bytes() == content
