"""A filter's spectrum in place of the filter."""

import pytest
import torch
from backend_cases import cases
from comparison import assert_all_close, assert_close, with_gradients
from torch import Tensor

from hyena.ops import (
    Backend,
    FilterSpectrum,
    Segments,
    backends,
    fft,
    filter_spectrum,
    gated_conv,
    long_conv,
    naive,
)
from hyena.ops.native import library

TOLERANCE = {
    torch.float64: 2e-15,
    torch.float32: 1e-6,
    torch.bfloat16: 1e-3,
    torch.float16: 1e-4,
}


@pytest.fixture(params=["whole", "chunked"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as it is, once with room for a single channel or few at a time."""
    if request.param == "chunked":
        monkeypatch.setattr(fft, "CHUNK_ELEMENTS", 64)


def draw(
    generator: torch.Generator, B: int, D: int, L: int, K: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """u, k and skip, of variance one; filters of float32 or more."""
    u = torch.randn(B, D, L, generator=generator, dtype=torch.float64)
    k = torch.randn(D, K, generator=generator, dtype=torch.float64)
    skip = torch.randn(D, generator=generator, dtype=torch.float64)
    wide = torch.promote_types(dtype, torch.float32)
    return u.to(dtype), k.to(wide), skip.to(wide)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize(("backend", "dtype"), cases(TOLERANCE, without="naive"))
@pytest.mark.parametrize("causal", [True, False])
def test_it_stands_for_its_filter(
    causal: bool, backend: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    for L, K in [(1, 1), (21, 1), (21, 9), (21, 21), (21, 45), (600, 599)]:
        u, k, skip = draw(generator, 2, 3, L, K, dtype)
        kept = filter_spectrum(k, L, skip, causal=causal, backend=backend)

        def op(u: Tensor, kept: FilterSpectrum = kept) -> Tensor:
            return long_conv(u, kept, causal=causal, backend=backend)

        def expected(u: Tensor, k: Tensor = k, skip: Tensor = skip) -> Tensor:
            y = naive.long_conv(u.double(), k.double(), skip.double(), causal=causal)
            return y.to(u.dtype)

        assert_all_close(with_gradients(op, u), with_gradients(expected, u), TOLERANCE[dtype])


def test_it_is_what_an_fft_gives_at_the_filters_precision() -> None:
    k = torch.ones(3, 9)
    assert filter_spectrum(k, 21, backend="torch").layout == "fft"
    assert filter_spectrum(k, 21, backend="torch").values.dtype == torch.complex64
    assert filter_spectrum(k.double(), 21, backend="torch").values.dtype == torch.complex128
    assert filter_spectrum(k.bfloat16(), 21, backend="torch").values.dtype == torch.complex64


@pytest.mark.cpu
def test_an_impossible_one_is_refused(generator: torch.Generator) -> None:
    u, k, skip = draw(generator, 2, 3, 8, 8)
    kept = filter_spectrum(k, 8)
    segments = Segments.from_document_ids(torch.arange(16).view(2, 8))
    with pytest.raises(
        ValueError,
        match=r"^long_conv: the FilterSpectrum was made for 3 channels and "
        r"length 8, but u is \(B, D, L\) = \(2, 3, 7\)$",
    ):
        long_conv(u[..., :7], kept)
    with pytest.raises(ValueError, match="made for 3 channels"):
        long_conv(u[:, :2], kept)
    with pytest.raises(ValueError, match=r"pass the filter k instead$"):
        long_conv(u, kept, skip)
    with pytest.raises(ValueError, match=r"pass the filter k instead$"):
        long_conv(u, kept, segments=segments)
    with pytest.raises(ValueError, match=r"sums over the taps of a filter.* pass the filter k in"):
        long_conv(u, kept, backend="naive")
    with pytest.raises(ValueError, match=r"block_causal=True sums over the taps of a filter, but"):
        long_conv(u, kept, block_causal=True)
    with pytest.raises(
        ValueError, match=r"segments describe a batch \(B, L\) = \(2, 9\), but u is"
    ):
        long_conv(u, kept, segments=Segments.from_document_ids(torch.zeros(2, 9).long()))
    with pytest.raises(ValueError, match=r"u is on meta but the FilterSpectrum is on cpu; move"):
        long_conv(u.to("meta"), kept)
    with pytest.raises(ValueError, match=r"made with causal=True, got causal=False$"):
        long_conv(u, kept, causal=False)
    with pytest.raises(ValueError, match=r"expected floating point u .* of torch.int64$"):
        long_conv(u.long(), kept)
    with pytest.raises(
        ValueError, match=r"^filter_spectrum: expected length from 1 to 2\^48, got 0"
    ):
        filter_spectrum(k, 0)
    with pytest.raises(ValueError, match=r'^filter_spectrum: backend="naive" sums over the taps'):
        filter_spectrum(k, 8, backend="naive")
    with pytest.raises(ValueError, match=r"^filter_spectrum: causal=False needs an odd number"):
        filter_spectrum(k, 8, causal=False)
    with pytest.raises(ValueError, match=r"^filter_spectrum: expected floating point skip"):
        filter_spectrum(k, 8, skip[:2])
    assert isinstance(kept, FilterSpectrum)


@pytest.mark.usefixtures("chunks")
def test_vmap(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 5, 3, 19, 19)
    kept = filter_spectrum(k, 19)
    got = torch.func.vmap(lambda row: long_conv(row[None], kept)[0])(u)
    assert_close(got, long_conv(u, k), 1e-15)


@pytest.mark.parametrize("backend", ["auto", *(b for b in backends() if b != "naive")])
def test_no_gradient_is_lost(backend: Backend, generator: torch.Generator) -> None:
    """A spectrum has none: it is not made where one may be asked for."""
    _, k, skip = draw(generator, 1, 3, 8, 8, torch.float32)
    message = (
        r"^filter_spectrum: {} requires a gradient, which a spectrum does not have; call it under "
        r"torch.no_grad\(\), or pass the filter itself to the convolution$"
    )
    with_gradient = k.clone().requires_grad_(), skip.clone().requires_grad_()
    for name, given in (("k", (with_gradient[0], 8)), ("skip", (k, 8, with_gradient[1]))):
        with pytest.raises(ValueError, match=message.format(name)):
            filter_spectrum(*given, backend=backend)
        with torch.no_grad():
            kept = filter_spectrum(*given, backend=backend)
        assert not kept.values.requires_grad


@pytest.mark.cpu
@pytest.mark.parametrize("backend", ["auto", *(b for b in backends() if b != "naive")])
@pytest.mark.parametrize("causal", [True, False])
def test_of_no_channels(causal: bool, backend: Backend) -> None:
    kept = filter_spectrum(torch.zeros(0, 9), 8, torch.zeros(0), causal=causal, backend=backend)
    options = {"causal": causal, "backend": backend}
    native = backend == "native" or (backend == "auto" and "native" in backends())
    assert kept.layout == (library.isa() if native else "fft")
    for B in (0, 2):
        assert long_conv(torch.zeros(B, 0, 8), kept, **options).shape == (B, 0, 8)
        assert gated_conv(torch.zeros(B, 0, 8), kept, **options).shape == (B, 0, 8)


@pytest.mark.cpu
@pytest.mark.parametrize("L", [8, 500])
@pytest.mark.parametrize("backend", [b for b in backends() if b != "naive"])
def test_one_that_was_changed(backend: Backend, L: int, generator: torch.Generator) -> None:
    """Is refused where it is too short, rather than read beyond its end."""
    u, k, _ = draw(generator, 2, 3, L, L, torch.float32)
    kept = filter_spectrum(k, L, backend=backend)
    for bad in (
        kept._replace(values=kept.values[:1]),
        kept._replace(values=kept.values[:0]),
        kept._replace(n=2 * kept.n),
        kept._replace(values=kept.values.to(torch.float64)) if backend == "native" else None,
    ):
        if bad is not None:
            with pytest.raises(ValueError, match=r"take it as filter_spectrum returned it$"):
                long_conv(u, bad, backend=backend)


@pytest.mark.parametrize("backend", [b for b in backends() if b != "naive"])
def test_beside_narrow_taps(backend: Backend, generator: torch.Generator) -> None:
    """Filters of 16 bits are widened for the kernel, a spectrum of complex numbers stays one."""
    z = torch.randn(2, 9, 33, generator=generator)
    _, k, skip = draw(generator, 1, 3, 33, 33, torch.float32)
    short = torch.randn(9, 3, generator=generator).bfloat16(), None
    kept = filter_spectrum(k, 33, skip, backend=backend)
    expected = gated_conv(z, k, skip, short=short, backend="naive")
    assert_close(gated_conv(z, kept, short=short), expected, 1e-6)
