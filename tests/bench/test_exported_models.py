"""`benchmarks/exported_models.py`: what it writes, checks and says."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import exported_models as bench


def test_the_rows_have_every_kind_and_lengths_of_every_form() -> None:
    found = bench.cases()
    assert {case.to for case in found} == set(bench.KINDS)
    fixed = [case.lengths[0] for case in found if case.fixed]
    assert fixed == [1 << 10, 3 << 9, 1023]
    assert len({case.key for case in found}) == len({str(case) for case in found}) == len(found)
    assert found[-1].config().width == 768
    assert max(found[0].lengths) <= found[0].config().max_length


@pytest.mark.parametrize("only", ["bytes, torch", "bytes, onnx, 24", "recurrent"])
def test_a_file_is_measured(only: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--quick", "--seconds", "0.01", "--only", only, "--out", str(tmp_path)]
    assert bench.main(words) == 0
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    found = json.loads((tmp_path / "results.json").read_text())
    (row,) = found["rows"].values()
    lengths = [str(length) for length in row["row"]["lengths"]]
    assert list(row["errors"]) == lengths
    assert all(0 < its["l2"] < bench.TOLERANCE / 4 for its in row["errors"].values())
    assert all(its["max"] < bench.TOLERANCE for its in row["errors"].values())
    assert list(row["times"]) == [f"{name}, {x}" for x in lengths for name in ("file", "model")]
    assert row["bytes"] > 4 * 257 * 16  # those of the embedding
    assert text.count(f"| {row['row']['model']} |") == len(lengths)
    assert bench.main(words) == 0
    assert "1 of 1 case is there already" in capsys.readouterr().out


def test_a_file_that_is_too_far_off_is_not_timed() -> None:
    case = bench.cases(tiny=True)[0]
    model = bench.LanguageModel(case.config()).eval()
    with torch.no_grad():
        for wrong in (1.001, float("nan")):
            found = bench.of_calls(case, model, lambda ids, w=wrong: w * model(ids), 0.01)
            assert "at length 32 it differs from the model by" in found["failed"]
            assert "times" not in found


def test_errors_are_relative() -> None:
    expected = torch.tensor([3.0, -4.0])
    found = bench.error(expected + torch.tensor([0.0, 0.1]), expected)
    assert found == pytest.approx({"l2": 0.02, "max": 0.025}, rel=1e-5)


def test_what_cannot_be_exported_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise RuntimeError("no\ncompiler")

    monkeypatch.setattr(bench, "export", refused)
    case = bench.cases(tiny=True)[1]
    found = bench.measure(case)
    assert found["failed"] == "RuntimeError: no compiler"
    assert f"- {case.key}: RuntimeError: no compiler" in bench.report({case.key: found}, {})
    monkeypatch.setattr(bench, "export", lambda case, model, file: file.write_bytes(b"no model"))
    found = bench.measure(bench.cases(tiny=True)[2])  # onnxruntime's errors have no common base
    assert found["failed"].startswith("InvalidProtobuf: ")


def test_mistakes_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--only", "pdf"], "--only: no row has 'pdf' in its name; they are bytes, torch, any; "),
        (["--seconds", "0"], "--seconds: expected more than 0, got 0.0"),
        (["--threads", "0"], "--threads: expected at least 1, got 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            bench.main(words)
        assert message in capsys.readouterr().err
