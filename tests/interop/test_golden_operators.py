"""Operators run by the public code: the same outputs and gradients from the same weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from hyena.filters import HyenaFilter
from hyena.interop.safari_operator import FilterLayout, hyena_names, repeated_frequencies, to_ours
from hyena.mixers import HyenaOperator

GOLDEN = Path(__file__).parent.parent / "golden"
DEPTH = 4
OPERATORS = [
    "safari_standalone_order2",
    "safari_standalone_order3",
    "safari_full_order3",
    "safari_full_normalized",
    "hyenadna_order2",
]


def read(name: str) -> tuple[dict, dict[str, Tensor]]:
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        return config, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def build(config: dict, tensors: dict[str, Tensor], dtype: torch.dtype, train_encoding: bool):
    args = config["args"]
    order = args.get("order", 2)
    layout: FilterLayout = "channel_major" if config["layout"] == "(v o)" else "order_major"
    shift = 0.05 if "hyena-dna" in config["source"] else 0.0
    filter = HyenaFilter(
        args["d_model"],
        args["l_max"],
        filters=order - 1,
        emb_dim=args["emb_dim"],
        width=args["filter_order"],
        depth=DEPTH,
        sine_freq=args["w"],
        window=args.get("modulate", True),
        shift=args.get("shift", shift),
        normalized=args.get("normalized", False),
        train_encoding=train_encoding,
        dtype=dtype,
    )
    mixer = HyenaOperator(
        args["d_model"],
        args["l_max"],
        order,
        short_width=args.get("short_filter_order", 3),
        filter=filter,
        dtype=dtype,
    )
    names = hyena_names(DEPTH, train_encoding)

    def convert(prefix: str) -> dict[str, Tensor]:
        return {
            ours: to_ours(
                ours,
                tensors[prefix + theirs],
                depth=DEPTH,
                filters=order - 1,
                layout=layout,
            )
            for ours, theirs in names.items()
            if prefix + theirs in tensors
        }

    fresh_decay = mixer.filter.decay.clone()
    mixer.load_state_dict({k: v.to(dtype) for k, v in convert("state.").items()}, strict=True)
    return mixer, convert("grad."), fresh_decay, layout


def relative(actual: Tensor, expected: Tensor) -> float:
    return ((actual.double() - expected).norm() / expected.norm()).item()


def check(mixer, tensors, gradients, names, bound) -> None:
    dtype = mixer.in_proj.weight.dtype
    u = tensors["input"].to(dtype).requires_grad_()
    y = mixer(u)
    assert relative(y, tensors["output"]) < bound
    y.backward(tensors["cotangent"].to(dtype))
    assert relative(u.grad, tensors["grad_input"]) < bound
    found = dict(mixer.named_parameters())
    for ours in names:
        assert relative(found[ours].grad, gradients[ours]) < bound, ours


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("encoding", ["from the file", "computed"])
def test_outputs_and_gradients_are_the_public_codes(name, encoding):
    config, tensors = read(name)
    mixer, gradients, *_ = build(config, tensors, torch.float64, encoding == "from the file")
    trained = {n for n, p in mixer.named_parameters() if p.requires_grad}
    assert trained == set(gradients)
    check(mixer, tensors, gradients, trained, 1e-10)


@pytest.mark.parametrize("name", OPERATORS)
def test_in_float32_the_operator_is_exact_to_1e_5_and_its_filter_to_its_conditioning(name):
    # Rounding the filter network's parameters to float32, with all else in float64, moves these
    # outputs by up to 5e-5: three sines of frequency 10-14 amplify it. So the operator is held to
    # 1e-5 with the filter given, and the whole to a bound above that conditioning.
    config, tensors = read(name)
    exact, gradients, *_ = build(config, tensors, torch.float64, True)
    h = exact.filter(tensors["input"].shape[1]).detach()
    mixer, *_ = build(config, tensors, torch.float32, True)
    mixer.filter.forward = lambda length: h.float()
    outside = [n for n, _ in mixer.named_parameters() if not n.startswith("filter.")]
    check(mixer, tensors, gradients, [*outside, "filter.skip"], 1e-5)

    whole, *_ = build(config, tensors, torch.float32, True)
    check(whole, tensors, gradients, gradients, 3e-4)


@pytest.mark.parametrize("name", OPERATORS)
def test_evaluation_with_a_kept_spectrum_gives_the_same(name):
    config, tensors = read(name)
    mixer, *_ = build(config, tensors, torch.float64, True)
    mixer.eval()
    with torch.no_grad():
        for _ in range(2):
            assert relative(mixer(tensors["input"]), tensors["output"]) < 1e-10


@pytest.mark.parametrize("name", ["safari_standalone_order2", "safari_full_order3"])
def test_fresh_decays_are_the_public_codes(name):
    # At order 3 the layouts give the filters different decays; ours are those of (v o).
    config, tensors = read(name)
    mixer, _, fresh, _ = build(config, tensors, torch.float64, False)
    torch.testing.assert_close(fresh, mixer.filter.decay, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_name_of_the_public_state_is_known(name):
    _, tensors = read(name)
    theirs = {key.removeprefix("state.") for key in tensors if key.startswith("state.")}
    assert theirs == {*hyena_names(DEPTH, True).values(), *repeated_frequencies(DEPTH)}
