"""`hyena embed`: the file that it writes, when it is interrupted, and of bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sequence_inputs import BAD_REGIONS, REGIONS, TEXTS, write_genome, write_regions

import hyena
from hyena.cli import main
from hyena.data import Document, load_tokenizer
from hyena.model import LanguageModel
from hyena.scoring import embed

Output = pytest.CaptureFixture[str]
BYTES = load_tokenizer("bytes")


def loaded(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file."""
    if file.suffix == ".safetensors":
        return load_file(file)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
@pytest.mark.parametrize("layer", ["norm", "blocks.0"])
@pytest.mark.parametrize("pool", ["mean", "last", "none"])
def test_a_file_has_the_vectors_of_all_sequences(
    pool: Any,
    layer: str,
    ending: str,
    saved_model: Path,
    texts_file: Path,
    tmp_path: Path,
    capsys: Output,
) -> None:
    out = tmp_path / f"vectors.{ending}"
    options = [f"--out={out}", f"--layer={layer}", f"--pool={pool}"]
    assert main(["embed", str(saved_model), str(texts_file), *options]) == 0
    assert capsys.readouterr().out == f"{out}: vectors of 5 sequences\n"
    found = loaded(out)
    vectors = embed(hyena.load(saved_model), BYTES, TEXTS, layer=layer, pool=pool)
    expected = np.concatenate([np.atleast_2d(one.vectors) for one in vectors])
    np.testing.assert_array_equal(found["embeddings"], expected)
    assert found["names"].tobytes().decode().split("\n") == [f"line {i}" for i in range(1, 6)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt", out.name]


def test_an_interrupted_command_goes_on_where_it_was(
    saved_model: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.scoring.batches._WAITING", 2)
    left, through = [5], LanguageModel._enter

    def failing(self: LanguageModel, *inputs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return through(self, *inputs)

    monkeypatch.setattr(LanguageModel, "_enter", failing)
    file, out = tmp_path / "a.txt", tmp_path / "vectors.npz"
    file.write_text("".join(f"{'x' * (i % 9 + 1)}\n" for i in range(20)))
    words = ["embed", str(saved_model), str(file), f"--out={out}", "--batch=2", "--pool=none"]
    assert main(words) == 130
    assert not out.exists()
    assert "vectors.npz.partial holds the results of " in capsys.readouterr().err
    assert main(words) == 0
    assert "note: going on after " in capsys.readouterr().err
    again = loaded(out)
    out.unlink()
    assert main(words) == 0
    whole = loaded(out)
    assert {*again} == {*whole}
    for name, values in again.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-6)
    assert whole["index"].tolist() == list(range(20))


def test_a_sequence_that_is_skipped_has_no_vector(
    saved_model: Path, tmp_path: Path, capsys: Output
) -> None:
    file, out = tmp_path / "a.txt", tmp_path / "vectors.npz"
    file.write_text("cat\n" + "x" * 48 + "\ndog\n")
    words = ["embed", str(saved_model), str(file), f"--out={out}"]
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"error: {file}: line 2: it has 48 tokens, but the model has room for 47"
    )
    assert not out.exists()
    assert main([*words, "--on_error=skip"]) == 0
    assert capsys.readouterr().err.startswith("note: skipped line 2: it has 48 tokens, but the")
    found = loaded(out)
    assert found["index"].tolist() == [0, 2]
    assert found["embeddings"].shape == (2, 16)


def test_regions_have_vectors_in_the_direction_of_their_strand(
    saved_model: Path, tmp_path: Path
) -> None:
    genome, regions = write_genome(tmp_path), write_regions(tmp_path, *REGIONS)
    out = tmp_path / "vectors.npz"
    words = [str(saved_model), str(genome), f"--regions={regions}", f"--out={out}"]
    assert main(["embed", *words]) == 0
    found, sequences = loaded(out), [Document(name, bases) for name, bases in REGIONS.values()]
    assert found["names"].tobytes().decode().split("\n") == [name for name, _ in REGIONS.values()]
    expected = [one.vectors for one in embed(hyena.load(saved_model), BYTES, sequences)]
    np.testing.assert_array_equal(found["embeddings"], np.stack(expected))


def test_bad_regions_are_listed_or_end_the_command(
    saved_model: Path, tmp_path: Path, capsys: Output
) -> None:
    genome, out = write_genome(tmp_path), tmp_path / "vectors.npz"
    regions = write_regions(tmp_path, "chr1\t0\t8\tfirst", *BAD_REGIONS, "chr2\t0\t4\tlast")
    words = ["embed", str(saved_model), str(genome), f"--regions={regions}", f"--out={out}"]
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert f"{regions} line " in line
    assert not out.exists()
    assert main([*words, "--on_error=skip"]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == len(BAD_REGIONS)
    assert all(f"{regions} line " in note for note in notes)
    assert loaded(out)["names"].tobytes().decode().split("\n") == ["first", "last"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{texts} --out a.txt", "out: expected a file that ends in .safetensors, .npz, .parquet"),
        ("{texts} --out a.npz --layer blocks.9", "layer: expected norm or blocks.0 … blocks.1"),
        ("{texts} --out {texts}", "out: expected a file that ends in .safetensors"),
        ("absent.fa --out a.npz", "sequences were asked for in absent.fa, which does not exist"),
        ("{empty} --out a.npz", "is empty: there are no sequences in it"),
    ],
)
def test_a_mistake_is_one_line(
    words: str,
    message: str,
    saved_model: Path,
    texts_file: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty.txt"
    empty.touch()
    before = sorted(tmp_path.iterdir())
    given = words.format(texts=texts_file, empty=empty).split()
    assert main(["embed", str(saved_model), *given]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_required_is_said(saved_model: Path, capsys: Output) -> None:
    assert main(["embed", str(saved_model)]) == 2
    assert "required and not given: --input, --out" in capsys.readouterr().err
