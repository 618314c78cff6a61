"""YAML under bounds: every value as YAML has it, and one line just above each bound."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from hyena.cli.yaml_reader import BYTES, DEPTH, VALUES, read_file, read_text


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [1.5, true, null, 'x', \"y\", z]\nc: {d: {e: -3}}",
        "a: &x [1, 2]\nb: *x\nc: &y {d: *x}\ne: *y",
        "a: |\n  two\n  lines\nb: >-\n  folded\n  line\nc: ''\nd:",
        "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {x: 4, z: 5}]}",
        "3", "text", "", "- 0x10\n- 1_000\n- .5\n- 1e3\n- 1.0e-3\n- yes\n- ~",
        "base:\n- {length: 64, steps: 1400}\n- {}\n- []",
    ],
)  # fmt: skip
def test_a_value_is_that_of_pyyaml(text: str) -> None:
    expected = yaml.safe_load(text)
    if "1e3" in text:
        expected[3] = 1e3  # YAML 1.1 takes it for a text
    assert read_text(text) == expected


def test_every_shipped_configuration_is_read_as_by_pyyaml() -> None:
    files = sorted(Path(__file__).parents[2].glob("configs/**/*.yaml"))
    assert len(files) > 5
    for file in files:
        assert read_file(str(file)) == yaml.safe_load(file.read_text())


def test_dates_are_texts() -> None:
    assert read_text("2024-01-01") == "2024-01-01"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * DEPTH + "]" * DEPTH, None),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "nests more than 32 deep"),
        ("[" * 100_000, "nests more than 32 deep"),
        ("\n".join(f"a{i}: &a{i} [*a{i - 1}]" if i else "a0: &a0 []" for i in range(40)), "nests"),
        ("a: &a [" + "1," * 1000 + "]\nb: [" + "*a," * (VALUES // 1000 - 2) + "]", None),
        ("a: &a [" + "1," * 1000 + "]\nb: [" + "*a," * (VALUES // 1000 + 1) + "]", "50,000 values"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "\n".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]" for a, b in pairwise("abcdefgh")
        ), "50,000 values"),
        ("a: &a {b: *a}", "has the alias"),
        ("[1" + "0" * 5000 + "]", "^has 10{39}, which is no whole number to be read$"),
        ("0x_", "^has 0x_, which is no whole number to be read$"),
        ("a: {<<: 3}", "is not YAML: .* expected a mapping or list of mappings for merging"),
    ],
)  # fmt: skip
def test_bounds_end_it_before_it_grows(text: str, message: str | None) -> None:
    if message is None:
        read_text(text)
    else:
        with pytest.raises(ValueError, match=message):
            read_text(text)


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/dev/zero has more than 256 KiB, which is no file of"):
        read_file("/dev/zero")
    file = tmp_path / "long.yaml"
    file.write_text("#" * BYTES)
    assert read_file(str(file)) is None
    file.write_text("#" * (BYTES + 1))
    with pytest.raises(ValueError, match="256 KiB"):
        read_file(str(file))
