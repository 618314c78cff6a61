"""Records of trainings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import small

from hyena.files.records import to_plain
from hyena.scaling import Bits, Cell, Flops, Result, make_plan, read_result, read_results
from hyena.scaling.plan import write_plan
from hyena.scaling.record import choose, find_finished, write_result

BITS = Bits(2.5, 3.0, 100, 90, 4)


def result(cell: Cell, **changes: Any) -> Result:
    """A record as a cell's process might have written it."""
    fields: dict[str, Any] = {
        "family": cell.family,
        "width": cell.size.width,
        "layers": cell.size.layers,
        "seed": cell.seed,
        "trial": cell.trial,
        "phase": cell.phase,
        "tokens_per_parameter": cell.tokens_per_parameter,
        "settings": to_plain(cell.train),
        "parameters": 12,
        "parameters_outside_embedding": 10,
        "tokens": cell.tokens,
        "steps": cell.train.steps,
        "epochs": 0.5,
        "flops": Flops(1e9, 2e9, None),
        "seconds": 1.5,
        "precision": "32",
        "validation": BITS,
        "test": None,
        "curve": [{"step": 1, "tokens": 64, "seconds": 0.1, "loss": 5.0}],
        "versions": {"torch": "2"},
        "machine": {"processor": "x", "cores": 2},
        "threads": 1,
    }
    return Result(**{**fields, **changes})


@pytest.fixture
def cells(data: Path, tmp_path: Path) -> list[Cell]:
    return make_plan(small(data, tmp_path), {"Hyena": 0, "attention": 0})


def test_a_record_is_read_as_it_was_written(cells: list[Cell]) -> None:
    cell = cells[0]
    assert read_result(cell.folder) is None
    assert find_finished(cell) is None
    cell.folder.mkdir(parents=True)
    (cell.folder / "failed.txt").write_text("no luck\n")
    written = result(cell, test=BITS)
    write_result(cell.folder, written)
    assert read_result(cell.folder) == written
    assert sorted(path.name for path in cell.folder.iterdir()) == ["SHA256SUMS", "result.json"]
    (cell.folder / "failed.txt").write_text("no luck\n")
    assert find_finished(cell) == written
    assert not (cell.folder / "failed.txt").exists()


def test_a_record_of_another_training_or_a_damaged_one_is_refused(cells: list[Cell]) -> None:
    cell = cells[0]
    settings = to_plain(cell.train)
    write_result(cell.folder, result(cell, settings={**settings, "clip": 0.5, "tensorboard": True}))
    with pytest.raises(ValueError, match=r"another training: clip was 0\.5, is 1\.0\. Use the old"):
        find_finished(cell)
    record = cell.folder / "result.json"
    record.write_text(record.read_text().replace("0.5", "1.0"))
    with pytest.raises(ValueError, match="is damaged: its SHA-256 is not that in SHA256SUMS; if"):
        read_result(cell.folder)
    record.write_text('{"format_version": 1}')
    with pytest.raises(ValueError, match=r"result\.json is damaged: family is missing in Result"):
        read_result(cell.folder)


def test_the_records_of_a_sweep_are_those_of_its_plan(
    cells: list[Cell], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="holds no scaling sweep"):
        read_results(tmp_path)
    write_plan(small(data, tmp_path), {}, cells[1:4])
    for cell in (cells[3], cells[0], cells[1]):
        write_result(cell.folder, result(cell))
    assert read_results(tmp_path) == [result(cells[1]), result(cells[3])]


def test_the_best_trial_has_the_fewest_bits_on_the_validation_documents(cells: list[Cell]) -> None:
    def of(bits: float) -> Result:
        return result(cells[0], validation=replace(BITS, bits_per_byte=bits))

    assert choose({}) is None
    assert choose({2: of(1.5), 1: of(1.0), 0: of(1.0)}) == 0
    assert choose({2: of(0.5), 0: of(1.0)}) == 2
