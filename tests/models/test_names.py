"""What modules are called, here and in the original checkpoint."""

import pytest
from torch import nn

from ltx_trainer.errors import ConfigError
from ltx_trainer.models.family import Family
from ltx_trainer.modes import ALL_ATTENTION, VIDEO_ATTENTION


def test_published_names_go_back_to_where_they_came_from(family: Family, transformer: nn.Module) -> None:
    modules = [name for name, _ in transformer.named_modules() if name]
    published = [family.published_name(name) for name in modules]

    assert [family.library_name(name) for name in published] == modules
    assert len(set(published)) == len(modules)


@pytest.mark.parametrize(
    ("library", "published"),
    [
        ("proj_in", "patchify_proj"),
        ("audio_time_embed.linear", "audio_adaln_single.linear"),
        ("av_cross_attn_audio_v2a_gate.linear", "av_ca_v2a_gate_adaln_single.linear"),
        ("transformer_blocks.3.audio_attn1.norm_q", "transformer_blocks.3.audio_attn1.q_norm"),
        ("transformer_blocks.3.ff.net.0.proj", "transformer_blocks.3.ff.net.0.proj"),
        ("norm_out", "norm_out"),
    ],
)
def test_some_modules_have_another_name_in_the_original_checkpoint(
    family: Family, library: str, published: str
) -> None:
    assert family.published_name(library) == published
    assert family.library_name(published) == library


def test_lora_modules_are_linear_layers_of_every_block(family: Family, transformer: nn.Module) -> None:
    groups = [*ALL_ATTENTION, "ff", "audio_ff"]
    names = family.lora_modules(groups)

    assert len(set(names)) == len(names) == family.facts.num_blocks * (6 * 4 + 2 * 2)
    assert all(isinstance(transformer.get_submodule(name), nn.Linear) for name in names)


def test_silent_targets_name_nothing_of_the_sound(family: Family) -> None:
    names = family.lora_modules(VIDEO_ATTENTION)

    assert names[:4] == [f"transformer_blocks.0.attn1.{layer}" for layer in ("to_q", "to_k", "to_v", "to_out.0")]
    assert not any("audio" in name for name in names)


def test_lora_names_are_the_same_in_the_original_checkpoint(family: Family) -> None:
    names = family.lora_modules(ALL_ATTENTION)

    assert [family.published_name(name) for name in names] == names


def test_a_mistyped_group_is_answered_with_the_one_meant(family: Family) -> None:
    with pytest.raises(ConfigError, match=r"'audio_atn1' is not known\. Did you mean audio_attn1\?"):
        family.lora_modules(["audio_atn1"])


def test_gates_are_no_target(family: Family) -> None:
    with pytest.raises(ConfigError, match=r"'to_gate_logits' is not known"):
        family.lora_modules(["to_gate_logits"])
