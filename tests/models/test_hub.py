"""Models from the hub, held against a server that answers as the hub does."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from ltx_trainer.errors import ConfigError, ModelError, OutOfResources
from ltx_trainer.models import Located, locate_model, read_model
from ltx_trainer.models.hub import fetch_files, is_repository
from tests.models.hub_server import COMMIT, Hub, stand_in_hub

REPOSITORY = "diffusers/LTX-2.3-Diffusers"


@pytest.fixture
def hub(miniature_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the miniature, and the hub library pointed at it with an empty cache."""
    with stand_in_hub(tmp_path, monkeypatch) as server:
        server.repositories[REPOSITORY] = miniature_folder
        yield server


@pytest.fixture
def go_offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def locate(tmp_path: Path, base: str = REPOSITORY, *, revision: str | None = None) -> Located:
    return locate_model(base, "ltx-2.3", tmp_path, revision=revision)


def test_a_model_is_fetched_once_and_known_by_its_commit(hub: Hub, tmp_path: Path) -> None:
    located = locate(tmp_path)
    facts = read_model(located, "ltx-2.3")
    fetched = len(hub.fetched)

    assert (facts.revision, facts.source) == (COMMIT, REPOSITORY)
    assert located.path.is_relative_to(tmp_path / "hub")
    assert locate(tmp_path) == located
    assert len(hub.fetched) == fetched == len(set(hub.fetched))


def test_a_model_without_a_name_of_its_own_is_called_by_its_id(hub: Hub, own_miniature: Path, tmp_path: Path) -> None:
    (own_miniature / "ltx_trainer.json").unlink()
    hub.repositories[REPOSITORY] = own_miniature

    assert read_model(locate(tmp_path), "ltx-2.3").name == REPOSITORY


def test_a_filled_cache_is_enough_offline(hub: Hub, tmp_path: Path, go_offline: Callable[[], None]) -> None:
    located = locate(tmp_path)
    asked = len(hub.asked)
    go_offline()

    assert locate(tmp_path) == located
    assert len(hub.asked) == asked


def test_small_files_come_before_weights(hub: Hub, tmp_path: Path) -> None:
    locate(tmp_path)

    first_weights = next(index for index, name in enumerate(hub.fetched) if name.endswith(".safetensors"))
    assert {"model_index.json", "scheduler/scheduler_config.json", "transformer/config.json"} <= set(
        hub.fetched[:first_weights]
    )
    assert all(name.endswith(".json") for name in hub.fetched[:first_weights])


def test_another_family_is_fetched_by_the_same_code(hub: Hub, ltx_video_folder: Path, tmp_path: Path) -> None:
    hub.repositories["Lightricks/LTX-Video"] = ltx_video_folder

    located = locate_model("Lightricks/LTX-Video", "ltx-video", tmp_path)

    assert read_model(located, "ltx-video").version == "0.9.6-dev"
    assert not any("audio" in name or "tokenizer.model" in name for name in hub.fetched)


def test_a_version_that_is_left_open_is_asked_for_before_weights_come(
    hub: Hub, ltx_video_folder: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(ltx_video_folder, tmp_path / "own"))
    (own / "ltx_trainer.json").unlink()
    hub.repositories["Lightricks/LTX-Video"] = own

    with pytest.raises(ModelError, match=r"Lightricks/LTX-Video does not say which version .* Set model\.version"):
        locate_model("Lightricks/LTX-Video", "ltx-video", tmp_path)

    assert not any(name.endswith(".safetensors") for name in hub.fetched)
    assert locate_model("Lightricks/LTX-Video", "ltx-video", tmp_path, version="0.9.5").revision == COMMIT


def test_a_branch_is_looked_up_once_so_that_no_two_commits_are_mixed(hub: Hub, tmp_path: Path) -> None:
    locate(tmp_path)

    assert sum("main" in path for path in hub.asked) == 1


def test_only_what_the_family_needs_is_fetched(hub: Hub, own_miniature: Path, tmp_path: Path) -> None:
    unwanted = {
        "ltx-2.3-dev.safetensors",
        "transformer/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/pytorch_model.bin",
        "README.md",
    }
    for name in unwanted:
        (own_miniature / name).write_bytes(b"not wanted")
    hub.repositories[REPOSITORY] = own_miniature

    locate(tmp_path)

    assert not unwanted & set(hub.fetched)


@pytest.mark.parametrize("name", ["weights[1].bin", "weights*.bin", "weights?.bin"])
def test_a_file_is_fetched_by_its_name_even_where_that_reads_as_a_pattern(hub: Hub, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    for other in (name, "weights1.bin"):
        (folder / other).write_bytes(other.encode())
    hub.repositories[REPOSITORY] = folder

    fetched = fetch_files(REPOSITORY, None, [name])

    assert hub.fetched == [name]
    assert (fetched / name).read_bytes() == name.encode()


def test_all_shards_are_fetched_and_not_the_whole_file_beside_them(
    hub: Hub, own_miniature: Path, tmp_path: Path
) -> None:
    whole = own_miniature / "vae/diffusion_pytorch_model.safetensors"
    first, *others = (weights := load_file(whole))
    shards = {"1-of-2.safetensors": [first], "2-of-2.safetensors": others}
    for shard, names in shards.items():
        save_file({name: weights[name] for name in names}, whole.with_name(shard))
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps(index))
    hub.repositories[REPOSITORY] = own_miniature

    facts = read_model(locate(tmp_path), "ltx-2.3")

    found = {name for name in hub.fetched if name.startswith("vae/") and name.endswith(".safetensors")}
    assert found == {f"vae/{shard}" for shard in shards}
    assert facts.components["vae"].weights.keys() == weights.keys()


def test_a_distilled_model_is_refused_before_its_weights_come(hub: Hub, own_miniature: Path, tmp_path: Path) -> None:
    scheduler = own_miniature / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps({"use_dynamic_shifting": False}))
    hub.repositories[REPOSITORY] = own_miniature

    with pytest.raises(ModelError, match=rf"{REPOSITORY} is unsuitable .* scheduler is a distilled model's"):
        locate(tmp_path)

    assert all(name.endswith(".json") for name in hub.fetched)
    allowed = locate_model(REPOSITORY, "ltx-2.3", tmp_path, allow_unsuitable_base=True)
    assert allowed.revision == COMMIT


@pytest.mark.parametrize("word", ["distilled", "FP8", "gguf"])
def test_a_repository_whose_name_says_so_is_not_even_asked_for(hub: Hub, tmp_path: Path, word: str) -> None:
    with pytest.raises(ModelError, match=f"its name says {word.lower()}.*allow_unsuitable_base: true"):
        locate(tmp_path, f"someone/LTX-2.3-{word}")

    assert hub.asked == []


def test_another_family_is_refused_before_its_weights_come(hub: Hub, own_miniature: Path, tmp_path: Path) -> None:
    (own_miniature / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    hub.repositories[REPOSITORY] = own_miniature

    with pytest.raises(ModelError, match=rf"{REPOSITORY} holds a model of WanPipeline"):
        locate(tmp_path)

    assert all(name.endswith(".json") for name in hub.fetched)


def test_a_repository_in_another_layout_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["Lightricks/LTX-2.3"] = tmp_path / "layout"
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/ltx-2.3.safetensors").write_bytes(b"weights")

    with pytest.raises(ModelError, match=r"Lightricks/LTX-2\.3 has no model_index\.json"):
        locate(tmp_path, "Lightricks/LTX-2.3")

    assert hub.fetched == []


def test_a_gated_model_takes_a_licence_and_a_token(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add(REPOSITORY)

    with pytest.raises(ModelError, match=rf"Accept its licence at https://huggingface\.co/{REPOSITORY}, then set HF_T"):
        locate(tmp_path)

    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert locate(tmp_path).revision == COMMIT


@pytest.mark.usefixtures("hub")
def test_a_repository_that_is_not_there_is_said_to_be_neither_here_nor_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"someone/nothing is no folder here, and the hub shows no model of that name"):
        locate(tmp_path, "someone/nothing")


@pytest.mark.usefixtures("hub")
def test_a_revision_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"{REPOSITORY} has no revision 'v9'\. Give a branch, tag or commit"):
        locate(tmp_path, revision="v9")


@pytest.mark.usefixtures("hub")
def test_a_commit_can_be_asked_for(tmp_path: Path) -> None:
    assert locate(tmp_path, revision=COMMIT).revision == COMMIT


@pytest.mark.usefixtures("hub")
def test_a_hub_that_does_not_answer_is_told_with_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(ModelError, match=r"the hub cannot be reached \(ConnectE.*HF_HUB_OFFLINE=1 takes what is in"):
        locate(tmp_path)


def test_a_hub_out_of_order_is_told_with_what_works(hub: Hub, tmp_path: Path) -> None:
    hub.is_broken = True

    with pytest.raises(ModelError, match=r"the hub cannot be reached \(HTTPStatusError: .*500.*Try again"):
        locate(tmp_path)


def test_a_connection_that_breaks_is_told_with_what_works_and_can_be_taken_up(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hub library waits a second before each new try.
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.cuts_at = 1000

    with pytest.raises(ModelError, match=r"the hub cannot be reached \(.*what is there is not fetched twice"):
        locate(tmp_path)

    hub.cuts_at = None
    assert read_model(locate(tmp_path), "ltx-2.3").revision == COMMIT


@pytest.mark.usefixtures("hub")
def test_what_was_not_fetched_before_is_not_there_offline(tmp_path: Path, go_offline: Callable[[], None]) -> None:
    fetch_files(REPOSITORY, None, ["model_index.json"])
    go_offline()

    with pytest.raises(ModelError, match=rf"HF_HUB_OFFLINE is set, and {REPOSITORY} is not whole in the cache"):
        locate(tmp_path)
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set, and someone/else is not whole in the cache"):
        locate(tmp_path, "someone/else")


@pytest.mark.usefixtures("hub")
def test_a_full_disk_is_told_from_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_disk: Callable[[int], Path]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(small_disk(400)))

    with (
        pytest.warns(UserWarning, match="Not enough free disk space"),
        pytest.raises(OutOfResources, match=f"No space left on the disk of .* while fetching {REPOSITORY}"),
    ):
        locate(tmp_path)


@pytest.mark.usefixtures("hub")
def test_a_cache_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only_disk: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(read_only_disk))

    with pytest.raises(ConfigError, match=f"{REPOSITORY} cannot be kept in .*Set HF_HOME"):
        locate(tmp_path)


def test_the_environment_is_heard_and_no_tensor_library_is_loaded(hub: Hub, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, ltx_trainer.models as models;"
        f"print(models.locate_model({REPOSITORY!r}, 'ltx-2.3', pathlib.Path('.')).path);"
        "print(sorted({'torch', 'diffusers', 'transformers', 'peft'} & set(sys.modules)))"
    )
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, **settings}
    )

    path, loaded = done.stdout.split("\n", 1)
    assert Path(path).is_relative_to(tmp_path / "home")
    assert Path(path).name == COMMIT
    assert loaded.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("diffusers/LTX-2.3-Diffusers", True),
        ("models/ltx", True),
        ("./models/ltx", False),
        ("../ltx", False),
        ("~/ltx", False),
        ("/models/ltx", False),
        ("a/b/c", False),
        ("ltx", False),
        ("models/ltx.safetensors", False),
        ("models/ltx.gguf", False),
        ("models/", False),
    ],
)
def test_an_id_is_told_from_a_path(text: str, is_one: bool) -> None:
    assert is_repository(text) is is_one
