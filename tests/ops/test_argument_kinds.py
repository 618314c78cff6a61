"""What is no tensor is refused by one line that says what was asked and what was got."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hyena import HyenaOperator
from hyena.mixers import CausalSelfAttention
from hyena.ops import Segments, filter_spectrum, gated_conv, long_conv, naive, short_conv

B, D, L = 2, 3, 5
TAPS, SKIP = torch.zeros(D, L), torch.zeros(D)
ROW, TRIPLE = torch.zeros(B, D, L), torch.zeros(B, 3 * D, L)
SHORT = (torch.zeros(3 * D, 3), torch.zeros(3 * D))
SPECTRUM = filter_spectrum(TAPS, L)

CASES: list[tuple[str, Callable[..., Any], dict[str, Any], dict[str, bool]]] = [
    # op, call, its arguments, and which of them may be None
    ("long_conv", long_conv, {"u": ROW, "k": TAPS, "skip": SKIP}, {"skip": True}),
    ("short_conv", short_conv, {"u": ROW, "k": TAPS[:, :3], "bias": SKIP}, {"bias": True}),
    (
        "gated_conv",
        gated_conv,
        {"z": TRIPLE, "k": TAPS, "skip": SKIP},
        {"skip": True},
    ),
    ("naive.long_conv", naive.long_conv, {"u": ROW, "k": TAPS, "skip": SKIP}, {"skip": True}),
    ("naive.short_conv", naive.short_conv, {"u": ROW, "k": TAPS, "bias": SKIP}, {"bias": True}),
    ("naive.gated_conv", naive.gated_conv, {"z": TRIPLE, "k": TAPS, "skip": SKIP}, {"skip": True}),
    ("filter_spectrum", lambda **a: filter_spectrum(length=L, **a), {"k": TAPS}, {}),
    ("long_conv", lambda u: long_conv(u, SPECTRUM), {"u": ROW}, {}),
    ("gated_conv", lambda z: gated_conv(z, SPECTRUM), {"z": TRIPLE}, {}),
    (
        "gated_conv: short",
        lambda k, bias: gated_conv(TRIPLE, TAPS, short=(k, bias)),
        {"k": SHORT[0], "bias": SHORT[1]},
        {"bias": True},
    ),
    ("HyenaOperator", HyenaOperator(D, L), {"u": ROW.mT}, {}),
    ("CausalSelfAttention", CausalSelfAttention(4, head_dim=2), {"u": torch.zeros(B, L, 4)}, {}),
]


@pytest.mark.parametrize("backend", ["auto", "torch", "naive"])
@pytest.mark.parametrize(("op", "call", "arguments", "optional"), CASES)
def test_an_argument_that_is_no_tensor(
    op: str,
    call: Callable[..., Any],
    arguments: dict[str, Any],
    optional: dict[str, bool],
    backend: str,
) -> None:
    if call in (long_conv, short_conv, gated_conv):
        arguments = {**arguments, "backend": backend}
    call(**arguments)  # as it should be
    for name, value in arguments.items():
        if not isinstance(value, torch.Tensor):
            continue
        expected = f"{op}: expected a tensor{' or None' if name in optional else ''} as {name}, got"
        made = "; torch.as_tensor makes one of numbers"
        wrong = {f"numpy.ndarray{made}": value.numpy(), f"list{made}": value.tolist()}
        if name in optional:
            call(**{**arguments, name: None})
        else:
            wrong["None"] = None
        for got, given in wrong.items():
            with pytest.raises(TypeError, match=f"^{re.escape(f'{expected} {got}')}$"):
                call(**{**arguments, name: given})


@pytest.mark.parametrize("convolution", [long_conv, short_conv])
def test_segments_that_are_none(convolution: Callable[..., Any]) -> None:
    ids = torch.zeros(B, L, dtype=torch.int64)
    assert convolution(ROW, TAPS, segments=Segments.from_document_ids(ids)).shape == ROW.shape
    message = (
        f"{convolution.__name__}: expected hyena.ops.Segments or None as segments, got Tensor; "
        "Segments.from_document_ids makes them of a tensor"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        convolution(ROW, TAPS, segments=ids)


def test_a_sparse_tensor() -> None:
    message = (
        "long_conv: expected a dense tensor as u, got one of torch.sparse_coo; u.to_dense() makes "
        "one of it"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        long_conv(ROW.to_sparse(), TAPS)
    with pytest.raises(ValueError, match=r"^CausalSelfAttention: expected a dense tensor as u"):
        CausalSelfAttention(4, head_dim=2)(torch.zeros(B, L, 4).to_sparse())
    with pytest.raises(ValueError, match=r"^Segments: expected a dense tensor as document_ids"):
        Segments.from_document_ids(torch.ones(B, L, dtype=torch.int64).to_sparse())
