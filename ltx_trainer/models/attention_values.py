"""STG on the library's LTX-Video transformer: self-attention of some blocks replaced by its value projection.

The library's own hooks for it fail on this transformer. An attention processor does it, so it holds with a LoRA on the
projections and under every wrapper. A call names its blocks in `stg_blocks`, which is kept for its thread from its
start to its end, so calls may nest and run in several threads.

Source: Hyung et al. 2024 (arXiv 2411.18664), in the form in which LTX-Video uses it.
"""

import threading
from typing import Any

from diffusers.models.transformers.transformer_ltx import LTXAttention, LTXVideoAttnProcessor
from torch import Tensor, nn

STG_BLOCKS = "stg_blocks"
"""The argument of a call of the transformer."""


class _Running(threading.local):
    """What the calls of this thread that have begun and not ended name, the innermost last."""

    calls: tuple[frozenset[int], ...] = ()


_running = _Running()


def perturb_by_values(transformer: nn.Module) -> None:
    """Make a transformer take `stg_blocks`, a keyword argument: numbers of blocks; none for a plain call."""
    transformer.register_forward_pre_hook(_enter, with_kwargs=True)
    transformer.register_forward_hook(_leave, always_call=True)
    for number, block in enumerate(transformer.get_submodule("transformer_blocks").children()):
        attention = block.get_submodule("attn1")
        assert isinstance(attention, LTXAttention), "asked of the library's own transformer"
        attention.set_processor(_ValuesProcessor(number))  # pyright: ignore[reportArgumentType] - of another model's


class _ValuesProcessor(LTXVideoAttnProcessor):
    """The library's processor, or the values alone while a call names the block."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def __call__(
        self,
        attn: LTXAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Tensor:
        # Outside of a call, as when a block is computed again for its gradient, nothing is perturbed.
        if _running.calls and self._number in _running.calls[-1]:
            return attn.to_out[1](attn.to_out[0](attn.to_v(hidden_states)))
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)


def _enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    _running.calls = (*_running.calls, frozenset(kwargs.get(STG_BLOCKS, ())))
    return args, {name: value for name, value in kwargs.items() if name != STG_BLOCKS}


def _leave(_module: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
    _running.calls = _running.calls[:-1]
