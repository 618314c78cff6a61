"""Every format holds the same, and other programs read it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hyena.scoring import outputs
from hyena.scoring.journal import Journal
from hyena.scoring.outputs import ROWS, VECTORS, check_output, write_rows, write_vectors

NAMES = ["one", "é two", "", "four"]
TOKENS = [3, 1, 5, 2]
WIDTH = 6


def of(i: int, pooled: bool, dtype: Any = np.float32) -> np.ndarray:
    shape = (WIDTH,) if pooled else (TOKENS[i], WIDTH)
    return np.random.default_rng(i).standard_normal(shape).astype(dtype)


def filled(folder: Path, pooled: bool, dtype: Any = np.float32) -> Journal:
    """Four sequences with vectors, and one that was skipped before the third."""
    folder.mkdir()
    kept = Journal(folder, {})
    for i, name in enumerate(NAMES):
        if i == 2:
            kept.append([{"index": 2, "name": "bad", "skipped": "it is empty"}])
        row = {"index": i + (i >= 2), "name": name, "tokens": TOKENS[i]}
        kept.append([row], of(i, pooled, dtype))
    kept.close()
    return kept


def loaded(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file."""
    if file.suffix == ".safetensors":
        return load_file(file)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_are_read_by_their_libraries(
    dtype: Any, pooled: bool, ending: str, tmp_path: Path
) -> None:
    kept, out = filled(tmp_path / "kept", pooled, dtype), tmp_path / f"out{ending}"
    write_vectors(out, kept, dtype=np.dtype(dtype), width=WIDTH, pooled=pooled)
    found = loaded(out)
    assert {*found} == {"index", "embeddings", "names"} | (set() if pooled else {"offsets"})
    assert found["index"].tolist() == [0, 1, 3, 4]
    assert found["names"].tobytes().decode().split("\n") == NAMES
    whole = [np.atleast_2d(of(i, pooled, dtype)) for i in range(4)]
    assert found["embeddings"].dtype == dtype
    np.testing.assert_array_equal(found["embeddings"], np.concatenate(whole))
    if not pooled:
        starts = found["offsets"]
        for i, rows in enumerate(whole):
            np.testing.assert_array_equal(found["embeddings"][starts[i] : starts[i + 1]], rows)


@pytest.mark.parametrize("ending", VECTORS)
@pytest.mark.parametrize("pooled", [True, False])
def test_a_file_without_vectors_is_one_all_the_same(
    pooled: bool, ending: str, tmp_path: Path
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    folder = tmp_path / "kept"
    folder.mkdir()
    kept = Journal(folder, {})
    kept.append([{"index": 0, "name": "bad", "skipped": "it is empty"}])
    kept.close()
    out = tmp_path / f"out{ending}"
    write_vectors(out, kept, dtype=np.dtype(np.float32), width=WIDTH, pooled=pooled)
    if ending != ".parquet":
        assert loaded(out)["embeddings"].shape == (0, WIDTH)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("block", [1, 100, 1 << 24])
def test_vectors_in_parquet_have_a_row_each(
    block: int, pooled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(outputs, "_BLOCK", block)
    kept, out = filled(tmp_path / "kept", pooled), tmp_path / "out.parquet"
    write_vectors(out, kept, dtype=np.dtype(np.float32), width=WIDTH, pooled=pooled)
    found = parquet.read_table(out).to_pylist()
    expected = []
    for i, name in enumerate(NAMES):
        for position, row in enumerate(np.atleast_2d(of(i, pooled))):
            place = {} if pooled else {"position": position}
            expected.append(
                {"index": i + (i >= 2), "name": name, **place, "embedding": row.tolist()}
            )
    assert found == expected


ROWS_KEPT: list[dict[str, Any]] = [
    {"index": 0, "name": "one", "tokens": 2, "score": -1.5, "positions": [None, -1.5]},
    {"index": 1, "name": "é", "skipped": "it is empty"},
]


@pytest.mark.parametrize("ending", ROWS)
def test_rows_are_read_by_other_programs(ending: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "kept", tmp_path / f"out{ending}"
    folder.mkdir()
    kept = Journal(folder, {})
    for row in ROWS_KEPT:
        kept.append([row])
    kept.close()
    columns: Any = {
        **{"index": "int64", "name": "string", "tokens": "int64", "score": "float64"},
        **{"positions": "list", "skipped": "string"},
    }
    if ending == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        write_rows(out, kept, columns)
        nothing = dict.fromkeys(columns)
        assert parquet.read_table(out).to_pylist() == [{**nothing, **row} for row in ROWS_KEPT]
    else:
        write_rows(out, kept, columns)
        lines = out.read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == ROWS_KEPT


def test_another_ending_is_refused_before_the_work() -> None:
    message = "out: expected a file that ends in .jsonl, .parquet, got a.csv"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        check_output(Path("a.csv"), ROWS)
    check_output(Path("a.JSONL"), ROWS)
    check_output(Path("a.npz"), VECTORS)


def test_parquet_without_its_package_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"a Parquet file needs the package 'pyarrow', which is"):
        check_output(Path("a.parquet"), ROWS)
