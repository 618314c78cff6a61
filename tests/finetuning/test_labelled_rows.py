"""Rows with labels as they stand in files, and what is no such row."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from labelled_rows import write_lines, write_table

from hyena.finetuning.rows import Row, read_rows


def test_rows_of_a_table_and_of_json_lines(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.tsv", [("1", "AC", "x"), ("2", "GT", "y z")], "n s l")
    found = read_rows(table, "s", ["l", "n"])
    assert found == [
        Row(f"{table} line 2", "AC", ("x", "1")),
        Row(f"{table} line 3", "GT", ("y z", "2")),
    ]
    comma = tmp_path / "a.csv"
    comma.write_text('s,l\n"AC",x\n\nGT,"y,z"\n')
    assert [row[1:] for row in read_rows(comma, "s", ["l"])] == [("AC", ("x",)), ("GT", ("y,z",))]
    packed = tmp_path / "a.TSV.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    assert [row[1:] for row in read_rows(packed, "s", ["l", "n"])] == [row[1:] for row in found]
    lines = write_lines(tmp_path / "a.jsonl", [{"s": "AC", "l": 3, "more": None}])
    assert read_rows(lines, "s", ["l"]) == [Row(f"{lines} line 1", "AC", (3,))]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "", "a.tsv has no rows; expected sequences with their labels"),
        ("a.tsv", "s\tl\n", "a.tsv has no rows"),
        (
            "a.tsv",
            "s\tx\nA\t1\n",
            "a.tsv line 2: no column 'l' among 's', 'x'; name it with --labels.c",
        ),
        (
            "a.tsv",
            "x\tl\nA\t1\n",
            "a.tsv line 2: no column 's' among 'x', 'l'; name it with --labels.s",
        ),
        ("a.tsv", "s\tl\ts\nA\t1\tC\n", "a.tsv line 1: two columns are called 's'; rename one"),
        ("a.tsv", "s\tl\nA\t1\n\t2\n", "a.tsv line 3: the sequence is empty"),
        ("a.tsv", "s\tl\nA\t1\nC\n", "a.tsv line 3: the label in column 'l' is empty"),
        ("a.tsv", "s\tl\nA\t \n", "a.tsv line 2: the label in column 'l' is empty"),
        ("a.tsv", "s\tl\nA\t1\t2\n", "a.tsv line 2: expected 2 cells as the first line has, got 3"),
        ("a.csv", 's,l\n"A,1\n', "a.csv after line 1: no row of a table"),
        ("a.jsonl", "[]\n", "a.jsonl line 1: expected an object with 's', got []"),
        ("a.jsonl", '{"s": "A"}\n', "a.jsonl line 1: no column 'l' among 's'"),
        ("a.jsonl", '{"s": 1, "l": 1}\n', "a.jsonl line 1: expected text in column 's', got 1"),
        ("a.jsonl", '{"s": null, "l": 1}\n', "a.jsonl line 1: the sequence is empty"),
        ("a.jsonl", '{"s": "A", "l": null}\n', "a.jsonl line 1: the label in column 'l' is empty"),
        ("a.jsonl", "{\n", "a.jsonl line 1 is not JSON"),
        ("a.tsv.gz", "s\tl\n", "a.tsv.gz is not gzip, or damaged"),
        ("a.fa", ">a\nA\n", "a.fa; expected a file of rows (.tsv, .csv, .jsonl, .ndjson; all of"),
    ],
)
def test_what_is_no_row_is_one_line_with_file_and_line(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_rows(tmp_path / name, "s", ["l"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "error"), [("absent.tsv", FileNotFoundError), (".", ValueError)])
def test_a_file_that_is_not_there_or_none(name: str, error: Any, tmp_path: Path) -> None:
    with pytest.raises(error, match="rows with labels were asked for in"):
        read_rows(tmp_path / name, "s", ["l"])
