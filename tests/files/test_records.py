"""What is no record of the kind is refused with the name of the field; the rest comes back."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from hyena.files.records import (
    from_plain,
    read_json,
    read_listed,
    read_record,
    to_plain,
    write_listed,
    write_record,
)


@dataclass
class Inner:
    share: float
    names: list[str] = field(default_factory=list)


@dataclass
class Outer:
    count: int
    inner: Inner | None
    place: Path
    pair: tuple[int, float]
    kind: Literal["a", "b"] = "a"
    table: dict[str, Inner] = field(default_factory=dict)
    anything: Any = None


WHOLE = Outer(3, Inner(0.5, ["x"]), Path("p"), (1, 2.5), "b", {"t": Inner(1)}, [None, {"y": 1}])


def test_a_record_comes_back(tmp_path: Path) -> None:
    for record in (WHOLE, Outer(0, None, Path("q"), (0, 0))):
        write_record(tmp_path / "record.json", record, 4)
        assert read_record(tmp_path / "record.json", Outer, 4, advice="do") == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 1.0}, "count: expected int, got 1.0"),
        ({"count": True}, "count: expected int, got True"),
        ({"inner": {"share": "x"}}, "share: expected float, got 'x'"),
        ({"inner": {}}, "share is missing in Inner"),
        ({"inner": {"share": 1, "names": [1]}}, "names: expected str, got 1"),
        ({"place": 3}, "place: expected Path, got 3"),
        ({"pair": [1]}, r"pair: expected tuple.*, got \[1\]"),
        ({"kind": "c"}, "kind: expected Literal.*, got 'c'"),
        ({"table": {"t": 3}}, "table.t: expected the fields of Inner, got 3"),
        ({"extra": 3}, "Outer has no field 'extra'; it has count, inner"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    plain = {**to_plain(WHOLE), **change}
    with pytest.raises(ValueError, match=f"^{message}"):
        from_plain(Outer, plain)
    write_record(tmp_path / "record.json", plain, 4)
    with pytest.raises(ValueError, match=f"record.json is damaged: {message}.*; do$"):
        read_record(tmp_path / "record.json", Outer, 4, advice="do")


@pytest.mark.parametrize("text", [b"", b"{", b"3", b"[]", b"\xff", b"[" * 10**5, b'{"a": NaN'])
def test_a_file_that_holds_no_object_is_one_line(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"^[^\n]*record.json is damaged: [^\n]*; do$"):
        read_json(tmp_path / "record.json", advice="do")


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for version, message in (
        (5, "format version 5, but this hyena reads 4"),
        ("4", "has no f"),
    ):
        path.write_text(json.dumps({**to_plain(WHOLE), "format_version": version}))
        with pytest.raises(ValueError, match=message):
            read_record(path, Outer, 4, advice="do")


def test_numbers_of_numpy_are_plain() -> None:
    numbers = [np.float32(0.5), True, 2, 1.5, np.False_]
    plain = to_plain({"a": np.int64(3), "b": numbers, "c": np.float64(2)})
    assert plain == {"a": 3, "b": [0.5, True, 2, 1.5, False], "c": 2.0}
    assert json.dumps(plain) == '{"a": 3, "b": [0.5, true, 2, 1.5, false], "c": 2.0}'


def test_a_listed_record_that_was_changed_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "record.json", Outer(0, None, Path("q"), (0, 0))
    write_listed(path, WHOLE, 4)
    write_listed(path, other, 4)  # with a list of its own
    assert read_listed(path, Outer, 4, advice="do") == other
    path.write_text(path.read_text().replace('"count": 0', '"count": 1'))
    with pytest.raises(ValueError, match=r"record\.json is damaged: its SHA-256 is not .*; do \("):
        read_listed(path, Outer, 4, advice="do")
    listed = tmp_path / "SHA256SUMS"
    listed.write_text(listed.read_text().replace("record", "another"))
    with pytest.raises(ValueError, match=r"SHA256SUMS does not list record\.json, .*; do$"):
        read_listed(path, Outer, 4, advice="do")
    listed.unlink()  # as an older version left it
    assert read_listed(path, Outer, 4, advice="do").count == 1
