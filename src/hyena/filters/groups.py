"""Filters that neighbouring channels share: one for each group of them.

Sizes: D channels, G groups, F filters a channel.
"""

from collections.abc import Callable

from torch import Tensor

from hyena.ops.arguments import check_sizes


def check_groups(name: str, channels: int, groups: int | None) -> int:
    """G, one a channel if that is not given. Raises: ValueError unless it divides the channels."""
    if groups is None:
        return channels
    (groups,) = check_sizes(name, groups=groups)
    if channels % groups:
        raise ValueError(
            f"{name}: expected a divisor of the {channels} channels as groups, got {groups}"
        )
    return groups


def over_channels(
    of_groups: Callable[[slice], Tensor], groups: int, size: int, channels: slice
) -> Tensor:
    """What some channels have, (F, d, …), of which all of a group's have the same.

    Args:
        of_groups: what a range of the groups has, (F, g, …).
        groups: G.
        size: D/G, channels of a group.
        channels: which, a slice that may begin and end within groups.
    """
    if size == 1:
        return of_groups(channels)
    start = 0 if channels.start is None else channels.start
    stop = groups * size if channels.stop is None else channels.stop
    first, last = start // size, -(-stop // size)
    x = of_groups(slice(first, last))
    x = x.unsqueeze(2).expand(-1, -1, size, *x.shape[2:]).flatten(1, 2)
    return x[:, start - first * size : stop - first * size : channels.step]
