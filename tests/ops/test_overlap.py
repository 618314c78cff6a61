"""Whether tensors share memory, against a look at each byte; and outputs that would."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena.ops import Backend, Segments, backends, filter_spectrum, gated_conv, long_conv
from hyena.ops.overlap import names_in_memory_of, overlaps_itself

B, D, L = 2, 3, 8


def addresses(x: Tensor) -> list[int]:
    """Of every byte of every element."""
    found = [x.data_ptr()]
    for stride, size in zip(x.stride(), x.shape, strict=True):
        found = [a + i * stride * x.element_size() for a in found for i in range(size)]
    return [a + byte for a in found for byte in range(x.element_size())]


@st.composite
def views(draw: st.DrawFn, memory: Tensor) -> Tensor:
    """Of any strides, of 2 or 4 bytes an element."""
    x = memory.view(torch.int16) if draw(st.booleans()) else memory
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    strides = draw(st.lists(st.integers(0, 9), min_size=len(shape), max_size=len(shape)))
    return torch.as_strided(x, shape, strides, draw(st.integers(0, 30)))


@settings(max_examples=500)
@given(st.data())
def test_any_two_views_of_a_memory(data: st.DataObject) -> None:
    memory = torch.zeros(200, dtype=torch.int32)
    a, b = data.draw(views(memory)), data.draw(views(memory))
    shared = set(addresses(a)) & set(addresses(b))
    assert names_in_memory_of(a, {"b": b, "none": None}) == (["b"] if shared else [])
    if not overlaps_itself(a):
        assert len(set(addresses(a))) == len(addresses(a))


def test_rows_between_rows_are_apart() -> None:
    memory = torch.zeros(B, 4 * D, L)
    z, y = memory[:, D:], memory[:, :D]
    assert names_in_memory_of(y, {"z": z, "y": y}) == ["y"]
    assert names_in_memory_of(memory[:, :, ::2], {"odd": memory[:, :, 1::2]}) == []
    assert not overlaps_itself(y)
    assert not overlaps_itself(memory.transpose(0, 2))
    assert overlaps_itself(torch.zeros(1, L).expand(2, L))


@pytest.mark.parametrize("backend", ["auto", *backends()])
def test_an_output_in_the_memory_of_an_argument(backend: Backend) -> None:
    z = torch.randn(B, 3 * D, L)
    k, skip = torch.randn(D, L), torch.randn(D)
    short = (torch.randn(3 * D, 3), torch.randn(3 * D))

    def expect(message: str, op: Any, *arguments: Any, out: Tensor, **options: Any) -> None:
        before = out.clone()
        with pytest.raises(ValueError, match=message + "; give it memory of its own$"):
            op(*arguments, out=out, backend=backend, **options)
        assert torch.equal(out, before)

    value = r"^gated_conv: out shares memory with z, of which only all of the value, z\[:, 2·D:\], "
    value += "may be out"
    for out in (z[:, :D], z[:, D : 2 * D], z[:, 2 * D - 1 : -1]):
        expect(value, gated_conv, z, k, out=out)
    u = z[:, :D]
    expect(r"^long_conv: out shares memory with u", long_conv, u, k, out=u)
    expect(r"^long_conv: out shares memory with u", long_conv, u, k, out=z[:, 1 : 1 + D])
    memory = torch.randn(B * D * L)
    for name, options in {
        "k": {"k": memory[: D * L].view(D, L)},
        "skip": {"skip": memory[-D:]},
        "taps": {"short": (memory[: 9 * D].view(3 * D, 3), short[1])},
        "bias": {"short": (short[0], memory[7 : 7 + 3 * D])},
        "offset": {"offset": memory[: 3 * D]},
    }.items():
        expect(
            f"^gated_conv: out shares memory with {name}",
            gated_conv,
            z,
            **{"k": k, "skip": skip, "short": short, **options},
            out=memory.view(B, D, L),
        )
    one = torch.randn(1, D, L)
    itself = r"^{}: elements of out lie in the same place: its strides are \(0, 8, 1\) at shape "
    itself += r"\(2, 3, 8\); pass a tensor of which no two do$"
    for op, x in ((long_conv, u), (gated_conv, z)):
        with pytest.raises(ValueError, match=itself.format(op.__name__)):
            op(x, k, out=one.expand(B, D, L), backend=backend)


def test_an_output_in_the_memory_of_a_spectrum() -> None:
    memory = torch.randn(B * D * L)
    u, k = torch.randn(B, D, L), torch.randn(D, L)
    for backend in ("auto", "torch"):
        kept = filter_spectrum(k, L, backend=backend)
        values = kept.values
        numbers = torch.view_as_real(values) if values.is_complex() else values
        out = numbers.flatten()[: memory.numel()].view(B, D, L)
        with pytest.raises(ValueError, match=r"^long_conv: out shares memory with k; give it"):
            long_conv(u, kept, out=out)


@pytest.mark.parametrize("backend", ["auto", *backends()])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("short", [True, False])
def test_an_output_that_is_the_value(short: bool, packed: bool, backend: Backend) -> None:
    """Is right in every backend: a row of it is read before it is written."""
    z, k, skip = torch.randn(B, 3 * D, L), torch.randn(D, L), torch.randn(D)
    taps = (torch.randn(3 * D, 3), torch.randn(3 * D)) if short else None
    ids = torch.arange(L).div(3, rounding_mode="floor").expand(B, L)
    segments = Segments.from_document_ids(ids) if packed else None
    options: dict[str, Any] = {"short": taps, "segments": segments, "backend": backend}
    expected = gated_conv(z, k, skip, **options)
    memory = torch.empty(B, 4 * D, L)
    for place in (torch.empty(z.shape), memory[:, :-D], memory[:, D:]):
        place.copy_(z)
        assert torch.equal(gated_conv(place, k, skip, out=place[:, 2 * D :], **options), expected)
        assert torch.equal(place[:, : 2 * D], z[:, : 2 * D])


def test_the_value_of_an_input_that_repeats_itself() -> None:
    """Is in the place of the gates as well."""
    z, k = torch.randn(B, 1, L).expand(B, 3, L), torch.randn(1, L)
    with pytest.raises(ValueError, match=r"^gated_conv: out shares memory with z, of which only"):
        gated_conv(z, k, out=z[:, 2:])


@pytest.mark.parametrize("backend", ["auto", *backends()])
def test_an_output_between_the_rows_of_its_input(backend: Backend) -> None:
    memory = torch.randn(B, 4 * D, L)
    z, k = memory[:, D:], torch.randn(D, L)
    expected = gated_conv(z, k, backend=backend)
    y = gated_conv(z, k, out=memory[:, :D], backend=backend)
    assert torch.equal(y, expected)
    assert y.data_ptr() == memory.data_ptr()
