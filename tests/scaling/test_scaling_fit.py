"""Laws that are fitted to points of a known law come back."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena.scaling.fit import Curve, Form, fit_curve, fit_curves, fit_joint

COMPUTE = [1e12, 2e12, 4e12]
LAWS = {
    "power law": Curve("power law", 3.0, 0.1, 0.0, 1e12, 4e12),
    "power law with a floor": Curve("power law with a floor", 2.3, 0.4, 1.5, 1e12, 4e12),
    "line in log compute": Curve("line in log compute", 3.0, 0.2, -math.inf, 1e12, 4e12),
}


def losses(curve: Curve) -> list[float]:
    return [curve.loss(compute) for compute in COMPUTE]


@pytest.mark.parametrize("form", LAWS)
def test_a_curve_has_the_formula_of_its_form(form: Form) -> None:
    expected = {
        "power law": 3.0 * 4**-0.1,
        "power law with a floor": 1.5 + 0.8 * 4**-0.4,
        "line in log compute": 3.0 - 0.2 * math.log(4),
    }
    assert LAWS[form].loss(4e12) == pytest.approx(expected[form], rel=1e-14)
    assert LAWS[form].loss(1e12) == pytest.approx(LAWS[form].first, rel=1e-14)


@pytest.mark.parametrize("form", LAWS)
def test_a_curve_comes_back_from_its_points(form: Form) -> None:
    law = LAWS[form]
    found = fit_curve(form, COMPUTE[::-1], losses(law)[::-1])
    assert (found.form, found.least, found.most) == (form, 1e12, 4e12)
    assert found.first == pytest.approx(law.first, rel=1e-9)
    assert found.rate == pytest.approx(law.rate, rel=1e-6)
    assert found.floor == pytest.approx(law.floor, rel=1e-6)


@given(rate=st.floats(0.02, 3), floor=st.floats(0.5, 3), amount=st.floats(0.1, 3))
def test_floors_of_all_kinds_come_back(rate: float, floor: float, amount: float) -> None:
    form: Form = "power law with a floor"
    law = Curve(form, floor + amount, rate, floor, 1.0, 16.0)
    compute = [1.0, 2.0, 4.0, 16.0]
    found = fit_curve(form, compute, [law.loss(c) for c in compute])
    for at in (1.0, 3.0, 10.0):  # a slow law has many a floor, but one curve
        assert found.loss(at) == pytest.approx(law.loss(at), rel=1e-6)
    if rate > 0.2:
        assert found.floor == pytest.approx(floor, rel=1e-3)


def test_noise_is_met_by_least_squares_in_logarithms() -> None:
    y = [2.0, 1.7, 1.75, 1.5]
    found = fit_curve("power law", [1.0, 2.0, 2.0, 8.0], y)
    slope, level = np.polyfit(np.log([1.0, 2.0, 2.0, 8.0]), np.log(y), 1)
    assert found.rate == pytest.approx(-slope, rel=1e-9)
    assert found.first == pytest.approx(math.exp(level), rel=1e-9)


@pytest.mark.parametrize("form", ["line in log compute", "power law with a floor"])
def test_no_other_curve_of_the_form_has_a_smaller_relative_error(form: Form) -> None:
    x, y = [1.0, 2.0, 4.0, 8.0], [2.0, 1.7, 1.58, 1.5]
    found = fit_curve(form, x, y)

    def error(curve: Curve) -> float:
        return sum((curve.loss(a) / b - 1) ** 2 for a, b in zip(x, y, strict=True))

    for name in ("first", "rate", "floor"):
        for factor in (0.999, 1.001):
            other = replace(found, **{name: factor * getattr(found, name)})
            assert error(found) <= error(other)


@pytest.mark.parametrize(
    "y",
    [
        losses(LAWS["line in log compute"]),  # straighter than any power law
        [1.0, 2.0, 2.5],  # rises
    ],
)
def test_a_floor_below_zero_is_no_floor(y: list[float]) -> None:
    found = fit_curve("power law with a floor", COMPUTE, y)
    without = fit_curve("power law", COMPUTE, y)
    assert found == replace(without, form="power law with a floor")


@pytest.mark.parametrize("form", LAWS)
@given(share=st.floats(0, 1))
def test_reach_is_the_inverse_of_loss(form: Form, share: float) -> None:
    compute = 1e12 * 4**share
    assert LAWS[form].reach(LAWS[form].loss(compute)) == pytest.approx(compute, rel=1e-9)


@pytest.mark.parametrize("form", LAWS)
def test_nothing_is_read_beyond_the_measured_range(form: Form) -> None:
    law = LAWS[form]
    assert law.reach(law.first) == pytest.approx(1e12)
    assert law.reach(law.loss(4e12)) == pytest.approx(4e12)
    assert law.reach(1.001 * law.first) == -math.inf
    assert law.reach(0.999 * law.loss(4e12)) == math.inf
    assert law.reach(0.5) == math.inf  # below every floor


@pytest.mark.parametrize("form", LAWS)
@pytest.mark.parametrize("y", [[2.0, 2.0, 2.0], [2.0, 2.1, 2.2]])
def test_a_loss_that_does_not_fall_is_reached_at_once_or_never(form: Form, y: list[float]) -> None:
    curve = fit_curve(form, COMPUTE, y)
    assert curve.reach(2.5) == -math.inf
    assert curve.reach(1.9) == math.inf


@pytest.mark.parametrize(
    ("compute", "forms"),
    [
        ([], []),
        ([1.0], []),
        ([1.0, 1.0], []),
        ([1.0, 2.0], ["power law", "line in log compute"]),
        ([1.0, 2.0, 3.0], list(LAWS)),
    ],
)
def test_a_form_needs_as_many_computes_as_it_has_numbers(
    compute: list[float], forms: list[str]
) -> None:
    assert list(fit_curves(compute, [2.0 - 0.1 * x for x in compute])) == forms


@pytest.mark.parametrize(
    ("form", "compute", "y", "message"),
    [
        ("power law", [1, 1], [2, 2], "power law needs 2 different computes or more, got 1"),
        ("power law with a floor", [1, 2], [2, 1], "needs 3 different computes or more, got 2"),
        ("power law", [1, 2], [2], r"compute \(2,\) and losses \(1,\); give one of each"),
        ("power law", [0, 2], [2, 1], "compute are not all positive and finite"),
        ("line in log compute", [1, 2], [2, math.nan], "losses are not all positive and finite"),
    ],
)
def test_what_is_no_curve_is_refused(
    form: Form, compute: list[float], y: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_curve(form, compute, y)


SIZES = [4e5, 8e5, 1.6e6, 3.2e6]
POINTS = [(size, budget * size) for size in SIZES for budget in (2.5, 5.0, 10.0)]


def joint(parameters: float, tokens: float) -> float:
    return 1.2 + 50 / parameters**0.35 + 200 / tokens**0.4


def test_a_joint_law_comes_back_from_its_points() -> None:
    parameters, tokens = zip(*POINTS, strict=True)
    law = fit_joint(parameters, tokens, [joint(*point) for point in POINTS])
    assert law is not None
    assert law.error < 1e-9
    assert law.floor == pytest.approx(1.2, rel=1e-3)
    assert (law.size_exponent, law.token_exponent) == pytest.approx((0.35, 0.4), rel=1e-3)
    assert (law.size_factor, law.token_factor) == pytest.approx((50, 200), rel=1e-2)
    assert law.loss(1e6, 1e7) == pytest.approx(joint(1e6, 1e7), rel=1e-6)


def test_a_joint_law_is_nearer_to_noisy_points_than_the_law_that_made_them() -> None:
    generator = np.random.default_rng(1)
    noise = 0.005 * generator.standard_normal(len(POINTS))
    parameters, tokens = zip(*POINTS, strict=True)
    y = [joint(*point) * math.exp(e) for point, e in zip(POINTS, noise, strict=True)]
    law = fit_joint(parameters, tokens, y)
    assert law is not None
    assert 0 < law.error < math.sqrt(float(np.square(noise).mean()))
    found = [math.log(law.loss(*point) / loss) for point, loss in zip(POINTS, y, strict=True)]
    assert law.error == pytest.approx(math.sqrt(float(np.square(found).mean())), rel=1e-6)


def test_too_few_sizes_or_budgets_have_no_joint_law() -> None:
    assert fit_joint([], [], []) is None
    two_sizes = [(size, budget * size) for size in SIZES[:2] for budget in (1, 2, 3, 4)]
    one_budget = [(size, 10 * size) for size in SIZES]
    for points in (two_sizes, one_budget):
        parameters, tokens = zip(*points, strict=True)
        assert fit_joint(parameters, tokens, [joint(*point) for point in points]) is None


def test_equal_losses_have_a_joint_law_that_is_level() -> None:
    parameters, tokens = zip(*POINTS, strict=True)
    law = fit_joint(parameters, tokens, [2.0] * len(POINTS))
    assert law is not None
    assert law.loss(1e6, 5e6) == pytest.approx(2.0, rel=1e-2)
