"""What a model says of a clip's frames, with real processors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ltx_trainer.errors import ModelError
from ltx_trainer.models import Captioner, ModelFacts, locate_captioner, read_model
from ltx_trainer.models.vision import open_captioner, tidy_caption

CPU = torch.device("cpu")


@pytest.fixture
def clips() -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    return [noise.integers(0, 256, (num_frames, 48, 64, 3), np.uint8) for num_frames in (3, 1, 3)]


@pytest.fixture(params=["gemma", "llava"])
def either(request: pytest.FixtureRequest, captioner: Captioner, llava: Path, facts: ModelFacts) -> Captioner:
    return captioner if request.param == "gemma" else locate_captioner(str(llava), None, facts)


def test_a_batch_says_of_each_clip_what_is_said_of_it_alone(either: Captioner, clips: list[np.ndarray]) -> None:
    with open_captioner(either, CPU) as writer:
        together = writer.write(clips, "What is seen?", max_tokens=8)
        alone = [writer.write([clip], "What is seen?", max_tokens=8)[0] for clip in clips]

    assert together == alone
    assert len(set(together)) > 1


def test_an_answer_to_another_question_is_another(captioner: Captioner, clips: list[np.ndarray]) -> None:
    with open_captioner(captioner, CPU) as writer:
        one, other = (writer.write(clips, prompt, max_tokens=8) for prompt in ("What is seen?", "What moves?"))

    assert one != other


def test_a_model_leaves_the_device_in_the_end(captioner: Captioner) -> None:
    with open_captioner(captioner, CPU) as writer:
        pass

    assert {weight.device.type for weight in writer.model.parameters()} == {"meta"}


def test_weights_that_lack_are_refused_and_not_drawn_at_random(own_base: Path) -> None:
    weights = own_base / "text_encoder/model.safetensors"
    kept = {name: weight for name, weight in load_file(weights).items() if "vision_tower" not in name}
    save_file(kept, weights, {"format": "pt"})
    blind = locate_captioner(None, None, read_model(own_base, "ltx-2.3"))

    with pytest.raises(ModelError, match=r"the weights in .*text_encoder do not fit its config: \d+ missing keys"):
        open_captioner(blind, CPU).__enter__()


def test_a_class_that_is_not_known_is_refused_by_name(llava: Path, facts: ModelFacts, tmp_path: Path) -> None:
    unknown = Path(shutil.copytree(llava, tmp_path / "unknown"))
    config = json.loads((unknown / "config.json").read_text())
    (unknown / "config.json").write_text(json.dumps({**config, "model_type": "seer"}))

    with pytest.raises(ModelError, match=r"The captioner .*unknown does not load as AutoProcessor"):
        open_captioner(locate_captioner(str(unknown), None, facts), CPU).__enter__()


@pytest.mark.parametrize(
    ("text", "whole", "caption"),
    [
        (" A cat\n sits. ", True, "A cat sits."),
        ("A cat sits. It is", True, "A cat sits. It is"),
        ("A cat sits. It is", False, "A cat sits."),
        ('It costs 3.5 euros, says "a cat." And', False, 'It costs 3.5 euros, says "a cat."'),
        ("A cat that costs 3.5", False, "A cat that costs 3.5"),
        ("\x00\x1b \n", True, ""),
    ],
)
def test_a_caption_is_one_line_that_does_not_end_within_a_sentence(text: str, whole: bool, caption: str) -> None:
    assert tidy_caption(text, whole=whole) == caption


def test_a_question_begins_with_one_begin(
    either: Captioner, clips: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    with open_captioner(either, CPU) as writer:
        generate, begin = writer.model.generate, writer.model.generation_config.bos_token_id

        def watched(**inputs: torch.Tensor) -> torch.Tensor:
            asked.extend(inputs["input_ids"].tolist())
            return generate(**inputs)

        monkeypatch.setattr(writer.model, "generate", watched)
        writer.write(clips, "What is seen?", max_tokens=1)

    assert [ids.count(begin) for ids in asked] == [1, 1, 1]
