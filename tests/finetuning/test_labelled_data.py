"""The rows of a run: tokens, targets and what is held out."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_rows import BYTES, TASKS, rows, write_lines, write_table

from hyena.arguments import IGNORE
from hyena.data import load_tokenizer
from hyena.finetuning.config import LabelsConfig
from hyena.finetuning.data import LabelledData, open_labelled
from hyena.model import ModelConfig

MODEL = ModelConfig(vocab_size=257, width=8, layers=1, max_length=16)


def opened(file: Path, task: Any, model: ModelConfig = MODEL, **settings: Any) -> LabelledData:
    return open_labelled(file, LabelsConfig(**settings), task, model, BYTES)


def texts(data: Any) -> list[str]:
    return [bytes(tokens.tolist()).decode() for tokens in data.tokens]


@pytest.mark.parametrize("task", TASKS)
def test_tokens_and_targets_are_those_of_the_rows(task: str, tmp_path: Path) -> None:
    table = rows(task, 30)
    data = opened(write_table(tmp_path / "a.tsv", table), task, fraction=0)
    assert texts(data.training) == [text for text, _ in table]
    assert len(data.validation) == 0
    assert data.training.tokens[0].dtype == np.int32
    if task == "classification":
        assert data.labels.names == ("poor", "rich")
        found = [data.labels.names[int(target)] for target in data.training.targets]
        assert found == [label for _, label in table]
    elif task == "regression":
        assert data.labels.names == ("label",)
        unit, centre = data.labels.deviations[0], data.labels.means[0]
        found = [float(target[0]) * unit + centre for target in data.training.targets]
        assert found == pytest.approx([label for _, label in table], rel=1e-12)
        assert np.mean(data.training.targets) == pytest.approx(0, abs=1e-12)
    else:
        assert data.labels.names == ("S", "w")
        found = ["".join("Sw"[i] for i in target) for target in data.training.targets]
        assert found == [label for _, label in table]


@pytest.mark.parametrize("task", TASKS)
def test_a_share_is_held_out_the_same_one_each_time(task: str, tmp_path: Path) -> None:
    table = rows(task, 40)
    file = write_table(tmp_path / "a.tsv", table)
    data, again = opened(file, task, fraction=0.25), opened(file, task, fraction=0.25)
    assert texts(data.validation) == texts(again.validation)
    assert len(data.validation) == 10
    all_of_them = Counter(texts(data.training)) + Counter(texts(data.validation))
    assert all_of_them == Counter(text for text, _ in table)
    if task == "classification":
        assert Counter(int(x) for x in data.validation.targets) == {0: 5, 1: 5}
    if task == "regression":  # in the units of those that are trained on alone
        assert np.mean(data.training.targets) == pytest.approx(0, abs=1e-12)
        assert abs(np.mean(data.validation.targets)) > 1e-6


def test_a_class_of_two_is_trained_on(tmp_path: Path) -> None:
    table = [("ACGT", "often")] * 20 + [("GGGG", "seldom")] * 2
    data = opened(write_table(tmp_path / "a.tsv", table), "classification", fraction=0.9)
    assert Counter(int(x) for x in data.training.targets) == {0: 2, 1: 1}
    few = [("ACGT", "a")] * 2 + [("GGGG", "b")] * 3
    data = opened(write_table(tmp_path / "b.tsv", few), "classification", fraction=0.01)
    assert [int(x) for x in data.validation.targets] == [1]


def test_sequences_that_are_held_out_and_trained_on_are_told(tmp_path: Path) -> None:
    train = write_table(tmp_path / "a.tsv", [("AC", "1"), ("GT", "2"), ("GT", "3")])
    other = write_table(tmp_path / "b.tsv", [("GG", "1"), ("GT", "2")])
    assert opened(train, "regression", validation=other).notes == [
        f"1 of 2 rows held out has a sequence that is trained on as well, such as {other} line 3: "
        "the figures flatter"
    ]
    assert opened(train, "regression", fraction=0).notes == []


def test_rows_to_evaluate_on_from_a_file(tmp_path: Path) -> None:
    train = write_table(tmp_path / "a.tsv", rows("regression", 10))
    other = write_table(tmp_path / "b.tsv", rows("regression", 6, seed=1))
    data = opened(train, "regression", validation=other)
    assert (len(data.training), len(data.validation)) == (10, 6)
    assert data.fingerprint.keys() == {"tokenizer", "train", "validation"}
    unit, centre = data.labels.deviations[0], data.labels.means[0]
    found = [float(target[0]) * unit + centre for target in data.validation.targets]
    assert found == pytest.approx([label for _, label in rows("regression", 6, seed=1)], rel=1e-12)


def test_several_targets_and_letters_without_a_class(tmp_path: Path) -> None:
    records = [{"sequence": "AC" * (i + 1), "x": i, "y": -(i**2)} for i in range(4)]
    file = write_lines(tmp_path / "a.jsonl", records)
    data = opened(file, "regression", fraction=0, columns=["y", "x"])
    assert data.labels.names == ("y", "x")
    assert np.array(data.training.targets).shape == (4, 2)
    records = [{"sequence": "ACG", "label": ["H", None, "E"]}] * 3
    data = opened(write_lines(tmp_path / "b.jsonl", records), "token-classification", fraction=0)
    assert [x.tolist() for x in data.training.targets] == [[1, IGNORE, 0]] * 3


@pytest.mark.parametrize(
    ("task", "table", "settings", "message"),
    [
        (
            "classification",
            [("A", "x"), ("C", "x"), ("G", "y")],
            {},
            "line 4: class 'y' has this on",
        ),
        ("classification", [("A", "x")] * 3, {}, "a.tsv: expected two classes or more, got 'x'"),
        (
            "regression",
            [("A", "1"), ("C", "low")],
            {},
            "line 3: expected a finite number in column",
        ),
        ("regression", [("A", "1")], {}, "a.tsv has 1 row, too few to hold out a share of them"),
        (
            "regression",
            [("A", "1")] * 9,
            {},
            "a.tsv: column 'label' has the same number, 1, in all",
        ),
        (
            "token-classification",
            [("AC", "H")],
            {},
            "line 2: the sequence has 2 letters, but column",
        ),
        (
            "token-classification",
            [("é", "H"), ("A", "H"), ("A", "E"), ("A", "E")],
            {},
            "line 2: 1 le",
        ),
        (
            "regression",
            [("A" * 16, "1"), ("C", "2"), ("G", "3"), ("T", "4")],
            {"fraction": 0},
            "line 2: it has 16 tokens, but the model has room for 15 after the end of text that "
            "begins it; cut it, or take model.length_policy extrapolate",
        ),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_row(
    task: str,
    table: list[tuple[str, str]],
    settings: dict[str, Any],
    message: str,
    tmp_path: Path,
) -> None:
    file = write_table(tmp_path / "a.tsv", table)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        opened(file, task, **settings)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


class Joins:
    """A tokenizer of a token for "AB" and two for "é": three letters, and three tokens."""

    fingerprint, vocab_size, end_of_text, name = "f", 257, 256, "joins"

    def encode(self, text: str) -> list[int]:
        return list(text.replace("AB", "C").encode())

    def decode(self, tokens: Any) -> str:
        return bytes(tokens).decode()


def test_as_many_tokens_as_letters_are_not_a_token_for_each(tmp_path: Path) -> None:
    table = [("ABé", "HHE"), ("CCC", "HEE")]
    assert len(Joins().encode("ABé")) == 3
    file = write_table(tmp_path / "a.tsv", table)
    with pytest.raises(ValueError, match="line 2: 3 letters became 3 tokens that are not one for"):
        open_labelled(file, LabelsConfig(fraction=0), "token-classification", MODEL, Joins())
    plain = write_table(tmp_path / "b.tsv", [("CDC", "HHE"), ("CCC", "HEE")])
    open_labelled(plain, LabelsConfig(fraction=0), "token-classification", MODEL, Joins())


def test_a_number_held_out_that_is_out_of_proportion_is_told(tmp_path: Path) -> None:
    train = write_table(tmp_path / "a.tsv", [("A", "1"), ("C", "2"), ("G", "3")])
    other = write_table(tmp_path / "b.tsv", [("A", "2"), ("C", "1e300")])
    with pytest.raises(
        ValueError, match=r"b.tsv line 3: 1e\+300 in column 'label' is out of all p"
    ):
        opened(train, "regression", validation=other)


def test_a_class_that_was_not_trained_on_is_refused_in_its_file(tmp_path: Path) -> None:
    train = write_table(tmp_path / "a.tsv", [("A", "x"), ("C", "y")] * 2)
    other = write_table(tmp_path / "b.tsv", [("A", "x"), ("C", "z")])
    with pytest.raises(
        ValueError, match=r"b.tsv line 3: class 'z' is none of those trained on: 'x"
    ):
        opened(train, "classification", validation=other)


def test_interpolated_filters_beyond_their_length_are_refused(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.tsv", [("A" * 20, "1"), ("C", "2"), ("G", "3")])
    stretched = replace(MODEL, length_policy="interpolate")
    with pytest.raises(
        ValueError, match="line 2: it has 20 tokens, for which interpolated filters"
    ):
        opened(file, "regression", stretched, fraction=0)


def test_letters_of_dna_are_folded_and_unknown_ones_told_or_refused(tmp_path: Path) -> None:
    model = ModelConfig(vocab_size=12, width=8, layers=1, max_length=16)

    def of_dna(*table: tuple[str, str], **settings: Any) -> LabelledData:
        file = write_table(tmp_path / "a.tsv", table)
        config = LabelsConfig(fraction=0, **settings)
        return open_labelled(file, config, "regression", model, load_tokenizer("hyenadna"))

    data = of_dna(("acgt", "1"), ("ACGT", "2"), ("GrR", "3"))
    assert data.training.tokens[0].tolist() == data.training.tokens[1].tolist() == [7, 8, 9, 10]
    assert data.notes == [
        f"2 of 11 tokens are the one for unknown letters, the first 'R' in {tmp_path}/a.tsv line 4"
    ]
    other = write_table(tmp_path / "b.tsv", [("acGT", "1"), ("CC", "2")])
    (note,) = of_dna(("ACGT", "2"), ("G", "3"), validation=other).notes
    assert note.startswith("1 of 2 rows held out has a sequence that is trained on as well")
    with pytest.raises(ValueError, match=r"line 2: none of its letters has a token$"):
        of_dna(("RYK", "1"), ("ACGT", "2"), ("G", "3"))
