"""Which model writes captions, and what is said where it cannot."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltx_trainer.errors import ModelError
from ltx_trainer.models import ModelFacts, locate_captioner, locate_model, read_model
from ltx_trainer.models.hub import snapshot_of
from tests.models.hub_server import COMMIT, Hub, stand_in_hub

WORKS = r"Set captions\.model to a folder or hub id"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with stand_in_hub(tmp_path, monkeypatch) as server:
        yield server


def test_the_base_models_own_encoder_is_taken_where_it_sees(seeing_base: Path, facts: ModelFacts) -> None:
    found = locate_captioner(None, None, facts)

    assert (found.folder, found.processor) == (seeing_base / "text_encoder", seeing_base / "processor")
    names = {path.relative_to(seeing_base).as_posix() for path in found.files}
    assert {
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/generation_config.json",
        "processor/processor_config.json",
        "processor/chat_template.jinja",
        "processor/tokenizer.json",
    } <= names


def test_a_processor_may_lie_with_the_tokenizer(own_base: Path) -> None:
    shutil.rmtree(own_base / "tokenizer")
    (own_base / "processor").rename(own_base / "tokenizer")

    assert locate_captioner(None, None, read_model(own_base, "ltx-2.3")).processor == own_base / "tokenizer"


def test_a_processor_of_many_files_is_taken(own_base: Path) -> None:
    place = own_base / "processor"
    config = json.loads((place / "processor_config.json").read_text())
    (place / "processor_config.json").unlink()
    (place / "preprocessor_config.json").write_text(json.dumps(config["image_processor"]))
    tokenizer = json.loads((place / "tokenizer_config.json").read_text())
    template = (place / "chat_template.jinja").read_text()
    (place / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "chat_template": template}))
    (place / "chat_template.jinja").unlink()

    assert locate_captioner(None, None, read_model(own_base, "ltx-2.3")).processor == place


def test_a_text_encoder_without_eyes_is_refused_with_what_works(random_miniature: Callable[[str], Path]) -> None:
    blind = read_model(random_miniature("ltx-video"), "ltx-video")

    with pytest.raises(ModelError, match=rf"the text encoder .*: it is a t5, and its config names no vision .*{WORKS}"):
        locate_captioner(None, None, blind)


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("processor_config.json", r"processor_config\.json or preprocessor_config\.json"),
        ("chat_template.jinja", r"a chat template \(chat_template\.jinja or chat_template\.json\)"),
        ("tokenizer_config.json", r"tokenizer_config\.json"),
    ],
)
def test_what_a_processor_lacks_is_named(llava: Path, facts: ModelFacts, tmp_path: Path, gone: str, told: str) -> None:
    folder = Path(shutil.copytree(llava, tmp_path / "llava"))
    (folder / gone).unlink()

    with pytest.raises(ModelError, match=rf"cannot be written by .*llava: .* lacks {told}\. Put there .*{WORKS}"):
        locate_captioner(str(folder), None, facts)


def test_a_base_without_a_processor_says_so(random_miniature: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=rf"tokenizer lacks processor_config.json or .*, a chat template .*{WORKS}"):
        locate_captioner(None, None, read_model(random_miniature("ltx-2.3"), "ltx-2.3"))


def test_a_model_of_text_alone_and_one_without_weights_are_refused(
    llava: Path, facts: ModelFacts, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(llava, tmp_path / "llava"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"captions\.model .*llava lacks model\.safetensors"):
        locate_captioner(str(folder), None, facts)

    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match=r"it is a llama, and its config names no vision tower"):
        locate_captioner(str(folder), None, facts)


def test_a_path_that_is_not_there_is_refused(facts: ModelFacts) -> None:
    with pytest.raises(ModelError, match=rf"captions\.model \./none is not there\. {WORKS}"):
        locate_captioner("./none", None, facts)


def test_an_id_is_fetched_from_the_hub_the_small_files_first(
    hub: Hub, llava: Path, facts: ModelFacts, tmp_path: Path
) -> None:
    hub.repositories["someone/llava"] = llava
    found = locate_captioner("someone/llava", None, facts)

    assert found.folder.is_relative_to(tmp_path / "hub")
    assert (found.source, found.folder.name) == ("someone/llava", COMMIT)
    assert hub.fetched[-1] == "model.safetensors"
    assert locate_captioner("someone/llava", COMMIT, facts) == found


def test_a_model_of_the_hub_that_does_not_see_is_refused_before_its_weights_come(
    hub: Hub, llava: Path, facts: ModelFacts, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(llava, tmp_path / "own"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    hub.repositories["someone/llama"] = folder

    with pytest.raises(ModelError, match="someone/llama: it is a llama"):
        locate_captioner("someone/llama", None, facts)

    assert not any(name.endswith(".safetensors") for name in hub.fetched)


@pytest.mark.usefixtures("hub")
def test_an_id_that_the_hub_does_not_know_is_refused(facts: ModelFacts) -> None:
    with pytest.raises(ModelError, match="someone/nothing is no folder here, and the hub shows no model"):
        locate_captioner("someone/nothing", None, facts)


def test_the_processor_of_a_base_from_the_hub_comes_when_captions_are_to_be_written(
    hub: Hub, seeing_base: Path, tmp_path: Path
) -> None:
    hub.repositories["someone/base"] = seeing_base
    base = read_model(locate_model("someone/base", "ltx-2.3", tmp_path), "ltx-2.3")
    before = list(hub.fetched)
    found = locate_captioner(None, None, base)

    assert not any(name.startswith("processor/") for name in before)
    assert found.processor == base.origin / "processor"
    assert "processor/chat_template.jinja" in hub.fetched


def test_a_folder_of_the_hubs_cache_says_what_it_is_of(tmp_path: Path) -> None:
    commit = tmp_path / "models--someone--big-model/snapshots/c0ffee"

    assert snapshot_of(commit) == ("someone/big-model", "c0ffee", "")
    assert snapshot_of(commit / "text_encoder") == ("someone/big-model", "c0ffee", "text_encoder")
    assert snapshot_of(tmp_path) is None
