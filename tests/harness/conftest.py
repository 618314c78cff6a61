"""A small model, tasks of one's own, and a cache of data sets apart from the user's."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from harness_models import BYTES, OF_TEXTS, TEXTS, build

import hyena

Settings = Mapping[str, Any]


@pytest.fixture(scope="session")
def model() -> hyena.LanguageModel:
    return build()


@pytest.fixture(scope="session")
def saved(model: hyena.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model, with its tokenizer."""
    path = tmp_path_factory.mktemp("model")
    model.save(path)
    BYTES.save(path)
    return path


@pytest.fixture(autouse=True)
def _cache_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.getbasetemp() / "data-sets"
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        patch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
        yield


@pytest.fixture
def write_task(tmp_path: Path) -> Callable[..., Path]:
    """Writes a task with its rows into a folder, which it gives back."""
    folder = tmp_path / "tasks"

    def write(name: str, rows: Sequence[Settings], settings: Settings) -> Path:
        folder.mkdir(exist_ok=True)
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            **settings,
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
        return folder

    return write


@pytest.fixture
def texts(write_task: Callable[..., Path]) -> Path:
    """A folder with the task "texts", bits per byte of `TEXTS`."""
    return write_task("texts", [{"text": text} for text in TEXTS], OF_TEXTS)
