"""Every setting of a run: the hosted request, the base model, and what the engine adds to both."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from packaging.version import InvalidVersion, Version
from pydantic import Field, field_validator, model_validator

from ltx_trainer import __version__
from ltx_trainer.config.request import Request, Section, request_problem
from ltx_trainer.modes import Mode, find_mode

CAPTIONS_PROMPT = (
    "The pictures are frames of one short clip, in the order of time. Describe the clip in one paragraph of at most "
    "100 words, in plain English and the present tense: who or what is seen and how it looks, what happens and how it "
    "moves, the place, the light, the colours and the style, and how the camera is held or moves. Name only what can "
    "be seen. Do not speak of pictures, frames, clips or videos. Begin with the description itself."
)
"""Asks for what a caption of the model families holds."""

MIN_PRODIGY_RATE = 0.1
"""Below it the rate was surely meant for another optimizer."""


class ModelSection(Section):
    """The base model."""

    base: Annotated[str, Field(min_length=1)] = "miniature"
    """A folder in the layout of diffusers, its id on the model hub, a unified `.safetensors` file, or `miniature` for
    the tiny model that comes with the package."""

    revision: str | None = None
    """Branch, tag or commit of a hub id. None: its main branch."""

    version: Annotated[str, Field(min_length=1)] | None = None
    """Which version of LTX-Video the base is, such as `0.9.6-dev`, where its files leave that open. None: they say."""

    text_encoder: Annotated[str, Field(min_length=1)] | None = None
    """Folder or hub id of the text encoder that a unified file, which has none of its own, is used with: a Gemma 3 for
    LTX-2.3, a T5 for LTX-Video. None: `google/gemma-3-12b-it-qat-q4_0-unquantized`, or
    `PixArt-alpha/PixArt-XL-2-1024-MS`."""

    text_encoder_revision: str | None = None
    """Branch, tag or commit of the text encoder's hub id. None: its main branch."""

    allow_unsuitable_base: bool = False
    """Train on a distilled or 8-bit base all the same. LoRAs trained on one come out with little effect. GGUF files and
    weights with scales of their own cannot be loaded."""

    lora: Path | None = None
    """A LoRA file whose weights training starts from: a warm start, not a continuation."""


class LoraSection(Section):
    """The adapter. Its rank is in the request."""

    alpha: Annotated[float, Field(gt=0)] | None = None
    """Strength of the update is alpha / rank. None: alpha equals rank."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's input that is dropped in training."""

    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Modules of each block that are trained, such as `attn1`. None: those of the mode."""


class DataSection(Section):
    """What is taken of the training data, what may be left out of it, and what is left to look at."""

    scene_detector: Literal["transitions", "adaptive", "content", "histogram", "hash", "threshold"] = "transitions"
    """How the scenes of a video are told apart. transitions: by cuts, dissolves and fades, whose frames are in no
    scene; a flash is no cut. The others are those of PySceneDetect: adaptive, content, histogram and hash find cuts,
    threshold finds fades through black."""

    scene_threshold: Annotated[float, Field(gt=0)] | None = None
    """How much frames differ at a cut: by how many times more than their neighbours (transitions, adaptive), of 255
    (content), or of 1 (histogram, hash); of threshold, the brightness, of 255, under which a picture is black. None: 3,
    27, 0.2, 0.35 and 12."""

    windows: Literal["first", "spread"] = "first"
    """What is taken of a video or scene that is longer than a clip. first: its begin, as the hosted service does.
    spread: as many clips as fit without overlap, spaced evenly; not with `input.auto_scale_input`, which takes all of
    it as one."""

    max_left_out: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the media files that may be left out before the run is refused. 1: any number, as the hosted service
    does and as is the default with a request body given by `--input`."""

    incomplete: Literal["refuse", "skip"] = "refuse"
    """What becomes of an example that lacks a file, such as a caption without its clip. skip: it is left out with its
    reason, as the hosted service does and as is the default with a request body given by `--input`."""

    mixed: bool = False
    """Take images and videos in one archive, as ltx-video-trainer always does."""

    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that decode. None: one for each core that this process of the run has, 8 at most, and none but itself
    for less than 32 MiB of sources. 0: itself."""

    spool_gb: Annotated[float, Field(ge=0)] | None = None
    """Room in the run's folder for the pictures of clips that are decoded and not encoded yet, in 10^9 bytes; a clip of
    89 frames at 960 x 544 takes 0.14. What finds no room is decoded a second time; a few clips for each worker always
    find it. None: a quarter of what is free when the run begins."""

    debug_from: Literal["sources", "latents"] = "sources"
    """What the archive of `input.debug_dataset` shows: pictures and sound as they were encoded, or decoded again from
    the cached latents."""


class CaptionsSection(Section):
    """Captions that a model writes, of clips that have none."""

    auto: bool = False
    """Let a model that sees write a caption of every clip that has none; each scene of a split video gets its own. Off:
    such a clip is trained on the trigger phrase, or the empty text."""

    model: Annotated[str, Field(min_length=1)] | None = None
    """Folder or hub id of the model: any of the kind image-text-to-text that takes several images and a chat. None: the
    run's own text encoder, where that is a Gemma 3 with its vision tower and the files of its processor."""

    revision: str | None = None
    """Branch, tag or commit of a hub id. None: its main branch."""

    prompt: Annotated[str, Field(min_length=1)] = CAPTIONS_PROMPT
    """What the model is asked, after the frames."""

    frames: Annotated[int, Field(ge=1, le=64)] = 8
    """Frames of a clip that the model sees, evenly spaced over the clip as training sees it. An image is one."""

    batch_size: Annotated[int, Field(ge=1)] = 4
    """Clips that each process captions at a time."""

    max_tokens: Annotated[int, Field(ge=8, le=2048)] = 256
    """Longest caption, in tokens. One that comes to this end is cut after its last whole sentence."""


class AudioSection(Section):
    """Levels of sound. Whether they are changed at all is in the request, as `audio_normalize`."""

    normalize: Literal["peak", "loudness"] = "peak"
    """What is made equal. peak: the loudest sample of every file is brought to -1 dBFS, as the hosted service does.
    loudness: every file is brought to one loudness (ITU-R BS.1770, EBU R 128), so that a whisper with one bang in it is
    no softer than speech."""

    loudness_lufs: Annotated[float, Field(ge=-50, le=-5)] = -16.0
    """The integrated loudness that files are brought to, of the stereo that the model hears. -16 is what AES TD1004
    takes for streams: most speech and music reaches it below the true peak. -23 is that of broadcasts."""

    true_peak_dbfs: Annotated[float, Field(ge=-20, le=0)] = -1.0
    """What no peak of a file exceeds by `loudness`, between samples too: a file that would is made less loud."""


class DownloadSection(Section):
    """Limits of what is fetched by URL."""

    max_gigabytes: Annotated[float, Field(gt=0)] = 200.0
    """Size of one file, in 10^9 bytes."""

    timeout_minutes: Annotated[float, Field(gt=0)] = 240.0
    """Longest time that one file may take."""

    allow_private_addresses: bool = False
    """Fetch from this machine and its local network too."""


class OptimizerSection(Section):
    """The optimizer and its learning rate over time. The peak rate is in the request."""

    name: Literal["adamw", "adamw_8bit", "schedule_free", "prodigy"] = "adamw"
    """Which optimizer: AdamW, AdamW with its state in 8 bits, schedule-free AdamW, or Prodigy, which finds the rate
    itself and takes `input.learning_rate` as a factor on it: give 1."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay rates of the moment estimates."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Share of a weight that is taken off in each step at rate 1."""

    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Keeps the step finite where the gradient vanishes."""

    schedule: Literal["constant", "linear", "cosine", "polynomial"] = "constant"
    """How the rate goes from its peak to the end: stays, or falls to 0 along a line, half a cosine or a power."""

    power: Annotated[float, Field(gt=0)] = 2.0
    """Of the polynomial schedule; 1 is the linear one."""

    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the rate first rises to its peak."""

    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradients are scaled down to this norm. None: never."""


class NoiseSection(Section):
    """Which noise levels training draws."""

    distribution: Literal["shifted_logit_normal", "uniform"] = "shifted_logit_normal"
    """Levels that rise with the number of tokens, or all alike."""

    uniform_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of draws taken uniformly all the same, so that no level is ever unseen."""

    levels: Literal["shared", "per_stream"] = "shared"
    """Whether video and sound of a sample have one noise level, as in sampling, or each its own."""


class TrainingSection(Section):
    """The training loop. Steps and rate are in the request."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Of the adapter's first values, the order of the data, noise levels, noise and dropout."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the frozen base and the arithmetic; the adapter is always fp32. auto: bf16 on CUDA, fp32 on a CPU."""

    batch_size: Annotated[int, Field(ge=1)] = 1
    """Examples that each process takes in one pass."""

    accumulation: Annotated[int, Field(ge=1)] = 1
    """Passes that make one step."""

    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass in place of keeping them."""

    caption_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of samples trained with the empty text."""

    video_loss_weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the loss of the video stream."""

    audio_loss_weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the loss of the audio stream. Not 0: `input.with_audio: false` trains without sound."""

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep a moving average of the adapter with this decay a step; previews and the LoRA come from it. None: off."""

    checkpoint_interval: Annotated[int, Field(ge=1)] = 250
    """Steps between checkpoints; the last step always has one."""

    keep_checkpoints: Annotated[int, Field(ge=1)] | None = 4
    """How many of the newest stay. None: all."""


class ValidationSection(Section):
    """Previews. What they show is in the request."""

    interval: Annotated[int, Field(ge=1)] | None = 500
    """Steps between previews; there is always one at step 0 and one at the end. None: only those two."""

    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Denoising steps. None: the model family's own."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Of the noise that a preview starts from, the same at every step of the training."""

    video_cfg: Annotated[float, Field(ge=1)] | None = None
    """Classifier-free guidance of the video; 1 is off. None: the model family's own."""

    audio_cfg: Annotated[float, Field(ge=1)] | None = None
    """Classifier-free guidance of the sound; 1 is off. None: the model family's own."""

    modality: Annotated[float, Field(ge=1)] | None = None
    """Guidance towards the other stream; 1 is off. None: the model family's own."""

    rescale: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far guidance may not raise contrast; 0 is off. None: the model family's own."""

    stg_blocks: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Blocks whose self-attention STG leaves out. None: the model family's own."""

    still_crf: Annotated[int, Field(ge=0, le=51)] | None = 33
    """Quality at which a still image is compressed as H.264 before it conditions a preview or a clip of a2v, as the
    model saw stills."""

    beside_base: bool = True
    """Show what the LoRA changed: in the joined preview each item stands right of itself at step 0, and its own sound
    is heard. Where step 0 was not rendered with the same settings, as after a change of prompts, it stands alone."""

    beside_input: bool = True
    """Show what was given: in the joined preview it stands left of the item, grey where nothing is given; of sounds it
    comes first, with half a second of silence after it."""

    composite: bool = True
    """Show what is kept of an input as the input itself, after its round trip through the VAE, and not as it is decoded
    together with what was generated around it."""


class HeldOutSection(Section):
    """Clips that are never trained on, whose loss shows when training goes too far."""

    fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the source files that is held out; at least one if this is not 0."""

    interval: Annotated[int, Field(ge=1)] = 100
    """Steps between measurements; there is always one at step 0 and one at the end."""

    sigmas: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Noise levels at which it is measured, each with the same noise every time."""


class ReportSection(Section):
    """Who is told of a run besides the screen, TensorBoard and events.jsonl."""

    wandb_project: str | None = None
    """Project of Weights & Biases that the run is logged to; the key is taken from WANDB_API_KEY. None: off."""

    dataset_page: bool = True
    """Look at a few frames and the sound of every clip, and write `dataset.html`, which shows what is trained on, what
    is left out, what is there twice, and where the data will disappoint. Off: `dataset.json` alone, which then says
    only what is known without a look."""


class PathsSection(Section):
    """Where files go."""

    output: Path | None = None
    """The run's own folder. None: `outputs/` and the config's name."""

    cache: Path = Path("~/.cache/ltx-trainer")
    """Extracted archives and encoded tensors, shared by all runs."""


class Settings(Section):
    """A run."""

    endpoint: str
    """Which hosted endpoint the request is written for; it says the mode and the model family."""

    input: Request
    """The request body."""

    version: str = __version__
    """Which release of the trainer wrote the file."""

    model: ModelSection = ModelSection()
    """The base model."""

    data: DataSection = DataSection()
    """The training data."""

    captions: CaptionsSection = CaptionsSection()
    """Captions that a model writes."""

    audio: AudioSection = AudioSection()
    """Levels of sound."""

    downloads: DownloadSection = DownloadSection()
    """What is fetched by URL."""

    lora: LoraSection = LoraSection()
    """The adapter."""

    optimizer: OptimizerSection = OptimizerSection()
    """The optimizer."""

    noise: NoiseSection = NoiseSection()
    """Noise levels in training."""

    training: TrainingSection = TrainingSection()
    """The loop."""

    validation: ValidationSection = ValidationSection()
    """Previews."""

    held_out: HeldOutSection = HeldOutSection()
    """Clips that are never trained on."""

    report: ReportSection = ReportSection()
    """Who is told of the run."""

    paths: PathsSection = PathsSection()
    """Folders."""

    @property
    def mode(self) -> Mode:
        """The row of the table of modes."""
        return find_mode(self.endpoint)

    @property
    def clip_rate(self) -> int:
        """Frames per second of training clips."""
        scaled = self.mode.auto_scale_rate if self.input.auto_scale_input else None
        return self.input.frame_rate if scaled is None else scaled

    @property
    def preview_rate(self) -> int:
        """Frames per second of previews."""
        asked = self.input.validation_frame_rate
        return self.clip_rate if asked is None else asked

    @property
    def lora_alpha(self) -> float:
        """Alpha, resolved."""
        return self.input.rank if self.lora.alpha is None else self.lora.alpha

    def lora_targets(self, *, with_audio: bool) -> tuple[str, ...]:
        """Modules of each block that get a LoRA: those of the settings, or else of the mode."""
        if self.lora.targets is not None:
            return self.lora.targets
        return self.mode.targets if with_audio else self.mode.silent_targets

    @field_validator("version")
    @classmethod
    def _not_from_the_future(cls, version: str) -> str:
        try:
            newer = Version(version) > Version(__version__)
        except InvalidVersion:
            raise ValueError("is not a version, such as 0.1.0") from None
        if newer:
            raise ValueError(
                f"the file was written by a newer release; this is {__version__}. Install {version} or newer, "
                "or take the line out and see which settings are not known here"
            )
        return version

    @model_validator(mode="before")
    @classmethod
    def _add_defaults_of_the_mode(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("endpoint"), str) and isinstance(data.get("input"), dict):
            # The hosted service takes null for "as by default".
            given = {name: value for name, value in data["input"].items() if value is not None}
            return {**data, "input": {**find_mode(data["endpoint"]).defaults, **given}}
        return data

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if problem := request_problem(self.mode, self.input):
            raise ValueError(problem)
        if self.optimizer.warmup_steps >= self.input.number_of_steps:
            raise ValueError(
                f"optimizer.warmup_steps {self.optimizer.warmup_steps} must be less than "
                f"input.number_of_steps {self.input.number_of_steps}"
            )
        self._check_scenes()
        self._check_optimizer()
        if self.captions.auto and not self.mode.has_video:
            raise ValueError(
                f"captions.auto needs pictures to describe, and {self.mode.name} has only sound. Write captions beside "
                "the files, or set captions.auto: false"
            )
        return self

    def _check_scenes(self) -> None:
        detector, threshold = self.data.scene_detector, self.data.scene_threshold
        most = {"histogram": 1, "hash": 1, "content": 255, "threshold": 255}.get(detector)
        if threshold is not None and most is not None and threshold > most:
            raise ValueError(
                f"data.scene_threshold {threshold:g} is more than {most}, the most that {detector} compares with; null "
                "works"
            )
        if self.data.windows == "spread" and self.input.auto_scale_input:
            raise ValueError(
                "data.windows spread and input.auto_scale_input exclude each other, since a video that is scaled in "
                "time is taken whole; first works"
            )

    def _check_optimizer(self) -> None:
        name, schedule = self.optimizer.name, self.optimizer.schedule
        if name == "schedule_free" and schedule != "constant":
            raise ValueError(
                f"optimizer.schedule {schedule} and optimizer.name schedule_free exclude each other; constant works"
            )
        if name == "schedule_free" and self.training.ema_decay is not None:
            raise ValueError(
                "training.ema_decay and optimizer.name schedule_free exclude each other, since it keeps an average "
                "itself; null works"
            )
        if name == "schedule_free" and self.optimizer.betas[0] == 0:
            raise ValueError("optimizer.betas begins with 0, which schedule_free cannot average with; 0.9 works")
        if name == "prodigy" and self.input.learning_rate < MIN_PRODIGY_RATE:
            raise ValueError(
                f"input.learning_rate {self.input.learning_rate} is a factor on the rate that prodigy finds; 1 works"
            )
