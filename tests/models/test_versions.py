"""Which version of LTX-Video a folder holds, by its configs, by what it says of itself, and by the settings."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ltx_trainer.errors import ModelError
from ltx_trainer.geometry import FrameSize, ScaleFactors
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.readers import READERS
from ltx_trainer.models.versions import SIZES, VERSIONS, Size, candidates, known_names, row_of
from ltx_trainer.modes import MODES
from tests.models.ltx_video_vaes import ARGUMENTS

SMALL = {"num_layers": 28, "attention_head_dim": 64}
LARGE = {"num_layers": 48, "attention_head_dim": 128}
Edit = Callable[[str, Mapping[str, Any]], None]


@pytest.fixture
def folder(ltx_video_folder: Path, tmp_path: Path) -> Path:
    """A copy that says nothing of itself beside the library's files."""
    own = Path(shutil.copytree(ltx_video_folder, tmp_path / "ltx-dev"))
    (own / "ltx_trainer.json").unlink()
    return own


def edit(path: Path, changes: Mapping[str, Any]) -> None:
    said = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**said, **changes}))


@pytest.mark.parametrize(
    ("vae", "transformer", "names"),
    [
        ("0.9.0", SMALL, ("0.9.0",)),
        ("0.9.1", SMALL, ("0.9.1",)),
        ("0.9.5", SMALL, ("0.9.5", "0.9.6-dev")),
        ("0.9.5", LARGE, ("0.9.7-dev", "0.9.8-dev")),
        ("0.9.5", {}, ("0.9.5", "0.9.6-dev")),
        ("0.9.5", {"num_layers": 4, "attention_head_dim": 32}, ("0.9.5", "0.9.6-dev", "0.9.7-dev", "0.9.8-dev")),
        ("0.9.0", LARGE, ()),
    ],
)
def test_configs_allow_versions(vae: str, transformer: dict[str, int], names: tuple[str, ...]) -> None:
    found = candidates(transformer, ARGUMENTS[vae], causal=None)

    assert tuple(name for row in found for name in row.names) == names


def test_the_oldest_folder_says_next_to_nothing_of_its_vae() -> None:
    (row,) = candidates({}, {"block_out_channels": [128, 256, 512, 512]}, causal=None)

    assert row.names == ("0.9.0",)


def test_the_table_is_what_was_published() -> None:
    rows = {name: row_of(name) for name in known_names()}

    assert [*rows] == ["0.9.0", "0.9.1", "0.9.5", "0.9.6-dev", "0.9.7-dev", "0.9.8-dev"]
    assert [row.causal for row in rows.values()] == [False, False, True, True, True, True]
    assert [row.num_steps for row in rows.values()] == [40, 40, 40, 40, 30, 30]
    large = rows["0.9.8-dev"].guided
    assert [(level.cfg, level.stg, level.rescale) for level in large] == [
        (1, 0, 1),
        (1, 0, 1),
        (6, 4, 0.5),
        (8, 4, 0.5),
        (6, 4, 1),
        (1, 2, 1),
        (1, 1, 1),
    ]
    assert [level.down_to for level in large] == [1.0, 0.996, 0.9933, 0.985, 0.9767, 0.9008, 0]
    assert all(row.guided[-1].down_to == 0 for row in VERSIONS)
    assert set(SIZES.values()) == {row.size for row in VERSIONS}


def test_the_miniature_says_what_it_is(
    ltx_video: Family, ltx_video_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        facts = read_model(ltx_video_folder, "ltx-video")

    assert facts.version == "0.9.6-dev"
    assert facts.name == "miniature ltx-video-random"
    assert (facts.factors, facts.video_channels, facts.num_blocks) == (ScaleFactors(4, 8, 8), 16, 4)
    assert facts.max_text_tokens == 64
    assert facts.audio is None
    assert facts.resolutions["low"]["1:1"] == FrameSize(64, 64)
    assert caplog.messages == []
    assert ltx_video.sampling.stg_blocks == (3,)
    assert (ltx_video.sampling.num_steps, ltx_video.sampling.levels) == (40, ())
    ltx_video.check_weights()


def test_a_version_that_is_left_open_is_asked_for(folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"does not say which version .* Set model\.version to one of 0\.9\.5, .*0\.9\.8-dev"
    ):
        read_model(folder, "ltx-video")

    assert read_model(folder, "ltx-video", version="0.9.8-dev").version == "0.9.8-dev"
    edit(folder / "ltx_trainer.json", {"version": "0.9.7-dev"})
    assert read_model(folder, "ltx-video").version == "0.9.7-dev"
    assert read_model(folder, "ltx-video", version="0.9.5").version == "0.9.5"


def test_versions_that_nothing_tells_apart_need_no_setting(folder: Path) -> None:
    edit(folder / "transformer/config.json", SMALL)

    facts = read_model(folder, "ltx-video")

    assert facts.version == "0.9.5 or 0.9.6-dev"
    assert open_family(facts).sampling.num_steps == 40
    assert facts.resolutions["high"]["16:9"] == FrameSize(960, 544)


@pytest.mark.parametrize(("asked", "said"), [("0.9.1", None), ("0.9.6", None), (None, "0.9.0")])
def test_a_version_that_the_configs_deny_is_refused(folder: Path, asked: str | None, said: str | None) -> None:
    if said:
        edit(folder / "ltx_trainer.json", {"version": said})

    with pytest.raises(
        ModelError, match=r"says 0\.9\.\d, and the transformer and the video VAE in .* are those of 0\.9\.5, "
    ):
        read_model(folder, "ltx-video", version=asked)


def test_large_models_are_guided_by_noise_level(folder: Path) -> None:
    family = open_family(read_model(folder, "ltx-video", version="0.9.8-dev"))
    sampling = family.sampling

    assert sampling.fits_negative
    assert [level.stg_blocks for level in sampling.levels] == [(), (3,), (3,), (3,), (3,), (3,)]
    assert (sampling.scales["video"].cfg, sampling.scales["video"].stg) == (1, 1)


def test_a_folder_without_ratios_has_those_of_its_stages(folder: Path) -> None:
    config = json.loads((folder / "vae/config.json").read_text())
    for name in ("spatial_compression_ratio", "temporal_compression_ratio"):
        del config[name]
    (folder / "vae/config.json").write_text(json.dumps(config))

    assert read_model(folder, "ltx-video", version="0.9.5").factors == ScaleFactors(4, 8, 8)


def test_another_family_is_refused_both_ways(folder: Path, miniature_folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"holds a model of LTX2Pipeline; this mode trains LTX-Video, which is an LTXPipe"
    ):
        read_model(miniature_folder, "ltx-video")
    with pytest.raises(ModelError, match=r"holds a model of LTXConditionPipeline; this mode trains LTX-2\.3"):
        read_model(folder, "ltx-2.3")
    with pytest.raises(ModelError, match=r"model\.version says 0\.9\.5, and .* is LTX-2\.3\. Leave model\.version out"):
        read_model(miniature_folder, "ltx-2.3", version="0.9.5")
    with pytest.raises(ModelError, match=r"family 'sora' is not known\. Known: ltx-2\.3, ltx-video\."):
        read_model(folder, "sora")


@pytest.mark.parametrize(
    "lost",
    [
        "vae/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(folder: Path, lost: str) -> None:
    (folder / lost).unlink()

    with pytest.raises(ModelError, match=rf"lacks {lost}\. An LTX-Video folder holds .*transformer, vae, text_encoder"):
        read_model(folder, "ltx-video", version="0.9.5")


def test_a_distilled_folder_is_refused(folder: Path) -> None:
    edit(folder / "transformer/config.json", {"_name_or_path": "LTX-Video-0.9.7-distilled"})

    with pytest.raises(ModelError, match="unsuitable as a training base: its name says distilled"):
        read_model(folder, "ltx-video", version="0.9.7-dev")


def test_a_model_of_which_nobody_says_whether_it_is_the_full_one_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions of one row differ by their weights alone, and distilled models from them likewise."""
    plain = folder.rename(folder.with_name("ltx"))
    config = json.loads((plain / "transformer/config.json").read_text())
    monkeypatch.setitem(SIZES, (config["num_layers"], config["attention_head_dim"]), Size.SMALL)

    assert read_model(plain, "ltx-video", version="0.9.5").version == "0.9.5"
    assert caplog.text == ""
    assert read_model(plain, "ltx-video").version == "0.9.5 or 0.9.6-dev"
    assert "does not say whether it is the full (dev) or a distilled model" in caplog.text


def test_every_family_of_a_mode_has_a_reader() -> None:
    assert {mode.family for mode in MODES} <= READERS.keys()
