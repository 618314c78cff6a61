"""One process at a time in the folder of a cell or of a sweep."""

import sys
from pathlib import Path

import pytest
from tiny_cells import cell

from hyena.experiments import CellConfig, Group, read_result, run_cell, run_sweep
from hyena.files.folder import locked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks there")


def refusal(folder: Path) -> str:
    return rf"^another run is using {folder}; wait for it or stop it first$"


def sweep_of(config: CellConfig) -> list[Group]:
    return [Group("hyena", {}, [{}], [[config]])]


def test_a_cell_is_run_once_at_a_time(tmp_path: Path) -> None:
    config = cell(tmp_path / "cell")
    refused: list[int] = []

    def meanwhile(step: int, steps: int) -> None:
        if step == 3:
            with pytest.raises(RuntimeError, match=refusal(config.out)):
                run_cell(config)
            refused.append(step)

    end = run_cell(config, progress=meanwhile)
    assert refused == [3]
    assert end.result == read_result(config.out)
    assert run_cell(config).result == end.result  # a finished one is only read


def test_a_sweep_is_run_once_at_a_time(tmp_path: Path) -> None:
    plan = sweep_of(cell(tmp_path / "cells/cell"))
    with locked(tmp_path), pytest.raises(RuntimeError, match=refusal(tmp_path)):
        run_sweep(plan, tmp_path, jobs=1)
    assert not (tmp_path / "sweep.json").exists()
    lines: list[str] = []
    with locked(plan[0].cells[0][0].out):
        assert run_sweep(plan, tmp_path, jobs=1, say=lines.append).failed == 1
    assert "failed: another run is using " in lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("train.yaml", "the folder of a run of `hyena train`"),
        ("checkpoints/step-00000001/training.json", "the folder of a run of `hyena train`"),
        ("manifest.json", "a folder of token files of `hyena prepare`"),
        ("results.json", "the folder of a table of `hyena tasks table`"),
    ],
)
def test_a_folder_of_another_kind_is_left_alone(tmp_path: Path, file: str, kind: str) -> None:
    config = cell(tmp_path / "there")
    (config.out / file).parent.mkdir(parents=True)
    (config.out / file).write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=f"there is {kind}, which this command does not w"):
        run_cell(config)
    with pytest.raises(FileExistsError, match=f"there is {kind}, which this command does not w"):
        run_sweep(sweep_of(cell(tmp_path / "cells/cell")), config.out, jobs=1)
    assert contents(tmp_path) == before


def test_a_sweep_is_no_cell_and_a_cell_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(FileExistsError, match="is the folder of a sweep of `hyena tasks sweep`"):
        run_cell(cell(tmp_path))
    (tmp_path / "sweep.json").rename(tmp_path / "result.json")
    with pytest.raises(FileExistsError, match="is the folder of a cell of `hyena tasks run`"):
        run_sweep(sweep_of(cell(tmp_path / "cells/cell")), tmp_path, jobs=1)
