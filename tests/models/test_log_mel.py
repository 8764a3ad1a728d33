"""The spectrogram, held against a recorded one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltx_trainer.models.log_mel import log_mel

GOLDEN = Path(__file__).parents[1] / "golden/log_mel.safetensors"


def test_a_spectrogram_equals_the_recorded_one() -> None:
    recorded = load_file(GOLDEN)

    found = log_mel(recorded["waveform"], rate_hz=16000, hop_length=160, mel_bins=64)

    torch.testing.assert_close(found, recorded["log_mel"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_samples", [513, 1599, 1600, 16000])
def test_a_frame_is_centred_on_every_hop(num_samples: int) -> None:
    found = log_mel(torch.zeros(2, num_samples), rate_hz=16000, hop_length=160, mel_bins=64)

    assert found.shape == (2, num_samples // 160 + 1, 64)
    assert torch.equal(found, torch.full_like(found, 1e-5).log())


def test_a_higher_tone_sounds_in_a_higher_bin() -> None:
    seconds = torch.arange(16000) / 16000
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * seconds) for hertz in (200, 800, 3000, 7000)])

    loudest = log_mel(tones, rate_hz=16000, hop_length=160, mel_bins=64)[:, 50].argmax(dim=-1)

    assert (loudest.diff() > 0).all()
