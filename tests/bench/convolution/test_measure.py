"""A row measured: checked first, then timed."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hyena.bench.convolution import cases, gated_conv, measure
from hyena.bench.convolution.cases import Case
from hyena.bench.convolution.measure import build, measure_memory

# What is compared on a GPU is built and checked here on the CPU.
OF_DEVICE = [replace(cell, device="cpu") for cell in cases.on_device("cuda", "quick", [8], [20])]
TINY = cases.quick([8], [20])
CONV = Case("quick", "gated_conv", "forward", "default", 4, 12, ("ours", "public"))


def times_of(cell: Case) -> dict:
    return measure.measure(cell, seconds=0.001, repeats=2)


@pytest.mark.parametrize(
    "cell", [*TINY, *OF_DEVICE], ids=[f"{cell.key}-{i}" for i, cell in enumerate(TINY + OF_DEVICE)]
)
def test_every_contender_passes_its_check_and_is_timed(cell: Case) -> None:
    found = times_of(cell)
    assert "failed" not in found
    assert set(found["errors"]) == set(cell.contenders)
    if cell.work == "error":
        assert set(found) == {"errors"}
        return
    assert set(found["times"]) == set(cell.contenders)
    for timing in found["times"].values():
        assert 0 < timing["lower"] <= timing["median"] <= timing["upper"]


def test_training_checks_every_gradient() -> None:
    errors = times_of(replace(CONV, direction="training", contenders=("ours", "sdpa")))["errors"]
    assert set(errors["ours"]) == {"y", "z", "k", "skip"}
    assert set(errors["sdpa"]) == {"y", "q", "k", "v"}
    cell = Case("quick", "operator", "training", "default", 4, 12, ("ours", "public", "block"))
    errors = times_of(cell)["errors"]
    assert errors["ours"].keys() == errors["public"].keys() >= {"y", "u", "filter.skip"}
    assert set(errors["block"]) == {
        "y",
        "u",
        "in_proj.weight",
        "in_proj.bias",
        "out_proj.weight",
        "out_proj.bias",
    }


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_a_baseline_that_is_wrong_is_left_out_alone(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = gated_conv.public_gated_conv

    def wrong(z: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        return factor * right(z, k, skip)

    monkeypatch.setattr(gated_conv, "public_gated_conv", wrong)
    found = times_of(CONV)
    assert set(found["times"]) == {"ours"}
    assert set(found["errors"]) == {"ours", "public"}
    why = found["skipped"]["public"]
    assert why.startswith("y differs from float64 by ")
    assert why.endswith("more than 2e-06")
    found = times_of(replace(CONV, contenders=("public",)))
    assert found["failed"] == f"public: {why}; nothing of this case was timed"


def test_so_is_one_with_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(z: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        y: Tensor = right(z, k, skip)
        y.register_hook(lambda dy: dy.roll(1, -1))
        return y

    right = gated_conv.public_gated_conv
    monkeypatch.setattr(gated_conv, "public_gated_conv", wrong)
    found = times_of(replace(CONV, direction="training"))
    assert found["skipped"]["public"].startswith("z differs")
    assert set(found["times"]) == {"ours"}


def test_ours_that_is_wrong_stops_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gated_conv.gated_conv
    monkeypatch.setattr(gated_conv, "gated_conv", lambda *given, **options: 1.001 * right(*given))
    found = times_of(CONV)
    assert "times" not in found
    assert found["failed"].startswith("ours: y differs from float64 by 1.0e-03")


def test_errors_are_told_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gated_conv.public_gated_conv
    monkeypatch.setattr(gated_conv, "public_gated_conv", lambda *given: 1.5 * right(*given))
    cell = replace(CONV, work="error", direction="training")
    found = times_of(cell)
    assert found["errors"]["public"]["y"] > 0.1
    assert "failed" not in found


def test_contenders_share_their_inputs_and_return_fresh_outputs() -> None:
    built = build(CONV, ("ours", "public"))
    first, second, public = (built[name].call()[0] for name in ("ours", "ours", "public"))
    assert first.data_ptr() != second.data_ptr()
    torch.testing.assert_close(first, public)


def test_operators_have_the_same_weights() -> None:
    cell = Case("quick", "operator", "forward", "default", 8, 16, ())
    built = build(cell, ("ours_out", "public", "torch"))
    ours, public, torch_ = (built[name].call()[0] for name in ("ours_out", "public", "torch"))
    torch.testing.assert_close(ours, public)
    torch.testing.assert_close(ours, torch_)


@pytest.mark.parametrize("work", ["gated_conv", "operator"])
def test_an_unknown_contender_is_an_error(work: str) -> None:
    cell = replace(CONV, work=work)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="but not mamba"):
        build(cell, ("mamba",))


def test_memory_of_one_contender() -> None:
    found = measure_memory(replace(CONV, width=8, length=1 << 18), "public")
    if "why_not" in found:
        pytest.skip(found["why_not"])
    output = 4 * 8 * (1 << 18)
    assert found["call"] > 2 * output  # fresh spectra and the output at least
    two = Case("quick", "two_lengths", "training", "default", 4, 64, ("L=64", "L=128"), 128)
    assert set(measure_memory(two, "L=128")) == {"call", "process"}
