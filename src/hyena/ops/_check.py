"""What a convolution's arguments must be, checked once: one clear line where they are not."""

from typing import Any

from torch import Tensor, float64, strided

from hyena.arguments import plural
from hyena.ops._convolution import Convolution
from hyena.ops._filter import FilterSpectrum, crop
from hyena.ops.arguments import FLOATS, check_tensor
from hyena.ops.backend import NAMES, unknown
from hyena.ops.observed import exporting
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
    if not isinstance(backend, str) or backend not in NAMES:
        raise unknown(backend)
    if not isinstance(z, Tensor) or z.layout is not strided:
        check_tensor(op, _name(parts), z)
    if block_causal and not causal:
        raise ValueError(
            f"{op}: block_causal=True keeps the future out, but causal=False asks for it; "
            "drop one of them"
        )
    if segments is not None and z.dim() == 3:
        check_segments(op, parts, z, segments)
        segments = None if segments.trivial else segments
    filter, taps, bias, n, lead, short_lead, layout = None, None, None, 0, 0, 0, ""
    given: tuple[tuple[Any, Any, str], ...] = ()
    if isinstance(k, FilterSpectrum):
        _check_spectrum(op, parts, z, k, skip, causal, segments, block_causal, backend)
        filter, n, lead, layout = k.values, k.n, k.lead, k.layout
    elif k is not None or short is None:
        given = ((k, skip, "skip"),)
    if short is not None:
        taps, bias = _pair(op, short)
        given = (*given, (taps, bias, "bias"))
    for h, beside, called in given:
        if not (  # what `_check_fit` asks, in as many words as it takes to answer yes
            isinstance(h, Tensor)
            and h.layout is strided
            and z.dim() == 3
            and h.dim() == 2
            and (h.shape[0] if called == "bias" else parts * h.shape[0]) == z.shape[1]
            and (h.shape[1] > 0 if causal else h.shape[1] % 2)
            and z.dtype in FLOATS
            and h.dtype in FLOATS
            and h.device == z.device
            and (
                beside is None
                or (
                    isinstance(beside, Tensor)
                    and beside.layout is strided
                    and beside.shape == h.shape[:1]
                    and beside.dtype in FLOATS
                    and beside.device == h.device
                )
            )
        ):
            place = f"{op}: short" if called == "bias" and k is not None else op
            _check_fit(place, parts, z, h, called, beside, causal)
        if called == "bias":
            short_lead = 0 if causal else (h.shape[1] - 1) // 2
            continue
        filter, lead = h, 0 if causal else (h.shape[1] - 1) // 2
        # A program that is exported may take any length, so that all taps are part of it.
        if not exporting() and (L := z.shape[2]) < h.shape[1] - lead:
            filter, lead = crop(h, lead, max(L, 1))
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


def check_filter(
    op: str, k: Tensor, skip: Tensor | None, causal: bool, called: str = "skip"
) -> None:
    """What can be said of a filter (D, K) and its skip, or bias, without the input. Raises: as
    above."""
    if k.dim() != 2:
        raise ValueError(f"{op}: expected k (D, K), got {tuple(k.shape)}")
    D, K = k.shape
    if K < 1:
        raise ValueError(
            f"{op}: the filter has no taps; expected k (D, K) with K ≥ 1, got {tuple(k.shape)}"
        )
    if k.dtype not in FLOATS:
        raise ValueError(f"{op}: expected floating point k, got {k.dtype}")
    if not (causal or K % 2):
        raise ValueError(
            f"{op}: causal=False needs an odd number of taps, with lag 0 in the middle, got K = {K}"
        )
    if skip is None:
        return
    check_tensor(op, called, skip, optional=True)
    if skip.shape != (D,) or skip.dtype not in FLOATS:
        raise ValueError(
            f"{op}: expected floating point {called} of shape (D,) = ({D},), got "
            f"{tuple(skip.shape)} of {skip.dtype}"
        )
    if skip.device != k.device:
        raise ValueError(
            f"{op}: k is on {k.device} but {called} is on {skip.device}; move one of them"
        )


def image(op: str, u: Any, k: Any, skip: Tensor | None, causal: bool) -> None:
    """Whether a filter (D, I, J) and its skip fit images (B, D, H, W). Raises: as above."""
    check_tensor(op, "u", u)
    check_tensor(op, "k", k)
    check_tensor(op, "skip", skip, optional=True)
    if u.dim() != 4 or k.dim() != 3 or k.shape[0] != u.shape[1]:
        raise ValueError(
            f"{op}: expected u (B, D, H, W) and k (D, I, J), got {tuple(u.shape)} and "
            f"{tuple(k.shape)}"
        )
    if not all(taps and (causal or taps % 2) for taps in k.shape[1:]):
        least = "I, J ≥ 1" if causal else "I and J odd, with lag 0 in the middle (causal=False)"
        raise ValueError(f"{op}: expected k (D, I, J) with {least}, got {tuple(k.shape)}")
    if u.dtype not in FLOATS:
        raise ValueError(f"{op}: expected floating point u, got {u.dtype}")
    if k.device != u.device:
        raise ValueError(f"{op}: u is on {u.device} but k is on {k.device}; move one of them")
    check_filter(op, k.flatten(1), skip, causal)


def _check_fit(
    op: str, parts: int, z: Tensor, k: Any, called: str, beside: Tensor | None, causal: bool
) -> None:
    """Whether k fits the input: the short convolution's, whose ``beside`` is ``called`` bias, has
    all channels of the input. Raises: as above."""
    check_tensor(op, "k", k)
    of = parts if called == "skip" else 1
    if z.dim() != 3 or k.dim() != 2 or of * k.shape[0] != z.shape[1]:
        got = f"got {tuple(z.shape)} and {tuple(k.shape)}"
        expected = f"expected {_name(parts)} {_sizes(of)} and k (D, K), {got}"
        if z.dim() == 3 and k.dim() == 2:
            expected = (
                f"k has {k.shape[0]} {plural(k.shape[0], 'channel')} but {_name(parts)} has "
                f"{z.shape[1]}; {expected}"
            )
        raise ValueError(f"{op}: {expected}")
    if z.dtype not in FLOATS:
        raise ValueError(f"{op}: expected floating point {_name(parts)}, got {z.dtype}")
    if k.device != z.device:
        raise ValueError(
            f"{op}: {_name(parts)} is on {z.device} but k is on {k.device}; move one of them"
        )
    check_filter(op, k, beside, causal, called)


def _name(parts: int) -> str:
    return "u" if parts == 1 else "z"


def _sizes(parts: int) -> str:
    return "(B, D, L)" if parts == 1 else f"(B, {parts}·D, L)"


def _pair(op: str, short: object) -> tuple[Tensor, Tensor | None]:
    if not isinstance(short, tuple) or len(short) != 2:
        raise ValueError(
            f"{op}: expected short = (taps (3·D, J), bias (3·D,) or None) or None, got "
            f"{type(short).__name__}"
        )
    return short


def check_segments(op: str, parts: int, z: Tensor, segments: Segments) -> None:
    """Raises TypeError on what is no `Segments`; ValueError if they are not those of this batch."""
    if not isinstance(segments, Segments):
        raise TypeError(
            f"{op}: expected hyena.ops.Segments or None as segments, got "
            f"{type(segments).__name__}; Segments.from_document_ids makes them of a tensor"
        )
    if segments.ids.shape != (z.shape[0], z.shape[2]):
        raise ValueError(
            f"{op}: segments describe a batch (B, L) = {tuple(segments.ids.shape)}, "
            f"but {_name(parts)} is {_sizes(parts)} = {tuple(z.shape)}"
        )
    if segments.ids.device != z.device:
        raise ValueError(
            f"{op}: {_name(parts)} is on {z.device} but the segments are on {segments.ids.device}; "
            "move one of them"
        )


def _check_spectrum(
    op: str,
    parts: int,
    z: Tensor,
    k: FilterSpectrum,
    skip: Tensor | None,
    causal: bool,
    segments: Segments | None,
    block_causal: bool,
    backend: str,
) -> None:
    name, sizes = _name(parts), _sizes(parts)
    if backend == "naive" or block_causal:
        setting = 'backend="naive"' if backend == "naive" else "block_causal=True"
        raise ValueError(
            f"{op}: {setting} sums over the taps of a filter, but got a FilterSpectrum; "
            "pass the filter k instead"
        )
    if z.dim() != 3 or z.dtype not in FLOATS:
        raise ValueError(
            f"{op}: expected floating point {name} {sizes}, got {tuple(z.shape)} of {z.dtype}"
        )
    if causal != k.causal:
        raise ValueError(
            f"{op}: the FilterSpectrum was made with causal={k.causal}, got causal={causal}"
        )
    if skip is not None or segments is not None:
        raise ValueError(
            f"{op}: a FilterSpectrum holds its skip already and knows one length only; "
            "got skip or packed segments with it: pass the filter k instead"
        )
    D = k.channels
    if z.shape[-1] != k.length or z.shape[1] != parts * D:
        raise ValueError(
            f"{op}: the FilterSpectrum was made for {D} {plural(D, 'channel')} and length "
            f"{k.length}, but {name} is {sizes} = {tuple(z.shape)}"
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


def modes(
    op: str,
    z: Tensor,
    log_decay: Tensor,
    weight: Tensor,
    skip: Tensor | None,
    state: Tensor | None,
    *,
    parts: int = 1,
    short: tuple[Tensor, Tensor | None] | None = None,
    backend: str = "auto",
) -> Convolution:
    """The convolution of these arguments, without its filter: n modes of each channel, or of each
    of G groups of channels.

    Raises: as above.
    """
    if not isinstance(backend, str) or backend not in NAMES:
        raise unknown(backend)
    called = _name(parts)
    for name, x in ((called, z), ("log_decay", log_decay), ("weight", weight)):
        check_tensor(op, name, x)
    for name, other in (("skip", skip), ("state", state)):
        check_tensor(op, name, other, optional=True)
    if z.dim() != 3 or z.shape[1] % parts or z.dtype not in FLOATS:
        raise ValueError(
            f"{op}: expected floating point {called} {_sizes(parts)}, got {tuple(z.shape)} of "
            f"{z.dtype}"
        )
    if log_decay.dim() != 2 or log_decay.shape != weight.shape or log_decay.shape[1] < 1:
        raise ValueError(
            f"{op}: expected log_decay and weight (D, n) with n ≥ 1, got "
            f"{tuple(log_decay.shape)} and {tuple(weight.shape)}"
        )
    B, D, (G, n) = z.shape[0], z.shape[1] // parts, log_decay.shape
    if G != D and (G == 0 or D % G):
        raise ValueError(
            f"{op}: log_decay and weight have {G} {plural(G, 'row')} but D is {D}; expected D "
            "rows, or a divisor of it"
        )
    is_complex = log_decay.is_complex()
    for name, other in (("log_decay", log_decay), ("weight", weight), ("state", state)):
        if other is None:
            continue
        if other.is_complex() != is_complex or other.real.dtype not in FLOATS:
            raise ValueError(
                f"{op}: expected log_decay, weight and state all floating point or all complex, "
                f"got log_decay of {log_decay.dtype} and {name} of {other.dtype}"
            )
    if skip is not None and (skip.shape != (D,) or skip.dtype not in FLOATS):
        raise ValueError(
            f"{op}: expected floating point skip of shape (D,) = ({D},), got "
            f"{tuple(skip.shape)} of {skip.dtype}"
        )
    if state is not None and state.shape != (B, D, n):
        raise ValueError(f"{op}: expected state (B, D, n) = {(B, D, n)}, got {tuple(state.shape)}")
    given = (("log_decay", log_decay), ("weight", weight), ("skip", skip), ("state", state))
    for name, other in given:
        if other is not None and other.device != z.device:
            raise ValueError(
                f"{op}: {called} is on {z.device} but {name} is on {other.device}; move one of them"
            )
    if short is None:
        return Convolution(z, parts, None, 0, skip, None, None, 0, 0)
    return convolution(op, z, None, None, short, parts=parts)._replace(skip=skip)
