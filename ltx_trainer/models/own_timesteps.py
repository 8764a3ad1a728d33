"""A correction to the library's LTX-2.x transformer: what its cross-attention between streams is modulated by.

In the model as trained, a stream's scale and shift in this attention follow the timesteps of its own tokens, and the
gate follows the noise level of the other stream. The library takes both from the other stream, or both from its own
tokens; either is wrong as soon as a token is given (a first frame, a reference) or the streams differ in noise.
Corrected, the outputs equal the recorded ones of the original implementation.

Forward hooks do it, so it holds for every caller and under every wrapper. They keep no state on the model: a call's
timesteps are kept for its thread, from its start to its end, so calls may nest and run in several threads.
"""

import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class _Timesteps(NamedTuple):
    """What one call of the transformer was given, for each token, times 1000."""

    video: Tensor
    audio: Tensor


class _Running(threading.local):
    """The calls of this thread that have begun and not ended, the innermost last."""

    calls: tuple[_Timesteps, ...] = ()


_running = _Running()


def modulate_by_own_timesteps(transformer: nn.Module) -> None:
    """Install the correction on a transformer that is called with keyword arguments."""
    transformer.register_forward_pre_hook(_enter, with_kwargs=True)
    transformer.register_forward_hook(_leave, always_call=True)
    video: nn.Module = transformer.get_submodule("av_cross_attn_video_scale_shift")
    audio: nn.Module = transformer.get_submodule("av_cross_attn_audio_scale_shift")
    video.register_forward_pre_hook(_use_video_timesteps)
    audio.register_forward_pre_hook(_use_audio_timesteps)


def _enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    video, audio = kwargs["timestep"], kwargs.get("audio_timestep")
    _running.calls = (*_running.calls, _Timesteps(video, video if audio is None else audio))
    # Leaves the gates, which no hook touches, to the other stream's noise level.
    return args, kwargs | {"use_cross_timestep": True}


def _leave(_module: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
    _running.calls = _running.calls[:-1]


def _use_video_timesteps(_: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return (torch.flatten(_running.calls[-1].video), *args[1:])


def _use_audio_timesteps(_: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return (torch.flatten(_running.calls[-1].audio), *args[1:])
