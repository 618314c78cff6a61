"""One process at a time in the folder of a cell or of a sweep."""

import sys
from pathlib import Path

import pytest
from tiny_cells import cell

from hyena.experiments import CellConfig, Group, read_result, run_cell, run_sweep
from hyena.files.lock import locked

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
