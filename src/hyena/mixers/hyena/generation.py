"""An operator token by token: the state that a prompt leaves behind, and a step from it.

Sizes: B batch, L length, D width, N order, C = (N+1)·D channels of the short convolution.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.filters import HyenaFilter, LongFilter
from hyena.filters.plain import is_plain
from hyena.filters.precision import wide
from hyena.mixers.hyena.short_conv import ShortConv
from hyena.mixers.hyena.state import HyenaState
from hyena.mixers.mixer import Room
from hyena.mixers.projections import layers_of_step
from hyena.ops import Backend
from hyena.ops.native.step import Layers
from hyena.ops.stepping import online
from hyena.ops.stepping.online import OnlineState
from hyena.ops.stepping.recurrence import RecurrentState
from hyena.ops.stepping.states import normal_tensors


def planned_for(filter: HyenaFilter | LongFilter, length: int, room: Room) -> int:
    """Tokens whose outputs a prefill of ``length`` computes its part of: none for recurrences.

    Raises: ValueError if the filter's length policy has no room for them.
    """
    if not room.future or _recurrent(filter):
        return 0
    if filter.limit is not None and length + room.future > filter.limit:
        raise ValueError(
            f"HyenaOperator.prefill: {length} positions and future={room.future} more exceed "
            f"max_length {filter.limit}, which a sequence cannot grow past with length_policy "
            f'"{filter.length_policy}"; plan for at most {max(filter.limit - length, 0)}'
        )
    return room.future


def state_after(
    filter: HyenaFilter | LongFilter,
    z: Tensor,
    taps: int,
    inputs: list[Tensor],
    pending: list[Tensor],
    room: Room,
) -> HyenaState:
    """The state after a prompt.

    Args:
        z: (B, C, L), inputs of the short convolution, which has so many ``taps``.
        inputs: (B, D, L), of each long convolution.
        pending: (B, D, T), what each adds to its T outputs to come; none if T is 0.
    """
    long: OnlineState | RecurrentState
    with normal_tensors():
        if _recurrent(filter):
            left = [filter.state_after(v, i) for i, v in enumerate(inputs)]
            long = RecurrentState(torch.stack(left, dim=1))
        else:
            kept = torch.cat(inputs, dim=1) if room.keep_inputs or room.future is None else None
            line = pending or [v[..., :0].to(wide(v.dtype)) for v in inputs]
            long = OnlineState(torch.cat(line, dim=1), len(inputs), kept, block=online.BLOCK)
        length = z.shape[-1]
        short = F.pad(z.detach(), (max(taps - 1 - length, 0), 0))
        return HyenaState(short[..., short.shape[-1] - taps + 1 :], long, length)


def step(
    modules: dict[str, Any], backend: Backend, u: Tensor, state: HyenaState
) -> tuple[Tensor, HyenaState]:
    """One token, u (B, D), of the operator of these modules: see `hyena.mixers.Mixer.step`."""
    # Not as attributes: those of a module are slow to find.
    filter, in_proj, out_proj = modules["filter"], modules["in_proj"], modules["out_proj"]
    if state.length >= filter.max_length:
        filter.check_growth(state.length + 1)
    state.prepare(filter, backend)
    short = modules["short_conv"]
    native = is_plain(short, ShortConv) and backend in ("auto", "native")
    layers = layers_of_step(in_proj, out_proj, u) if native else None
    if layers is not None and state.long.takes_native(u, *layers[0], *layers[1]):
        y, z = _in_one_call(u, state, layers, short)
        state.advance(z)
        return y, state
    z = in_proj(u)
    if native and state.long.takes_native(z):
        y, _ = _in_one_call(z, state, None, short)
    else:
        *gates, v = short.step(z, state.before).split(u.shape[1], dim=1)
        for i, gate in enumerate(reversed(gates[1:])):
            v = state.long.step(i, gate, v)
        y = v * gates[0]
    # The module may write to its output later, and the kernel reads rows side by side.
    state.advance(z.clone(memory_format=torch.contiguous_format))
    return out_proj(y if y.dtype == z.dtype else y.to(z.dtype)), state


def _in_one_call(
    u: Tensor, state: HyenaState, layers: Layers | None, short: ShortConv
) -> tuple[Tensor, Tensor]:
    """With ``layers`` the whole step; without, what lies between the projections.

    Returns: y (B, D); z, the input of the short convolution, which without layers is u.
    """
    before = [z if z.dtype == torch.float32 else z.float() for z in state.before]
    y, z = state.long.native_step(u, before, layers, short.by_lag)
    return y, z if z.dtype == u.dtype else z.to(u.dtype)


def _recurrent(filter: HyenaFilter | LongFilter) -> TypeGuard[LongFilter]:
    return isinstance(filter, LongFilter) and filter.recurrent
