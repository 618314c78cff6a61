"""What a filter keeps between calls in evaluation: its spectra, and what generation reads of it."""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

from hyena.filters.cache import ParameterCache
from hyena.ops import Backend, FilterSpectrum, filter_spectrum
from hyena.ops.native import library
from hyena.ops.online import OnlineFilter
from hyena.ops.recurrence import Recurrence


class KeptFilter:
    """Filters of a module, kept until one of its parameters or buffers changes."""

    def __init__(self) -> None:
        self._cache = ParameterCache()

    def clear(self) -> None:
        """Forget everything."""
        self._cache.clear()

    def online(
        self,
        module: nn.Module,
        taps: Callable[[int], Tensor],
        skip: Tensor,
        room: int,
        *,
        limit: int | None,
        block: int,
        backend: Backend,
        settings: Hashable = (),
    ) -> OnlineFilter:
        """What generation of ``room`` tokens reads of the filters.

        Args: the module whose parameters the taps depend on; taps(n) (F, D, n); skip (F, D); limit,
            block and backend as in `hyena.ops.online.OnlineFilter`; what else the taps depend on.
        """

        def make() -> OnlineFilter:
            return OnlineFilter(limit, backend, block)

        if is_fixed(module):
            key = (limit, block, backend, library.isa(), settings)
            filter = self._cache.get("online", key, _sources(module), make)
        else:
            filter = make()
        filter.prepare(room, taps, skip)
        return filter

    def recurrence(self, module: nn.Module, make: Callable[[], Recurrence]) -> Recurrence:
        """The filters as a recurrence, which ``make`` makes."""
        if is_fixed(module):
            return self._cache.get("recurrence", (), _sources(module), make)
        with torch.no_grad():
            return make()

    def spectra(
        self,
        module: nn.Module,
        taps: Callable[[int], Tensor],
        skip: Tensor,
        length: int,
        *,
        causal: bool,
        backend: Backend,
        settings: Hashable = (),
    ) -> tuple[FilterSpectrum, ...] | None:
        """The spectrum of each filter with its skip (F, D); None where the module is not fixed."""
        if not is_fixed(module):
            return None

        def make() -> tuple[FilterSpectrum, ...]:
            h = taps(length)
            direct = skip.to(h.dtype)
            return tuple(
                filter_spectrum(h[i], length, direct[i], causal=causal, backend=backend)
                for i in range(h.shape[0])
            )

        key = (length, backend, library.isa(), settings)
        return self._cache.get("spectra", key, _sources(module), make)


def is_fixed(module: nn.Module) -> bool:
    """Whether nothing trains the module, no gradient of it may be asked for and nothing records or
    transforms what it computes: a native spectrum is for plain tensors."""
    if (
        module.training
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
    ):
        return False
    return not (torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters()))


def _sources(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
