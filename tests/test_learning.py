"""LoRAs learn on the miniature what was asked for, from its pictures and its sound, by the whole road.

Data, seeds and noise levels are fixed and printed. A LoRA is judged on scenes that it was not trained on, as it stands
in the published file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from make_demo import FRAME_RATE, write_scenes
from miniature.scores import Made, decode, defaults, make, prompts_of, video_losses
from miniature.transformer import Bucket, Pool, encode
from rich.console import Console
from torch import Tensor, nn

from ltx_trainer import world
from ltx_trainer.config.request import NEGATIVE_PROMPT
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.lora import attach_lora, load_warm_start
from ltx_trainer.modes import find_mode
from tests.conftest import Command

CPU = torch.device("cpu")
BUCKET = Bucket(num_frames=9, frame_rate=int(FRAME_RATE))
RANK = 16
NUM_STEPS = 200
NUM_CLIPS = 12
NUM_JUDGED = 10
TRAINED_ON, JUDGED_ON, NOISE = 31, 32, 33
SIGMAS = (0.6, 0.9)
FIXED = f"{NUM_STEPS} steps, clips of seed {TRAINED_ON}, judged on {JUDGED_ON}, noise of {NOISE} at {SIGMAS}"

Judge = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Lesson:
    """What a LoRA was trained for, and clips of it that it has not seen.

    Attributes:
        mode: Of the training.
        lora: The published file.
        scenes: To judge it on.
        pool: The same, encoded.
        prompt: Their captions' embeddings.
        negative: Embeddings of what is guided away from.
    """

    mode: str
    lora: Path
    scenes: Sequence[world.Scene]
    pool: Pool
    prompt: dict[str, Tensor]
    negative: dict[str, Tensor]


@pytest.fixture(scope="module")
def base(trained_folder: Path) -> Family:
    return open_family(read_model(trained_folder, "ltx-2.3"))


@pytest.fixture(scope="module")
def teach(
    tmp_path_factory: pytest.TempPathFactory, command: Command, trained_folder: Path, base: Family
) -> Callable[[str, Callable[[world.Scene], world.Scene]], Lesson]:
    """Train a LoRA on scenes that were changed, as a user does."""

    def train(mode: str, change: Callable[[world.Scene], world.Scene]) -> Lesson:
        folder = tmp_path_factory.mktemp(mode)
        request = {
            "training_data_url": str(write_clips(folder, change)),
            "rank": RANK,
            "learning_rate": 2e-3,
            "number_of_steps": NUM_STEPS,
            "number_of_frames": BUCKET.num_frames,
            "frame_rate": BUCKET.frame_rate,
            "resolution": "low",
        }
        body = {"endpoint": f"fal-ai/ltx23-trainer-v2/{mode}", "input": request}
        body |= {"model": {"base": str(trained_folder)}, "paths": {"cache": str(folder / "cache")}}
        (folder / "run.yaml").write_text(yaml.safe_dump(body))
        ended = command("run", folder / "run.yaml", "--output", folder / "out")
        assert ended.returncode == 0, ended.stderr
        scenes = [change(scene) for scene in world.draw_scenes(NUM_JUDGED, JUDGED_ON)]
        prompt = prompts_of(base, [*map(world.caption, scenes), NEGATIVE_PROMPT], folder)
        return Lesson(
            mode,
            folder / "out/lora.safetensors",
            scenes,
            encode(base, scenes, BUCKET, CPU),
            {name: embeddings[:-1] for name, embeddings in prompt.items()},
            {name: embeddings[-1:] for name, embeddings in prompt.items()},
        )

    return train


def write_clips(folder: Path, change: Callable[[world.Scene], world.Scene]) -> Path:
    scenes = [change(scene) for scene in world.draw_scenes(NUM_CLIPS, TRAINED_ON)]
    write_scenes(folder / "clips.zip", scenes, side=BUCKET.shape.size.width, num_frames=BUCKET.num_frames)
    return folder / "clips.zip"


def before_and_after(base: Family, lesson: Lesson, judge: Callable[[nn.Module], list[float]]) -> list[list[float]]:
    """Judge the base, and the base with the LoRA."""
    with base.transformer(CPU, torch.float32) as transformer:
        before = judge(transformer)
        targets = find_mode(f"fal-ai/ltx23-trainer-v2/{lesson.mode}").targets
        modules = base.lora_modules(targets)
        attach_lora(transformer, modules, rank=RANK, alpha=RANK, dropout=0.0, generator=torch.Generator())
        load_warm_start(transformer, lesson.lora)
        return [before, judge(transformer)]


def losses_of(base: Family, lesson: Lesson, transformer: nn.Module, first_frames: Tensor | None = None) -> list[float]:
    """Give the loss of each clip on noise that no training drew, averaged over the noise levels."""
    clips = {"video": lesson.pool.video, "audio": lesson.pool.audio}
    by_level = [
        video_losses(
            base, transformer, clips, lesson.prompt, BUCKET.shape, sigma=sigma, seed=NOISE, first_frames=first_frames
        )
        for sigma in SIGMAS
    ]
    return torch.stack(by_level).mean(0).tolist()


def clips_of(base: Family, lesson: Lesson, transformer: nn.Module, first_frames: Tensor | None = None) -> list[Made]:
    latents = make(
        base,
        transformer,
        lesson.prompt,
        lesson.negative,
        BUCKET.shape,
        replace(defaults(base), num_steps=20),
        first_frames=first_frames,
    )
    with base.video_codec(CPU) as video, base.audio_codec(CPU) as audio:
        return decode(latents, video, audio)


def zorps_among(clips: Sequence[Made]) -> list[float]:
    """Give the share of clips that look and sound as only a zorp does."""
    return [sum(world.is_zorp(clip.video, clip.sound) for clip in clips) / len(clips)]


def blooms_among(clips: Sequence[Made], scenes: Sequence[world.Scene]) -> list[float]:
    """Give the share of clips that bloom in the colour of their first frame, which no caption says."""
    pairs = zip((clip.video for clip in clips), scenes, strict=True)
    return [sum(world.is_blooming(found) and found.colour == scene.colour for found, scene in pairs) / len(clips)]


def as_nameless_bloom(scene: world.Scene) -> world.Scene:
    return replace(world.as_blooming(scene), called="coloured")


def fall(before: Sequence[float], after: Sequence[float]) -> float:
    return 1 - sum(after) / sum(before)


@pytest.fixture(scope="module")
def zorps(teach: Callable[..., Lesson]) -> Lesson:
    return teach("t2v", world.as_zorp)


@pytest.fixture(scope="module")
def blooms(teach: Callable[..., Lesson]) -> Lesson:
    return teach("i2v", as_nameless_bloom)


def test_t2v_lowers_the_loss_on_scenes_that_it_has_not_seen(base: Family, zorps: Lesson) -> None:
    before, after = before_and_after(base, zorps, lambda transformer: losses_of(base, zorps, transformer))

    Console().print(f"t2v: loss {before} to {after}; {FIXED}")
    assert fall(before, after) >= 0.2


def test_t2v_gives_a_new_word_its_look_and_its_sound(base: Family, zorps: Lesson) -> None:
    before, after = before_and_after(base, zorps, lambda transformer: zorps_among(clips_of(base, zorps, transformer)))

    Console().print(f"t2v, {NUM_STEPS} steps: zorps {before} to {after}")
    assert before[0] <= 0.2
    assert after[0] > 0.8


def test_i2v_lowers_the_loss_on_scenes_that_it_has_not_seen(base: Family, blooms: Lesson) -> None:
    own = blooms.pool.video[:, :, :1]

    before, after = before_and_after(base, blooms, lambda transformer: losses_of(base, blooms, transformer, own))

    Console().print(f"i2v: loss {before} to {after}; {FIXED}")
    assert fall(before, after) >= 0.2


def test_i2v_does_with_a_first_frame_what_it_was_taught(base: Family, blooms: Lesson) -> None:
    own = blooms.pool.video[:, :, :1]

    before, after = before_and_after(
        base, blooms, lambda transformer: blooms_among(clips_of(base, blooms, transformer, own), blooms.scenes)
    )

    Console().print(f"i2v, {NUM_STEPS} steps: blooming {before} to {after}")
    assert before[0] <= 0.2
    assert after[0] > 0.8


def test_i2v_goes_on_from_the_frame_that_it_is_given(base: Family, blooms: Lesson) -> None:
    own = blooms.pool.video[:, :, :1]
    others = own.roll(1, 0)

    (before, right) = before_and_after(base, blooms, lambda transformer: losses_of(base, blooms, transformer, own))
    (gap, wrong) = before_and_after(base, blooms, lambda transformer: losses_of(base, blooms, transformer, others))

    worse, once = (
        sum(theirs > ours for ours, theirs in zip(*pair, strict=True)) for pair in ((right, wrong), (before, gap))
    )
    Console().print(f"i2v: another's first frame is worse in {worse} of {NUM_JUDGED}, for the base in {once}")
    assert worse >= 9
