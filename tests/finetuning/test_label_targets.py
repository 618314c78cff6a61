"""Labels as numbers."""

from typing import Any

import numpy as np
import pytest

from hyena.arguments import IGNORE
from hyena.finetuning.rows import Row
from hyena.finetuning.targets import (
    class_of,
    classes_of,
    names_of,
    numbers_of,
    place_of_class,
    places_of_classes,
    targets_of,
    units_of,
)
from hyena.model.label_head import Labels


def row(*labels: Any, sequence: str = "ACG") -> Row:
    return Row("f line 7", sequence, labels)


@pytest.mark.parametrize(
    ("label", "name"), [("a b ", "a b"), (3, "3"), (-1, "-1"), (True, "true"), (False, "false")]
)
def test_a_class_is_a_text_or_a_whole_number(label: Any, name: str) -> None:
    assert class_of(row(label), "l") == name


@pytest.mark.parametrize("label", [0.5, [], {}, ["a"]])
def test_what_is_no_class_is_refused(label: Any) -> None:
    with pytest.raises(
        ValueError, match="f line 7: expected a class in column 'l', a text or a wh"
    ):
        class_of(row(label), "l")


@pytest.mark.parametrize(
    ("label", "sequence", "classes"),
    [
        ("HHE", "ACG", ["H", "H", "E"]),
        (" H  exon E ", "ACG", ["H", "exon", "E"]),
        (["H", None, 2], "ACG", ["H", None, "2"]),
        ("H", "A", ["H"]),
        ("exon", "A", ["exon"]),
    ],
)
def test_classes_of_letters(label: Any, sequence: str, classes: list[str | None]) -> None:
    assert classes_of(row(label, sequence=sequence), "l") == classes


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("HH", "f line 7: the sequence has 3 letters, but column 'l' 2 labels; give each letter"),
        ("a b", "but column 'l' 2 labels"),
        ([], "but column 'l' 0 labels"),
        (
            ["a b", "c", "c"],
            "f line 7: class 'a b' in column 'l' has white space, which stands bet",
        ),
        (5, "f line 7: expected a class for each letter in column 'l', a text or a list, got 5"),
        (
            ["H", 0.5, "E"],
            "f line 7: expected a class in column 'l', a text or a whole number, got",
        ),
    ],
)
def test_what_are_no_classes_of_letters_is_refused(label: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classes_of(row(label), "l")


def test_numbers() -> None:
    assert numbers_of(row("1e3", -2), ["a", "b"]) == [1000.0, -2.0]


@pytest.mark.parametrize("label", ["high", "nan", float("inf"), True, [1], "", 10**400])
def test_what_is_no_number_is_refused(label: Any) -> None:
    with pytest.raises(ValueError, match="f line 7: expected a finite number in column 'b', got "):
        numbers_of(row(1, label), ["a", "b"])


def test_names_stand_in_one_order_whatever_that_of_the_rows() -> None:
    for texts, names in ((["b", "a", "b", "a"], ("a", "b")), (["10", "9", "9", "10"], ("9", "10"))):
        for order in (texts, texts[::-1]):
            assert names_of([(name, "p") for name in order], "f") == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("aab", "line 2: class 'b' has this one member; give two or more of each class"),
        ("aabc", "line 2: class 'b' has this one member, and 1 more have but one; give two"),
        ("aa", "f: expected two classes or more, got 'a'"),
        ("", "f: expected two classes or more, got none"),
    ],
)
def test_too_few_of_a_class_or_classes_are_refused(names: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        names_of([(name, f"line {i}") for i, name in enumerate(names)], "f")


def test_places_of_classes() -> None:
    names = {"a": 0, "b": 1}
    assert places_of_classes(["b", None, "a"], names, "p").tolist() == [1, IGNORE, 0]
    with pytest.raises(ValueError, match="p: class 'c' is none of those trained on: 'a', 'b'"):
        place_of_class("c", names, "p")


def numbers(*columns: Any) -> list[Row]:
    """Rows of targets, by columns."""
    return [Row(f"f line {i}", "ACG", x) for i, x in enumerate(zip(*columns, strict=True), 2)]


def test_targets_are_less_their_mean_over_their_deviation() -> None:
    targets = np.random.default_rng(0).normal(3, 2, (50, 2))
    rows, names = numbers(*targets.T.tolist()), ("a", "b")
    units = units_of(rows, names, "f")
    np.testing.assert_allclose(units, (targets.mean(0), targets.std(0)), rtol=1e-12)
    found = np.array(targets_of(rows, Labels("regression", names, "mean", True, *units), names))
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose((found**2).mean(0), 1, rtol=1e-12)
    assert targets_of([], Labels("regression", names, "mean", True, *units), names) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 0.0, 0.0], "f: column 'b' has the same number, 0, in all rows that are trained on"),
        ([0.1] * 3, "f: column 'b' has the same number, 0.1, in all rows"),
        ([1e308] * 3, r"f: column 'b' has the same number, 1e\+308, in all rows"),
        ([1.0, 1.0, 1 + 1e-15], "f: column 'b' has the same number, 1, in all rows"),
        ([1e300, 2.0, 3.0], r"f: column 'b' has numbers from 2 to 1e\+300, whose squares are bey"),
        ([1.7e308, 1.6e308, 3.0], r"has numbers from 3 to 1.7e\+308, whose squares are beyond wha"),
        (
            [1e-200, 2e-200, 0.0],
            r"has numbers from 0 to 2e-200, whose .*; give them in another uni",
        ),
    ],
)
def test_numbers_that_have_no_deviation_are_one_error(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        units_of(numbers([1.0, 2.0, 3.0], values), ["a", "b"], "f")


@pytest.mark.parametrize("far", [1e308, -1e300, 1e17])
def test_a_number_out_of_all_proportion_to_those_trained_on_is_told_with_its_row(
    far: float,
) -> None:
    labels = Labels("regression", ("a", "b"), means=(0.0, 5.0), deviations=(1.0, 0.1))
    rows = numbers([0.0, 1.0], [5.0, far])
    with pytest.raises(ValueError, match=r"f line 3: .* in column 'b' is out of all proportion to"):
        targets_of(rows, labels, ["a", "b"])
    assert np.isfinite(targets_of(numbers([1e14], [-1e13]), labels, ["a", "b"])).all()
