"""Options by name inside a field of options."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hyena.cli.options import parse
from hyena.cli.values import UsageError


@dataclass
class Sweep:
    """A sweep."""

    jobs: int = 1
    base: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)


def read(*words: str) -> Sweep:
    config = parse("sweep", "do it", Sweep, None, words)
    assert config is not None
    return config


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sweep.yaml"
    path.write_text("jobs: 2\nbase:\n  task: {name: recall, length: 8}\n  a.b: 3\ngrid: {c: [1]}\n")
    return str(path)


def test_an_option_stands_beside_what_a_file_says(file: str) -> None:
    found = read("--config", file, "--base.task.length", "512", "--base.lr=1e-3", "--grid.d=[1,2]")
    assert found.base == {
        "task": {"name": "recall", "length": 8},
        "a.b": 3,
        "task.length": 512,
        "lr": 1e-3,
    }
    assert (found.jobs, found.grid) == (2, {"c": [1], "d": [1, 2]})


def test_it_comes_last(file: str) -> None:
    found = read("--base.a.b=4", "--config", file, "--base.x=-1")
    assert list(found.base.items()) == [
        ("task", {"name": "recall", "length": 8}),
        ("a.b", 4),
        ("x", -1),
    ]


def test_it_wins_over_whatever_the_file_has_there(file: str, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("base: {task: {length: 64}}\n")
    found = read("--base.task.length=16", "--config", file, "--config", str(other))
    assert list(found.base.items()) == [("task", {"length": 64}), ("task.length", 16)]


def test_options_in_braces_stand_beside_the_others_too(file: str) -> None:
    found = read("--config", file, "--base.task", "{length: 32, sizes: {a: 1}}")
    assert found.base["task"] == {"name": "recall", "length": 8}
    assert (found.base["task.length"], found.base["task.sizes.a"]) == (32, 1)


def test_hyphens_stand_for_underscores() -> None:
    assert read("--grid.task.vocab-size", "[1]").grid == {"task.vocab_size": [1]}


def test_the_printed_configuration_has_it(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", file, "--print_config", "--base.task.length", "512"]
    assert parse("sweep", "do it", Sweep, None, words) is None
    printed = Path(file).with_name("printed.yaml")
    printed.write_text(capsys.readouterr().out)
    assert read("--config", str(printed)) == read("--config", file, "--base.task.length", "512")


def test_a_whole_field_can_be_given_too(file: str) -> None:
    assert read("--config", file, "--base", "{a: 1}", "--base.b=2").base == {"a": 1, "b": 2}


def test_a_value_may_hold_anything_yaml_has() -> None:
    found = read("--base.s=a, b", "--base.n=null", "--base.d={e: [1.5]}").base
    assert found == {"s": "a, b", "n": None, "d.e": [1.5]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--base.a.b"], "base.a.b: expected a value after it"),
        (["--base.a.b", "--jobs=2"], "base.a.b: expected a value after it"),
        (["--base.a="], "base.a: expected a value after it"),
        (["--base.x=1", "--base.x=2"], "base.x was given twice; leave one of them out"),
        (["--base.", "3"], "base.: expected the name of an option after the dot"),
        (["--grid.a", "3"], "grid: expected a list in brackets, got"),
        (["--base.a={b: 1 c: 2}"], 'base.a: "{b: 1 c: 2}" is not YAML: while parsing a flow map'),
        (["--bases.a=1"], 'unknown option "bases.a"; did you mean "base"?'),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("(see hyena sweep --help)")
    assert "\n" not in str(caught.value)
