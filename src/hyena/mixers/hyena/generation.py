"""An operator token by token: the state that a prompt leaves behind, and a step from it.

Sizes: B batch, L length, D width, N order, C = (N+1)·D channels of the short convolution.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.arguments import plural
from hyena.filters import Filter, LongFilter
from hyena.filters.cache import versions_of
from hyena.filters.plain import is_plain
from hyena.filters.precision import wide
from hyena.mixers.hyena.short_conv import ShortConv, short_conv_step
from hyena.mixers.hyena.state import HyenaState, LongState
from hyena.mixers.mixer import Room
from hyena.mixers.projections import layers_of_step
from hyena.ops import Backend
from hyena.ops.native.linear import Layer
from hyena.ops.native.step import Pending, reads
from hyena.ops.observed import hooks_of, unobserved
from hyena.ops.stepping import online
from hyena.ops.stepping.finite import FiniteState, due_after
from hyena.ops.stepping.online import OnlineState, contribution
from hyena.ops.stepping.recurrence import RecurrentState
from hyena.ops.stepping.states import normal_tensors

_MODULES = "in_proj", "short_conv", "out_proj"


class Convolved(NamedTuple):
    """What an operator makes of gates and value, of G of its channels, and what a prefill goes on
    with.

    Attributes:
        y: what the output projection is given, (B, G, L).
        inputs: of each of the F long convolutions, (B, G, L), or of all, (B, F·G, L); none of
            modes.
        pending: what each adds to its T outputs to come, (B, G, T); none if T is 0.
        states: of modes, what each leaves behind, (B, G, n).
    """

    y: Tensor
    inputs: Sequence[Tensor] | Tensor = ()
    pending: Sequence[Tensor] = ()
    states: Sequence[Tensor] = ()


def planned_for(filter: Filter, length: int, room: Room) -> int:
    """Tokens whose outputs a prefill of ``length`` computes its part of: none for filters whose
    state is of one size, nor within the plan of the state before, where tiles do.

    Raises: ValueError if the filter's length policy or the state before has no room for them.
    """
    state, future = room.state, room.future
    if state is not None:
        filter.check_growth(state.length + length)
        long = state.long
        if isinstance(long, OnlineState):
            left = long.planned - long.position
            future = max(left - length, 0) if future is None else future
            if not long.keeps_inputs and (length + future > left or room.keep_inputs):
                raise ValueError(
                    f"HyenaOperator.prefill: the state keeps no inputs, and of its plan {left} "
                    f"tokens are left; got {length}, future={room.future} and keep_inputs="
                    f"{room.keep_inputs}; give what it has room for, or begin with a prefill that "
                    "plans for more or keeps the inputs"
                )
            if within_plan(room, length):
                return 0
        length += state.length
    if not future or is_constant(filter, state):
        return 0
    if filter.limit is not None and length + future > filter.limit:
        raise ValueError(
            f"HyenaOperator.prefill: {length} {plural(length, 'position')} and "
            f"future={future} more exceed max_length {filter.limit}, which a sequence cannot grow "
            f'past with length_policy "{filter.length_policy}"; plan for at most '
            f"{max(filter.limit - length, 0)}"
        )
    return future


def within_plan(room: Room, length: int) -> bool:
    """Whether a prefill of ``length`` goes on within the plan of the state before, of which the
    rest stays as it is."""
    before = room.state
    if before is None or not isinstance(before.long, OnlineState) or room.future is not None:
        return False
    long = before.long
    return not long.keeps_inputs and long.planned - long.position >= length


def taps_after(
    filter: Filter, backend: Backend, state: HyenaState, length: int
) -> tuple[Tensor, list[Tensor]]:
    """What the long convolutions of a prefill of ``length`` after a state take.

    Returns: their taps (F, D, length), or all that there are, and of each what the tokens before
        add to its outputs, (B, D, length).
    """
    state.bind(filter, backend, "prefill")
    long = state.long
    if isinstance(long, RecurrentState):
        assert isinstance(filter, LongFilter)
        states = enumerate(long.x.contiguous().unbind(1))
        return filter(length), [filter.response(x, i, length) for i, x in states]
    parts, width = long.sizes
    if isinstance(long, FiniteState):
        assert isinstance(filter, LongFilter)
        known = F.pad(long.due[..., :length], (0, max(length + 1 - long.taps, 0)))
        return filter.all_taps(), list(known.unflatten(1, (parts, width)).unbind(1))
    if long.planned - long.position >= length:
        h, known = filter(length), long.known(length)
    else:
        inputs = long.inputs
        assert inputs is not None
        h = filter(state.length + length)
        known = contribution(inputs.to(long.dtype), h.flatten(0, 1), length, backend=backend)
    return h[..., :length], list(known.unflatten(1, (parts, width)).unbind(1))


def states_before(filter: LongFilter, backend: Backend, state: HyenaState) -> list[Tensor]:
    """The states (B, D, n) of filters that are recurrences, from which modes go on."""
    state.bind(filter, backend, "prefill")
    assert isinstance(state.long, RecurrentState)
    x = state.long.x.contiguous()
    return list((torch.view_as_complex(x) if x.shape[-1] == 2 else x[..., 0]).unbind(1))


def state_after(
    filter: Filter,
    z: Tensor,
    taps: int,
    length: int,
    made: Convolved,
    room: Room,
    backend: Backend,
) -> HyenaState:
    """The state after a prompt.

    Args:
        z: inputs of the short convolution, which has so many ``taps``: (B, C, L), behind those
            that a state before has.
        length: of the prompt.
        made: of all channels; where inputs are one tensor it becomes part of the state.
        backend: of convolutions.
    """
    before: HyenaState | None = room.state
    long: LongState
    with normal_tensors():
        if before is not None and within_plan(room, length):
            long = before.long
            assert isinstance(long, OnlineState)
            long.feed(torch.cat(list(_each(made.inputs, filter)), dim=1))
        elif is_constant(filter, before):
            assert isinstance(filter, LongFilter)
            left = left_behind(filter, made, backend, None if before is None else before.long)
            long = of_one_size(filter, left)
        else:
            each = _each(made.inputs, filter)
            line = made.pending or [v[..., :0].to(wide(z.dtype)) for v in each]
            kept = _kept(made.inputs, room)
            long = OnlineState(torch.cat(list(line), dim=1), len(each), kept, block=online.BLOCK)
        return state_of(z, taps, long, length + (0 if before is None else before.length))


def state_of(z: Tensor, taps: int, long: LongState, length: int) -> HyenaState:
    """The state after so many tokens: ``long`` is that of the long convolutions, z as of
    `state_after`."""
    with normal_tensors():
        short = F.pad(z.detach(), (max(taps - 1 - z.shape[-1], 0), 0))
        return HyenaState(short[..., short.shape[-1] - taps + 1 :], long, length)


def left_behind(
    filter: LongFilter,
    made: Convolved,
    backend: Backend,
    before: LongState | None = None,
    channels: slice | None = None,
) -> Tensor:
    """What the inputs of each long convolution leave of them behind, of filters whose state is of
    one size: (B, F, D, …).

    Args:
        made: of these inputs; where modes were summed their states are at hand.
        before: what earlier inputs have left, unless modes went on from it.
        channels: or some of the channels, whose inputs these are, with nothing before.
    """
    if made.states:
        x = torch.stack(list(made.states), dim=1)
        return torch.view_as_real(x) if x.is_complex() else x[..., None]
    inputs = _each(made.inputs, filter)
    earlier: Sequence[Tensor | None] = [None] * len(inputs)
    if filter.recurrent:
        if isinstance(before, RecurrentState):
            earlier = before.x.contiguous().unbind(1)
        each = enumerate(zip(inputs, earlier, strict=True))
        found = [filter.state_after(v, i, left, channels) for i, (v, left) in each]
    else:
        if isinstance(before, FiniteState):
            earlier = before.due.split(filter.channels, dim=1)
        parts = zip(inputs, filter.all_taps(channels), earlier, strict=True)
        found = [due_after(v, taps, left, backend=backend) for v, taps, left in parts]
    return torch.stack(found, dim=1)


def _each(inputs: Sequence[Tensor] | Tensor, filter: Filter) -> Sequence[Tensor]:
    """Of each long convolution."""
    return inputs.split(filter.channels, dim=1) if isinstance(inputs, Tensor) else inputs


def of_one_size(filter: LongFilter, left: Tensor) -> RecurrentState | FiniteState:
    """The state of the long convolutions of which this is left."""
    if filter.recurrent:
        return RecurrentState(left)
    return FiniteState(left.flatten(1, 2), left.shape[1])


def _kept(inputs: Sequence[Tensor] | Tensor, room: Room) -> Tensor | None:
    """All inputs of the long convolutions, (B, F·D, ·), if they are to be kept."""
    earlier = None if room.state is None else room.state.long.inputs
    dtype = room.kept_dtype(inputs[0].dtype if earlier is None else earlier.dtype)
    if dtype is None or (earlier is None and room.state is not None):
        return None
    if not isinstance(inputs, Tensor):
        inputs = torch.cat([v.to(dtype) for v in inputs], dim=1)
    return inputs if earlier is None else torch.cat([earlier.to(dtype), inputs], dim=2)


def step(
    modules: dict[str, Any], backend: Backend, u: Tensor, state: HyenaState
) -> tuple[Tensor, HyenaState]:
    """One token, u (B, D), of the operator of these modules: see `hyena.mixers.Mixer.step`.

    The kernel makes all of it, or what lies between the projections; else it is the paper's loop at
    one position.
    """
    route = _route(modules, backend, u, state)
    call = None if route is None else route.call
    if route is not None and call is not None:
        before = _before(state)
        if route.layers is not None:
            y, z = call(u, before, route.layers)
            advance(state, z, u.dtype)
            return y, state
    z = modules["in_proj"](u)
    if call is not None and reads(z):
        y, _ = call(z, before, None)
    else:
        short = short_conv_step(modules["short_conv"], z, state.before)
        *gates, v = short.split(modules["filter"].channels, dim=1)
        for i, gate in enumerate(reversed(gates[1:])):
            v = state.long.step(i, gate, v)
        y = v * gates[0]
    # The module may write to its output later, and the kernel reads rows side by side.
    state.advance(z.clone() if z.is_contiguous() else z.contiguous())
    return modules["out_proj"](y if y.dtype == z.dtype else y.to(z.dtype)), state


def pending(
    modules: dict[str, Any], backend: Backend, u: Tensor, state: HyenaState
) -> Pending | None:
    """`step` for what is like u, where the kernel makes all of it, as the argument of a call to be
    made; and z, which after the call the state has to `advance` with."""
    route = _route(modules, backend, u, state)
    if route is None or route.call is None or route.layers is None:
        return None
    return route.call.pending(u, _before(state), route.layers)


def advance(state: HyenaState, z: Tensor, dtype: torch.dtype) -> None:
    """To the next token, after one whose projection was z, kept in this dtype."""
    state.advance(z if z.dtype is dtype else z.to(dtype))


def _before(state: HyenaState) -> list[Tensor]:
    return [z if z.dtype is torch.float32 else z.float() for z in state.before]


def _route(
    modules: dict[str, Any], backend: Backend, u: Tensor, state: HyenaState
) -> "Route | None":
    """The way of this step; the state is prepared for it."""
    filter = modules["filter"]  # not as an attribute: those of a module are slow to find
    observed, versions = not unobserved(u), state.versions
    if (
        versions and not observed
    ):  # of one tensor at a step: most changes are of all, which cost more
        x, version = versions[state.length % len(versions)]
        if x._version != version:
            state.ready = 0
    if state.length >= state.ready or state.kept is not filter.kept:
        state.versions = [] if observed else versions_of(filter, modules["short_conv"])
        state.prepare(filter, backend)
    if observed or not u.is_cpu:
        return None
    route: Route | None = state.route
    if route is None or not route.stands(modules, backend, u):
        route = state.route = Route(modules, backend, u, state)
    return route


class Route:
    """What the kernel may do of an operator's step from u, at which nobody looks on: found once,
    good for as long as it `stands`.

    Attributes: ``call`` of the kernel, or None; ``layers``, the projections if they are part of it.
    """

    def __init__(
        self, modules: dict[str, Any], backend: Backend, u: Tensor, state: HyenaState
    ) -> None:
        first, short, last = self._modules = [modules[name] for name in _MODULES]
        self._backend, self._dtype = backend, u.dtype
        channels, earlier = state.sizes[:2]
        fits = is_plain(short, ShortConv) and short.weight.shape == (channels, earlier + 1)
        asked = fits and backend in ("auto", "native")
        self.call = state.long.native(short.by_lag()) if asked else None
        self.layers = None if self.call is None else layers_of_step(first, last, u)
        plain = [] if self.call is None else [short]
        if self.layers is not None:
            plain += [first, last]
            self._parameters = first._parameters, last._parameters
            self._memory = _memory(*self.layers)
        self._hooks, self._own = hooks_of(*plain), [module.__dict__ for module in plain]

    def stands(self, modules: dict[str, Any], backend: Backend, u: Tensor) -> bool:
        """Whether it still is that of these modules: hooks are found here, and parameters that are
        others or were given other memory."""
        first, short, last = self._modules
        if (
            modules["in_proj"] is not first
            or modules["short_conv"] is not short
            or modules["out_proj"] is not last
            or backend != self._backend
            or u.dtype != self._dtype
            or any(self._hooks)
        ):
            return False
        for own in self._own:
            if "forward" in own:
                return False
        if self.layers is None:
            return True
        (weight, bias), (last_weight, last_bias) = self.layers
        one, other = self._parameters
        return (
            one.get("weight") is weight
            and one.get("bias") is bias
            and other.get("weight") is last_weight
            and other.get("bias") is last_bias
            and _memory(*self.layers) == self._memory
            and not torch.is_autocast_enabled("cpu")
        )


def _memory(one: Layer, other: Layer) -> tuple[object, ...]:
    (weight, bias), (last_weight, last_bias) = one, other
    return (
        weight.dtype,
        weight.data_ptr(),
        bias is None or bias.data_ptr(),
        last_weight.dtype,
        last_weight.data_ptr(),
        last_bias is None or last_bias.data_ptr(),
    )


def is_constant(filter: Filter, before: HyenaState | None = None) -> bool:
    """Whether what a prefill leaves behind is of one size. After a state that is not, as an older
    version of the package wrote it of filters that are `finite`, it is not either."""
    if before is not None and isinstance(before.long, OnlineState):
        return False
    return isinstance(filter, LongFilter) and filter.constant
