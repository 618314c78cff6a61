"""What a filter keeps between calls in evaluation: its spectra, and its taps for generation."""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

from hyena.filters.cache import ParameterCache
from hyena.ops import Backend, FilterSpectrum, filter_spectrum
from hyena.ops.native import library

_FEWEST_TAPS = 512  # of `KeptFilter.reversed_taps`, if the filter is built for so many


class KeptFilter:
    """Filters of a module, kept until one of its parameters or buffers changes."""

    def __init__(self) -> None:
        self._cache = ParameterCache()

    def clear(self) -> None:
        """Forget everything."""
        self._cache.clear()

    def reversed_taps(
        self,
        module: nn.Module,
        taps: Callable[[int], Tensor],
        length: int,
        max_length: int,
        settings: Hashable = (),
    ) -> Tensor:
        """The last ``length`` columns are the taps from lag length − 1 down to lag 0: (F, D, ≥ L).

        Args: the module whose parameters the taps depend on; taps(n) (F, D, n); the length; the
            length it is built for; whatever else the taps depend on.
        """
        # By powers of two, so that growing step by step costs little, and a short sequence does
        # not pay for a filter of a million taps.
        ample = _FEWEST_TAPS
        while ample < length:
            ample *= 2
        if length <= max_length:
            ample = min(ample, max_length)
        if not is_fixed(module):
            return taps(ample).flip(-1)
        return self._cache.get(
            "taps", (ample, settings), _sources(module), lambda: taps(ample).flip(-1)
        )

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
