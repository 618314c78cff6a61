"""Rows, columns and sections of tables."""

from pathlib import Path
from typing import Any

import pytest
from tiny_cells import cell

from hyena.experiments import Standing
from hyena.experiments.cell import plain
from hyena.experiments.table import lay_out


def standing(row: str, task: dict[str, Any], **point: Any) -> Standing:
    config = plain(cell(Path("x"), task=task))
    return Standing(row, point, [{}], config, [None], None, [], 1, [])


def of_sizes(lengths: list[int], vocabularies: list[int], rows: list[str]) -> list[Standing]:
    return [
        standing(row, {"length": length, "vocab_size": vocabulary})
        for length in lengths
        for vocabulary in vocabularies
        for row in rows
    ]


def test_lengths_are_columns() -> None:
    (section,) = lay_out(of_sizes([16, 8], [6], ["hyena", "attention"]))
    assert (section.task, section.axis) == ("recall", "length")
    assert section.title == "recall, vocabulary 6"
    assert (section.rows, section.columns) == (["hyena", "attention"], [8, 16])
    assert len(section.at) == 4
    assert section.at["attention", 8].row == "attention"


def test_vocabularies_are_columns_where_only_they_vary() -> None:
    (section,) = lay_out(of_sizes([8], [6, 10], ["hyena"]))
    assert (section.axis, section.columns) == ("vocab_size", [6, 10])
    assert section.title == "recall, length 8"


def test_a_single_size_is_a_column_too() -> None:
    (section,) = lay_out(of_sizes([8], [6], ["hyena"]))
    assert (section.axis, section.columns) == ("length", [8])
    digits = {"name": "addition", "length": 1024, "vocab_size": 30}
    (section,) = lay_out([standing("hyena", digits)])
    assert (section.axis, section.columns, section.measure) == ("digits", [4], "exact match")


@pytest.mark.parametrize(
    ("name", "size", "columns"),
    [
        ("recall", "most_keys", [2, 3, 10]),
        ("recall", "alphabet", [2, 3, 10]),
        ("multi-query-recall", "pairs", [2, 3, 4]),
    ],
)
def test_a_size_that_is_not_given_is_what_the_task_takes(
    name: str, size: str, columns: list[int]
) -> None:
    task = {"name": name, "length": 16, "vocab_size": 22}
    (section,) = lay_out([standing("a", {**task, size: n}) for n in (3, None, 2)])
    assert (section.axis, section.columns) == (size, columns)


def test_an_alphabet_bounds_the_keys_of_a_sequence() -> None:
    task = {"name": "recall", "length": 16, "vocab_size": 22, "alphabet": 5}
    (section,) = lay_out([standing("a", {**task, "most_keys": n}) for n in (3, None, 2)])
    assert (section.axis, section.columns) == ("most_keys", [2, 3, 5])


def test_a_record_may_be_older_than_a_size() -> None:
    old, new = of_sizes([8, 16], [6], ["hyena"])
    del old.cell["task"]["alphabet"]
    (section,) = lay_out([old, new])
    assert section.columns == [8, 16]


def test_each_vocabulary_has_a_table_where_lengths_vary_too() -> None:
    sections = lay_out(of_sizes([8, 16], [10, 6], ["hyena"]))
    assert [s.title for s in sections] == ["recall, vocabulary 6", "recall, vocabulary 10"]
    assert all(section.columns == [8, 16] for section in sections)


def test_each_task_has_its_tables() -> None:
    sections = lay_out(
        [
            standing("a", {"name": "majority"}),
            standing("a", {"name": "linear-functions", "length": 1024, "vocab_size": 30}),
            standing("b", {"name": "majority"}),
        ]
    )
    assert [(s.task, s.axis, s.rows) for s in sections] == [
        ("majority", "length", ["a", "b"]),
        ("linear-functions", "dimension", ["a"]),
    ]


def test_other_options_tell_rows_apart_where_they_must() -> None:
    task = {"length": 8}
    (section,) = lay_out(
        [
            standing("a", task, **{"task.length": 8, "model.layers": 1, "training.steps": 5}),
            standing("a", task, **{"task.length": 8, "model.layers": 2, "training.steps": 5}),
        ]
    )
    assert section.rows == ["a, model.layers=1", "a, model.layers=2"]


def test_options_that_go_with_a_column_do_not() -> None:
    (section,) = lay_out(
        [
            standing("a", {"length": length}, **{"task.length": length, "training.steps": length})
            for length in (8, 16)
        ]
    )
    assert section.rows == ["a"]


def test_two_of_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="a at length 8 of recall, vocabulary 6 is there twice"):
        lay_out([standing("a", {"length": 8}), standing("a", {"length": 8})])
