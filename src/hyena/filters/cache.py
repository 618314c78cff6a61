"""What is derived from parameters and kept until one of them changes, whatever changed it.

A filter's spectra and what generation reads of it cost more than a convolution. Version counters
do not always tell when they are out of date: ``p.data.mul_()`` and fused optimizers move none. So
the parameters and buffers themselves are kept beside each value and compared, byte by byte, when it
is asked for. That misses nothing, costs as much memory as the filter's parameters, and takes some
15 µs for a `hyena.HyenaFilter` of 61,000 numbers, 0.5 ms for each million of taps. On accelerators
it is one comparison that the host waits for.
"""

import ctypes
import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from hyena.ops.observed import PLAIN, is_hooked, observer

T = TypeVar("T")

_memcmp = (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).memcmp
_memcmp.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
_memcmp.restype = ctypes.c_int


class _Entry(NamedTuple):
    key: Hashable
    kinds: list[tuple[torch.dtype, torch.Size, torch.device]]
    content: list[Tensor]
    value: Any


class ParameterCache:
    """The latest value of each name, made again when its key or the content of its sources is
    another."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def get(
        self, name: str, key: Hashable, sources: Sequence[Tensor] | None, make: Callable[[], T]
    ) -> T:
        """The value of ``make()``, from memory if ``key`` and ``sources`` are as they were.

        Without sources (see `sources_of`) it is made each time. No gradients are recorded.
        """
        if sources is None:
            with torch.no_grad():
                return make()
        entry, kinds = self._entries.get(name), _kinds(sources)
        if (
            entry is not None
            and (entry.key, entry.kinds) == (key, kinds)
            and _same(sources, entry.content)
        ):
            return entry.value
        # An ordinary tensor, even if first asked for in inference mode, so that a later pass with
        # gradients in the input may use it.
        with torch.inference_mode(False), torch.no_grad():
            content = _content(sources)  # first: what changes meanwhile is seen the next time
            value = make()
        self._entries[name] = _Entry(key, kinds, content, value)
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> "ParameterCache":
        return ParameterCache()

    def __reduce__(self) -> tuple[type["ParameterCache"], tuple[()]]:
        return ParameterCache, ()


def clear_cache(module: nn.Module) -> None:
    """Forgets what the filters in a module keep, which frees its memory.

    It is needed for nothing else: what is kept is compared with the parameters whenever it is asked
    for. Only a state of generation asks for it every 64 steps, or where one sees a change of
    version, and after this at its next one.
    """
    for part in module.modules():
        if isinstance(part.__dict__.get("kept"), ParameterCache):
            part.__dict__["kept"] = ParameterCache()


def sources_of(module: nn.Module) -> list[Tensor] | None:
    """Parameters and buffers, if what the module computes follows from them alone and they can be
    compared: no hooks, nothing that records or transforms ops, plain tensors."""
    if observer(()) not in ("nobody", "autograd"):
        return None
    sources: list[Tensor] = []
    for part in module.modules():
        if is_hooked(part):
            return None
        for x in (*part._parameters.values(), *part._buffers.values()):
            if x is not None:
                if type(x) not in PLAIN or x.layout != torch.strided or x.is_meta:
                    return None
                sources.append(x)
    if len({x.device for x in sources}) != 1:
        return None
    if sources[0].is_cuda and torch.cuda.is_current_stream_capturing():
        return None  # a graph has to compute the filters anew whenever it is run
    return sources


class Version(NamedTuple):
    """A tensor of a layer, and its version counter when it was read."""

    tensor: Tensor
    number: int


def versions_of(*modules: nn.Module) -> list[Version]:
    """What is trained with its version counters, which most changes move: an optimizer moves all of
    these. Parameters and buffers where nothing is trained; without tensors that have no counter."""
    tensors = [x for part in modules for x in (*part.parameters(), *part.buffers())]
    counted = [x for x in tensors if type(x) in PLAIN and not x.is_inference()]
    trained = [x for x in counted if x.requires_grad]
    return [Version(x, x._version) for x in trained or counted]


def _content(sources: Sequence[Tensor]) -> list[Tensor]:
    """The numbers of all sources, in memory of their own: on an accelerator as one tensor."""
    if sources[0].is_cpu:
        return [x.detach().clone(memory_format=torch.contiguous_format) for x in sources]
    return [torch.cat([x.detach().reshape(-1).view(torch.uint8) for x in sources])]


def _kinds(sources: Sequence[Tensor]) -> list[tuple[torch.dtype, torch.Size, torch.device]]:
    return [(x.dtype, x.shape, x.device) for x in sources]


def _same(sources: Sequence[Tensor], content: Sequence[Tensor]) -> bool:
    """Whether the sources, which are of the same kinds, still hold these numbers."""
    if sources[0].is_cpu:
        return all(
            not _memcmp(x.data_ptr(), y.data_ptr(), x.nbytes)
            if x.is_contiguous()
            else torch.equal(x, y)
            for x, y in zip(sources, content, strict=True)
        )
    return torch.equal(_content(sources)[0], content[0])
