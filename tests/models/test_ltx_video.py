"""LTX-Video: the transformer call against recorded numbers, positions, prompts, and what the library's pipelines do."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceTrainer
from torch import Tensor, nn
from transformers import T5EncoderModel

from ltx_trainer import world
from ltx_trainer.diffusion.tokens import ModelStream, video_tokens
from ltx_trainer.errors import ConfigError, ModelError
from ltx_trainer.geometry import ClipShape, FrameSize
from ltx_trainer.models import component_files, read_model
from ltx_trainer.models.codecs import DECODE_NOISE_SCALE, DECODE_SEED, DECODE_TIMESTEP
from ltx_trainer.models.family import Family, open_family
from ltx_trainer.models.lora import adapter_state, attach_lora, load_adapter_state
from ltx_trainer.models.names import check_groups

GOLDEN = Path(__file__).parents[1] / "golden"
RECORD = json.loads((GOLDEN / "ltx_video_transformer.json").read_text())
STG_BLOCKS = {"one_sigma": (), "first_frame_clean": (), "stg_block_1": (1,)}
TOLERANCE = 1e-5
CPU = torch.device("cpu")
SHAPE = ClipShape(9, FrameSize(64, 64), Fraction(24))
Load = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(GOLDEN / "ltx_video_transformer.safetensors")


@pytest.fixture(scope="module")
def golden(recorded: dict[str, Tensor], ltx_video_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """The recorded transformer in a model's folder."""
    folder = Path(shutil.copytree(ltx_video_folder, tmp_path_factory.mktemp("golden") / "model"))
    weights = {name.removeprefix("weights."): t for name, t in recorded.items() if name.startswith("weights.")}
    model = LTXVideoTransformer3DModel(**RECORD["config"])
    model.load_state_dict(weights)
    model.save_pretrained(folder / "transformer")
    return open_family(read_model(folder, "ltx-video"))


def call(family: Family, transformer: nn.Module, recorded: dict[str, Tensor], case: str) -> Tensor:
    timesteps = recorded[f"{case}.timesteps"]
    coordinates = recorded["video_coords"]
    video = ModelStream(
        recorded["video_tokens"], timesteps, timesteps[:, -1], torch.stack([coordinates, coordinates + 1], dim=-1)
    )
    prompt = {"video": recorded["text"], "mask": recorded["text_mask"].bool()}
    return family.predict(transformer, {"video": video}, prompt, stg_blocks=STG_BLOCKS[case])["video"]


def test_every_recorded_case_is_held(recorded: dict[str, Tensor]) -> None:
    assert {name.removesuffix(".velocity") for name in recorded if name.endswith(".velocity")} == STG_BLOCKS.keys()


@torch.no_grad()
@pytest.mark.parametrize("case", STG_BLOCKS)
def test_velocities_equal_those_of_the_original_implementation(
    case: str, golden: Family, recorded: dict[str, Tensor], load_transformer: Load
) -> None:
    found = call(golden, load_transformer(golden), recorded, case)

    torch.testing.assert_close(found, recorded[f"{case}.velocity"], atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_recorded_positions_are_the_familys_own(golden: Family, recorded: dict[str, Tensor]) -> None:
    family = open_family(replace(golden.facts, factors=replace(golden.facts.factors, frames=8, rows=32, columns=32)))

    starts = family.video_coordinates(ClipShape(9, FrameSize(96, 64), Fraction(RECORD["frame_rate"])))[..., 0]

    torch.testing.assert_close(starts, recorded["video_coords"][0])


def test_the_first_versions_count_frames_from_their_index(ltx_video: Family) -> None:
    times: dict[str, list[float]] = {}
    for version in ("0.9.1", "0.9.5"):
        family = open_family(replace(ltx_video.facts, version=version))
        times[version] = family.video_coordinates(SHAPE)[0, ::64].mul(24).round().tolist()

    assert times == {"0.9.1": [[0, 4], [4, 8], [8, 12]], "0.9.5": [[0, 1], [1, 5], [5, 9]]}


def test_gradient_checkpointing_changes_neither_velocities_nor_gradients(
    golden: Family, recorded: dict[str, Tensor], load_transformer: Load
) -> None:
    gradients = []
    for checkpointing in (False, True):
        transformer = load_transformer(golden, gradient_checkpointing=checkpointing)
        weight = transformer.get_parameter("transformer_blocks.0.attn1.to_q.weight").requires_grad_()
        found = call(golden, transformer, recorded, "first_frame_clean")
        torch.testing.assert_close(found, recorded["first_frame_clean.velocity"], atol=TOLERANCE, rtol=0)
        found.square().mean().backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0


@torch.no_grad()
def test_calls_in_parallel_threads_keep_their_own_blocks(
    golden: Family, recorded: dict[str, Tensor], load_transformer: Load
) -> None:
    transformer = load_transformer(golden)
    found: dict[str, Tensor] = {}

    def run(case: str) -> None:
        with torch.no_grad():
            for _ in range(5):
                found[case] = call(golden, transformer, recorded, case)

    threads = [threading.Thread(target=run, args=(case,)) for case in ("one_sigma", "stg_block_1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for case, velocity in found.items():
        torch.testing.assert_close(velocity, recorded[f"{case}.velocity"], atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_a_failed_call_perturbs_nothing_after_it(
    golden: Family, recorded: dict[str, Tensor], load_transformer: Load
) -> None:
    transformer = load_transformer(golden)

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        call(golden, transformer, recorded | {"text": torch.zeros(2, 6, 5)}, "stg_block_1")

    attention = transformer.get_submodule("transformer_blocks.1.attn1")
    hidden = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(1))
    values = attention.get_submodule("to_out.0")(attention.get_submodule("to_v")(hidden))
    assert not torch.allclose(attention(hidden), values)


@torch.no_grad()
def test_stg_takes_the_values_with_their_lora(ltx_video: Family, load_transformer: Load) -> None:
    transformer = load_transformer(ltx_video)
    stream = a_stream(ltx_video)
    prompt = a_prompt()
    before = ltx_video.predict(transformer, stream, prompt, stg_blocks=(3,))["video"]

    modules = [f"transformer_blocks.3.attn1.{name}" for name in ("to_q", "to_v")]
    attach_lora(transformer, modules, rank=2, alpha=2, dropout=0, generator=torch.Generator().manual_seed(0))
    changed: list[bool] = []
    for module in modules:
        up = transformer.get_parameter(f"{module}.lora_B.default.weight")
        up.fill_(0.1)
        changed.append(
            not torch.equal(ltx_video.predict(transformer, stream, prompt, stg_blocks=(3,))["video"], before)
        )
        up.zero_()

    assert changed == [False, True]


@torch.no_grad()
def test_a_published_lora_is_the_librarys_pipelines_too(
    ltx_video: Family, ltx_video_folder: Path, load_transformer: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transformer, generator = load_transformer(ltx_video), torch.Generator().manual_seed(0)
    attach_lora(
        transformer,
        ltx_video.lora_modules(["attn1", "attn2", "ff"]),
        rank=4,
        alpha=4,
        dropout=0,
        generator=generator,
    )
    state = {
        name: torch.randn(value.shape, generator=generator) / 9 for name, value in adapter_state(transformer).items()
    }
    load_adapter_state(transformer, state)
    published = {
        f"diffusion_model.{ltx_video.published_name(module)}.lora_{matrix}": value
        for module, matrix, value in ((*name.split(".lora_"), value) for name, value in state.items())
    }
    save_file(published, tmp_path / "lora.safetensors")
    pipeline = LTXPipeline.from_pretrained(ltx_video_folder, local_files_only=True)

    pipeline.load_lora_weights(str(tmp_path / "lora.safetensors"))

    stream, prompt = a_stream(ltx_video), a_prompt()
    found = pipeline.transformer(
        hidden_states=stream["video"].tokens,
        encoder_hidden_states=prompt["video"],
        timestep=stream["video"].timesteps * 1000,
        encoder_attention_mask=prompt["mask"],
        video_coords=stream["video"].coordinates[..., 0],
        return_dict=False,
    )[0]
    ours = ltx_video.predict(transformer, stream, prompt)["video"]
    base = ltx_video.predict(load_transformer(ltx_video), stream, prompt)["video"]
    torch.testing.assert_close(found, ours, atol=1e-5, rtol=0)
    assert (ours - base).abs().max() > 0.01
    assert len(published) == 2 * 4 * 10
    assert "keys" not in caplog.text


def a_stream(family: Family) -> dict[str, ModelStream]:
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(1, 192, 16, generator=generator)
    return {
        "video": ModelStream(
            tokens, torch.full((1, 192), 0.5), torch.tensor([0.5]), family.video_coordinates(SHAPE)[None]
        )
    }


def a_prompt() -> dict[str, Tensor]:
    return {"video": torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(5)), "mask": torch.ones(1, 6) > 0}


@torch.no_grad()
def test_what_the_mask_hides_is_not_read(ltx_video: Family, load_transformer: Load) -> None:
    transformer, stream, prompt = load_transformer(ltx_video), a_stream(ltx_video), a_prompt()
    mask = torch.tensor([[True, True, True, False, False, False]])
    hidden = {"video": torch.where(mask[..., None], prompt["video"], 7.0), "mask": mask}

    found = ltx_video.predict(transformer, stream, hidden)["video"]
    short = {"video": prompt["video"][:, :3], "mask": mask[:, :3]}

    torch.testing.assert_close(found, ltx_video.predict(transformer, stream, short)["video"])
    assert not torch.allclose(found, ltx_video.predict(transformer, stream, prompt)["video"])


@torch.no_grad()
def test_half_precision_weights_take_and_give_float32(
    golden: Family, recorded: dict[str, Tensor], load_transformer: Load
) -> None:
    transformer = load_transformer(golden, torch.bfloat16)

    found = call(golden, transformer, recorded, "first_frame_clean")

    assert transformer.get_parameter("proj_in.weight").dtype == torch.bfloat16
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, recorded["first_frame_clean.velocity"], atol=0.1, rtol=0)


def test_prompts_are_those_of_the_librarys_pipeline(ltx_video: Family, ltx_video_folder: Path, tmp_path: Path) -> None:
    texts = ["a red ball moves left", "", "never heard of zorps"]
    pipeline: Any = LTXConditionPipeline.from_pretrained(ltx_video_folder, local_files_only=True)

    found = dict(ltx_video.encode_prompts(texts, CPU, scratch=tmp_path))

    expected, mask, _, _ = pipeline.encode_prompt(texts, do_classifier_free_guidance=False, max_sequence_length=64)
    assert found.keys() == {*texts}
    for index, text in enumerate(texts):
        assert torch.equal(found[text]["mask"], mask[index])
        # The states of padding too.
        torch.testing.assert_close(found[text]["video"], expected[index])
    assert found[""]["mask"].sum() == 1


def test_a_batch_is_read_whole_whichever_of_it_are_wanted(
    ltx_video: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a T5 so small gives the same bits alone, so it is asked what it reads."""
    monkeypatch.setattr("ltx_trainer.models.text_batches.MAX_BATCH_TEXTS", 2)
    read: list[int] = []
    forward = T5EncoderModel.forward

    def counted(self: T5EncoderModel, **inputs: Any) -> Any:
        read.append(len(inputs["input_ids"]))
        return forward(self, **inputs)

    monkeypatch.setattr(T5EncoderModel, "forward", counted)

    found = dict(ltx_video.encode_prompts(["a", "b", "c", "d", "e"], CPU, scratch=tmp_path, wanted=["d", "e"]))

    assert list(found) == ["d", "e"]
    assert read == [2, 1]


def with_pieces(source: Path, folder: Path, count: int) -> Path:
    """Copy a model, with a tokenizer of nothing but a `spiece.model`."""
    model = Path(shutil.copytree(source, folder / "model"))
    (model / "tokenizer/tokenizer.json").unlink()
    SentencePieceTrainer.train(
        sentence_iterator=iter([world.caption(scene) for scene in world.draw_scenes(200, 1)]),
        model_prefix=str(model / "tokenizer/spiece"),
        vocab_size=count,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    return model


def test_a_tokenizer_may_be_a_file_of_pieces_alone(ltx_video_folder: Path, tmp_path: Path) -> None:
    family = open_family(read_model(with_pieces(ltx_video_folder, tmp_path, 50), "ltx-video"))

    ((_, prompt),) = family.encode_prompts(["a red circle moves up"], CPU, scratch=tmp_path)

    assert 4 < prompt["mask"].sum() < 20
    assert prompt["video"].isfinite().all()


def test_a_tokenizer_of_another_encoder_is_refused_with_both_sizes(ltx_video_folder: Path, tmp_path: Path) -> None:
    model = with_pieces(ltx_video_folder, tmp_path, 50)
    encoder = T5EncoderModel.from_pretrained(model / "text_encoder")
    encoder.resize_token_embeddings(40)
    encoder.save_pretrained(model / "text_encoder")
    family = open_family(read_model(model, "ltx-video"))

    with pytest.raises(ModelError, match=r"knows \d+ pieces, and the text encoder in .* 40\. Give the tokenizer"):
        next(iter(family.encode_prompts(["a red circle"], CPU, scratch=tmp_path)))


def test_a_long_text_is_cut_with_a_warning(ltx_video: Family, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ((_, prompt),) = ltx_video.encode_prompts(["red " * 100], CPU, scratch=tmp_path)

    assert prompt["mask"].all()
    assert "reads 64 of the 101 tokens" in caplog.text


@pytest.mark.parametrize("conditioned", [True, False])
def test_decoding_is_the_librarys_pipelines(
    conditioned: bool,
    ltx_video_folder: Path,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(ltx_video_folder, tmp_path / "model"))
    if not conditioned:
        config = json.loads((folder / "vae/config.json").read_text())
        arguments: dict[str, Any] = {key: value for key, value in config.items() if not key.startswith("_")}
        torch.manual_seed(0)
        AutoencoderKLLTXVideo(**arguments | plain_stages()).save_pretrained(folder / "vae")
    (folder / "ltx_trainer.json").unlink()
    family = open_family(read_model(folder, "ltx-video", version="0.9.6-dev" if conditioned else "0.9.0"))
    pipeline = LTXPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    asked = {
        "prompt_embeds": a_prompt()["video"],
        "prompt_attention_mask": a_prompt()["mask"],
        "latents": video_tokens(torch.randn(1, 16, 3, 8, 8, generator=torch.Generator().manual_seed(1))),
        "height": 64,
        "width": 64,
        "num_frames": 9,
        "num_inference_steps": 1,
        "guidance_scale": 1.0,
        "decode_timestep": DECODE_TIMESTEP,
        "decode_noise_scale": DECODE_NOISE_SCALE,
        "return_dict": False,
    }
    (latents,) = pipeline(**asked, output_type="latent")
    (frames,) = pipeline(**asked, output_type="pt", generator=torch.Generator().manual_seed(DECODE_SEED))

    with family.video_codec(CPU) as codec:
        found = [codec.decode(latents[0].T.unflatten(1, (3, 8, 8))) for _ in range(2)]
        encoded = codec.encode(found[0])

    assert torch.equal(found[0], found[1])
    # Rounding may fall to either side.
    torch.testing.assert_close(found[0].float(), frames[0].mul(255).permute(0, 2, 3, 1), atol=0.51, rtol=0)
    assert found[0].float().std() > 1
    assert encoded.shape == (16, 3, 8, 8)


def plain_stages() -> dict[str, Any]:
    """Give the kind of stages that the first version has, in the size of the miniature."""
    return {
        "timestep_conditioning": False,
        "down_block_types": ["LTXVideoDownBlock3D"] * 2,
        "downsample_type": ["conv"] * 2,
        "block_out_channels": [16, 32],
    }


def test_decoders_that_add_noise_between_layers_give_the_same_frames(ltx_video_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ltx_video_folder, tmp_path / "model"))
    config = json.loads((folder / "vae/config.json").read_text())
    arguments: dict[str, Any] = {key: value for key, value in config.items() if not key.startswith("_")}
    arguments["decoder_inject_noise"] = [True, True, False]
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(**arguments)
    for name, parameter in vae.named_parameters():
        if "per_channel_scale" in name:
            nn.init.ones_(parameter)
    vae.save_pretrained(folder / "vae")
    family = open_family(read_model(folder, "ltx-video"))
    latents = torch.zeros(16, 3, 4, 4)
    torch.manual_seed(5)
    expected = torch.rand(3)

    with family.video_codec(CPU) as codec:
        torch.manual_seed(5)
        frames = [codec.decode(latents), codec.decode(latents)]
        drawn = torch.rand(3)

    assert torch.equal(*frames)
    assert torch.equal(drawn, expected)


@pytest.mark.parametrize(
    ("version", "size", "names"),
    [("0.9.1", 1024, [40, 5, 2]), ("0.9.0", 4096, [40, 5, 2])],
)
def test_the_first_versions_fall_as_the_librarys_scheduler_does(
    ltx_video: Family, version: str, size: int, names: list[int]
) -> None:
    scheduler: Any = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
    family = open_family(replace(ltx_video.facts, version=version))
    for num_steps in names:
        scheduler.set_timesteps(
            sigmas=torch.linspace(1, 1 / num_steps, num_steps).tolist(), mu=0.95 if size == 1024 else 2.05
        )
        assert family.sigmas(num_steps, size) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)
    assert family.sigmas(1, size) == [1.0, 0.0]


def test_lora_targets_are_attention_and_feed_forward(ltx_video: Family, load_transformer: Load) -> None:
    transformer = load_transformer(ltx_video)

    modules = ltx_video.lora_modules(["attn1", "attn2", "ff"])

    assert len(modules) == 4 * (4 + 4 + 2)
    assert all(isinstance(transformer.get_submodule(name), nn.Linear) for name in modules)
    assert [ltx_video.published_name(name) for name in modules] == modules
    with pytest.raises(ConfigError, match=r"'audio_attn1' is not known\. .*Known: attn1, attn2, ff\."):
        check_groups(ltx_video.facts.modules, ["attn1", "audio_attn1"], with_video=True, with_audio=True)


def test_the_librarys_modules_have_their_original_names(ltx_video: Family, load_transformer: Load) -> None:
    names = [name for name, _ in load_transformer(ltx_video).named_modules() if name]
    published = [ltx_video.published_name(name) for name in names]

    assert [ltx_video.library_name(name) for name in published] == names
    assert {"patchify_proj", "adaln_single.linear", "transformer_blocks.0.attn1.q_norm"} <= set(published)


def test_what_decides_a_part_is_its_own_files(ltx_video: Family) -> None:
    found = {
        part: {path.parent.name for path in component_files(ltx_video.facts, part)}
        for part in ("text_encoder", "vae", "audio_vae", "transformer", "decoders")
    }

    assert found == {
        "text_encoder": {"text_encoder", "tokenizer"},
        "vae": {"vae"},
        "audio_vae": set(),
        "transformer": {"transformer"},
        "decoders": {"vae"},
    }
