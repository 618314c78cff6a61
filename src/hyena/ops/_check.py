"""What a convolution's arguments must be, checked once: one clear line where they are not."""

from typing import Any

from torch import Tensor, float64

from hyena.ops._convolution import Convolution
from hyena.ops._filter import FilterSpectrum, crop
from hyena.ops.arguments import check_tensor
from hyena.ops.backend import NAMES, unknown
from hyena.ops.segments import Segments


def convolution(
    op: str,
    z: Tensor,
    k: Tensor | FilterSpectrum | None,
    skip: Tensor | None = None,
    short: tuple[Tensor, Tensor | None] | None = None,
    *,
    parts: int = 1,
    causal: bool = True,
    segments: Segments | None = None,
    block_causal: bool = False,
    backend: str = "auto",
) -> Convolution:
    """The convolution of these arguments, of an input of ``parts`` times the filter's channels;
    k is None for the short convolution alone.

    Raises: TypeError on what is no tensor; ValueError on shapes, dtypes, devices or settings that
        do not fit together.
    """
    name, sizes = ("u", "(B, D, L)") if parts == 1 else ("z", f"(B, {parts}·D, L)")
    if not isinstance(backend, str) or backend not in NAMES:
        raise unknown(backend)
    check_tensor(op, name, z)
    if block_causal and not causal:
        raise ValueError(
            f"{op}: block_causal=True keeps the future out, but causal=False asks for it; "
            "drop one of them"
        )
    taps, bias = (None, None) if short is None else _pair(op, short)
    device = z.device
    n, lead, short_lead, layout, filter = 0, 0, 0, "", None
    # The place in messages; the filter and what goes with it, called so; and the input's parts.
    filters: list[tuple[str, Any, Any, str, int]] = []
    if k is not None or short is None:
        filters.append((op, k, skip, "skip", parts))
    if short is not None:
        filters.append((op if k is None else f"{op}: short", taps, bias, "bias", 1))
    for place, h, beside, called, of in filters:
        if isinstance(h, FilterSpectrum):
            _check_spectrum(op, name, sizes, z, h, skip, causal, segments, block_causal, backend)
            n, lead, layout, filter = h.n, h.lead, h.layout, h.values
            continue
        check_tensor(place, "k", h)
        if z.dim() != 3 or h.dim() != 2 or of * h.shape[0] != z.shape[1]:
            raise _misfit(place, name, of, z, h)
        if not z.is_floating_point():
            raise ValueError(f"{place}: expected floating point {name}, got {z.dtype}")
        if h.device != device:
            raise ValueError(
                f"{place}: {name} is on {device} but k is on {h.device}; move one of them"
            )
        D, count = h.shape
        if count < 1 or not h.is_floating_point() or not (causal or count % 2):
            raise _impossible(place, h)
        if beside is not None:
            check_tensor(place, called, beside, optional=True)
            if beside.shape != (D,) or not beside.is_floating_point():
                raise _misplaced(place, called, beside, D)
            if beside.device != device:
                raise ValueError(
                    f"{place}: k is on {device} but {called} is on {beside.device}; "
                    "move one of them"
                )
        ahead = 0 if causal else (count - 1) // 2
        if called == "bias":
            short_lead = ahead
            continue
        filter, lead = h, ahead
        if (L := z.shape[2]) < count - lead:
            filter, lead = crop(h, lead, max(L, 1))
    if segments is not None:
        _check_segments(op, name, sizes, z, segments)
        segments = None if segments.trivial else segments
    return Convolution(
        z,
        parts,
        filter,
        n,
        skip,
        taps,
        bias,
        lead,
        short_lead,
        segments,
        causal,
        block_causal,
        layout,
    )


def check_filter(op: str, k: Tensor, skip: Tensor | None, causal: bool) -> None:
    """What can be said of a filter (D, K) and its skip without the input. Raises: as above."""
    if k.dim() != 2:
        raise ValueError(f"{op}: expected k (D, K), got {tuple(k.shape)}")
    if k.shape[1] < 1 or not k.is_floating_point() or not (causal or k.shape[1] % 2):
        raise _impossible(op, k)
    if skip is None:
        return
    if skip.shape != k.shape[:1] or not skip.is_floating_point():
        raise _misplaced(op, "skip", skip, k.shape[0])
    if skip.device != k.device:
        raise ValueError(f"{op}: k is on {k.device} but skip is on {skip.device}; move one of them")


def _pair(op: str, short: object) -> tuple[Tensor, Tensor | None]:
    if not isinstance(short, tuple) or len(short) != 2:
        raise ValueError(
            f"{op}: expected short = (taps (3·D, J), bias (3·D,) or None) or None, got "
            f"{type(short).__name__}"
        )
    return short


def _misfit(op: str, name: str, parts: int, z: Tensor, k: Tensor) -> ValueError:
    sizes = "(B, D, L)" if parts == 1 else f"(B, {parts}·D, L)"
    got = f"got {tuple(z.shape)} and {tuple(k.shape)}"
    expected = f"expected {name} {sizes} and k (D, K), {got}"
    if z.dim() != 3 or k.dim() != 2:
        return ValueError(f"{op}: {expected}")
    return ValueError(f"{op}: k has {k.shape[0]} channels but {name} has {z.shape[1]}; {expected}")


def _impossible(op: str, k: Tensor) -> ValueError:
    if k.shape[1] < 1:
        return ValueError(
            f"{op}: the filter has no taps; expected k (D, K) with K ≥ 1, got {tuple(k.shape)}"
        )
    if not k.is_floating_point():
        return ValueError(f"{op}: expected floating point k, got {k.dtype}")
    return ValueError(
        f"{op}: causal=False needs an odd number of taps, with lag 0 in the middle, "
        f"got K = {k.shape[1]}"
    )


def _misplaced(op: str, called: str, x: Tensor, channels: int) -> ValueError:
    return ValueError(
        f"{op}: expected floating point {called} of shape (D,) = ({channels},), got "
        f"{tuple(x.shape)} of {x.dtype}"
    )


def _check_segments(op: str, name: str, sizes: str, z: Tensor, segments: Segments) -> None:
    if not isinstance(segments, Segments):
        raise TypeError(
            f"{op}: expected hyena.ops.Segments or None as segments, got "
            f"{type(segments).__name__}; Segments.from_document_ids makes them of a tensor"
        )
    if segments.ids.shape != (z.shape[0], z.shape[2]):
        raise ValueError(
            f"{op}: segments describe a batch (B, L) = {tuple(segments.ids.shape)}, "
            f"but {name} is {sizes} = {tuple(z.shape)}"
        )


def _check_spectrum(
    op: str,
    name: str,
    sizes: str,
    z: Tensor,
    k: FilterSpectrum,
    skip: Tensor | None,
    causal: bool,
    segments: Segments | None,
    block_causal: bool,
    backend: str,
) -> None:
    if backend == "naive" or block_causal:
        setting = 'backend="naive"' if backend == "naive" else "block_causal=True"
        raise ValueError(
            f"{op}: {setting} sums over the taps of a filter, but got a FilterSpectrum; "
            "pass the filter k instead"
        )
    if z.dim() != 3 or not z.is_floating_point():
        raise ValueError(
            f"{op}: expected floating point {name} {sizes}, got {tuple(z.shape)} of {z.dtype}"
        )
    if causal != k.causal:
        raise ValueError(
            f"{op}: the FilterSpectrum was made with causal={k.causal}, got causal={causal}"
        )
    if segments is not None:
        _check_segments(op, name, sizes, z, segments)
    if skip is not None or (segments is not None and not segments.trivial):
        raise ValueError(
            f"{op}: a FilterSpectrum holds its skip already and knows one length only; "
            "got skip or packed segments with it: pass the filter k instead"
        )
    D, parts = k.channels, 1 if name == "u" else 3
    if z.shape[-1] != k.length or z.shape[1] != parts * D:
        raise ValueError(
            f"{op}: the FilterSpectrum was made for {D} channels and length {k.length}, but "
            f"{name} is {sizes} = {tuple(z.shape)}"
        )
    if k.layout == "fft" and k.values.shape != (D, k.n // 2 + 1):
        raise ValueError(
            f"{op}: the FilterSpectrum holds {tuple(k.values.shape)} numbers, not (D, n/2 + 1) = "
            f"{(D, k.n // 2 + 1)}; take it as filter_spectrum returned it"
        )
    if z.device != k.values.device:
        raise ValueError(
            f"{op}: {name} is on {z.device} but the FilterSpectrum is on {k.values.device}; "
            "move one of them"
        )
    if z.dtype == float64 and k.layout == "fft" and k.values.dtype.to_real() != float64:
        raise ValueError(
            f"{op}: {name} is float64, but the FilterSpectrum was made of a filter of less and "
            "would round it; make it of k.double(), or pass the filter k instead"
        )
