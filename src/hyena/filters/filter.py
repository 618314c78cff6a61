"""What an operator asks of a long filter, whatever makes its taps, kept between calls.

Sizes: D channels, F filters a channel, L length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hyena.arguments import LONGEST
from hyena.filters.budget import Budget
from hyena.filters.cache import ParameterCache, bytes_of, clear_cache, sources_of
from hyena.filters.precision import wide
from hyena.ops import Backend, FilterSpectrum, filter_spectrum
from hyena.ops.arguments import WIDEST, check_size, check_sizes
from hyena.ops.backend import resolve_backend
from hyena.ops.native import library
from hyena.ops.spectrum import spectrum_bytes
from hyena.ops.stepping.online import BLOCK, OnlineFilter

if TYPE_CHECKING:
    from typing_extensions import Self

LengthPolicy = Literal["error", "extrapolate", "interpolate"]


class ChannelTaps(NamedTuple):
    """Taps of the channels of a filter, a slice at a time; see `Filter.by_channels`.

    Attributes:
        make: gives the taps of a slice of the D channels, of these parameters and what is shared.
        shared: tensors that every slice is made of, beside the parameters. Gradients can be taken
            slice by slice: of copies of these that are leaves, and at last, with their sums, from
            these to the parameters.
    """

    make: Callable[..., Tensor]
    shared: tuple[Tensor, ...] = ()

    def taps(self, channels: slice, shared: Sequence[Tensor] | None = None) -> Tensor:
        """(F, d, L), or (F, d, 2L − 1) if bidirectional, made of ``shared`` if that is given."""
        h: Tensor = self.make(channels, *(self.shared if shared is None else shared))
        return h


class Filter(nn.Module):
    """The filters of a `hyena.HyenaOperator`: called with a length L, (F, D, L) of them, or
    (F, D, 2L − 1) if bidirectional.

    Attributes: ``channels`` D; ``filters`` F; ``max_length``; ``bidirectional``; ``length_policy``;
        ``skip`` (F, D), the weight of the direct path beside each filter, None of one without.
    """

    channels: int
    filters: int
    max_length: int
    bidirectional: bool
    length_policy: LengthPolicy
    skip: nn.Parameter | None

    _longer: tuple[LengthPolicy, ...] = ("extrapolate",)  # policies that allow more than max_length

    def __init__(
        self, channels: int, max_length: int, filters: int, length_policy: LengthPolicy
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.channels, self.filters = check_sizes(name, channels=channels, filters=filters)
        (self.max_length,) = check_sizes(name, most=LONGEST, max_length=max_length)
        self.length_policy = length_policy
        self.kept = ParameterCache()

    def online(self, room: int, *, block: int = BLOCK, backend: Backend = "auto") -> OnlineFilter:
        """What generation of ``room`` tokens reads of the filters, kept between calls in
        evaluation; see `hyena.ops.stepping.online`."""
        resolve_backend(backend)
        room = check_size("online", "room", room)
        block = check_size("online", "block", block, 1)
        if block > WIDEST or block & (block - 1):
            raise ValueError(
                f"online: expected a power of two up to {WIDEST} as block, got {block}"
            )
        limit = self.limit
        key = (limit, block, backend, library.isa(), self._settings())
        filter = self.kept.get(
            "online", key, self._sources(), lambda: OnlineFilter(limit, backend, block)
        )
        filter.prepare(room, self, lambda: self.direct)
        self.kept.settle("online")
        return filter

    def by_channels(self, length: int) -> ChannelTaps:
        """The filters that a call gives, for use by slices of channels: where it can be, without
        the memory of all.

        A filter with hooks or layers that are more than their matrices is made whole, and cut.

        Raises: ValueError on a length that the policy refuses.
        """
        h: Tensor = self(length)
        return ChannelTaps(lambda channels, h: h[:, channels], (h,))

    @property
    def direct(self) -> Tensor:
        """The weight of the direct path beside each filter, (F, D): `skip`, or zeros if there is
        none."""
        if self.skip is None:
            like = self._like
            return torch.zeros(self.filters, self.channels, dtype=like.dtype, device=like.device)
        return self.skip

    @property
    def limit(self) -> int | None:
        """The longest that a sequence can grow to; None if there is no end."""
        return None if self.length_policy == "extrapolate" else self.max_length

    @property
    def made_anew(self) -> bool:
        """Whether each call makes the filters anew: in training, and while gradients of them may be
        asked for."""
        return self.training or (
            torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        )

    def spectra(
        self, length: int, *, backend: Backend = "auto"
    ) -> tuple[FilterSpectrum, ...] | None:
        """The spectrum of each of the F filters, skip included, kept between calls.

        None while training, while gradients of the filter may be asked for, or where they cannot be
        kept, or not within `kept_memory`: then take `forward`.
        """
        if self.made_anew:
            return None
        sources = self._sources()
        if sources is None:
            return None

        def make() -> tuple[FilterSpectrum, ...]:
            h: Tensor = self(length)
            direct, causal = self.direct.to(h.dtype), not self.bidirectional
            return tuple(
                filter_spectrum(h[i], length, direct[i], causal=causal, backend=backend)
                for i in range(h.shape[0])
            )

        key = (length, backend, library.isa(), self._settings())
        size = self.kept_bytes(length, backend=backend)
        return self.kept.get_within("spectra", key, sources, make, size)

    def kept_bytes(self, length: int, *, backend: Backend = "auto") -> int:
        """Bytes that the `spectra` of inputs of this length take, with the weights that they are
        compared by; on the CPU, if the filter is on the device meta."""
        spectra = self.filters * spectrum_bytes(
            self.channels,
            length,
            causal=not self.bidirectional,
            dtype=wide(self._like.dtype),
            on_cpu=self._like.device.type in ("cpu", "meta"),
            backend=backend,
        )
        return spectra + bytes_of([*self.parameters(), *self.buffers()])

    @property
    def kept_memory(self) -> int:
        """Bytes that spectra and the like are kept in between calls, together with those of all
        filters that share them: a model's. Setting it gives this one a budget of its own."""
        return self.kept.budget.limit

    @kept_memory.setter
    def kept_memory(self, value: int) -> None:
        clear_cache(self, Budget(value))

    def clear_cache(self) -> None:
        """Forgets the kept filters; see `hyena.LanguageModel.clear_cache`."""
        clear_cache(self)

    def train(self, mode: bool = True) -> Self:
        if mode:
            clear_cache(self)
        return super().train(mode)

    def cut_to(self, parts: int) -> None:
        """Takes note that its parameters are now those of one of so many equal parts of the
        channels."""
        self.channels //= parts

    def check_growth(self, length: int) -> None:
        """Raises ValueError if a sequence cannot grow to this length, token by token."""
        self._check(length)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, filters={self.filters}, max_length={self.max_length}"

    def _check(self, length: int) -> int:
        """The length as an int. Raises TypeError or ValueError unless there are filters of it."""
        length = check_size(type(self).__name__, "length", length, 1)
        if length > self.max_length and self.length_policy == "error":
            longer = " or ".join(f'"{policy}"' for policy in self._longer)
            raise ValueError(
                f"the input is {length} long but max_length is {self.max_length}; shorten it, or "
                f"choose length_policy {longer}"
            )
        return length

    @property
    def _like(self) -> Tensor:
        """A tensor where the parameters are, and of their dtype."""
        found = next(self.parameters(), None) if self.skip is None else self.skip
        return torch.empty(0) if found is None else found

    def _sources(self) -> list[Tensor] | None:
        """The tensors that the filters follow from alone, see `sources_of`; None if not alone."""
        return sources_of(self)

    def _settings(self) -> tuple[Any, ...]:
        """What the filters depend on beside parameters and buffers."""
        return ()
