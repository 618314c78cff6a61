"""`benchmarks/quantized.py`: bits per byte with weights of fewer bits; what lacks, in one line."""

import sys
from pathlib import Path

import pytest

import hyena
from hyena.bench.generation import weights
from hyena.data import PrepareConfig, open_tokens, prepare
from hyena.evaluation import evaluate

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import quantized as bench


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model, and tokens of a text."""
    root = tmp_path_factory.mktemp("quantized")
    config = hyena.ModelConfig(width=8, layers=1, max_length=16, mlp_width=8)
    hyena.LanguageModel(config).save(root / "model")
    (root / "text.txt").write_text("We the people of the United States. |" * 9)
    source = PrepareConfig(source=str(root / "text.txt"), separator="|", out=root / "data")
    prepare(source)
    return root / "model", root / "data"


def test_each_kind_of_weights_has_a_row(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = folders
    bench.main([str(model), "--data", str(data), "--split", "train"])
    head, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert "bits per byte" in head
    assert [row[0] for row in cells] == ["float32", "bf16", "int8", "int8_dynamic"]
    documents = open_tokens(data, "train").documents()
    expected = evaluate(hyena.load(model), documents, length=16, stride=8).bits_per_byte
    assert cells[0][2] == f"{expected:.4f}"
    assert all(abs(float(row[2]) - expected) < 0.1 for row in cells)


def test_what_lacks_is_one_line(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, data = map(str, folders)
    for words in (
        [str(tmp_path / "none"), "--data", data],
        [model, "--data", str(tmp_path / "none")],
    ):
        with pytest.raises(SystemExit, match=r"^quantized: .*none") as end:
            bench.main(words)
        assert "\n" not in str(end.value)
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    bench.main([model, "--data", data, "--split", "train"])
    said = capsys.readouterr()
    assert "quantized: int8 needs the package torchao: pip install" in said.err
    assert "int8" not in said.out
