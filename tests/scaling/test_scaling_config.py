"""What a scaling sweep refuses to be asked for."""

from pathlib import Path
from typing import Any

import pytest
from small_sweeps import small

from hyena.scaling import Family, Size


def families(**settings: Any) -> list[Family]:
    return [Family("a"), Family("b", **settings)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobs": 0}, "jobs: expected at least 1, got 0"),
        ({"most_hours": 0}, "most_hours: expected a positive number, got 0"),
        ({"tuning_tokens_per_parameter": -1}, "tuning_tokens_per_parameter: expected a positive"),
        ({"tokens_per_parameter": []}, "tokens_per_parameter: expected one or more positive num"),
        ({"tokens_per_parameter": [1, 1]}, "tokens_per_parameter: expected one or more positive"),
        ({"tokens_per_parameter": [1, 0]}, "tokens_per_parameter: expected one or more positive"),
        ({"seeds": [1, 1]}, r"seeds: expected one or more, all different, got \[1, 1\]"),
        ({"families": []}, r"families: expected one or more, got \[\]"),
        ({"sizes": []}, r"sizes: expected one or more, got \[\]"),
        (
            {"sizes": [Size(8, 1), Size(8, 1, seeds=1)]},
            "sizes: expected one or more, all different, got 8 x 1, 8 x 1",
        ),
        ({"sizes": [Size(8, 0)]}, "sizes.layers: expected at least 1, got 0"),
        ({"families": families(seeds=0)}, "families: b: seeds: expected at least 1, got 0"),
        ({"families": families(budgets="low")}, "families: b: budgets: expected one of all, top"),
        ({"families": [Family("a"), Family("a")]}, "families: 'a' is the name of two"),
        (
            {"families": families(trials=[{}, {"clip": 2.0}])},
            "families: to be fair, each needs the same number of trials.*: a has 1, b has 2",
        ),
        (
            {"families": families(trials_of="c")},
            "families: b: trials_of is 'c'; expected a family with trials of its own: a$",
        ),
        (
            {"families": [Family("a", trials_of="b"), Family("b", trials_of="a")]},
            "families: a: trials_of is 'b'; .* of its own: there is none",
        ),
        (
            {"families": families(trials_of="a", trials=[{"clip": 2.0}])},
            "families: b: give trials or trials_of, not both",
        ),
        ({"families": [Family("a", trials=[])]}, "the same number of trials, at least one: a has"),
        ({"base": {"steps": 3}}, "base: steps is set by the sweep itself; leave it out"),
        (
            {"families": families(settings={"model": {"width": 8}})},
            "families: b: model.width is set by the sweep itself",
        ),
        ({"families": families(trials=[{"seed": 1}])}, "families: b: seed is set by the sweep"),
        (
            {"families": families(settings={"model.mlp-width": 8})},
            "families: b: model.mlp_width is made to fit the parameters of a; leave it out, or set",
        ),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        small(Path("data"), Path("out"), **changes)
    assert "\n" not in str(refused.value)


def test_a_size_in_words() -> None:
    assert str(Size(96, 4)) == "96 x 4"
