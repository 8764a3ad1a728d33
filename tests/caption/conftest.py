"""Tiny real models that see, with real processors and random weights, and a run of a few clips."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from ltx_trainer.models import Captioner, ModelFacts, locate_captioner, read_model

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""Of a chat, as Gemma's is written; IMAGE stands for the model's own token."""

IMAGE_SIDE = 28


@pytest.fixture(scope="session")
def seeing_base(tmp_path_factory: pytest.TempPathFactory, random_miniature: Callable[[str], Path]) -> Path:
    """The random miniature, whose text encoder is a Gemma 3 with a vision tower, and the processor of that."""
    folder = Path(shutil.copytree(random_miniature("ltx-2.3"), tmp_path_factory.mktemp("models") / "seeing"))
    weights = load_file(folder / "text_encoder/model.safetensors")
    # The library begins this one with zeros, which is blind.
    (name,) = (name for name in weights if name.endswith("mm_input_projection_weight"))
    weights[name] = torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(1))
    save_file(weights, folder / "text_encoder/model.safetensors", {"format": "pt"})
    Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}),
        AutoTokenizer.from_pretrained(folder / "tokenizer"),
        chat_template=TEMPLATE.replace("IMAGE", "<start_of_image>"),
        image_seq_length=4,
    ).save_pretrained(folder / "processor")
    return folder


@pytest.fixture(scope="session")
def facts(seeing_base: Path) -> ModelFacts:
    return read_model(seeing_base, "ltx-2.3")


@pytest.fixture
def own_base(seeing_base: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(seeing_base, tmp_path / "seeing"))


@pytest.fixture(scope="session")
def captioner(facts: ModelFacts) -> Captioner:
    """The base model's own text encoder."""
    return locate_captioner(None, None, facts)


@pytest.fixture(scope="session")
def llava(tmp_path_factory: pytest.TempPathFactory, seeing_base: Path) -> Path:
    """A folder with a model of another class."""
    folder = tmp_path_factory.mktemp("models") / "llava"
    tokenizer = AutoTokenizer.from_pretrained(seeing_base / "tokenizer")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIDE,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        vision_feature_layer=-1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlavaForConditionalGeneration(config)
    # As drawn it hardly looks at pictures.
    model.model.multi_modal_projector.linear_2.weight.data *= 100
    model.save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessorPil(
            size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
        ),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image_soft_token>",
        chat_template=TEMPLATE.replace("IMAGE", "<image_soft_token>"),
    ).save_pretrained(folder)
    return folder
