"""Values derived from parameters, kept until a parameter changes."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class _Entry(NamedTuple):
    key: Hashable
    sources: tuple[Tensor, ...]
    held: tuple[Tensor, ...]  # aliases: while they live, no other storage gets the same address
    state: tuple[tuple[int, int], ...]
    value: Any


class ParameterCache:
    """The latest value of each name, recomputed when its key or one of its sources changes.

    A change is seen through PyTorch's version counters and storage addresses: optimizers,
    ``load_state_dict``, ``.to`` and assignment count. Writing through ``tensor.data`` does not
    touch the counter; call `clear` after that.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def get(self, name: str, key: Hashable, sources: Iterable[Tensor], make: Callable[[], T]) -> T:
        """The value of ``make()``, from memory if ``key`` and ``sources`` are as they were."""
        sources = tuple(sources)
        try:
            state = tuple((s._version, s.data_ptr()) for s in sources)
        except RuntimeError:  # inference and functorch tensors have neither: nothing to trust
            return make()
        entry = self._entries.get(name)
        if (
            entry is not None
            and entry.key == key
            and entry.state == state
            and len(entry.sources) == len(sources)
            and all(a is b for a, b in zip(entry.sources, sources, strict=True))
        ):
            return entry.value
        # An ordinary tensor, even if first asked for in inference mode, so that a later pass with
        # gradients in the input may use it.
        with torch.inference_mode(False), torch.no_grad():
            value = make()
            held = tuple(s.detach() for s in sources)
        self._entries[name] = _Entry(key, sources, held, state, value)
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> "ParameterCache":
        return ParameterCache()

    def __reduce__(self) -> tuple[type["ParameterCache"], tuple[()]]:
        return ParameterCache, ()
