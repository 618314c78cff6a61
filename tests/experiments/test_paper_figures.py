"""Which of the paper's figures stands beside a cell."""

from pathlib import Path
from typing import Any

import pytest
from tiny_cells import cell

from hyena.experiments import paper_figure
from hyena.experiments.cell import plain
from hyena.experiments.paper import BY_LENGTH, BY_VOCABULARY, LENGTHS, VOCABULARIES, contender
from hyena.model import FilterConfig


def figure(
    length: int, vocabulary: int, name: str = "recall", most_keys: int | None = None, **model: Any
) -> float | None:
    task = {"name": name, "length": length, "vocab_size": vocabulary, "most_keys": most_keys}
    return paper_figure(plain(cell(Path("x"), task=task, model={"layers": 2, **model})))


def test_operators_and_filters_have_theirs() -> None:
    assert figure(131072, 30) == 97.2
    assert figure(32768, 30, mixers="attention") == 32.4
    assert figure(131072, 30, mixers="attention") is None  # memory ran out
    assert figure(65536, 30, mixers="gss") == 2.1
    assert figure(2048, 40, mixers="h3") == 10
    assert figure(2048, 30) == 98
    assert figure(2048, 20, filter=FilterConfig(kind="explicit")) == 11
    assert figure(131072, 30, filter=FilterConfig(kind="fourier")) == 0.3
    assert figure(131072, 30, filter=FilterConfig(window=False)) == 14.3


def test_what_the_paper_does_not_have_has_none() -> None:
    assert figure(1024, 30) is None
    assert figure(2048, 10, mixers="rwkv") is None
    assert figure(2048, 50) is None
    assert figure(32768, 30, filter=FilterConfig(kind="fourier")) is None
    assert figure(2048, 30, name="recall-plain") is None
    assert figure(131072, 30, mixers="hyena,attention") is None
    assert figure(131072, 30, layers=1) is None
    assert figure(131072, 30, order=3) is None
    assert figure(131072, 30, most_keys=5) is None


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ({}, "hyena"),
        ({"mixers": "s4d"}, "s4d"),
        ({"filter": FilterConfig(kind="s4d")}, "s4d"),
        ({"filter": FilterConfig(window=False)}, "ckconv"),
    ],
)
def test_contenders_have_names(model: dict[str, Any], name: str) -> None:
    assert contender(plain(cell(Path("x"), model=model))) == name


def test_the_tables_are_full() -> None:
    assert all(len(row) == len(LENGTHS) for row in BY_LENGTH.values())
    assert all(len(row) == len(VOCABULARIES) for row in BY_VOCABULARY.values())
