"""The transformer call on a GPU, held against numbers recorded from the original implementation on a CPU."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import LTX2VideoTransformer3DModel
from safetensors.torch import load_file
from torch import Tensor, nn

from ltx_trainer.diffusion import ModelStream
from ltx_trainer.models import read_model
from ltx_trainer.models.family import Family, open_family

GOLDEN = Path(__file__).parents[1] / "golden"
RECORD = json.loads((GOLDEN / "ltx23_transformer.json").read_text())
CASES = RECORD["cases"]
TOLERANCE = 1e-4

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def recorded(device: torch.device) -> dict[str, Tensor]:
    return load_file(GOLDEN / "ltx23_transformer.safetensors", device=device.type)


@pytest.fixture(scope="module")
def golden_family(
    recorded: dict[str, Tensor], miniature_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Family:
    """The recorded transformer in a model's folder."""
    folder = Path(shutil.copytree(miniature_folder, tmp_path_factory.mktemp("golden") / "model"))
    weights = {name.removeprefix("weights."): t for name, t in recorded.items() if name.startswith("weights.")}
    model = LTX2VideoTransformer3DModel(**RECORD["config"])
    model.load_state_dict(weights)
    model.save_pretrained(folder / "transformer")
    return open_family(read_model(folder, "ltx-2.3"))


@pytest.fixture(scope="module")
def golden_transformer(golden_family: Family, device: torch.device) -> Iterator[nn.Module]:
    # TensorFloat-32 would miss the recorded numbers by more than any mistake that is looked for here.
    assert torch.get_float32_matmul_precision() == "highest"
    with golden_family.transformer(device, torch.float32) as transformer:
        yield transformer


def stream(recorded: dict[str, Tensor], case: str, name: str) -> ModelStream:
    tokens, coordinates = recorded[f"{name}_tokens"], recorded[f"{name}_coords"]
    if name == "video" and CASES[case]["reference"]:
        tokens = torch.cat([tokens, recorded["reference_tokens"]], dim=1)
        coordinates = torch.cat([coordinates, recorded["reference_coords"]], dim=2)
    return ModelStream(tokens, recorded[f"{case}.{name}_timesteps"], recorded[f"{case}.{name}_sigma"], coordinates)


def test_nine_cases_were_recorded() -> None:
    assert len(CASES) == 9


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_velocities_in_float32_equal_those_of_the_original_implementation(
    case: str, golden_family: Family, golden_transformer: nn.Module, recorded: dict[str, Tensor]
) -> None:
    found = golden_family.predict(
        golden_transformer,
        {name: stream(recorded, case, name) for name in ("video", "audio")},
        {name: recorded[f"{name}_text"] for name in ("video", "audio")},
        stg_blocks=tuple(CASES[case]["stg_blocks"]),
        isolate=CASES[case]["modalities_isolated"],
    )

    expected = {name: recorded[f"{case}.{name}_velocity"] for name in ("video", "audio")}
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
