"""A long filter of any parametrisation: taps from a module, with the skip and the length policy.

Sizes: D channels, F filters a channel, L length, K taps of filters that end, m numbers in the state
of a recurrence, of P parts each: 1 if they are real, 2 if they are complex.
"""

from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from hyena.arguments import shown
from hyena.filters.exponentials import decayed, response
from hyena.filters.filter import ChannelTaps, Filter
from hyena.filters.flops import FilterFlops
from hyena.filters.plain import is_plain
from hyena.filters.precision import without_autocast
from hyena.ops.arguments import placement
from hyena.ops.observed import is_hooked
from hyena.ops.stepping.finite import FiniteFilter, finite_filter
from hyena.ops.stepping.recurrence import Recurrence, recurrence_of

MOST_FINITE = 1024
"""Taps of a filter whose steps sum all of them. With more, to plan as for a filter without end is
less work, though no longer of constant memory."""


class Taps(Protocol):
    """What a parametrisation gives: a module called with a length."""

    def __call__(self, length: int) -> Tensor:
        """The taps of lags 0 … length − 1, (F, D, length), in float32 or wider."""


@runtime_checkable
class RecurrentTaps(Protocol):
    """What a parametrisation gives besides if its filters are recurrences."""

    def recurrence(self) -> tuple[Tensor, Tensor]:
        """decay and weight (F, D, m) of the taps 2 Re Σ weight · decay^t: complex; or both real,
        the decays positive."""

    def state_after(self, u: Tensor, part: int) -> Tensor:
        """What the inputs u (B, D, L) of filter ``part`` leave behind: (B, D, m), complex or
        real."""


@runtime_checkable
class FiniteTaps(Protocol):
    """What a parametrisation gives besides if its taps end."""

    @property
    def support(self) -> int:
        """K: the taps of lag K and beyond are zero."""


@runtime_checkable
class SumOfModes(Protocol):
    """What a parametrisation gives besides if its taps are sums of few exponentials."""

    @property
    def modes_sizes(self) -> tuple[int, int]:
        """The modes of a channel's filter, n, and the numbers of each: 1, or 2 if it is complex."""

    def modes(self, channels: slice) -> tuple[Tensor, Tensor]:
        """log_decay and weight (F, d, n) of the taps Re Σ weight · e^{t · log_decay} of a range of
        the channels, complex or both real, in float32 or wider; log_decay in float64 unless it is
        a parameter."""


@runtime_checkable
class Exponentials(Protocol):
    """What recurrences give besides if they know more of their decays than the dtype holds."""

    def exponentials(self) -> tuple[Tensor, Tensor]:
        """exponent and weight (F, D, m) of the taps 2 Re Σ weight · e^{t · exponent}, complex or
        real; exponents may be wider than weights."""


@runtime_checkable
class RangedRecurrentTaps(Protocol):
    """What recurrences give besides if they can do so for some channels alone."""

    def state_of_channels(self, u: Tensor, part: int, channels: slice) -> Tensor:
        """What the inputs u (B, d, L) of a slice of the channels leave behind: (B, d, m)."""


@runtime_checkable
class RangedTaps(Protocol):
    """What a parametrisation gives besides if it can make the taps of some channels alone."""

    def of_channels(self, length: int, channels: slice) -> Tensor:
        """The taps (F, d, length) of a slice of the D channels."""


class LongFilter(Filter):
    """Filters for `hyena.HyenaOperator` made by another module than a `hyena.HyenaFilter`.

    Args:
        taps: a module that is a `Taps`, of causal filters.
        channels: D.
        max_length: the longest input.
        filters: F.
        length_policy: for inputs longer than ``max_length``: "error", or "extrapolate", which asks
            ``taps`` for them.
        skip: a direct path beside each filter; without it there is no such parameter.
        device, dtype: of ``skip``.

    Attributes: ``skip`` (F, D), the weight of the direct path beside each filter, drawn N(0, 1), or
        None.

    Shape: filter(L) → (F, D, L).
    Raises: ValueError on settings that cannot be, and on a length that the policy refuses.
    """

    bidirectional = False

    def __init__(
        self,
        taps: nn.Module,
        channels: int,
        max_length: int,
        *,
        filters: int = 1,
        length_policy: Literal["error", "extrapolate"] = "error",
        skip: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, max_length, filters, length_policy)
        if not isinstance(length_policy, str) or length_policy not in ("error", "extrapolate"):
            raise ValueError(
                f"LongFilter: length_policy={shown(length_policy)}, but filters of this kind know "
                '"error" and "extrapolate" only'
            )
        self.taps = taps
        ends = isinstance(taps, FiniteTaps) and not _forward_is_newer(taps, "support")
        self._ending = type(taps) if ends else None
        place = placement("LongFilter", device, dtype)
        weight = torch.randn(self.filters, self.channels, **place) if skip else None
        self.register_parameter("skip", None if weight is None else nn.Parameter(weight))

    def forward(self, length: int) -> Tensor:
        """The filters for inputs of ``length``: (F, D, length)."""
        length = self._check(length)
        with without_autocast(self._like):
            return self.taps(length)

    def by_channels(self, length: int) -> ChannelTaps:
        if not is_plain(self, LongFilter) or self._ranged() is None:
            return super().by_channels(length)
        length = self._check(length)
        return ChannelTaps(lambda channels: self._of_channels(length, channels))

    @property
    def recurrent(self) -> bool:
        """Whether the filters are recurrences as well, with a state of one size. Hooks may make
        others of them."""
        return isinstance(self.taps, RecurrentTaps) and not (
            is_hooked(self) or is_hooked(self.taps)
        )

    @property
    def finite(self) -> int | None:
        """K, if the filters have no more taps than `MOST_FINITE`, and so a state of one size. Hooks
        may make others of them."""
        taps = self.taps
        if type(taps) is not self._ending or is_hooked(taps) or not is_plain(self, LongFilter):
            return None
        support = cast(FiniteTaps, taps).support
        return support if support <= MOST_FINITE else None

    @property
    def constant(self) -> bool:
        """Whether what generation remembers is of one size, however long the sequence."""
        return self.recurrent or self.finite is not None

    def all_taps(self, channels: slice | None = None) -> Tensor:
        """All K taps of filters that are `finite`, (F, D, K) or those of a slice of the channels,
        whatever the longest input."""
        taps: Any = self.taps
        if channels is not None:
            return self._of_channels(taps.support, channels)
        with without_autocast(self._like):
            return taps(taps.support)

    def finite_filter(self) -> FiniteFilter:
        """What generation reads of filters that are `finite`, kept like `online`."""
        return self.kept.get(
            "finite", (), self._sources(), lambda: finite_filter(self.all_taps(), self.direct)
        )

    @property
    def modes_sizes(self) -> tuple[int, int] | None:
        """How many modes a channel's filter has, which `modes` gives, and of how many numbers each:
        1, or 2 if it is complex; None of filters that are no such sums. Hooks may make others of
        them."""
        taps = self.taps
        if not isinstance(taps, SumOfModes) or _forward_is_newer(taps, "modes"):
            return None
        return taps.modes_sizes if is_plain(self, LongFilter) and not is_hooked(taps) else None

    def modes(self, channels: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Exponents and weights (F, d, n) of filters that have modes, of a range of channels."""
        with without_autocast(self._like):
            return cast(SumOfModes, self.taps).modes(channels)

    def exponentials(self) -> tuple[Tensor, Tensor] | None:
        """Exponents and weights (F, D, m) of filters that are such sums, with their gradients; None
        of others. Hooks may make others of them."""
        taps = self.taps
        if not isinstance(taps, Exponentials) or _forward_is_newer(taps, "exponentials"):
            return None
        return taps.exponentials() if is_plain(self, LongFilter) and not is_hooked(taps) else None

    def recurrence(self) -> Recurrence:
        """What generation reads of filters that are recurrences, kept like `online`."""
        taps = self._recurrent_taps()
        return self.kept.get(
            "recurrence",
            (),
            self._sources(),
            lambda: recurrence_of(*taps.recurrence(), self.direct),
        )

    @property
    def has_ranged_states(self) -> bool:
        """Whether what inputs leave behind can be found of some channels alone."""
        return not self.recurrent or isinstance(self.taps, RangedRecurrentTaps)

    def state_after(
        self, u: Tensor, part: int, before: Tensor | None = None, channels: slice | None = None
    ) -> Tensor:
        """What the inputs u (B, D, L) of filter ``part``, a recurrence, leave of it behind, and of
        its state ``before`` them: (B, D, m, P). Or of a slice of the channels, whose inputs u are,
        with no state before."""
        taps = self._recurrent_taps()
        if channels is None:
            x = taps.state_after(u, part)
        else:
            assert isinstance(taps, RangedRecurrentTaps)
            x = taps.state_of_channels(u, part, channels)
        if before is not None:
            x = x + decayed(_of_parts(before), taps.recurrence()[0][part], u.shape[-1])
        return torch.view_as_real(x) if x.is_complex() else x[..., None]

    def response(self, x: Tensor, part: int, length: int) -> Tensor:
        """What the state x (B, D, m, P) of filter ``part``, a recurrence, adds to its next outputs:
        (B, D, length)."""
        decay, weight = self._recurrent_taps().recurrence()
        return response(_of_parts(x), decay[part], weight[part], length)

    def flops(self, length: int) -> FilterFlops:
        """Operations of the filters for inputs of this length, the skip's with them.

        Raises: ValueError if ``taps`` do not count theirs.
        """
        count: Any = getattr(self.taps, "flops", None)
        if count is None:
            raise ValueError(
                f"LongFilter: the operations of {type(self.taps).__name__} are not counted; give "
                "it a method flops(length) that returns hyena.filters.flops.FilterFlops"
            )
        taps: FilterFlops = count(length)
        skip = 0 if self.skip is None else self.filters * self.channels * length
        whole = taps.products + taps.transforms + taps.pointwise
        shared = whole if self._ranged() is None else taps.shared
        return taps._replace(pointwise=taps.pointwise + skip, shared=shared)

    def _recurrent_taps(self) -> RecurrentTaps:
        assert isinstance(self.taps, RecurrentTaps)
        return self.taps

    def _ranged(self) -> RangedTaps | None:
        """The taps, if they can be made of some channels alone."""
        taps = self.taps
        if is_hooked(taps) or not isinstance(taps, RangedTaps):
            return None
        return None if _forward_is_newer(taps, "of_channels") else taps

    def _of_channels(self, length: int, channels: slice) -> Tensor:
        """The taps (F, d, length) of a slice of the channels."""
        ranged = self._ranged()
        with without_autocast(self._like):
            if ranged is not None:
                return ranged.of_channels(length, channels)
            return self.taps(length)[:, channels]


def _of_parts(x: Tensor) -> Tensor:
    """The numbers (…, m) whose parts (…, m, P) are."""
    return torch.view_as_complex(x) if x.shape[-1] == 2 else x[..., 0]


def _forward_is_newer(taps: object, than: str) -> bool:
    """Whether a class derived from the one that wrote this method has another forward."""
    writers = [
        next((depth for depth, c in enumerate(type(taps).__mro__) if name in vars(c)), -1)
        for name in ("forward", than)
    ]
    return writers[0] < writers[1]
