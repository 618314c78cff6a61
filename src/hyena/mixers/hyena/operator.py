"""The Hyena operator: gates and long convolutions in turn, a drop-in for attention.

Sizes: B batch, L length, D width, N order, K taps of the short convolution.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.arguments import LONGEST, shown
from hyena.filters import HyenaFilter, LengthPolicy, LongFilter
from hyena.filters.cache import clear_cache
from hyena.filters.plain import is_plain
from hyena.filters.precision import wide
from hyena.mixers.checks import check_dropout, check_no_gradient
from hyena.mixers.flops import LayerFlops
from hyena.mixers.hyena.flops import flops
from hyena.mixers.hyena.generation import (
    Convolved,
    pending,
    planned_for,
    state_after,
    states_before,
    step,
    taps_after,
)
from hyena.mixers.hyena.kernels import (
    Kernel,
    Modes,
    are_taps,
    finite_taps,
    modes_of,
    sums_modes,
    sums_taps,
)
from hyena.mixers.hyena.short_conv import ShortConv, bias_of
from hyena.mixers.hyena.state import HyenaState
from hyena.mixers.mixer import Mixer, Room, mixer, zero_at_padding
from hyena.mixers.projections import (
    channels_first,
    channels_last,
    is_written_out,
    may_write_out,
)
from hyena.ops import (
    Backend,
    Segments,
    gated_conv,
    gated_modal_conv,
    long_conv,
    modal_conv,
    short_conv,
)
from hyena.ops.arguments import check_sizes, placement
from hyena.ops.backend import resolve_backend
from hyena.ops.native import operator
from hyena.ops.native.step import Pending
from hyena.ops.observed import observer, records_program
from hyena.ops.stepping import online
from hyena.ops.stepping.recurrence import RecurrentState

_OPTIONS = {
    "max_length": "max_length",
    "short_width": "short_width",
    "dropout": "dropout",
    "block_causal": "block_causal",
    "bias": "in_proj_bias",
}


@mixer("hyena-li", state=HyenaState, options=_OPTIONS, long_filter="long")
@mixer("hyena-mr", state=HyenaState, options=_OPTIONS, long_filter="medium")
@mixer("hyena-se", state=HyenaState, options=_OPTIONS, long_filter="short")
@mixer("hyena", state=HyenaState, options={**_OPTIONS, "order": "order"}, long_filter="filter")
class HyenaOperator(Mixer):
    r"""``y = mixer(u)`` on (B, L, D), in O(N·D·L·(log L + D)).

    Poli et al. 2023 (arXiv:2302.10866), Definition 3.1, in the order of the public code:

    1. ``x⁰, …, x^{N−1}, v = short_conv(in_proj(u))``
    2. for n = N−1, …, 1: ``v ← long_conv(h, xⁿ · v)``, each with a filter h of its own
    3. ``y = out_proj(x⁰ · v)``

    In a model the operators of StripedHyena 2 (Ku et al. 2025, arXiv:2503.01868) have names of
    their own, hyena-se, hyena-mr and hyena-li: of order 2 with filters of few taps, of more taps
    under a window, and of real exponentials.

    ``order`` N is the public code's: N gates, N + 1 projections and **N − 1 long convolutions**;
    order 2 has one. (The paper's Definition 3.1 counts N convolutions.)

    The state of generation has one of three sizes:

    - ``prefill(u, future=T)`` plans for T tokens: O(D·T) numbers, whatever the length of u. With
      ``keep_inputs`` generation can go on beyond them.
    - ``prefill(u)`` keeps the inputs of the long convolutions, O(D·L) numbers, and doubles when it
      is full.
    - Filters that are recurrences of n numbers, or end after n taps, 1,024 at most, have a state of
      one size, O(D·n), without end.

    T steps cost O(D·T·(D + log² T)), with such filters O(D·T·(D + n)). They advance the state in
    place and record no gradient. ``docs/mathematics.md`` derives the plan. Weights that change
    between two steps count at the next one, or within 64 steps: ``docs/training.md`` says when.

    Args:
        width: D.
        max_length: the length that the filter is built for; what happens beyond is
            ``length_policy`` ("error", "extrapolate", "interpolate"; see `hyena.HyenaFilter`).
        order: N ≥ 2.
        short_width: K, taps of the short convolution; odd if bidirectional.
        dropout: probability, on the inputs of the long convolutions.
        bias: of the input projection and of the short convolution.
        bidirectional: each output sees the whole sequence: one filter over lags −(L−1) … L−1 with
            lag 0 counted once, and a centred short convolution. Its parameters have other names,
            so that a causal checkpoint is refused.
        block_causal: no input changes any earlier output, not even by rounding; see
            `hyena.ops.long_conv`. Slower. Not if bidirectional.
        filter: a `hyena.HyenaFilter` or `hyena.filters.LongFilter` instead of a `HyenaFilter` with
            its defaults; then ``length_policy`` is the filter's and must not be given.
        backend: of the long convolutions, see `hyena.ops.long_conv`.
        device, dtype: of the parameters.

    Raises: TypeError on a filter that is none; ValueError on settings that do not fit together;
        RuntimeError if ``backend`` is "native" and that is not built.
    """

    def __init__(
        self,
        width: int,
        max_length: int,
        order: int = 2,
        *,
        short_width: int = 3,
        dropout: float = 0.0,
        bias: bool = True,
        bidirectional: bool = False,
        block_causal: bool = False,
        length_policy: LengthPolicy | None = None,
        filter: HyenaFilter | LongFilter | None = None,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        width, short_width, order = check_sizes(
            "HyenaOperator", width=width, short_width=short_width, order=order
        )
        (max_length,) = check_sizes("HyenaOperator", most=LONGEST, max_length=max_length)
        if order < 2:
            raise ValueError(f"HyenaOperator: expected order ≥ 2, got {order}")
        dropout = check_dropout("HyenaOperator", dropout)
        resolve_backend(backend)  # an unknown one, or one that is not there, is an error already
        if bidirectional and short_width % 2 == 0:
            raise ValueError(
                "HyenaOperator: bidirectional needs an odd short_width, to have a middle tap; "
                f"got {short_width}"
            )
        if bidirectional and block_causal:
            raise ValueError(
                "HyenaOperator: block_causal keeps the future out, but bidirectional asks for it; "
                "drop one of them"
            )
        place = placement("HyenaOperator", device, dtype)
        sizes = (width, order - 1, max_length, bidirectional)
        if filter is None:
            policy: Any = "error" if length_policy is None else length_policy
            filter = HyenaFilter(
                width,
                max_length,
                filters=order - 1,
                bidirectional=bidirectional,
                length_policy=policy,
                **place,
            )
        elif length_policy is not None:
            raise ValueError(
                "HyenaOperator: length_policy belongs to the filter; give it to the filter's "
                "constructor when you pass filter="
            )
        if not isinstance(filter, HyenaFilter | LongFilter):
            raise TypeError(
                "HyenaOperator: expected as filter a HyenaFilter or a LongFilter, got "
                f"{shown(filter)}"
            )
        got = (filter.channels, filter.filters, filter.max_length, filter.bidirectional)
        if got != sizes:
            raise ValueError(
                "HyenaOperator: the filter does not fit; expected (channels, filters, max_length, "
                f"bidirectional) = {sizes}, got {got}"
            )
        self.width, self.max_length, self.order = width, max_length, order
        self.short_width, self.bidirectional = short_width, bidirectional
        self.dropout, self.block_causal, self.backend = dropout, block_causal, backend

        self.in_proj = nn.Linear(width, (order + 1) * width, bias=bias, **place)
        self.out_proj = nn.Linear(width, width, **place)
        short = ShortConv(
            (order + 1) * width, short_width, causal=not bidirectional, bias=bias, **place
        )
        if bidirectional:
            self.centred_short_conv = short
            self.two_sided_filter = filter
            self._state_sizes = None  # it has none
        else:
            self.short_conv = short
            self.filter = filter
            self._state_sizes = (order + 1) * width, short_width - 1, order - 1, width

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, HyenaState | None]:
        L, filter = u.shape[1], self._filter
        self.check_span(L, mask, segments)
        planned = 0 if room is None else planned_for(filter, L, room)
        before: HyenaState | None = None if room is None else room.state
        known: list[Tensor] = []  # of each long convolution, what the tokens before add
        recurrent = before is None or isinstance(before.long, RecurrentState)
        if before is not None:
            check_no_gradient("HyenaOperator.prefill", self, u)
        if recurrent and self.sums_modes(u, L, segments):
            kernels = self.modes(L)
            if before is not None:  # or their states
                known = states_before(cast(LongFilter, filter), self.backend, before)
        elif before is not None:
            taps, known = taps_after(filter, self.backend, before, L + planned)
            kernels = list(zip(taps, filter.direct, strict=True))
        else:
            # A spectrum for this one length is not worth keeping beside a small state.
            kernels = self._taps(L + planned) if planned else self.kernels(L, segments)
        plain = mask is None and room is None and not (self.training and self.dropout > 0)
        if plain and is_plain(self._short, ShortConv):
            return channels_last(self.out_proj, self._fused(u, kernels, segments)), None
        # Definition 3.1: x⁰, …, x^{N−1} and v, (B, D, L) each; then v ← h * (xⁿ · v) from the last
        z = self._projected(u, mask)
        if before is not None:
            z = torch.cat([before.short.to(z.dtype), z], dim=-1)
        short = self._short(z, segments)[..., z.shape[-1] - L :]
        made = self.recurrence(short, kernels, mask, segments, room, planned, known)
        y = channels_last(self.out_proj, made.y)
        if room is None:
            return y, None
        return y, state_after(filter, z, self.short_width, L, made, room, self.backend)

    def recurrence(
        self,
        z: Tensor,
        kernels: list[Kernel],
        mask: Tensor | None,
        segments: Segments | None,
        room: Room | None,
        planned: int,
        known: Sequence[Tensor] = (),
    ) -> Convolved:
        """Definition 3.1: x⁰, …, x^{N−1} and v are z; then v ← h * (xⁿ · v) from the last.

        Args:
            z: what the short convolution gives of G channels, (B, (N+1)·G, L).
            kernels: of these channels.
            planned: so many zeros stand in place of the inputs to come.
            known: what the tokens before add to each long convolution, (B, G, L + planned); of
                modes the states that they left, (B, G, n).

        Returns: what the output projection is given; and if there is ``room``, what a state is
            made of.
        """
        L = z.shape[-1]
        *gates, v = z.unflatten(1, (self.order + 1, -1)).unbind(1)
        inputs: list[Tensor] = []
        pending: list[Tensor] = []
        states: list[Tensor] = []
        for i, (gate, kernel) in enumerate(zip(reversed(gates[1:]), kernels, strict=True)):
            v, (h, skip) = self.gated(v, gate, mask), kernel
            if isinstance(h, Modes):
                before = known[i] if known else None
                v, after = modal_conv(v, *h, skip, state=before, backend=self.backend)
                states.append(after.detach())
                continue
            if room is not None:
                inputs.append(v.detach())
            if planned or known:
                y = self.convolve(F.pad(v.to(wide(v.dtype)), (0, planned)), kernel, None)
                y = y + known[i] if known else y
                v = y[..., :L].to(v.dtype)
                pending.append(y[..., L:].detach())
            else:
                v = self.convolve(v, kernel, segments)
        return Convolved(v * gates[0], inputs, pending, states)

    def _fused(self, u: Tensor, kernels: list[Kernel], segments: Segments | None) -> Tensor:
        """What the output projection is given, (B, D, L), in as few calls as it takes where neither
        padding nor dropout comes between. Valid until the thread's next call.

        The native kernel may make all of it. Without, the first long convolution is one op with its
        gates and their short convolution.
        """
        first, short = self.in_proj, self._short
        written = is_written_out(first, u) and may_write_out(self.out_proj, u)
        if self.direct and written and are_taps(kernels):
            projection, taps = ((layer.weight, bias_of(layer)) for layer in (first, short))
            causal = not self.bidirectional
            y = operator.run(u, projection, taps, kernels, causal=causal, segments=segments)
            if y is not None:
                return y
        z = channels_first(first, u)
        return self.between(z, (short.weight, short.bias), kernels, segments)

    @property
    def direct(self) -> bool:
        """Whether the kernel may make all between the projections, if it is there."""
        return self.backend in ("auto", "native") and not self.block_causal

    def between(
        self,
        z: Tensor,
        short: tuple[Tensor, Tensor | None],
        kernels: Sequence[Kernel],
        segments: Segments | None,
    ) -> Tensor:
        """What the output projection is given, (B, G, L), of what the input projection gives of G
        channels, (B, (N+1)·G, L), with their part of the layers between."""
        (weight, bias), width = short, z.shape[1] // (self.order + 1)
        (h, skip), *rest = kernels
        later = len(rest) * width  # channels of the gates x⁰, x¹, … that come after the first
        causal = not self.bidirectional
        now, then = (None, None) if bias is None else (bias[:later], bias[later:])
        options: dict[str, Any] = {"causal": causal, "segments": segments, **self._options()}
        of_first = weight[later:], then
        if isinstance(h, Modes):
            y, _ = gated_modal_conv(z[:, later:], *h, skip, short=of_first, backend=self.backend)
        else:
            y = gated_conv(z[:, later:], h, skip, short=of_first, **options)
        if rest:
            first = z[:, :later], weight[:later], now
            gates = short_conv(*first, causal=causal, segments=segments, backend=self.backend)
            for gate, kernel in zip(reversed(gates.split(width, 1)), rest, strict=True):
                y = self.convolve(y, kernel, segments) * gate
        return y

    def _step(self, u: Tensor, state: HyenaState) -> tuple[Tensor, HyenaState]:
        check_no_gradient("HyenaOperator.step", self, u)
        return step(self._modules, self.backend, u, state)

    @property
    def kept_memory(self) -> int:
        """See `hyena.LanguageModel`, whose budget it is if the operator is part of one."""
        return self._filter.kept_memory

    @kept_memory.setter
    def kept_memory(self, value: int) -> None:
        self._filter.kept_memory = value

    def pending(self, u: Tensor, state: HyenaState) -> Pending | None:
        """`step`, where it is one call of the kernel, as an argument of that call: see
        `hyena.mixers.hyena.generation.pending`. Raises: as `step`."""
        self._check_step(u, state)
        check_no_gradient("HyenaOperator.step", self, u)
        return pending(self._modules, self.backend, u, state)

    def clear_cache(self) -> None:
        """Forgets what is kept of the filter; see `hyena.LanguageModel.clear_cache`."""
        clear_cache(self)

    def _state_size(self, length: int, future: int | None) -> int:
        D, convolutions = self.width, self.order - 1
        short = (self.order + 1) * D * (self.short_width - 1)
        if isinstance(self._filter, LongFilter) and self._filter.recurrent:
            return short + convolutions * D * self._filter.recurrence().sizes[2]
        if finite := finite_taps(self._filter):
            return short + convolutions * D * 2 * finite
        planned = future or 0
        blocks = planned + 2 * min(planned, online.BLOCK)
        return short + convolutions * D * (length if future is None else blocks)

    def _flops(self, length: int, batch: int) -> LayerFlops:
        sizes = self.width, self.order, self.short_width
        return flops(*sizes, self._filter, length, batch, block_causal=self.block_causal)

    def extra_repr(self) -> str:
        return f"width={self.width}, max_length={self.max_length}, order={self.order}"

    def cut_to(self, parts: int) -> None:
        """Takes note that its parameters are now those of one of so many equal parts of the
        channels; those of its filter too."""
        if self._state_sizes is not None:
            channels, earlier, filters, width = self._state_sizes
            self._state_sizes = channels // parts, earlier, filters, width // parts
        self._filter.cut_to(parts)

    def _is_own(self, state: HyenaState) -> bool:
        return state.sizes == self._state_sizes

    def check_span(self, length: int, mask: Tensor | None, segments: Segments | None) -> None:
        """Raises ValueError where rows or documents would need filters of their own lengths."""
        span = length if segments is None else segments.reach(self._filter.limit)
        alone = mask is None and segments is None
        interpolates = self._filter.length_policy == "interpolate"
        if interpolates and self.max_length < span and not alone:
            raise ValueError(
                f"the length {span} of a padded row or packed document exceeds max_length "
                f'{self.max_length}: with length_policy "interpolate" each would need a filter '
                "of its own length; run rows of one length without mask or documents"
            )

    # Padding is zero before the projection; after it, since its bias fills the padding; and before
    # each long convolution, since the short one has a bias and reads real neighbours.

    def _projected(self, u: Tensor, mask: Tensor | None) -> Tensor:
        """Gates and value before the short convolution, (B, (N+1)·D, L)."""
        return zero_at_padding(channels_first(self.in_proj, u), mask, 1)

    def gated(self, v: Tensor, gate: Tensor, mask: Tensor | None) -> Tensor:
        """The input of a long convolution, (B, D, L)."""
        return zero_at_padding(F.dropout(v * gate, self.dropout, self.training), mask, 1)

    def convolve(self, v: Tensor, kernel: Kernel, segments: Segments | None) -> Tensor:
        """The long convolution of v (B, G, L) with the kernel of its channels."""
        h, skip = kernel
        if isinstance(h, Modes):
            return modal_conv(v, *h, skip, backend=self.backend)[0]
        causal = not self.bidirectional
        return long_conv(v, h, skip, causal=causal, segments=segments, **self._options())

    def kernels(self, length: int, segments: Segments | None) -> list[Kernel]:
        """Of each long convolution; spectra, kept ones, where there may be."""
        alone = segments is None and length > 0
        if alone and not records_program() and not self._reads_taps(length):
            spectra = self._filter.spectra(length, backend=self.backend)
            if spectra is not None:
                return [(spectrum, None) for spectrum in spectra]
        return self._taps(
            max(length if segments is None else segments.reach(self._filter.limit), 1)
        )

    def keeps_spectra(self, length: int) -> bool:
        """Whether evaluation keeps spectra of the filters between inputs of this length: none of
        taps or modes that the kernel sums."""
        by_modes = sums_modes(self._filter, self.backend, length, kept=True)
        return not (by_modes or self._reads_taps(length))

    def _reads_taps(self, length: int) -> bool:
        """Whether what computes the long convolutions wants taps and no spectra."""
        if self.block_causal or self.backend == "naive":
            return True
        return sums_taps(self._filter, self.backend, length)

    def sums_modes(self, u: Tensor, length: int, segments: Segments | None) -> bool:
        """Whether the kernel makes the long convolutions of inputs like u by the filter's modes: of
        so many positions, with nobody but autograd looking on."""
        filter = self._filter
        return (
            segments is None
            and u.is_cpu
            and u.dtype != torch.float64
            and observer((u,)) in ("nobody", "autograd")
            and sums_modes(filter, self.backend, length, kept=not filter.made_anew)
        )

    def modes(self, length: int, channels: slice = slice(None)) -> list[Kernel]:
        """Of each long convolution of a range of the channels, where `sums_modes` says so."""
        filter = self._filter
        assert isinstance(filter, LongFilter)
        return modes_of(filter, length, channels)

    def _taps(self, length: int) -> list[Kernel]:
        """The same without spectra."""
        filter = self._filter
        if isinstance(filter, LongFilter) and finite_taps(filter):
            filter.check_growth(length)
            taps = filter.all_taps()
        else:
            taps = filter(length)
        return list(zip(taps, filter.direct, strict=True))

    def _options(self) -> dict[str, Any]:
        return {"block_causal": self.block_causal, "backend": self.backend}

    @property
    def _short(self) -> ShortConv:
        return self.centred_short_conv if self.bidirectional else self.short_conv

    @property
    def _filter(self) -> HyenaFilter | LongFilter:
        filter = self.two_sided_filter if self.bidirectional else self.filter
        if not isinstance(filter, HyenaFilter | LongFilter) and not hasattr(filter, "channels"):
            raise TypeError(
                f"HyenaOperator: its filter was replaced by a {type(filter).__name__}, which is "
                "none; an adapter goes on what is in a filter, not on its skip: train that with "
                'the whole filter, modules_to_save=["filter"]'
            )
        return filter

    def _check_generates(self, what: str) -> None:
        if self.bidirectional:
            raise ValueError(
                f"HyenaOperator.{what}: a bidirectional operator sees the future and cannot "
                "generate token by token; build it with bidirectional=False"
            )
