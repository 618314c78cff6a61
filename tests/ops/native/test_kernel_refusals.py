"""What the kernel cannot do is said in one line."""

import dataclasses
import re
from typing import Any

import pytest
import torch
from comparison import assert_close
from kernel_cases import draw

from hyena.ops import filter_spectrum, gated_conv, long_conv, short_conv
from hyena.ops.native import _call, library
from hyena.ops.native.library import Outcome

L = 40


@pytest.mark.parametrize("name", ["forward", "backward"])
@pytest.mark.parametrize("short", [False, True])
def test_memory_that_runs_out(short: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = library.kernel()
    assert kernel is not None
    broken: dict[str, Any] = {name: lambda *_: 1}
    monkeypatch.setattr(library, "outcome", Outcome(dataclasses.replace(kernel, **broken)))
    z, k, _, taps, _ = (x.requires_grad_() for x in draw(2, 3, L, L))
    op, filter = (short_conv, taps) if short else (gated_conv, k)
    with pytest.raises(MemoryError, match=r"^the native kernel found no memory for its scratch"):
        op(z, filter, backend="native").sum().backward()


def test_memory_that_runs_out_for_a_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = library.kernel()
    assert kernel is not None
    broken = dataclasses.replace(kernel, spectrum=lambda *_: 1)
    monkeypatch.setattr(library, "outcome", Outcome(broken))
    with pytest.raises(MemoryError, match=r"^the native kernel found no memory for its scratch"):
        filter_spectrum(torch.zeros(3, L), L, backend="native")


@pytest.mark.usefixtures("isa")
def test_a_row_that_is_too_long() -> None:
    assert _call.transform_size(1 << 32) == 1 << 32
    length = (1 << 34) + 1
    with pytest.raises(ValueError, match=rf"^the native kernel has no transform .* {length} pos"):
        _call.transform_size(length)


def test_no_kernel() -> None:
    z, k, *_ = draw(2, 3, L, L)
    with library.use("none"):
        with pytest.raises(RuntimeError, match=r"^the native kernel is not loaded: HYENA_ISA=none"):
            _call.transform_size(L + 1000)
        with pytest.raises(RuntimeError, match=r'^backend="native" was asked for, but the kernel'):
            gated_conv(z, k, backend="native")
        expected = gated_conv(z, k)
    assert_close(gated_conv(z, k), expected, 1e-6)


def test_dtypes_that_it_does_not_take() -> None:
    z, k, skip, taps, bias = (x.double() for x in draw(2, 3, L, L))
    message = r'_conv: backend="native" takes float32, bfloat16 or float16 .* torch.float64'
    for op in (
        lambda: gated_conv(z, k, backend="native"),
        lambda: gated_conv(z.float(), k, backend="native"),
        lambda: gated_conv(z.float(), k.float(), skip, backend="native"),
        lambda: gated_conv(z.float(), k.float(), short=(taps, bias), backend="native"),
        lambda: long_conv(z[:, :3], k.float(), backend="native"),
        lambda: short_conv(z.float(), taps, backend="native"),
    ):
        with pytest.raises(ValueError, match=f"^[a-z]+{message}"):
            op()
    wide = gated_conv(z.float(), k.float(), skip)  # float64 filters are left to PyTorch
    assert_close(gated_conv(z.float(), k, skip), wide, 1e-6)


def test_a_spectrum_of_another_transform() -> None:
    z, k, *_ = draw(2, 3, L, L)
    by_fft = filter_spectrum(k, L, backend="torch")
    with pytest.raises(ValueError, match=r"^gated_conv: .* made by PyTorch's FFT, but backend="):
        gated_conv(z, by_fft, backend="native")
    expected = gated_conv(z, k)
    assert_close(gated_conv(z, by_fft), expected, 1e-6)
    kept = filter_spectrum(k, L, backend="native")
    made = rf"the native kernel \({re.escape(library.isa())}\)"
    for backend in ("torch", "auto"):
        u = z.double() if backend == "auto" else z
        with pytest.raises(
            ValueError, match=rf"^gated_conv: the FilterSpectrum was made by {made}"
        ):
            gated_conv(u, kept, backend=backend)
    other = next((isa for isa in (*library.isas(), "none") if isa != library.isa()), "none")
    with (
        library.use(other),
        pytest.raises(ValueError, match=rf"was made by {made}, but .* {other}"),
    ):
        long_conv(z[:, :3], kept)


def test_a_gradient_of_a_spectrum() -> None:
    z, k, *_ = draw(2, 3, L, L)
    kept = filter_spectrum(k, L, backend="native")
    y = gated_conv(z, kept._replace(values=kept.values.requires_grad_()), backend="native")
    with pytest.raises(RuntimeError, match=r"^a FilterSpectrum has no gradient; pass the filter k"):
        y.sum().backward()
