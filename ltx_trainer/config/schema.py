"""Every setting of a run: the hosted request, the base model, and what the engine adds to both."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ltx_trainer.config.request import Request, Section, preview_problem, request_fields
from ltx_trainer.modes import Mode, find_mode


class ModelSection(Section):
    """The base model."""

    base: Annotated[str, Field(min_length=1)] = "miniature"
    """A diffusers folder, or `miniature` for the tiny model that comes with the package."""


class LoraSection(Section):
    """The adapter. Its rank is in the request."""

    alpha: Annotated[float, Field(gt=0)] | None = None
    """Strength of the update is alpha / rank. None: alpha equals rank."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's input that is dropped in training."""

    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Modules of each block that are trained, such as `attn1`. None: those of the mode."""


class OptimizerSection(Section):
    """AdamW and its learning rate over time. The peak rate is in the request."""

    name: Literal["adamw"] = "adamw"
    """Which optimizer."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay rates of the moment estimates."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Share of a weight that is taken off in each step at rate 1."""

    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Keeps the step finite where the gradient vanishes."""

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes from its peak to the end: stays, or falls to 0 along a line or half a cosine."""

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

    checkpoint_interval: Annotated[int, Field(ge=1)] = 250
    """Steps between checkpoints; the last step always has one."""

    keep_checkpoints: Annotated[int, Field(ge=1)] | None = 4
    """How many of the newest stay. None: all."""


class ValidationSection(Section):
    """Previews. What they show is in the request."""

    interval: Annotated[int, Field(ge=1)] | None = 500
    """Steps between previews; there is always one at step 0 and one at the end. None: only those two."""

    steps: Annotated[int, Field(ge=1, le=200)] = 30
    """Denoising steps."""

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
    """Quality at which a still image is compressed as H.264 before it conditions a preview, as the model saw stills."""


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

    model: ModelSection = ModelSection()
    """The base model."""

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

    paths: PathsSection = PathsSection()
    """Folders."""

    @property
    def mode(self) -> Mode:
        """The row of the table of modes."""
        return find_mode(self.endpoint)

    @property
    def lora_alpha(self) -> float:
        """Alpha, resolved."""
        return self.input.rank if self.lora.alpha is None else self.lora.alpha

    def lora_targets(self, *, with_audio: bool) -> tuple[str, ...]:
        """Modules of each block that get a LoRA: those of the settings, or else of the mode."""
        if self.lora.targets is not None:
            return self.lora.targets
        return self.mode.targets if with_audio else self.mode.silent_targets

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
        foreign = sorted(self.input.model_fields_set.difference(request_fields(self.mode)))
        if foreign:
            raise ValueError(f"input.{foreign[0]} is not a field of {self.endpoint}")
        for index, item in enumerate(self.input.validation):
            if problem := preview_problem(self.mode, item):
                raise ValueError(f"input.validation.{index}: {problem}")
        if self.optimizer.warmup_steps >= self.input.number_of_steps:
            raise ValueError(
                f"optimizer.warmup_steps {self.optimizer.warmup_steps} must be less than "
                f"input.number_of_steps {self.input.number_of_steps}"
            )
        return self
