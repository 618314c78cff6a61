"""Checkpoints of which each process writes a part: they hold what one file holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from parts_cases import SHARDED
from shared_cases import STEPS, config
from tiny_runs import tensors
from torch import Tensor
from two_ranks import run_two

import hyena
from hyena.files import parts
from hyena.files.digests import FILE as DIGESTS
from hyena.training import list_checkpoints, train

LAST = f"checkpoints/step-{STEPS:08d}"


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """The folder of all runs, and what each rank said; one is begun and ended by one process."""
    folder = tmp_path_factory.mktemp("runs")
    more = STEPS + 1
    moved = folder / "moved"
    train(config(data, moved, steps=more, stop_after=1, checkpoint=SHARDED))
    said = run_two("parts_cases", data, folder)
    train(config(data, moved, steps=more, resume=True))
    return folder, said


@pytest.fixture
def folder(runs: tuple[Path, list[dict[str, str]]]) -> Path:
    return runs[0]


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A checkpoint in parts, to be damaged."""
    return shutil.copytree(folder / "parts" / LAST, tmp_path / "step-00000004")


def in_parts(checkpoint: Path) -> dict[str, Tensor]:
    """As `tiny_runs.tensors` names those of one file."""
    found = parts.read(checkpoint)
    return {name.replace(".", ".safetensors:", 1): x for name, x in found.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    assert [name for name, x in one.items() if not torch.equal(x, other[name])] == []


def test_parts_hold_what_one_file_holds_bit_for_bit(folder: Path) -> None:
    for step in range(1, STEPS + 1):
        place = f"checkpoints/step-{step:08d}"
        assert len(parts.names(folder / "parts" / place)) == 2
        assert not (folder / "parts" / place / "model.safetensors").exists()
        same(in_parts(folder / "parts" / place), tensors(folder / "file" / place))


def test_each_process_writes_about_half(folder: Path) -> None:
    checkpoint = folder / "parts" / LAST
    sizes = [(checkpoint / name).stat().st_size for name in parts.names(checkpoint)]
    assert max(sizes) < 0.6 * sum(sizes)


def test_a_run_in_halves_is_the_uninterrupted_one_bit_for_bit(folder: Path) -> None:
    same(in_parts(folder / "halves" / LAST), in_parts(folder / "parts" / LAST))


def test_a_run_goes_on_however_it_is_shared(folder: Path, data: Path, tmp_path: Path) -> None:
    """One process, rows, parts and pieces, one process and one file: to rounding."""
    train(config(data, tmp_path / "alone", steps=STEPS + 1))
    place = f"checkpoints/step-{STEPS + 1:08d}"
    one, other = tensors(folder / "moved" / place), tensors(tmp_path / "alone" / place)
    largest = max(float(x.norm()) for x in other.values())
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert float((x - other[name]).norm()) <= 1e-10 * largest, name


def test_parts_are_opened_by_one_process_and_saved_as_one_file(
    folder: Path, tmp_path: Path
) -> None:
    hyena.load(folder / "parts" / LAST).save(tmp_path / "model")
    one, other = (hyena.load(x).state_dict() for x in (tmp_path / "model", folder / "file" / LAST))
    same(one, other)


def test_a_run_begins_with_parts(folder: Path, data: Path, tmp_path: Path) -> None:
    for name in "parts", "file":
        train(config(data, tmp_path / name, init=folder / name / LAST, steps=1))
    place = "checkpoints/step-00000001"
    same(tensors(tmp_path / "parts" / place), tensors(tmp_path / "file" / place))


def test_a_part_that_is_missing_is_named(copy: Path) -> None:
    part = copy / parts.names(copy)[1]
    part.unlink()
    with pytest.raises(ValueError, match=f"{part} is missing, a part of the weights; restore it"):
        hyena.load(copy)


def test_a_part_that_is_missing_is_seen_without_the_list_of_files(copy: Path) -> None:
    (copy / parts.names(copy)[0]).unlink()
    (copy / DIGESTS).unlink()
    with pytest.raises(ValueError, match=r"lacks parts of \S+: \d+ of its \d+ numbers are there"):
        hyena.load(copy)


def test_a_part_that_is_damaged_is_named(copy: Path) -> None:
    part = copy / parts.names(copy)[1]
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.raises(ValueError, match=f"{part} is damaged: its SHA-256"):
        hyena.load(copy)


def test_a_full_disk_of_one_process_is_said_by_all(
    runs: tuple[Path, list[dict[str, str]]],
) -> None:
    folder, said = runs
    checkpoints = folder / "full" / "checkpoints"
    assert [rank["full"] for rank in said] == [
        f"checkpoint {checkpoints / 'step-00000003'} could not be written: process 1: No space "
        f"left on device; the checkpoints up to {checkpoints / 'step-00000002'} are intact. Free "
        "space or mend the folder, then resume"
    ] * 2
    assert list(checkpoints.glob("*.tmp")) == []


def test_a_process_that_dies_while_it_saves_leaves_the_last_checkpoint_whole(
    folder: Path,
) -> None:
    saved = list_checkpoints(folder / "killed" / "checkpoints")
    assert [path.name for path in saved] == ["step-00000001", "step-00000002"]
    same(in_parts(saved[-1]), in_parts(folder / "parts" / "checkpoints" / saved[-1].name))
