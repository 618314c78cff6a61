"""A block that keeps its input alone for the backward pass, and makes the rest anew in pieces.

Checkpointed as PyTorch does it, a block's backward pass holds all that it makes of its input at
once, (L, 4·D) and more. Here it is one autograd function, whose backward pass goes through the
block from its end: norm and MLP by slices of positions, the operator by groups of channels. What is
of the size of the residual stream: the gradient that comes in, the one that goes out, and what lies
between the operator's projections, which its gradient overwrites. Of rows that are cut over
processes each goes back through its piece, by the same groups at once.

Sizes: B batch, L length, D width.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

from hyena.mixers.hyena import cut, groups
from hyena.mixers.hyena.groups import Buffers, Group, Input, project, rows_of
from hyena.mixers.hyena.kernels import Kernel, Modes
from hyena.mixers.hyena.operator import HyenaOperator
from hyena.mixers.projections import channels_last
from hyena.model.block import Block
from hyena.model.mlp import is_by_position
from hyena.model.norm import normalize
from hyena.model.piece import Piece
from hyena.model.stateless import with_parameters
from hyena.model.streaming import Stream, input_of, length_of, may_go_in_pieces
from hyena.ops import Segments
from hyena.ops.native import modal, operator
from hyena.ops.observed import observer


def memory_of(working_memory: int) -> int:
    """Bytes of hidden values beyond which a block goes back in pieces, and which a group of
    channels may take then: twice as many as without gradients, as much more is made, and pieces
    take a projection more than the whole."""
    return 2 * working_memory


def takes(
    block: nn.Module,
    x: Tensor,
    mask: Tensor | None,
    segments: Segments | None,
    memory: int,
    piece: Piece | None = None,
) -> bool:
    """Whether the block's backward pass is to go in pieces: x is long enough, the block is what its
    class says, with a Hyena operator, and only autograd looks on."""
    return (
        mask is None
        and observer((x, *block.parameters())) == "autograd"
        and may_go_in_pieces(block, x, memory, piece)
        and is_by_position(block.mlp)
        and block.dropout == 0
        and groups.takes(block.mixer, length_of(x, piece), None, segments, None)
        and (x.is_cpu or not (x.is_meta or torch.is_autocast_enabled(x.device.type)))
    )


def forward(
    block: nn.Module,
    x: Tensor,
    segments: Segments | None,
    memory: int,
    buffers: Buffers,
    piece: Piece | None = None,
) -> Tensor:
    """``block(x, None, segments)``, of what it `takes`.

    Args:
        memory: bytes that a piece may take.
        buffers: shared by the blocks of a model.
        piece: of rows that are cut over processes, which go back through it together.
    """
    settings = segments, piece, memory, buffers
    y: Tensor = _Recomputed.apply(x, block, settings, *_parameters(block).values())
    return y


def _parameters(block: nn.Module) -> dict[str, Tensor]:
    return dict(block.named_parameters(remove_duplicate=False))


class _Recomputed(torch.autograd.Function):
    """x and the block's parameters → the block's output."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        block: Block,
        settings: tuple[Segments | None, Piece | None, int, Buffers],
        *parameters: Tensor,
    ) -> Tensor:
        segments, piece, memory, buffers = settings
        ctx.save_for_backward(x, *parameters)
        ctx.block, ctx.settings = block, settings
        ctx.parts = _parts(block)
        ctx.random = _Random(x)
        device = x.device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        # Without its cache, where other calls would find weights that no gradient goes back to.
        with _autocast(ctx):
            stream = Stream(memory, owned=False, buffers=buffers)
            return stream.forward(block, x, None, segments, piece)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        with torch.no_grad():
            found = _gradients(ctx, dy)
        # A graph of these gradients is recorded, in which they would seem to be constants.
        return _Refusing.of(found) if torch.is_grad_enabled() else found


def _gradients(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    """What the backward pass of `_Recomputed` returns."""
    x, *parameters = ctx.saved_tensors  # which finds parameters changed in the meantime
    block, (segments, piece, memory, buffers) = ctx.block, ctx.settings
    _check_parts(block, ctx.parts)
    of_x, *_ = needed = ctx.needs_input_grad
    # Leaves of the small graphs to come, so that no hook on a parameter sees their gradients.
    of_parameters = zip(parameters, needed[-len(parameters) :], strict=True)
    leaves = [p.detach().requires_grad_(wanted) for p, wanted in of_parameters]
    block = with_parameters(block, dict(zip(_parameters(block), leaves, strict=True)))
    # The cache of weights would end with the graph of a piece.
    with _autocast(ctx), ctx.random.kept():
        u, sums = input_of(block, x, memory, gradients=True), _Sums(leaves, parameters)
        op = cast(HyenaOperator, block.mixer)
        ctx.random.again()
        dtype = groups.like_of(op, u).dtype
        between = None if piece is None else piece.between(op, None)
        if between is None:
            parts = groups.groups_of(op, u.batch, u.length, memory, dtype)
            rows = (op.order + 1) * len(range(op.width)[parts[0]])
            y, z, _ = groups.between_projections(
                op, u, None, segments, None, memory, buffers, beside=rows
            )
        else:
            parts = cut.groups_of(op, u.batch, between, memory, dtype)
            y, z, _ = cut.between_projections(op, u, between, memory, buffers)
            del between  # and what its filters are made of
        d = _backward_of_mlp(block, x, y, dy, u, sums)
        dx = d if of_x else None
        ctx.random.again()
        _backward_of_mixer(block, x, y, dx, u, segments, piece, parts, z, sums)
    buffers.clear()  # the graph may live on
    return (dx, None, None, *sums.found())


class _Refusing(torch.autograd.Function):
    """Gradients as they are, which have none themselves."""

    @staticmethod
    def forward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return gradients

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Any, ...]:
        raise RuntimeError(
            "LanguageModel: activation_checkpointing gives no gradients of gradients for long "
            "inputs; set model.activation_checkpointing = False before the forward pass"
        )

    @classmethod
    def of(cls, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
        leaves = [None if x is None else x.requires_grad_() for x in gradients]
        found: tuple[Any, ...] = cls.apply(*leaves)
        return found


def _autocast(ctx: Any) -> torch.autocast:
    """As in the forward pass, without its cache of weights."""
    device, dtype, enabled = ctx.autocast
    return torch.autocast(device, dtype, enabled, cache_enabled=False)


class _Random:
    """Where the generators of random numbers stand, so that a filter that draws some, by a dropout
    of its own or a hook, may draw them again."""

    def __init__(self, x: Tensor) -> None:
        self._type, self._cpu = x.device.type, torch.get_rng_state()
        self._devices, self._states = get_device_states(x)

    def again(self) -> None:
        """Takes the generators back there."""
        torch.set_rng_state(self._cpu)
        set_device_states(self._devices, self._states, device_type=self._type)

    def kept(self) -> AbstractContextManager[None]:
        """After it the generators stand where they did before."""
        if not self._devices:
            return torch.random.fork_rng(())
        return torch.random.fork_rng(self._devices, device_type=self._type)


class _Sums:
    """Sums of the gradients of some leaves.

    Each stands for a tensor of ``originals``. What still reads that one, as a hook's closure or a
    forward of the instance may, adds its gradient to the leaf's.
    """

    def __init__(self, leaves: Sequence[Tensor], originals: Sequence[Tensor]) -> None:
        self._leaves = leaves
        pairs = [pair for pair in zip(leaves, originals, strict=True) if pair[0].requires_grad]
        self._wanted = [leaf for leaf, _ in pairs]
        self._read: dict[Tensor, Tensor] = {}
        for leaf, original in pairs:
            if original.requires_grad:
                self._read.setdefault(original, leaf)
        self._sums: dict[Tensor, Tensor] = {}

    def backward(
        self, y: Sequence[Tensor], dy: Sequence[Tensor], others: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """Adds the gradients of sum(dy · y) in the leaves, and gives those in ``others``."""
        pairs = [(a, b) for a, b in zip(y, dy, strict=True) if a.requires_grad]
        if not pairs:
            return []
        outputs, gradients = zip(*pairs, strict=True)
        inputs = [*others, *self._wanted, *self._read]
        found = torch.autograd.grad(outputs, inputs, gradients, allow_unused=True)
        leaves = [*self._wanted, *self._read.values()]
        for leaf, more in zip(leaves, found[len(others) :], strict=True):
            if more is None:
                continue
            if leaf in self._sums:
                self._sums[leaf] += more
            else:  # many are added: in float32 or wider
                self._sums[leaf] = more.to(
                    torch.promote_types(more.dtype, torch.float32), copy=True
                )
        return [
            torch.zeros_like(x) if d is None else d for x, d in zip(others, found, strict=False)
        ]

    def found(self) -> list[Tensor | None]:
        """Of each leaf; None of one that had none."""
        sums = [self._sums.get(leaf) for leaf in self._leaves]
        return [
            None if total is None else total.to(leaf.dtype)
            for leaf, total in zip(self._leaves, sums, strict=True)
        ]


def _backward_of_mlp(
    block: Block, x: Tensor, y: Tensor, dout: Tensor, u: Input, sums: _Sums
) -> Tensor:
    """The gradient of the residual stream before the output projection and the MLP, (B, L, D);
    that of y, which the projection is given, takes its place."""
    dx, op = torch.empty_like(x), cast(HyenaOperator, block.mixer)
    for rows, positions in u.pieces:
        before, mixed = _leaf(x[rows, positions]), _leaf(y[rows, :, positions])
        with torch.enable_grad():
            between = before + channels_last(op.out_proj, mixed)
            after = between + block.mlp(normalize(block.norm2, between, block.mlp))
        d = dout[rows, positions].to(after.dtype)
        dx[rows, positions], y[rows, :, positions] = sums.backward([after], [d], [before, mixed])
    return dx


def _backward_of_mixer(
    block: Block,
    x: Tensor,
    dy: Tensor,
    dx: Tensor | None,
    u: Input,
    segments: Segments | None,
    piece: Piece | None,
    parts: Sequence[slice],
    memory: Tensor,
    sums: _Sums,
) -> None:
    """Adds to dx, if that is wanted, the gradient of x through norm and operator, by ``parts`` of
    the channels, whose projections go to ``memory``; dy is that of what the output projection is
    given."""
    op = cast(HyenaOperator, block.mixer)
    by_modes = op.sums_modes(dy, u.length, segments)
    with torch.enable_grad():
        between = None if piece is None else piece.between(op, None)
        whole = between is None and not by_modes
        filter = groups.filter_of(op, u.length, segments) if whole else None
    made_by = filter if between is None else between
    of_all = () if made_by is None else made_by.shared
    shared = [_leaf(t) if t.requires_grad else t for t in of_all]
    trained = [t for t in shared if t.requires_grad]
    of_shared = [torch.zeros_like(t) for t in trained]
    for channels in parts:
        with torch.enable_grad():
            group, weight = Group(op, channels), rows_of(op, op.in_proj.weight, channels)
            if between is not None:
                kernels = []  # of the channels that are here in each group
            elif filter is None:
                kernels = op.modes(u.length, channels)
            else:
                kernels = list(zip(filter.taps(channels, shared), group.skip, strict=True))
        z = memory[:, : len(weight)]
        project(u, weight, z)
        z += group.bias.detach()[:, None]
        if between is None:
            dz = _backward_of_group(
                group, z, kernels, dy[:, channels], segments, trained, of_shared, sums
            )
        else:
            made = partial(between.between, short=group.short, channels=channels, shared=shared)
            dz = _backward_through(made, z, dy[:, channels], trained, of_shared, sums)
        del kernels
        _backward_of_projection(block, (weight, group.bias), x, dz, dx, u, sums)
        del dz  # before that of the next group
    sums.backward([t for t in of_all if t.requires_grad], of_shared)


def _backward_of_group(
    group: Group,
    z: Tensor,
    kernels: list[Kernel],
    dy: Tensor,
    segments: Segments | None,
    shared: list[Tensor],
    of_shared: list[Tensor],
    sums: _Sums,
) -> Tensor:
    """The gradient of z (B, C, L), bias included, from dy (B, G, L); that of what all taps are made
    of is added to ``of_shared``."""
    dz, made = _at_once(group, z, kernels, dy, segments)
    if dz is None:
        between = partial(group.op.between, short=group.short, kernels=kernels, segments=segments)
        return _backward_through(between, z, dy, shared, of_shared, sums)
    pairs = [(x, dx.to(x.dtype)) for x, dx in made if dx is not None]
    more = sums.backward([x for x, _ in pairs], [dx for _, dx in pairs], shared)
    for total, dx in zip(of_shared, more, strict=True):
        total += dx
    return dz


def _backward_through(
    between: Callable[[Tensor], Tensor],
    z: Tensor,
    dy: Tensor,
    shared: list[Tensor],
    of_shared: list[Tensor],
    sums: _Sums,
) -> Tensor:
    """`_backward_of_group`, by the graph of what the output projection is given."""
    z = _leaf(z)
    with torch.enable_grad():
        y = between(z)
    dz, *more = sums.backward([y], [dy], [z, *shared])
    for total, dx in zip(of_shared, more, strict=True):
        total += dx
    return dz


def _at_once(
    group: Group, z: Tensor, kernels: list[Kernel], dy: Tensor, segments: Segments | None
) -> tuple[Tensor | None, list[tuple[Tensor, Tensor | None]]]:
    """The gradient of z, and of each tensor that there is in kernel and short convolution, where
    the native kernel finds them without the output; None where it does not."""
    if not group.op.direct or len(kernels) > 1:
        return None, []
    [(h, skip)] = kernels
    assert skip is not None
    if isinstance(h, Modes):
        if not modal.takes(z, group.short, *h, skip):
            return None, []
        dz, d = modal.gradients(dy, z, group.short, *h, skip)
        return dz, list(zip((*h, skip, *group.short), d, strict=True))
    assert isinstance(h, Tensor)
    if not operator.takes(z, group.short, [(h, skip)]):
        return None, []
    dz, d = operator.gradients(dy, z, group.short, (h, skip), segments=segments)
    return dz, list(zip((h, skip, *group.short), d, strict=True))


def _backward_of_projection(
    block: Block,
    layer: tuple[Tensor, Tensor],
    x: Tensor,
    dz: Tensor,
    dx: Tensor | None,
    u: Input,
    sums: _Sums,
) -> None:
    """Adds to dx, if that is wanted, the gradient of x through norm and a group's part of the input
    projection, weight and bias, from dz (B, C, L)."""
    weight = layer[0].detach()
    dweight = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    for rows, positions in u.pieces:
        before, d = _leaf(x[rows, positions], dx is not None), dz[rows, :, positions]
        with torch.enable_grad():
            normed = normalize(block.norm1, before, block.mixer)
        for row, du in zip(normed.detach(), d, strict=True):
            dweight += du @ row
        if not normed.requires_grad:
            continue
        of_normed = (d.transpose(1, 2) @ weight).to(normed.dtype)
        if dx is None:
            sums.backward([normed], [of_normed])
        else:
            dx[rows, positions] += sums.backward([normed], [of_normed], [before])[0]
    sums.backward(layer, [dweight.to(weight.dtype), dz.sum((0, 2))])


def _leaf(x: Tensor, wanted: bool = True) -> Tensor:
    return x.detach().requires_grad_(wanted)


def _parts(block: nn.Module) -> dict[str, nn.Module | None]:
    """Modules by name, and the names of parameters."""
    return {**dict(block.named_modules()), **dict.fromkeys(_parameters(block))}


def _check_parts(block: nn.Module, before: dict[str, nn.Module | None]) -> None:
    """Raises RuntimeError if the block has other parts than before."""
    after = _parts(block)
    if after == before:
        return
    both = before.keys() & after.keys()
    name = next(n for n in {**before, **after} if n not in both or before[n] is not after[n])
    raise RuntimeError(
        f"LanguageModel: a block was changed between forward and backward: its part {name} was "
        "added, removed or replaced; with activation_checkpointing, change a model after backward()"
    )
