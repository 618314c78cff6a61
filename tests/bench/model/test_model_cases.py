"""The cases of whole models: which there are, and that all of them run at small sizes."""

import copy
import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from hyena.bench.model import cases
from hyena.bench.model.cases import TODAY, Case, Work
from hyena.bench.model.run import measure
from hyena.bench.model.work import answer

SUITES: tuple[cases.Suite, ...] = ("memory", "train")
ALL = [case for suite in SUITES for case in cases.chosen(suite, today=True)]
SMALL = [case for suite in SUITES for case in cases.chosen(suite, small=True)]


def here(python: str, request: Any) -> dict[str, Any]:
    """Answers in this process."""
    return answer(copy.deepcopy(request))


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_every_case_runs(case: Case) -> None:
    result = measure(case, threads=1, ask=here)
    assert result["skipped"] == {}
    assert "failed" not in result
    assert set(result["times"]) == set(result["peak"]) == set(case.works)
    for name, work in case.works.items():
        assert result["times"][name]["samples"] == work.calls - work.warm
        assert result["times"][name]["median"] > 0
        assert result["peak"][name] > 2**20
    assert json.dumps(result)


def test_names_are_those_of_one_case_and_of_the_right_size() -> None:
    assert len({case.key for case in ALL + SMALL}) == len(ALL + SMALL)
    for case in ALL:
        for name, work in case.works.items():
            if name.startswith("L="):
                assert work.length == int(name[2:])
            elif case.name.split()[-1].isdigit() and case.name != "after 4096 tokens":
                assert work.length == int(case.name.split()[-1])
            assert 0 <= work.warm < work.calls


def test_an_older_build_is_asked_for_only_if_there_is_one() -> None:
    for suite in SUITES:
        without = {name for case in cases.chosen(suite) for name in case.contenders}
        assert not [name for name in without if name.endswith(TODAY)]
        both = [case for case in cases.chosen(suite, today=True) if case.today]
        assert both
        for case in both:
            assert set(case.contenders) == {*case.works, *(name + TODAY for name in case.today)}
            for name in case.today:  # an older build has no room for a million positions
                work = case.works[name]
                assert work.work == "prepare" or work.length <= cases.LONG


def test_the_layouts_are_of_the_same_input() -> None:
    (case,) = [case for case in ALL if case.name == "hybrid by layout"]
    assert {work.layout for work in case.works.values()} == {"plain", "padded", "documents"}
    plain, *others = (replace(work, layout="plain") for work in case.works.values())
    assert others == [plain, plain]


def test_what_a_build_lacks_is_one_line() -> None:
    request = {**asdict(Work("forward", 32, {"no_such": 1})), "threads": 1}
    assert answer(request) == {
        "failed": "TypeError: ModelConfig.__init__() got an unexpected keyword argument 'no_such'"
    }
