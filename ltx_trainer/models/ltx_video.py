"""The LTX-Video family: pictures without sound, in versions that differ in positions, noise levels and guidance.

Shapes: b samples, n tokens, c channels, l text tokens, d text features.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel, ModelMixin
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5EncoderModel

from ltx_trainer.diffusion.guidance import GuidanceScales, LevelGuidance
from ltx_trainer.diffusion.schedule import linear_quadratic_sigmas, shifted_sigmas
from ltx_trainer.diffusion.tokens import ModelStream, video_coordinates
from ltx_trainer.errors import ModelError
from ltx_trainer.geometry import ClipShape
from ltx_trainer.models import names
from ltx_trainer.models.attention_values import STG_BLOCKS, perturb_by_values
from ltx_trainer.models.codecs import open_video_codec
from ltx_trainer.models.family import AudioCodec, Family, SamplingDefaults, VideoCodec
from ltx_trainer.models.prompts import tokenize
from ltx_trainer.models.versions import Guided, Schedule, Version, row_of
from ltx_trainer.models.weights import check_component, load_component, load_transformers, placed, working_dtype

TIMESTEP_SCALE = 1000
CAST_INPUTS = ("hidden_states", "encoder_hidden_states")

CLASSES: Mapping[str, type[ModelMixin]] = {
    "transformer": LTXVideoTransformer3DModel,
    "vae": AutoencoderKLLTXVideo,
}


class LtxVideoFamily(Family):
    """A base model of LTX-Video 0.9.x."""

    @property
    def version(self) -> Version:
        """The row of the table of versions."""
        return row_of(self.facts.version)

    @property
    def is_causal(self) -> bool:
        return self.version.causal

    def video_coordinates(self, shape: ClipShape) -> Tensor:
        factors = self.facts.factors
        grid = shape.latent_grid(factors)
        return video_coordinates(grid, factors, shape.frame_rate, causal=self.is_causal)

    def check_weights(self) -> None:
        for name, model_class in CLASSES.items():
            check_component(model_class, self.facts.components[name])

    @property
    def sampling(self) -> SamplingDefaults:
        version = self.version
        *levels, lowest = map(self._guidance, version.guided)
        return SamplingDefaults(
            num_steps=version.num_steps,
            scales=lowest.scales,
            stg_blocks=lowest.stg_blocks,
            levels=tuple(levels),
            of_velocity=True,
            fits_negative=version.fits_negative,
        )

    def _guidance(self, guided: Guided) -> LevelGuidance:
        scales = GuidanceScales(cfg=guided.cfg, stg=guided.stg, modality=1.0, rescale=guided.rescale)
        # A smaller model has no such block; its last one stands in.
        blocks = dict.fromkeys(min(block, self.facts.num_blocks - 1) for block in guided.stg_blocks)
        return LevelGuidance(guided.down_to, {"video": scales}, tuple(blocks))

    def sigmas(self, num_steps: int, num_tokens: int) -> list[float]:
        if self.version.schedule is Schedule.SHIFTED:
            return shifted_sigmas(num_steps, num_tokens)
        return linear_quadratic_sigmas(num_steps)

    @torch.no_grad()
    def encode_prompts(
        self, texts: Sequence[str], device: torch.device, *, scratch: Path
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Give each text with `video` `[l d]` and `mask` `[l]` on the CPU, which is true where there is text."""
        del scratch
        facts = self.facts
        tokenizer = _load_tokenizer(facts.tokenizer)
        dtype = working_dtype(facts.components["text_encoder"], device)
        encoder = load_transformers(T5EncoderModel, facts.text_encoder, dtype, device)
        words = encoder.config.vocab_size
        if len(tokenizer) > words:
            raise ModelError(
                f"the tokenizer in {facts.tokenizer} knows {len(tokenizer)} pieces, and the text encoder in "
                f"{facts.text_encoder} {words}. Give the tokenizer that belongs to it."
            )
        with placed(encoder, device):
            for text in texts:
                ids, mask = tokenize(tokenizer, text, facts.max_text_tokens)
                states = encoder(input_ids=ids.to(device), attention_mask=mask.to(device))[0]
                yield text, {"video": states[0].cpu(), "mask": mask[0].bool()}

    def video_codec(self, device: torch.device) -> AbstractContextManager[VideoCodec]:
        return open_video_codec(AutoencoderKLLTXVideo, self.facts.components["vae"], device)

    def audio_codec(self, device: torch.device) -> AbstractContextManager[AudioCodec]:
        raise AssertionError(f"asked of a model with sound, on {device}")

    @contextmanager
    def transformer(
        self, device: torch.device, dtype: torch.dtype, *, gradient_checkpointing: bool = False
    ) -> Iterator[nn.Module]:
        component = self.facts.components["transformer"]
        transformer = load_component(LTXVideoTransformer3DModel, component, dtype, device)
        if gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        transformer.register_forward_pre_hook(_cast_inputs, with_kwargs=True)
        perturb_by_values(transformer)
        with placed(transformer, device):
            yield transformer

    def predict(
        self,
        transformer: nn.Module,
        streams: Mapping[str, ModelStream],
        prompt: Mapping[str, Tensor],
        *,
        stg_blocks: tuple[int, ...] = (),
        isolate: bool = False,
    ) -> dict[str, Tensor]:
        del isolate
        video = streams["video"]
        (velocity,) = transformer(
            hidden_states=video.tokens,
            encoder_hidden_states=prompt["video"],
            timestep=video.timesteps * TIMESTEP_SCALE,
            encoder_attention_mask=prompt["mask"],
            # This model takes points, where a token begins.
            video_coords=video.coordinates[..., 0],
            return_dict=False,
            **{STG_BLOCKS: stg_blocks},
        )
        return {"video": velocity.float()}

    def lora_modules(self, groups: Sequence[str], *, frozen: Collection[str] = ()) -> list[str]:
        return names.lora_modules(self.facts.modules, groups, self.facts.num_blocks, frozen)

    def published_name(self, module: str) -> str:
        return names.published_name(module)

    def library_name(self, module: str) -> str:
        return names.library_name(module)


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="right")
    except (ImportError, OSError, ValueError) as error:
        raise ModelError(
            f"the tokenizer in {folder} does not load: {error}. Give one with its tokenizer.json or spiece.model."
        ) from error


def _cast_inputs(
    transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Bring tokens and text to the type of the weights. Timesteps and coordinates stay exact."""
    dtype = transformer.get_parameter("proj_in.weight").dtype
    return args, kwargs | {name: kwargs[name].to(dtype) for name in CAST_INPUTS}
