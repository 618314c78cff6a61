"""How much memory a state of generation holds."""

from collections import deque
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from hyena.filters.cache import ParameterCache, Version
from hyena.ops.native.step import NativeStep
from hyena.ops.stepping.online import OnlineFilter
from hyena.ops.stepping.recurrence import Recurrence

_OF_THE_MODEL = (
    nn.Module,
    nn.Parameter,
    ParameterCache,
    Version,
    OnlineFilter,
    Recurrence,
    NativeStep,
)


def held_bytes(state: object) -> int:
    """Bytes of the memory behind a state's tensors, room for tokens to come included.

    Of a view, all that it keeps alive. What a filter keeps for all sequences together is the
    model's and does not count.
    """
    storages = {
        x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors(state)
    }
    return sum(storages.values())


def tensors(state: object) -> Iterator[Tensor]:
    """The tensors that a state refers to, however deep; some of them may share memory."""
    seen: set[int] = set()
    left = [state]
    while left:
        x = left.pop()
        if id(x) in seen or isinstance(x, _OF_THE_MODEL):
            continue
        seen.add(id(x))
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, Mapping):
            left += x.values()
        elif isinstance(x, list | tuple | deque):
            left += x
        elif type(x).__module__.startswith("hyena."):
            left += vars(x).values()
