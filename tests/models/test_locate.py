"""Where a base model lies."""

from pathlib import Path

import pytest

from ltx_trainer.errors import ModelError
from ltx_trainer.models import locate_model, read_model


def test_a_folder_is_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert locate_model("/models/ltx", "ltx-2.3", tmp_path) == Path("/models/ltx")
    assert locate_model("~/ltx", "ltx-2.3", tmp_path) == tmp_path / "ltx"


def test_the_miniature_is_written_once(tmp_path: Path) -> None:
    folder = locate_model("miniature", "ltx-2.3", tmp_path)
    written = (folder / "model_index.json").stat().st_mtime_ns

    assert locate_model("miniature", "ltx-2.3", tmp_path) == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == written
    assert read_model(folder, "ltx-2.3").name == "miniature ltx-2.3"


def test_a_family_without_a_miniature_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no miniature of 'ltx-9'"):
        locate_model("miniature", "ltx-9", tmp_path)
