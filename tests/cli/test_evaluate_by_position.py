"""`hyena evaluate --by_position`: curves of several models in one file, and their figure."""

import json
from pathlib import Path

import pytest
from finished_run import finished_run

import hyena
from hyena.cli import main
from hyena.data import load_tokenizer, open_tokens
from hyena.evaluation import evaluate_by_position
from hyena.model.saved import find_model

Output = pytest.CaptureFixture[str]
TINY = ["--model.width=8", "--model.layers=1", "--model.max_length=32", "--batch=2"]
SHORT = ["--steps=1", "--evaluation.every=0"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("positions"), *TINY, *SHORT)


def measured(work: Path, file: Path, *words: str) -> int:
    options = ["--data", f"{work}/data", "--by_position", str(file), *words]
    return main(["evaluate", f"{work}/run", *options])


def test_curves_are_those_of_the_function_and_gather_in_one_file(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "new" / "positions.json"
    assert measured(work, file, "--length=100", "--length_policy=extrapolate") == 0
    out = capsys.readouterr().out.splitlines()
    model = hyena.load(find_model(work / "run"), length_policy="extrapolate")
    documents = list(open_tokens(work / "data", "validation").documents())
    expected = evaluate_by_position(model, documents, length=100)
    assert out[0] == (
        f"{work}/data (validation): {expected.windows} windows of 100 tokens from 1 document; "
        "0 shorter ones left out"
    )
    assert out[1].split() == ["position", "nats", "per", "token"]
    assert out[2].split() == ["0", "to", "63", f"{expected.losses[0]:.4f}"]
    assert out[-2:] == [str(file), str(file.with_suffix(".png"))]
    drawn = file.with_suffix(".png").read_bytes()
    assert drawn.startswith(b"\x89PNG")

    assert measured(work, file, "--name", "as trained") == 0
    assert measured(work, file, "--length=64", "--length_policy=interpolate") == 0
    assert file.with_suffix(".png").read_bytes() != drawn
    found = json.loads(file.read_text())
    names = [f"{work}/run, extrapolate", "as trained", f"{work}/run, interpolate"]
    assert [curve["name"] for curve in found["curves"]] == names
    assert [curve["length"] for curve in found["curves"]] == [100, 32, 64]
    first = found["curves"][0]
    assert first["found"]["losses"] == pytest.approx(expected.losses, rel=1e-6)
    assert first["found"]["edges"] == expected.edges
    assert (first["max_length"], first["length_policy"], first["mixers"]) == (
        32,
        "extrapolate",
        "hyena",
    )

    assert measured(work, file, "--name", "as trained", "--length=16") == 0
    lengths = {curve["name"]: curve["length"] for curve in json.loads(file.read_text())["curves"]}
    assert lengths == {names[0]: 100, "as trained": 16, names[2]: 64}


def test_a_file_of_another_text_is_refused_before_anything_is_read(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "positions.json"
    assert measured(work, file) == 0
    before = file.read_text()
    capsys.readouterr()
    assert measured(work, file, "--split", "test") == 1
    assert capsys.readouterr().err == (
        f"error: by_position: {file} holds losses on {work}/data (validation), which do not "
        f"compare with those on {work}/data (test); choose another file\n"
    )
    own = load_tokenizer(find_model(work / "run")).fingerprint
    file.write_text(before.replace(own, "another"))
    assert measured(work, file) == 1
    assert "holds losses on the tokens of another tokenizer, which" in capsys.readouterr().err
    file.write_text("{}")
    assert measured(work, file) == 1
    assert "is damaged: it has no format_version; choose another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stride=4"], "stride: windows by position follow one another; leave it out, or by_pos"),
        (
            ["--length=64"],
            "length is 64, but the model's max_length is 32; lower --length, or give",
        ),
        (
            ["--length=999", "--length_policy=extrapolate"],
            "a window of 999 inputs was asked for, but the longest document has ",
        ),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, work: Path, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "positions.json"
    assert measured(work, file, *words) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not file.exists()


def test_a_curve_has_a_json_file_and_only_a_curve_has_a_name(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    assert measured(work, tmp_path / "positions.png") == 1
    assert "by_position: expected the name of a .json file, got" in capsys.readouterr().err
    assert main(["evaluate", f"{work}/run", "--data", f"{work}/data", "--name", "x"]) == 1
    assert "name is that of a curve by position; give --by_position" in capsys.readouterr().err
