"""The LTX-Video family: pictures without sound, in versions that differ in positions, noise levels and guidance.

Shapes: b samples, n tokens, c channels, l text tokens, d text features.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel, ModelMixin
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5EncoderModel

from ltx_trainer.diffusion.guidance import GuidanceScales, LevelGuidance
from ltx_trainer.diffusion.schedule import linear_quadratic_sigmas, shifted_sigmas
from ltx_trainer.diffusion.tokens import ModelStream
from ltx_trainer.errors import ModelError
from ltx_trainer.models.attention_values import STG_BLOCKS, perturb_by_values
from ltx_trainer.models.codecs import open_video_codec
from ltx_trainer.models.family import TIMESTEP_SCALE, AudioCodec, Family, SamplingDefaults, VideoCodec, cast_inputs
from ltx_trainer.models.text_batches import asked_of, batches_by_length, count_tokens, tell_cut, tokenize, with_any_of
from ltx_trainer.models.versions import Guided, Schedule, Version, row_of
from ltx_trainer.models.weights import load_component, load_transformers, placed, working_dtype

CAST_INPUTS = ("hidden_states", "encoder_hidden_states")


class LtxVideoFamily(Family):
    """A base model of LTX-Video 0.9.x."""

    classes: Mapping[str, type[ModelMixin]] = {
        "transformer": LTXVideoTransformer3DModel,
        "vae": AutoencoderKLLTXVideo,
    }

    @property
    def version(self) -> Version:
        """The row of the table of versions."""
        return row_of(self.facts.version)

    @property
    def is_causal(self) -> bool:
        return self.version.causal

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

    def prompt_batches(self, texts: Iterable[str]) -> list[tuple[str, ...]]:
        # All are padded alike: the transformer gets the states of padding too, with their mask.
        return batches_by_length(dict.fromkeys(texts, self.facts.max_text_tokens))

    @torch.no_grad()
    def encode_prompts(
        self, texts: Sequence[str], device: torch.device, *, scratch: Path, wanted: Collection[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Give each wanted text with `video` `[l d]` and `mask` `[l]` on the CPU, which is true where there is text."""
        del scratch
        facts = self.facts
        asked = asked_of(texts, wanted)
        tokenizer = _load_tokenizer(facts.tokenizer)
        dtype = working_dtype(facts.components["text_encoder"], device)
        encoder = load_transformers(T5EncoderModel, facts.text_encoder, dtype, device)
        words = encoder.config.vocab_size
        if len(tokenizer) > words:
            raise ModelError(
                f"the tokenizer in {facts.tokenizer} knows {len(tokenizer)} pieces, and the text encoder in "
                f"{facts.text_encoder} {words}. Give the tokenizer that belongs to it."
            )
        tell_cut(count_tokens(tokenizer, asked), facts.max_text_tokens)
        with placed(encoder, device):
            for batch in with_any_of(self.prompt_batches(texts), asked):
                ids, mask = tokenize(tokenizer, batch, facts.max_text_tokens, padding="max_length")
                states = encoder(input_ids=ids.to(device), attention_mask=mask.to(device))[0].cpu()
                for text, own, visible in zip(batch, states, mask.bool(), strict=True):
                    if text in asked:
                        yield text, {"video": own, "mask": visible}

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
        transformer.register_forward_pre_hook(cast_inputs(CAST_INPUTS), with_kwargs=True)
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


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="right")
    except (ImportError, OSError, ValueError) as error:
        raise ModelError(
            f"the tokenizer in {folder} does not load: {error}. Give one with its tokenizer.json or spiece.model."
        ) from error
