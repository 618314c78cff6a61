"""The implicit filter: a small network of the position, times a decaying window.

Sizes: D channels, F filters a channel (order − 1), L length, W width of the network.
"""

import math
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor, nn

from hyena.arguments import shown
from hyena.filters.encoding import Grid, KeptEncoding, encode, positions, read_table, time_of
from hyena.filters.filter import ChannelTaps, Filter, LengthPolicy
from hyena.filters.flops import FilterFlops
from hyena.filters.network import LastLayer, sine_network, window
from hyena.filters.plain import call_in, is_plain, matrix_of
from hyena.filters.precision import wide, without_autocast
from hyena.ops.arguments import DEEPEST, check_numbers, check_sizes, placement
from hyena.ops.observed import compiling

_LARGE = 1e30  # settings that float32 holds
_WINDOW_FLOOR = 0.01  # what the window has decayed to at t = slow_decay … fast_decay


class HyenaFilter(Filter):
    r"""Filters as a function of position (Poli et al. 2023, arXiv:2302.10866, eq. 7 and App. D.3).

    .. math:: h_t = \mathrm{Window}(t) \cdot \mathrm{FFN}(\mathrm{Encoding}(t))

    - Encoding: ``[t, cos(f w), −sin(f w)]`` with t = n/(max_length − 1), w = 2πn/max_length and
      (emb_dim − 1)/2 frequencies f from 1e-4 to (emb_dim − 1)/2 − 1. A shorter input sees a prefix
      of the same filter.
    - FFN: Linear(emb_dim → width), then ``depth − 2`` times Linear(width → width), then
      Linear(width → F·D) without bias; sin(freq · x) after each but the last, with one trainable
      vector ``freq`` of ``width`` values for all.
    - Window: exp(−\|t\|·\|decay\|) + shift, with decays spread evenly over the channels from
      ln(100)/slow_decay to ln(100)/fast_decay: time constants of the slowest and fastest channel.

    The filters are computed in float32 or wider, outside autocast, whatever the parameters' dtype.

    Args:
        channels: D.
        max_length: the input length at which t reaches 1.
        filters: F, filters a channel; `hyena.HyenaOperator` needs order − 1.
        emb_dim: size of the encoding, odd, ≥ 3.
        width, depth: of the FFN; depth counts its linear layers, ≥ 2.
        sine_freq, train_sine_freq: initial ``freq``, and whether it is trained. Higher is rougher.
            The paper's are 14 for language models and 10 for recall, of which `hyena.FilterConfig`
            has 14: right for the small initial weights of a `hyena.LanguageModel`. With PyTorch's,
            which these are, 14 would be noise; 4 is about as rough as 14 is there.
        window: multiply by the window at all.
        shift: constant added to the window, so that it never closes.
        fast_decay, slow_decay, train_decay: the window's decays, and whether they are trained.
        normalized: divide h by its L1 norm over all channels and filters at each position.
        train_encoding: keep encoding and time as tables of max_length and train the encoding.
        bidirectional: filters over lags −(L−1) … L−1; t and w are negative for negative lags.
        length_policy: for inputs longer than ``max_length``: "error"; "extrapolate" evaluates the
            network at t > 1, where its sines nearly repeat with period max_length; "interpolate"
            rescales positions so that the input spans \|t\| ≤ 1. A trained encoding is a table: it
            is interpolated linearly and cannot be extrapolated.
        device, dtype: of the parameters.

    Attributes: ``skip`` (F, D), the weight of the direct path beside each filter, drawn N(0, 1).
    Shape: filter(L) → (F, D, L), or (F, D, 2L − 1) if bidirectional, with lag 0 in the middle.
    Raises: ValueError on settings that cannot be, and on a length that the policy refuses.
    """

    skip: nn.Parameter

    _longer = "extrapolate", "interpolate"

    def __init__(
        self,
        channels: int,
        max_length: int,
        *,
        filters: int = 1,
        emb_dim: int = 33,
        width: int = 64,
        depth: int = 4,
        sine_freq: float = 4.0,
        train_sine_freq: bool = True,
        window: bool = True,
        shift: float = 0.0,
        fast_decay: float = 0.3,
        slow_decay: float = 1.5,
        train_decay: bool = False,
        normalized: bool = False,
        train_encoding: bool = False,
        bidirectional: bool = False,
        length_policy: LengthPolicy = "error",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, max_length, filters, length_policy)
        channels, filters, max_length = self.channels, self.filters, self.max_length
        width, emb_dim = check_sizes("HyenaFilter", width=width, emb_dim=emb_dim)
        (depth,) = check_sizes("HyenaFilter", most=DEEPEST, depth=depth)
        if emb_dim < 3 or emb_dim % 2 == 0:
            raise ValueError(
                f"HyenaFilter: expected an odd emb_dim ≥ 3 (time, cosines, sines), got {emb_dim}"
            )
        if depth < 2:
            raise ValueError(f"HyenaFilter: expected depth ≥ 2 linear layers, got {depth}")
        fast_decay, slow_decay, sine_freq, shift = check_numbers(
            "HyenaFilter",
            fast_decay=fast_decay,
            slow_decay=slow_decay,
            sine_freq=sine_freq,
            shift=shift,
        )
        place = placement("HyenaFilter", device, dtype)
        largest = min(_LARGE, torch.finfo(place["dtype"] or torch.get_default_dtype()).max)
        for name, value in (("sine_freq", sine_freq), ("shift", shift)):
            if abs(value) > largest:
                raise ValueError(f"HyenaFilter: expected {name} up to {largest:g}, got {value}")
        if not 0 < fast_decay <= slow_decay:
            raise ValueError(
                "HyenaFilter: expected 0 < fast_decay ≤ slow_decay, got "
                f"fast_decay={fast_decay}, slow_decay={slow_decay}"
            )
        fastest = -math.log(_WINDOW_FLOOR) / fast_decay
        if fastest > largest:
            least = -math.log(_WINDOW_FLOOR) / largest
            raise ValueError(
                f"HyenaFilter: expected fast_decay of at least {least:.1g}, got {fast_decay}"
            )
        if not isinstance(length_policy, str) or length_policy not in get_args(LengthPolicy):
            raise ValueError(
                f"length_policy={shown(length_policy)} is unknown; expected "
                + ", ".join(get_args(LengthPolicy))
            )
        self.emb_dim, self.window, self.shift = emb_dim, window, shift
        self.normalized, self.bidirectional = normalized, bidirectional

        sizes = [emb_dim] + [width] * (depth - 1)
        self.layers = nn.ModuleList([nn.Linear(a, b, **place) for a, b in pairwise(sizes)])
        self.layers.append(nn.Linear(width, filters * channels, bias=False, **place))
        self.sine_freq = nn.Parameter(
            torch.full((width,), sine_freq, **place), requires_grad=train_sine_freq
        )
        self.skip = nn.Parameter(torch.randn(filters, channels, **place))

        # The public code spaces the decays over channels with the filters of a channel side by
        # side; the filters here lie one after the other, so this is its transpose.
        decay = torch.linspace(
            -math.log(_WINDOW_FLOOR) / slow_decay,
            fastest,
            filters * channels,
            **place,
        )
        decay = decay.view(channels, filters).t().clone(memory_format=torch.contiguous_format)
        if train_decay:
            self.decay = nn.Parameter(decay)
        else:
            self.register_buffer("decay", decay)

        self.encoding: nn.Parameter | None
        self.time: Tensor | None
        if train_encoding:
            # Narrow dtypes cannot count to max_length: round what was computed, not the positions.
            narrow = self.skip.dtype
            grid = self._grid(max_length, 1.0)
            table = encode(positions(grid), grid)
            self.encoding = nn.Parameter(table.t().contiguous().to(narrow))  # (positions, emb_dim)
            self.register_buffer("time", table[0].to(narrow))
        else:
            self.register_parameter("encoding", None)
            self.time = None
        self._encoding_kept = KeptEncoding()

    def forward(self, length: int) -> Tensor:
        """The filters for inputs of ``length``: (F, D, length), or (F, D, 2·length − 1)."""
        length = self._check(length)
        grid = self._grid(length, self._scale(length))
        with without_autocast(self.skip):
            last = self._last_layer(grid)
            h = self._called(grid) if last is None else last.taps(slice(None))
            if self.normalized:
                h = h / h.abs().sum((0, 1), keepdim=True)
            return h

    def by_channels(self, length: int) -> ChannelTaps:
        length = self._check(length)
        grid = self._grid(length, self._scale(length))
        with without_autocast(self.skip):
            last = self._last_layer(grid) if is_plain(self, HyenaFilter) else None
            if last is None:
                return super().by_channels(length)
            norm = [last.norm()] if self.normalized else []

        def taps(channels: slice, x: Tensor, *norm: Tensor) -> Tensor:
            with without_autocast(self.skip):
                h = last._replace(x=x).taps(channels)
                return h / norm[0] if norm else h

        return ChannelTaps(taps, (last.x, *norm))

    @property
    def limit(self) -> int | None:
        extrapolates = self.encoding is None and self.length_policy == "extrapolate"
        return None if extrapolates else self.max_length

    def check_growth(self, length: int) -> None:
        if self.length_policy == "interpolate" and length > self.max_length:
            raise ValueError(
                f"length {length} exceeds max_length {self.max_length}: with "
                'length_policy "interpolate" the filter changes with the length, so a sequence '
                'cannot grow past max_length; stop there or choose length_policy "extrapolate"'
            )
        self._scale(self._check(length))

    def flops(self, length: int) -> FilterFlops:
        """Operations of the filters for inputs of this length, the skip's with them."""
        rows = self.filters * self.channels
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        *hidden, output = (layer.in_features * layer.out_features for layer in linear)
        encoding = 3 * (self.emb_dim - 1) // 2 if self.encoding is None else 0  # phase, cos, sin
        sines = sum(layer.out_features for layer in linear[:-1])
        # window: decay · t, exponential, shift, product; norm: modulus, sum, division
        per_tap = (4 if self.window else 0) + (3 if self.normalized else 0)
        lags = 2 * length - 1 if self.bidirectional else length
        shared = 2 * sum(hidden) + encoding + sines
        if self.normalized:  # by a norm over all channels
            shared += 2 * output + rows * per_tap
        return FilterFlops(
            2 * lags * (sum(hidden) + output),
            0,
            lags * (encoding + sines + rows * (per_tap + 1)),  # and the skip
            lags * shared,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, emb_dim={self.emb_dim}, bidirectional={self.bidirectional}"

    def _grid(self, length: int, scale: float) -> Grid:
        sizes = (length, scale, self.bidirectional, self.max_length, self.emb_dim)
        return Grid(*sizes, wide(self.skip.dtype), self.skip.device)

    def _last_layer(self, grid: Grid) -> LastLayer | None:
        """The last layer on what those before it give; None if one is more than its matrix."""
        *inner, last = [matrix_of(layer) for layer in self.layers]
        biased = [(w, b) for w, b in filter(None, inner) if b is not None]
        if last is None or last[1] is not None or len(biased) < len(inner):
            return None
        # Channels first throughout, and the sine's frequency folded into the weights:
        # sin(freq·x) of a whole layer is then one matrix product and one sine.
        freq = self.sine_freq.to(grid.dtype)
        folded = [(freq[:, None] * w.to(grid.dtype), freq * b.to(grid.dtype)) for w, b in biased]
        if self.encoding is not None or compiling() or grid.kept:
            x, time = self._encoded(grid)
            x = sine_network(x, folded)
        else:
            n = positions(grid)
            x, time = sine_network(n, folded, lambda n: encode(n, grid)), time_of(n, grid)
        weight = last[0].view(self.filters, self.channels, -1)
        decay = self.decay if self.window else None
        even = self.encoding is None and not self.bidirectional
        return LastLayer(weight, x, decay, time, self.shift, even)

    def _encoded(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Encoding (emb_dim, L) and time (L,)."""
        if self.encoding is None:
            x = self._encoding_kept.get(grid, self.skip)
            return x, x[0]
        assert self.time is not None
        return read_table(self.encoding.to(grid.dtype), self.time.to(grid.dtype), grid)

    def _called(self, grid: Grid) -> Tensor:
        """The filters of a network whose layers are more than their matrices: (F, D, L)."""
        x, time = self._encoded(grid)
        freq = self.sine_freq.to(grid.dtype)
        x = x.t()
        *inner, last = self.layers
        for layer in inner:
            x = (freq * call_in(layer, x).to(freq.dtype)).sin()
        h = call_in(last, x).to(freq.dtype).t()
        if self.window:
            h = h * window(self.decay.to(grid.dtype).abs().flatten(), time, self.shift)
        return h.view(self.filters, self.channels, -1)

    # Lengths and caches.

    def _scale(self, length: int) -> float:
        if length <= self.max_length:
            return 1.0
        if self.length_policy == "extrapolate":
            if self.encoding is not None:
                raise ValueError(
                    f"the input is {length} long but the trained encoding is a table of "
                    f"{self.max_length} positions, which cannot be extrapolated; shorten the input "
                    'or choose length_policy "interpolate"'
                )
            return 1.0
        return (self.max_length - 1) / (length - 1)

    def _sources(self) -> list[Tensor] | None:
        # What a layer that is called depends on nobody knows: an adapter can be switched off.
        plain = all(matrix_of(layer) is not None for layer in self.layers)
        return super()._sources() if plain else None

    def _settings(self) -> tuple[object, ...]:
        shape = (self.max_length, self.length_policy, self.bidirectional)
        return (*shape, self.window, self.shift, self.normalized)
