"""StripedHyena 2's operators between their projections: contenders, truth and definition."""

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients
from torch import Tensor

from hyena.bench.convolution import cases, striped
from hyena.bench.convolution.baselines import public_long_conv, public_short_conv
from hyena.bench.convolution.cases import STRIPED, Case
from hyena.bench.convolution.measure import build, measure
from hyena.bench.convolution.striped import between, build_operator, by_formula, modal_taps
from hyena.mixers import HyenaOperator
from hyena.ops import naive

D, L = 32, 150  # two groups; more positions than a filter has taps
SMALL = cases.striped(small=True)


def taps_by_definition(operator: HyenaOperator, length: int) -> Tensor:
    """(D, L) in float64, number by number."""
    taps = operator.filter.taps
    h = torch.zeros(operator.width, length, dtype=torch.float64)
    if hasattr(taps, "log_poles"):
        for t in range(length):
            h[:, t] = (taps.residues[0].double() * (taps.log_poles[0].double() * t).exp()).sum(1)
        return h
    _, groups, count = taps.weight.shape
    for d in range(operator.width):
        h[d, : min(count, length)] = taps.weight[0, d * groups // operator.width, :length].double()
    return h


@torch.no_grad()
def definition(operator: HyenaOperator, z: Tensor) -> Tensor:
    """What lies between the projections, of z (B, 3D, L), in float64."""
    skip = operator.filter.skip
    short = operator.short_conv.weight.double()
    return naive.gated_conv(
        z.double(),
        taps_by_definition(operator, z.shape[2]),
        None if skip is None else skip[0].double(),
        short=(short, None),
    )


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_every_contender_passes_its_check_and_is_timed(case: Case) -> None:
    found = measure(case, seconds=0.001, repeats=2)
    assert found["skipped"] == {}
    assert set(found["times"]) == set(found["errors"]) == set(STRIPED[case.work])
    names = {"y", "z", "short"} if case.direction == "training" else {"y"}
    for errors in found["errors"].values():
        assert names <= set(errors)


@pytest.mark.parametrize("mixer", STRIPED)
def test_training_compares_the_gradient_of_every_parameter(mixer: str) -> None:
    known = striped.striped(mixer, batch=1, width=D, length=L, training=True)
    expected = {
        "hyena-se": {"y", "z", "short", "weight"},
        "hyena-mr": {"y", "z", "short", "weight", "skip"},
        "hyena-li": {"y", "z", "short", "log_poles", "residues", "skip"},
    }
    for make in known.values():
        contender = make()
        errors = contender.errors(contender.call())
        assert set(errors) == expected[mixer]
        assert max(errors.values()) < striped.STRIPED_TOLERANCE


@pytest.mark.parametrize("length", [1, 40, L])
@pytest.mark.parametrize("mixer", STRIPED)
@pytest.mark.parametrize("by_definition", [True, False])
def test_the_truth_is_the_definition(
    mixer: str, length: int, by_definition: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_definition:
        monkeypatch.setattr(striped, "_NAIVE", 0)
    sizes = {"batch": 2, "width": 48, "length": length, "training": False}
    contender = striped.striped(mixer, **sizes)["ours"]()  # type: ignore[arg-type]
    z = torch.randn(2, 144, length, generator=torch.Generator().manual_seed(0))
    expected = definition(build_operator(mixer, 48, length), z)
    first_and_last_group = [*range(16), *range(32, 48)]
    assert_close(contender.truth()["y"], expected[:, first_and_last_group], 1e-10)


@pytest.mark.parametrize("mixer", STRIPED)
@pytest.mark.parametrize("training", [False, True])
def test_what_is_timed_of_ours_is_what_a_forward_pass_does(
    mixer: str, training: bool, generator: torch.Generator
) -> None:
    operator = build_operator(mixer, D, L).train(training)
    u = torch.randn(2, L, D, generator=generator)
    with torch.no_grad():
        z = operator.in_proj(u).transpose(1, 2)
        y = operator.out_proj(between(operator, z).transpose(1, 2))
        assert_close(y, operator(u), 1e-5)
        assert_close(between(operator, z), definition(operator, z).float(), 1e-5)


@pytest.mark.parametrize("with_skip", [False, True])
def test_the_formula_by_pytorchs_convolution_and_by_its_transform(
    with_skip: bool, generator: torch.Generator
) -> None:
    sizes = [(2, 12, 20), (12, 3), (4, 7), *([(4,)] if with_skip else [])]
    given = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]

    def expected(z: Tensor, short: Tensor, taps: Tensor, skip: Tensor | None = None) -> Tensor:
        return naive.gated_conv(z, taps, skip, short=(short, None))

    right = with_gradients(expected, *given)
    for convolve in (public_short_conv, public_long_conv):
        got = with_gradients(lambda *x, f=convolve: by_formula(f, *x), *given)
        assert_all_close(got, right, 1e-12)


def test_sums_of_exponentials() -> None:
    log_poles, residues = torch.tensor([[[-0.5, -1.0]]]), torch.tensor([[[2.0, 1.0]]])
    time = torch.arange(4.0)
    assert_close(modal_taps(4, log_poles, residues)[0], 2 * (-time / 2).exp() + (-time).exp(), 1e-6)


def test_at_width_1024_16_channels_share_a_filter_as_in_the_released_model() -> None:
    (case, *_) = cases.striped()
    assert (case.width, case.length, case.batch) == (1024, 8192, 1)
    operator = build_operator("hyena-mr", 1024, 256)
    assert tuple(operator.filter.taps.weight.shape) == (1, 64, 128)
    assert operator.in_proj.bias is None
    assert operator.short_conv.bias is None
    assert build_operator("hyena-se", 32, 16).filter.skip is None


def test_a_contender_that_there_is_not() -> None:
    case = Case("quick", "hyena-li", "forward", "default", 16, 20, ("conv1d",))
    with pytest.raises(ValueError, match="hyena-li has ours, public, but not conv1d"):
        build(case, case.contenders)


def test_long_inputs_are_summed_by_modes_as_in_a_forward_pass(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    for name in ("BY_MODES", "BY_MODES_KEPT"):
        monkeypatch.setattr(f"hyena.mixers.hyena.kernels.{name}", 1)
    operator = build_operator("hyena-li", D, L).eval()
    z = torch.randn(1, 3 * D, L, generator=generator)
    if not operator.sums_modes(z, L, None):
        pytest.skip("it takes the kernel")
    summed = []
    right = HyenaOperator.modes
    monkeypatch.setattr(
        HyenaOperator, "modes", lambda self, *given: summed.append(given) or right(self, *given)
    )
    with torch.no_grad():
        assert_close(between(operator, z), definition(operator, z).float(), 1e-5)
    assert summed == [(L,)]
