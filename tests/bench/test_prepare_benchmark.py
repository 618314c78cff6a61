"""`benchmarks/prepare.py`: what it writes and how it judges."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import prepare as bench


def test_every_contender_is_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")  # which it changes
    (tmp_path / "scratch").mkdir()
    words = ["--quick", "--out", f"{tmp_path}/out", "--scratch", f"{tmp_path}/scratch"]
    bench.main(words)
    text = (tmp_path / "out" / "table.md").read_text()
    assert text in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    for case in bench.QUICK:
        row = found["rows"][case.key]
        assert set(row["times"]) == set(case.contenders)
        assert all(timing["median"] > 0 for timing in row["times"].values())
    assert [goal["measured"] is None for goal in found["goals"]] == [False] * 3
    assert list((tmp_path / "scratch").iterdir()) == []


def times(**seconds: float) -> dict[str, Any]:
    return {
        "row": {"megabytes": 600},
        "times": {
            name: dict.fromkeys(("median", "lower", "upper"), s) for name, s in seconds.items()
        },
    }


def test_bytes_are_held_against_300_megabytes_or_the_disk() -> None:
    for ours, disk, expected in ((2, 1, 1.0), (1, 1, 2.0), (4, 4, 1.0), (8, 4, 0.5)):
        results = {"bytes": times(hyena=ours, disk=disk)}
        assert bench.bytes_or_disk(results).value == pytest.approx(expected)
    assert bench.bytes_or_disk({}) is None


def test_bpe_is_held_against_its_library() -> None:
    results = {"bpe": times(hyena=10, encode_batch=9.1, encode_batch_fast=8)}
    _, batch, fast = bench.goals()
    assert batch.measure(results).value == pytest.approx(0.91)
    assert batch.met(batch.measure(results))
    assert not fast.met(fast.measure(results))


def test_rows_are_of_one_length_and_none_is_twice() -> None:
    found = list(bench.rows(1))
    assert {len(row) for row in found} == {bench.ROW}
    assert len(set(found)) == len(found)
    assert 1_000_000 <= sum(len(row.encode()) for row in found) < 1_000_000 + 2 * bench.ROW
