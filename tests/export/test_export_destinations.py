"""Paths that cannot be, of which every export tells before its work."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_exports import model_of

from hyena.export import step_to_onnx, to_aotinductor, to_onnx
from hyena.export.destination import replacing
from hyena.model import LanguageModel

EXPORTS: dict[str, Callable[[LanguageModel, Any], None]] = {
    "to_onnx": to_onnx,
    "step_to_onnx": step_to_onnx,
    "to_aotinductor": to_aotinductor,
}


@pytest.mark.parametrize("name", EXPORTS)
def test_a_path_that_cannot_be_is_told_first(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(*given: Any, **options: Any) -> None:
        raise AssertionError("the model was recorded")

    monkeypatch.setattr(torch.export, "export", recorded)
    model = model_of("attention", layers=1)
    ending = ".pt2" if name == "to_aotinductor" else ".onnx"
    folder, locked = tmp_path / f"folder{ending}", tmp_path / f"locked{ending}"
    folder.mkdir()
    locked.write_text("")
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and may(path, mode))
    lacking = tmp_path / "none" / f"model{ending}"
    for path, kind, message in (
        (
            tmp_path / "model.so",
            ValueError,
            f"expected a path that ends in {ending}, got {tmp_path}",
        ),
        (tmp_path / "model", ValueError, f"expected a path that ends in {ending}, got "),
        (None, TypeError, f"expected a path that ends in {ending}, got None"),
        (lacking, FileNotFoundError, f"there is no folder {tmp_path}/none for model{ending}; make"),
        (folder, IsADirectoryError, f"{folder} is a folder; give the path of a file"),
        (locked, PermissionError, f"{locked} may not be written; choose another path"),
    ):
        with pytest.raises(kind) as error:
            EXPORTS[name](model, path)
        assert str(error.value).startswith(f"{name}: {message}")
    with pytest.raises(AssertionError, match="the model was recorded"):
        EXPORTS[name](model, str(tmp_path / f"model{ending}"))


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    file.write_text("old")
    data.write_text("old numbers")
    with contextlib.suppress(KeyboardInterrupt), replacing(file, data) as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "model.onnx": "old",
        "model.onnx.data": "old numbers",
    }
    with replacing(file, data) as new:
        new.write_text("new")
        new.with_name("model.onnx.data").write_text("new numbers")
    assert (file.read_text(), data.read_text()) == ("new", "new numbers")
    with replacing(file, data) as new:
        new.write_text("small")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert file.read_text() == "small"
