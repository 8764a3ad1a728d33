"""The miniature as an ordinary folder of diffusers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import LTX2Pipeline
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ltx_trainer.errors import ConfigError, ModelError, OutOfResources
from ltx_trainer.models.miniature import TRAINED_LTX23, random_ltx23, trained_ltx23, write_miniature
from ltx_trainer.tensorfile import write_tensors

Edit = Callable[[dict[str, Tensor], dict[str, str]], object]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_the_same_to_the_byte_every_time(miniature_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(77)

    write_miniature("ltx-2.3-random", tmp_path / "again")

    assert contents(tmp_path / "again") == contents(miniature_folder)


def test_it_is_small(miniature_folder: Path) -> None:
    assert sum(map(len, contents(miniature_folder).values())) < 24e6


def test_writing_it_draws_nothing_from_the_callers_randomness(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    write_miniature("ltx-2.3-random", tmp_path / "miniature")

    assert torch.equal(torch.rand(3), expected)


def test_it_runs_in_the_librarys_own_pipeline(miniature_folder: Path) -> None:
    pipeline = LTX2Pipeline.from_pretrained(miniature_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    frames, sound = pipeline(
        prompt="a red ball",
        height=64,
        width=64,
        num_frames=9,
        frame_rate=24.0,
        num_inference_steps=2,
        max_sequence_length=32,
        guidance_scale=3.0,
        stg_scale=1.0,
        modality_scale=3.0,
        spatio_temporal_guidance_blocks=[3],
        output_type="pt",
        return_dict=False,
        generator=torch.Generator().manual_seed(0),
    )

    assert frames.shape == (1, 9, 3, 64, 64)
    assert sound.shape[:2] == (1, 2)
    assert sound.isfinite().all()


def test_it_does_not_write_over_anything(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")

    with pytest.raises(ModelError, match=r"is not empty\. Name a folder that does not exist yet"):
        write_miniature("ltx-2.3", tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_it_fills_an_empty_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    write_miniature("ltx-2.3-random", tmp_path / "empty")

    assert (tmp_path / "empty/model_index.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_full_disk_leaves_nothing_and_is_told_from_a_bug(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(1024)

    with pytest.raises(OutOfResources, match=r"No space left on the disk of .* while writing miniature"):
        write_miniature("ltx-2.3", disk / "miniature")

    assert list(disk.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, read_only_disk: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="miniature cannot be written: Read-only file system"):
        write_miniature("ltx-2.3", read_only_disk / "miniature")
    with pytest.raises(ConfigError, match="file cannot be written: File exists"):
        write_miniature("ltx-2.3", tmp_path / "file/miniature")


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no miniature of 'sora'\. Known: ltx-2\.3, ltx-2\.3-random"):
        write_miniature("sora", tmp_path / "miniature")

    assert not (tmp_path / "miniature").exists()


def test_it_has_the_weights_and_the_statistics_of_the_packages_file() -> None:
    weights = load_file(TRAINED_LTX23)

    trained, random = trained_ltx23(), random_ltx23()

    for component in ("vae", "audio_vae"):
        state, other = (getattr(pipeline, component).state_dict() for pipeline in (trained, random))
        for key in ("latents_mean", "latents_std", "encoder.conv_in.conv.weight"):
            assert torch.equal(state[key], weights[f"{component}.{key}"].float())
            assert not torch.equal(state[key], other[key])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors, _: tensors.pop("vae.latents_std"), r"vae\.latents_std is absent in it, and \[16\] here"),
        (
            lambda tensors, _: tensors.update({"vocoder.vocoder.conv_in.bias": torch.zeros(5)}),
            r"vocoder\.vocoder\.conv_in\.bias is \[5\] in it, and \[96\] here",
        ),
        (
            lambda tensors, _: tensors.update({"vae.extra": torch.zeros(5)}),
            r"vae\.extra is \[5\] in it, and absent here",
        ),
        (lambda _, metadata: metadata.pop("vocabulary"), "has no vocabulary in its metadata"),
    ],
)
def test_weights_that_were_made_for_other_classes_are_refused(tmp_path: Path, edit: Edit, message: str) -> None:
    tensors = load_file(TRAINED_LTX23)
    with safe_open(TRAINED_LTX23, "pt") as opened:
        metadata = opened.metadata()
    edit(tensors, metadata)
    write_tensors(tmp_path / "other.safetensors", tensors, metadata)

    with pytest.raises(ModelError, match=rf"other\.safetensors .*{message}\. Install the package again, or train"):
        trained_ltx23(tmp_path / "other.safetensors")


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(TRAINED_LTX23.read_bytes()[:100_000])

    for name in ("cut", "missing"):
        with pytest.raises(ModelError, match=rf"{name}\.safetensors cannot be read: .*\. Install the package again"):
            trained_ltx23(tmp_path / f"{name}.safetensors")
