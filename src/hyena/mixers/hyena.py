"""The Hyena operator: gates and long convolutions in turn, a drop-in for attention.

Sizes: B batch, L length, D width, N order, K taps of the short convolution.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters import HyenaFilter, LengthPolicy, LongFilter
from hyena.mixers.packing import (
    check_dropout,
    check_input,
    check_left_padding,
    check_mask,
    check_state,
    check_token,
    segments_of,
)
from hyena.mixers.projections import (
    channels_first,
    channels_last,
    is_plain,
    unbiased_in_workspace,
)
from hyena.ops import Backend, Segments, gated_conv, long_conv, short_conv
from hyena.ops.backend import resolve_backend
from hyena.ops.native.convolution import eager


class HyenaState(NamedTuple):
    """What a Hyena operator remembers of the tokens so far; a value, never changed in place."""

    short: Tensor  # (B, (N+1)·D, K−1): the short convolution's last inputs
    inputs: tuple[Tensor, ...]  # N−1 tensors (B, D, tokens so far): the long convolutions' inputs


class HyenaOperator(nn.Module):
    r"""``y = mixer(u)`` on (B, L, D), in O(N·D·L·(log L + D)).

    Poli et al. 2023 (arXiv:2302.10866), Definition 3.1, in the order of the public code:

    1. ``x⁰, …, x^{N−1}, v = short_conv(in_proj(u))``
    2. for n = N−1, …, 1: ``v ← long_conv(h, xⁿ · v)``, each with a filter h of its own
    3. ``y = out_proj(x⁰ · v)``

    ``order`` N is the public code's: N gates, N + 1 projections and **N − 1 long convolutions**;
    order 2 has one. (The paper's Definition 3.1 counts N convolutions.)

    Args:
        width: D.
        max_length: the length that the filter is built for; what happens beyond is
            ``length_policy`` ("error", "extrapolate", "interpolate"; see `hyena.HyenaFilter`).
        order: N ≥ 2.
        short_width: K, taps of the short convolution; odd if bidirectional.
        dropout: probability, on the inputs of the long convolutions.
        bidirectional: each output sees the whole sequence: one filter over lags −(L−1) … L−1 with
            lag 0 counted once, and a centred short convolution. Its parameters have other names,
            so that a causal checkpoint is refused.
        block_causal: no input changes any earlier output, not even by rounding; see
            `hyena.ops.long_conv`. Slower. Not if bidirectional.
        filter: a `hyena.HyenaFilter` or `hyena.filters.LongFilter` instead of a `HyenaFilter` with
            its defaults; then
            ``length_policy`` is the filter's and must not be given.
        backend: of the long convolutions, see `hyena.ops.long_conv`.
        device, dtype: of the parameters.

    Raises: ValueError on settings that do not fit together; RuntimeError if ``backend`` is "native"
        and that is not built.
    """

    def __init__(
        self,
        width: int,
        max_length: int,
        order: int = 2,
        *,
        short_width: int = 3,
        dropout: float = 0.0,
        bidirectional: bool = False,
        block_causal: bool = False,
        length_policy: LengthPolicy | None = None,
        filter: HyenaFilter | LongFilter | None = None,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if width < 1 or order < 2 or short_width < 1:
            raise ValueError(
                "HyenaOperator: expected width ≥ 1, order ≥ 2 and short_width ≥ 1, got "
                f"width={width}, order={order}, short_width={short_width}"
            )
        check_dropout("HyenaOperator", dropout)
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
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        if filter is None:
            filter = HyenaFilter(
                width,
                max_length,
                filters=order - 1,
                bidirectional=bidirectional,
                length_policy=length_policy or "error",
                **place,
            )
        else:
            _check_filter(filter, width, max_length, order, bidirectional, length_policy)
        self.width, self.max_length, self.order = width, max_length, order
        self.short_width, self.bidirectional = short_width, bidirectional
        self.dropout, self.block_causal, self.backend = dropout, block_causal, backend

        self.in_proj = nn.Linear(width, (order + 1) * width, **place)
        self.out_proj = nn.Linear(width, width, **place)
        short = ShortConv((order + 1) * width, short_width, causal=not bidirectional, **place)
        if bidirectional:
            self.centred_short_conv = short
            self.two_sided_filter = filter
        else:
            self.short_conv = short
            self.filter = filter

    def forward(
        self,
        u: Tensor,
        *,
        mask: Tensor | None = None,
        document_ids: Tensor | Segments | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Tensor:
        """Mixes along the sequence.

        Args:
            u: (B, L, D).
            mask: (B, L) bool, True at real tokens, for padding on the left or right: the outputs at
                real tokens are those of the unpadded rows. Outputs at padding mean nothing.
            document_ids: (B, L) integers; positions see only their own run of equal ids. Or the
                `hyena.ops.Segments` made of them, so that a model makes them once.
            cu_seqlens: the same as cumulative lengths, see `Segments.from_cu_seqlens`.

        Returns: (B, L, D), dtype of ``u`` (under autocast, autocast's).
        Raises: ValueError on shapes that do not fit or a length that the policy refuses.
        """
        y, _, _ = self._mix(u, mask, document_ids, cu_seqlens, keep_inputs=False)
        return y

    def prefill(self, u: Tensor, *, mask: Tensor | None = None) -> tuple[Tensor, HyenaState]:
        """``forward`` for the tokens that are known, and the state that `step` goes on from.

        Args: u (B, L, D), L ≥ 1; mask (B, L) bool, padding on the left only.
        Raises: ValueError if bidirectional, or if a row of the mask has padding after a real token,
            or no real token.
        """
        self._require_causal("prefill")
        check_left_padding("HyenaOperator", mask)
        y, z, inputs = self._mix(u, mask, None, None, keep_inputs=True)
        assert z is not None
        keep = self.short_width - 1
        short = F.pad(z, (max(keep - z.shape[-1], 0), 0))
        return y, HyenaState(short[..., short.shape[-1] - keep :].contiguous(), tuple(inputs))

    def step(self, u: Tensor, state: HyenaState) -> tuple[Tensor, HyenaState]:
        """One more token: u (B, D) → y (B, D) and the next state, in O(D·(D + L)).

        Equals the last position of ``forward`` on the whole sequence, to rounding.
        """
        self._require_causal("step")
        sizes = ((self.order + 1) * self.width, self.short_width - 1, self.order - 1)
        check_state(
            "HyenaOperator",
            state,
            isinstance(state, HyenaState) and (*state.short.shape[1:], len(state.inputs)) == sizes,
        )
        check_token("HyenaOperator", u, state.short.shape[0], self.width)
        D = self.width
        window = torch.cat([state.short, self.in_proj(u)[..., None]], dim=-1)  # (B, (N+1)·D, K)
        z = self.short_conv.step(window)
        *gates, v = z.split(D, dim=1)
        length = state.inputs[0].shape[-1] + 1
        taps = self.filter.reversed_taps(length)  # (N−1, D, ≥ length)
        inputs = []
        for i, gate in enumerate(reversed(gates[1:])):
            v = v * gate
            history = torch.cat([state.inputs[i], v[..., None]], dim=-1)
            inputs.append(history)
            h = taps[i, :, taps.shape[-1] - length :]
            # Not einsum: as a batch of matrix-vector products this is several times slower, and
            # autocast would round it to 16 bits.
            total = (history * h).sum(-1)
            v = (total + self.filter.skip[i].to(h.dtype) * v).to(v.dtype)
        return self.out_proj(v * gates[0]), HyenaState(window[..., 1:], tuple(inputs))

    def state_size(self, length: int) -> int:
        """Numbers that `HyenaState` holds for one sequence after ``length`` tokens."""
        D = self.width
        return (self.order + 1) * D * (self.short_width - 1) + (self.order - 1) * D * length

    def extra_repr(self) -> str:
        return f"width={self.width}, max_length={self.max_length}, order={self.order}"

    def _mix(
        self,
        u: Tensor,
        mask: Tensor | None,
        document_ids: Tensor | Segments | None,
        cu_seqlens: Tensor | None,
        *,
        keep_inputs: bool,
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """y (B, L, D); if they are to be kept, the short convolution's input and the long ones'."""
        plain = type(self.in_proj) is nn.Linear  # another, quantised say, may take other dtypes
        dtype = self.in_proj.weight.dtype if plain else None
        check_input("HyenaOperator", u, self.width, dtype)
        B, L, D = u.shape
        check_mask("HyenaOperator", mask, B, L)
        segments = segments_of("HyenaOperator", document_ids, cu_seqlens, B, L)
        short = self.centred_short_conv if self.bidirectional else self.short_conv
        filter = self.two_sided_filter if self.bidirectional else self.filter
        span = L if segments is None else segments.longest
        alone = mask is None and segments is None
        if filter.length_policy == "interpolate" and self.max_length < span and not alone:
            raise ValueError(
                f"the length {span} of a padded row or packed document exceeds max_length "
                f'{self.max_length}: with length_policy="interpolate" each would need a filter '
                "of its own length; run rows of one length without mask or documents"
            )

        # Padding is zeroed before the projection, so that a NaN there reaches no gradient; after
        # it, since its bias fills the padding; and before each long convolution, since the short
        # one has a bias and reads real neighbours.
        if mask is not None:
            u = u.masked_fill(~mask[..., None], 0)
        dropped = self.training and self.dropout > 0
        if mask is None and not keep_inputs and not dropped:
            y = self._fused(u, short, self._kernels(filter, L, segments), segments)
            return channels_last(self.out_proj, y), None, []
        z = channels_first(self.in_proj, u)  # (B, (N+1)·D, L)
        if mask is not None:
            z = z.masked_fill(~mask[:, None, :], 0)
        *gates, v = short(z, segments).split(D, dim=1)
        inputs = []
        kernels = self._kernels(filter, L, segments)
        for gate, (h, skip) in zip(reversed(gates[1:]), kernels, strict=True):
            v = F.dropout(v * gate, self.dropout, self.training)
            if mask is not None:
                v = v.masked_fill(~mask[:, None, :], 0)
            inputs.append(v)
            v = self._convolve(v, h, skip, segments)
        return channels_last(self.out_proj, v * gates[0]), z, inputs

    def _fused(
        self,
        u: Tensor,
        short: "ShortConv",
        kernels: list[tuple[Any, Tensor | None]],
        segments: Segments | None,
    ) -> Tensor:
        """The output before its projection, (B, D, L): the first long convolution as one op with
        its gates and their short convolution."""
        D = self.width
        # Where nothing is to be differentiated, z is workspace, and y takes the place of its value:
        # memory that nobody else may come to see.
        reuse = (
            not torch.is_grad_enabled()
            and self.backend in ("auto", "native")
            and eager(u)
            and is_plain(self.in_proj, u)
            and is_plain(self.out_proj, u)
        )
        offset = None
        if reuse:
            z, offset = unbiased_in_workspace(self.in_proj, u), self.in_proj.bias
        else:
            z = channels_first(self.in_proj, u)
        *others, post = range(self.order - 1)  # of the gates x⁰, x¹, …, those not yet in use
        first = post * D
        (h, skip), *rest = kernels
        y = gated_conv(
            z[:, first:],
            h,
            skip,
            short=(short.weight[first:], short.bias[first:]),
            offset=None if offset is None else offset[first:],
            causal=not self.bidirectional,
            segments=segments,
            block_causal=self.block_causal,
            backend=self.backend,
            out=z[:, first + 2 * D :] if reuse else None,
        )
        if others:
            rest_of_z = z[:, :first]
            if offset is not None:
                rest_of_z = rest_of_z + offset[:first, None].to(z.dtype)
            gates = short_conv(
                rest_of_z,
                short.weight[:first],
                short.bias[:first],
                causal=not self.bidirectional,
                segments=segments,
                backend=self.backend,
            ).split(D, dim=1)
            for gate, (h, skip) in zip(reversed(gates), rest, strict=True):
                y = self._convolve(y, h, skip, segments) * gate
        return y

    def _convolve(
        self, v: Tensor, h: Any, skip: Tensor | None, segments: Segments | None
    ) -> Tensor:
        return long_conv(
            v,
            h,
            skip,
            causal=not self.bidirectional,
            segments=segments,
            block_causal=self.block_causal,
            backend=self.backend,
        )

    def _kernels(
        self, filter: HyenaFilter | LongFilter, length: int, segments: Segments | None
    ) -> list[tuple[Any, Tensor | None]]:
        """(filter or its spectrum, skip) of each long convolution."""
        with_taps = self.backend == "naive" or self.block_causal
        if segments is None and length > 0 and not with_taps:
            spectra = filter.spectra(length, backend=self.backend)
            if spectra is not None:
                return [(spectrum, None) for spectrum in spectra]
        h = filter(max(length if segments is None else segments.longest, 1))
        return [(h[i], filter.skip[i]) for i in range(self.order - 1)]

    def _require_causal(self, what: str) -> None:
        if self.bidirectional:
            raise ValueError(
                f"HyenaOperator.{what}: a bidirectional operator sees the future and cannot "
                "generate token by token; build it with bidirectional=False"
            )


class ShortConv(nn.Module):
    """Depthwise convolution of C channels with K taps and a bias, on (B, C, L).

    ``weight`` (C, K): tap j has lag j, or j − (K−1)/2 if not causal. Initialised as
    `torch.nn.Conv1d` does: uniform within ±1/√K.
    """

    def __init__(
        self,
        channels: int,
        taps: int,
        *,
        causal: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.weight = nn.Parameter(torch.empty(channels, taps, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        bound = 1 / math.sqrt(taps)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, u: Tensor, segments: Segments | None = None) -> Tensor:
        return short_conv(u, self.weight, self.bias, causal=self.causal, segments=segments)

    def step(self, window: Tensor) -> Tensor:
        """The newest output of the last K inputs, oldest first: (B, C, K) → (B, C)."""
        return ((window * self.weight.flip(1)).sum(-1) + self.bias).to(window.dtype)


def _check_filter(
    filter: HyenaFilter | LongFilter,
    width: int,
    max_length: int,
    order: int,
    bidirectional: bool,
    length_policy: LengthPolicy | None,
) -> None:
    expected = (width, order - 1, max_length, bidirectional)
    got = (filter.channels, filter.filters, filter.max_length, filter.bidirectional)
    if expected != got:
        raise ValueError(
            "HyenaOperator: the filter does not fit; expected (channels, filters, max_length, "
            f"bidirectional) = {expected}, got {got}"
        )
    if length_policy is not None:
        raise ValueError(
            "HyenaOperator: length_policy belongs to the filter; give it to the filter's "
            "constructor when you pass filter="
        )
