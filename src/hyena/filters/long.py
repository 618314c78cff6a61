"""A long filter of any parametrisation: taps from a module, with the skip and the length policy.

Sizes: D channels, F filters a channel, L length.
"""

from typing import Any, Literal, Protocol, runtime_checkable

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
from hyena.ops.stepping.recurrence import Recurrence, recurrence_of


class Taps(Protocol):
    """What a parametrisation gives: a module called with a length."""

    def __call__(self, length: int) -> Tensor:
        """The taps of lags 0 … length − 1, (F, D, length), in float32 or wider."""


@runtime_checkable
class RecurrentTaps(Protocol):
    """What a parametrisation gives besides if its filters are recurrences."""

    def recurrence(self) -> tuple[Tensor, Tensor]:
        """decay and weight (F, D, n/2) complex, of the taps 2 Re Σ weight · decay^t."""

    def state_after(self, u: Tensor, part: int) -> Tensor:
        """What the inputs u (B, D, L) of filter ``part`` leave behind: (B, D, n/2) complex."""


@runtime_checkable
class RangedTaps(Protocol):
    """What a parametrisation gives besides if it can make the taps of some channels alone."""

    def of_channels(self, length: int, channels: slice) -> Tensor:
        """The taps (F, d, length) of a range of the D channels."""


class LongFilter(Filter):
    """Filters for `hyena.HyenaOperator` made by another module than a `hyena.HyenaFilter`.

    Args:
        taps: a module that is a `Taps`, of causal filters.
        channels: D.
        max_length: the longest input.
        filters: F.
        length_policy: for inputs longer than ``max_length``: "error", or "extrapolate", which asks
            ``taps`` for them.
        device, dtype: of ``skip``.

    Attributes: ``skip`` (F, D), the weight of the direct path beside each filter, drawn N(0, 1).
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
        place = placement("LongFilter", device, dtype)
        self.skip = nn.Parameter(torch.randn(self.filters, self.channels, **place))

    def forward(self, length: int) -> Tensor:
        """The filters for inputs of ``length``: (F, D, length)."""
        length = self._check(length)
        with without_autocast(self.skip):
            return self.taps(length)

    def by_channels(self, length: int) -> ChannelTaps:
        made_by = self.taps
        plain = is_plain(self, LongFilter) and not is_hooked(made_by)
        if not plain or not isinstance(made_by, RangedTaps) or _forward_is_newer(made_by):
            return super().by_channels(length)
        length = self._check(length)

        def taps(channels: slice) -> Tensor:
            with without_autocast(self.skip):
                return made_by.of_channels(length, channels)

        return ChannelTaps(taps)

    @property
    def recurrent(self) -> bool:
        """Whether the filters are recurrences as well, with a state of one size. Hooks may make
        others of them."""
        return isinstance(self.taps, RecurrentTaps) and not (
            is_hooked(self) or is_hooked(self.taps)
        )

    def recurrence(self) -> Recurrence:
        """What generation reads of filters that are recurrences, kept like `online`."""
        taps = self._recurrent_taps()
        return self.kept.get(
            "recurrence",
            (),
            self._sources(),
            lambda: recurrence_of(*taps.recurrence(), self.skip),
        )

    def state_after(self, u: Tensor, part: int, before: Tensor | None = None) -> Tensor:
        """What the inputs u (B, D, L) of filter ``part``, a recurrence, leave of it behind, and of
        its state ``before`` them: (B, D, n/2, 2), real and imaginary parts."""
        taps = self._recurrent_taps()
        x = taps.state_after(u, part)
        if before is not None:
            x = x + decayed(torch.view_as_complex(before), taps.recurrence()[0][part], u.shape[-1])
        return torch.view_as_real(x)

    def response(self, x: Tensor, part: int, length: int) -> Tensor:
        """What the state x (B, D, n/2, 2) of filter ``part``, a recurrence, adds to its next
        outputs: (B, D, length)."""
        decay, weight = self._recurrent_taps().recurrence()
        return response(torch.view_as_complex(x), decay[part], weight[part], length)

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
        skip = self.filters * self.channels * length
        return taps._replace(pointwise=taps.pointwise + skip)

    def _recurrent_taps(self) -> RecurrentTaps:
        assert isinstance(self.taps, RecurrentTaps)
        return self.taps


def _forward_is_newer(taps: RangedTaps) -> bool:
    """Whether a class derived from the one that wrote ``of_channels`` has another forward."""
    writers = [
        next((depth for depth, c in enumerate(type(taps).__mro__) if name in vars(c)), -1)
        for name in ("forward", "of_channels")
    ]
    return writers[0] < writers[1]
