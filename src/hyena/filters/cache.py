"""What is derived from parameters and kept until one of them changes, whatever changed it.

A filter's spectra and what generation reads of it cost more than a convolution. Version counters
do not always tell when they are out of date: ``p.data.mul_()`` and fused optimizers move none. So
the parameters and buffers themselves are kept beside each value and compared, byte by byte, when it
is asked for. That misses nothing, costs as much memory as the filter's parameters, and takes some
15 µs for a `hyena.HyenaFilter` of 61,000 numbers, 0.5 ms for each million of taps. On accelerators
it is one comparison that the host waits for.
"""

import copy
import ctypes
import sys
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from hyena.filters.budget import Budget
from hyena.ops.observed import PLAIN, is_hooked, observer

T = TypeVar("T")

_memcmp = (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).memcmp
_memcmp.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
_memcmp.restype = ctypes.c_int


class _Entry(NamedTuple):
    key: Hashable
    kinds: list[tuple[torch.dtype, torch.Size, torch.device]]
    content: list[Tensor]
    value: Any  # or a weak reference to it
    nbytes: int


class ParameterCache:
    """The latest value of each name, made again when its key or the content of its sources is
    another.

    Args: the budget that it keeps them in, with others; none is one of its own.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = Budget() if budget is None else budget
        self._entries: dict[str, _Entry] = {}
        self.budget.join(self)

    @property
    def nbytes(self) -> int:
        """Of all values, and of the numbers that they are compared by."""
        return sum(entry.nbytes for entry in list(self._entries.values()))

    def get(
        self, name: str, key: Hashable, sources: Sequence[Tensor] | None, make: Callable[[], T]
    ) -> T:
        """The value of ``make()``, from memory if ``key`` and ``sources`` are as they were.

        Without sources (see `sources_of`) it is made each time. No gradients are recorded. It is
        kept whatever the budget: see `settle`.
        """
        if sources is None:
            with torch.no_grad():
                return make()
        found: T | None = self._find(name, key, sources)
        return self._make(name, key, sources, make) if found is None else found

    def get_within(
        self, name: str, key: Hashable, sources: Sequence[Tensor], make: Callable[[], T], size: int
    ) -> T | None:
        """The same, but None, and nothing is made, if the budget has less left than its ``size``:
        bytes of the value and of the sources."""
        found: T | None = self._find(name, key, sources)
        if found is None and size <= self.budget.left:
            return self._make(name, key, sources, make)
        return found

    def settle(self, name: str) -> None:
        """Keeps a value of `get`, which may have grown, beyond the budget only for as long as
        another holds it: what it is compared by is freed with it, and counts until then."""
        entry = self._entries.get(name)
        value = None if entry is None else _value(entry)
        if entry is not None and value is not None:
            size = bytes_of(value) + bytes_of(entry.content)
            if size > self.budget.left + entry.nbytes:
                value, size = self._weak(name, value), bytes_of(entry.content)
            self._entries[name] = entry._replace(value=value, nbytes=size)

    def clear(self) -> None:
        """Forgets everything."""
        self._entries = {}

    def _weak(self, name: str, value: Any) -> weakref.ref[Any]:
        """A reference to the value, with which its entry goes."""
        owner = weakref.ref(self)  # without a cycle, so that what is kept is freed with the cache

        def forget(reference: weakref.ref[Any]) -> None:
            cache = owner()
            entry = None if cache is None else cache._entries.get(name)
            if cache is not None and entry is not None and entry.value is reference:
                cache._entries.pop(name, None)

        return weakref.ref(value, forget)

    def _find(self, name: str, key: Hashable, sources: Sequence[Tensor]) -> Any:
        entry = self._entries.get(name)
        if entry is None:
            return None
        if (entry.key, entry.kinds) == (key, _kinds(sources)) and _same(sources, entry.content):
            return _value(entry)
        self._entries.pop(name, None)  # before another is made
        return None

    def _make(
        self, name: str, key: Hashable, sources: Sequence[Tensor], make: Callable[[], T]
    ) -> T:
        # An ordinary tensor, even if first asked for in inference mode, so that a later pass with
        # gradients in the input may use it.
        with torch.inference_mode(False), torch.no_grad():
            content = _content(sources)  # first: what changes meanwhile is seen the next time
            value = make()
        size = bytes_of(value) + bytes_of(content)
        self._entries[name] = _Entry(key, _kinds(sources), content, value, size)
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> "ParameterCache":
        return ParameterCache(copy.deepcopy(self.budget, memo))

    def __reduce__(self) -> tuple[type["ParameterCache"], tuple[Budget]]:
        return ParameterCache, (self.budget,)


def bytes_of(value: Any) -> int:
    """Of the tensors in a value, and of what tells its own."""
    if isinstance(value, list | tuple):
        return sum(map(bytes_of, value))
    return getattr(value, "nbytes", 0)


def clear_cache(module: nn.Module, budget: Budget | None = None) -> None:
    """Forgets what the filters in a module keep, which frees its memory.

    It is needed for nothing else: what is kept is compared with the parameters whenever it is asked
    for. Only a state of generation asks for it every 64 steps, or where one sees a change of
    version, and after this at its next one.

    Args: a module; a budget that its filters share from now on, if it is to be another.
    """
    for part in module.modules():
        old = part.__dict__.get("kept")
        if isinstance(old, ParameterCache):  # in its place another, so that states see it
            part.__dict__["kept"] = ParameterCache(old.budget if budget is None else budget)
            old.clear()


def _value(entry: _Entry) -> Any:
    return entry.value() if isinstance(entry.value, weakref.ref) else entry.value


def sources_of(module: nn.Module) -> list[Tensor] | None:
    """Parameters and buffers, if what the module computes follows from them alone and they can be
    compared: no hooks or adapters, nothing that records or transforms ops, plain tensors."""
    if observer(()) not in ("nobody", "autograd"):
        return None
    sources: list[Tensor] = []
    for part in module.modules():
        if is_hooked(part) or _is_adapter(part):
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


def _is_adapter(module: nn.Module) -> bool:
    """Whether it is one of PEFT, which is switched and scaled without a trace in its parameters."""
    return type(module).__module__.startswith("peft.")


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
