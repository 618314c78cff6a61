"""The cases of genomics: which there are, and that all of them run at small sizes."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import hyena
from hyena.bench import convolution, generation, model
from hyena.bench.folder import open_folder
from hyena.bench.genomes import run
from hyena.bench.genomes.cases import Case, cases, chosen, quick
from hyena.bench.genomes.report import report
from hyena.bench.genomes.work import WORKS, _model, _numbers
from hyena.bench.model.cases import Work
from hyena.bench.model.work import answer
from hyena.model import preset

ALL, SMALL = cases(), quick()
WHOLE = [case for case in SMALL if isinstance(case, model.cases.Case)]


def here(python: str, request: Any) -> dict[str, Any]:
    """Answers in this process."""
    return answer(copy.deepcopy(request), WORKS)


def test_names_are_those_of_one_case() -> None:
    assert len({case.key for case in ALL + SMALL}) == len(ALL + SMALL)
    assert len(ALL) == len(SMALL)
    assert chosen() == ALL
    assert chosen(small=True) == SMALL
    kinds = [type(case) for case in ALL]
    assert set(kinds) == {
        convolution.cases.Case,
        generation.cases.Case,
        model.cases.Case,
    }


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_every_work_runs(case: model.cases.Case) -> None:
    result = model.run.measure(case, threads=1, ask=here)
    assert result["skipped"] == {}
    assert "failed" not in result
    assert set(result["times"]) == set(result["peak"]) == set(case.works)
    for name in case.works:
        assert result["times"][name]["median"] > 0
        assert result["peak"][name] > 2**20
    if case.truth is not None:
        assert set(result["errors"]) == set(case.works)
        for name, work in case.works.items():
            narrow = work.bf16 or work.dtype == "bfloat16"
            assert result["errors"][name] < (5e-2 if narrow else 1e-5)
            assert result["first"][name] == pytest.approx(result["first"]["truth"], rel=0.02)
    assert json.dumps(result)


def test_the_sizes_are_those_of_the_goals() -> None:
    by_name = {case.name: case for case in ALL if isinstance(case, model.cases.Case)}
    scores = by_name["score of 131072"]
    assert {work.length for work in scores.works.values()} == {131_072}
    medium, large = (preset(f"hyenadna-{name}") for name in ("medium-160k", "large-1m"))
    for config in (medium, large):
        assert (config.layers, config.width) == (8, 256)
    (ours,) = by_name["score of 1000002"].works.values()
    assert ours.length == large.max_length == 1_000_002
    (layers,) = by_name["4 layers of Evo 2 7B"].works.values()
    assert layers.preset is not None
    config = preset(layers.preset, **layers.model)
    assert config.layer_mixers() == ["hyena-se", "hyena-mr", "hyena-li", "attention"]
    assert (config.width, layers.length, layers.dtype) == (4096, 8192, "bfloat16")


def test_a_small_run_measures_every_kind_of_case(tmp_path: Path) -> None:
    some: list[Case] = [
        next(case for case in SMALL if case.key.startswith(kind))
        for kind in ("quick-hyena-li-forward", "modes", "small-vectors")
    ]
    open_folder(tmp_path, {"threads": 1})
    said: list[str] = []
    found = run.run(some, tmp_path, threads=1, seconds=0.01, repeats=1, say=said.append)
    assert set(found) == {case.key for case in some}
    assert not [result["failed"] for result in found.values() if "failed" in result]
    assert len(said) == 3
    text = report(found, {"threads": 1})
    assert "## Goals" not in text
    assert "## hyena-li between its projections, forward, default allocator: ms (quick)" in text
    assert "## hyena-li, tokens at positions far apart" in text
    assert "| small vectors of 1000000 | ours |" in text
    assert "## Not measured" not in text
    again = run.run(some, tmp_path, threads=1, say=said.append)
    assert again == found
    assert said[3:] == ["3 of 3 cases are there already"]


@pytest.mark.parametrize("length", [1, 5, 4096, 4097, 8192, 131_072])
def test_log_probabilities_of_all_places_in_blocks_are_handed_back(length: int) -> None:
    mean, *some = _numbers(torch.arange(length))
    assert mean == (length - 1) / 2
    assert min(length, 1000) <= len(some) <= 4096
    for block in (2, 32, 128):
        assert len({place % block for place in some}) == min(block, length)


@pytest.mark.parametrize("name", ["hyenadna-medium-160k", "evo2-7b-base"])
def test_weights_have_the_dtypes_that_loading_gives_them(name: str, tmp_path: Path) -> None:
    (small,) = (x for case in WHOLE for x in [case.works["ours"]] if x.preset == name)
    asked = {**asdict(small), "dtype": "float32"}
    _model(asked).save(tmp_path)
    loaded = hyena.load(tmp_path, dtype=torch.bfloat16)
    ours = _model({**asked, "dtype": "bfloat16"})
    types = {name: p.dtype for name, p in ours.named_parameters()}
    assert types == {name: p.dtype for name, p in loaded.named_parameters()}
    assert set(types.values()) == {torch.bfloat16, torch.float32}


def test_a_work_that_cannot_be_done_is_one_line() -> None:
    asked = {**model.cases.Case("a", {"b": Work("score", 20, preset="no")}).record()["works"]["b"]}
    assert here("", {**asked, "threads": 1})["failed"].startswith("ValueError: preset 'no' is")
