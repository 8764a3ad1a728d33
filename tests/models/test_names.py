"""What modules are called, here and in the original checkpoint."""

import pytest
from torch import nn

from ltx_trainer.errors import ConfigError
from ltx_trainer.models.family import Family
from ltx_trainer.models.names import LTX2_GROUPS, check_groups
from ltx_trainer.modes import ALL_ATTENTION, AUDIO_ONLY_TARGETS, MODES, VIDEO_ATTENTION, Mode


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


@pytest.mark.parametrize("group", ["audio_attn1", "audio_ff", "audio_to_video_attn", "video_to_audio_attn"])
def test_a_silent_run_has_no_group_that_needs_sound(group: str) -> None:
    check_groups(LTX2_GROUPS, [*VIDEO_ATTENTION, "ff"], with_video=True, with_audio=False)

    with pytest.raises(ConfigError, match=rf"'{group}' learns nothing in a silent run\. .* or train with sound"):
        check_groups(LTX2_GROUPS, ["attn1", group], with_video=True, with_audio=False)


@pytest.mark.parametrize("group", ["attn1", "attn2", "ff", "audio_to_video_attn", "video_to_audio_attn"])
def test_a_run_without_pictures_has_no_group_that_needs_them(group: str) -> None:
    check_groups(LTX2_GROUPS, AUDIO_ONLY_TARGETS, with_video=False, with_audio=True)

    with pytest.raises(ConfigError, match=rf"'{group}' learns nothing in a run without pictures\. .*audio_attn1"):
        check_groups(LTX2_GROUPS, ["audio_attn1", group], with_video=False, with_audio=True)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_the_default_groups_of_a_mode_are_none_that_it_refuses(mode: Mode) -> None:
    check_groups(LTX2_GROUPS, mode.targets, with_video=mode.has_video, with_audio=True)
    if not mode.needs_audio:
        check_groups(LTX2_GROUPS, mode.silent_targets, with_video=True, with_audio=False)


def test_what_only_a_frozen_prediction_depends_on_is_left_out(family: Family) -> None:
    last = family.facts.num_blocks - 1
    whole = family.lora_modules([*ALL_ATTENTION, "ff", "audio_ff"])

    def absent(stream: str) -> set[str]:
        left = family.lora_modules([*ALL_ATTENTION, "ff", "audio_ff"], frozen=[stream])
        return {".".join(name.split(".")[1:3]) for name in set(whole).difference(left)}

    assert absent("audio") == {f"{last}.video_to_audio_attn", f"{last}.audio_ff"}
    assert absent("video") == {f"{last}.audio_to_video_attn", f"{last}.ff"}
