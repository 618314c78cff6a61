"""What processes send one another in a step of training, and what parameters in parts take, by
arithmetic alone; ``docs/distributed.md`` has the formulas.

A collective counts as the ring sends it (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002):
of n bytes that are whole on P processes, each sends (P − 1)/P · n to gather them or to reduce and
scatter them, and twice that to reduce them on all.

Sizes: B rows of a micro batch, L length, p positions of a piece, D width, N order, K taps, G heads
of keys, E numbers of a head, m exponentials of a channel, P processes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, cast

from torch import Tensor

from hyena.distributed import carry, halo, operators
from hyena.distributed.rows import Rows
from hyena.filters import LongFilter
from hyena.mixers import CausalSelfAttention, HyenaOperator
from hyena.mixers.hyena.kernels import finite_taps
from hyena.model import LanguageModel

WHOLE_BLOCKS = 3.5
"""Of the bytes of a block, what FSDP2 has beside parts and embedding at the peak, as measured."""


@dataclass(frozen=True)
class Traffic:
    """What a process sends in collectives of one kind.

    Attributes:
        bytes: at most, of all processes.
        processes: that take part.
        apart: how far the ranks of two neighbours among them are apart.
        ring: whether neighbours pass it on; otherwise each sends to each other one.
    """

    bytes: float
    processes: int
    apart: int
    ring: bool


def of_parameters(
    model: LanguageModel, *, shard: int, replicas: int, micro_batches: int
) -> list[Traffic]:
    """What parameters and their gradients send in a step, as PyTorch's DistributedDataParallel and
    FSDP2 do it.

    In parts, a micro batch gathers each parameter twice, for its forward and its backward pass, and
    reduces its gradient; whole ones are reduced once a step.

    Args:
        shard: parts of each parameter, on neighbouring processes; 1 leaves them whole.
        replicas: how often each part is kept.
        micro_batches: of a step.
    """
    whole, trained = _padded(model.parameters(), shard), _padded(_trained(model), shard)
    if shard == 1:
        return [Traffic(2 * _others(replicas) * trained, replicas, 1, ring=True)]
    gathered = _others(shard) * (2 * whole + trained)
    reduced = 2 * _others(replicas) * trained / shard
    return [
        Traffic(micro_batches * gathered, shard, 1, ring=True),
        Traffic(micro_batches * reduced, replicas, shard, ring=True),
    ]


def of_rows(
    model: LanguageModel,
    *,
    context: int,
    rows: int,
    length: int,
    itemsize: int,
    packed: bool,
) -> Traffic:
    """What rows that are cut send in forward and backward pass of a micro batch.

    Args:
        context: P, neighbouring processes that share rows.
        rows, length: B and L.
        itemsize: bytes of a number that is sent; those of carried states are the filter's own.
        packed: whether rows may hold several documents, which keeps recurrences from being carried.

    Raises: ValueError on a mixer along which rows cannot be cut, or more processes than channels.
    """
    if context == 1:
        return Traffic(0.0, 1, 1, ring=False)
    total, passes = 0.0, 2 + model.activation_checkpointing
    for i, block in enumerate(model.blocks):
        operators.check(f"blocks.{i}.mixer", block.mixer, context)
        total += rows * _of_row(block.mixer, context, length, itemsize, packed, passes)
    if packed:  # ids of documents, to all others
        total += 8 * rows * ceil(length / context) * (context - 1)
    return Traffic(total, context, 1, ring=False)


def _of_row(
    mixer: Any, context: int, length: int, itemsize: int, packed: bool, passes: int
) -> float:
    """Of a row, the bytes that the process which sends most sends in all passes of a mixer.

    What goes to later processes has its gradient come back from them: the first process sends all
    of the one and none of the other.
    """
    if isinstance(mixer, CausalSelfAttention):  # keys and values, to all later processes
        piece = ceil(length / context)
        heads = mixer.kv_heads * mixer.head_dim
        return itemsize * (passes - 1) * piece * 2 * heads * (context - 1)
    op = cast(HyenaOperator, mixer)
    to_neighbours = passes if context > 2 else passes - 1  # between two others, both ways
    short = itemsize * to_neighbours * (op.order + 1) * op.width * (op.short_width - 1)
    channel = _of_channel(op, context, length, itemsize, packed, passes)
    return short + (op.order - 1) * op.width * channel


def _of_channel(
    op: HyenaOperator, context: int, length: int, itemsize: int, packed: bool, passes: int
) -> float:
    """Of a channel of one long convolution, as `hyena.distributed.long_conv` chooses."""
    piece, taps, filter = ceil(length / context), finite_taps(op.filter), op.filter
    group = cast(Any, None)  # which nobody asks
    cut = Rows(group, 0, [piece] * (context - 1) + [length - piece * (context - 1)])
    if taps and halo.is_less(taps, cut):
        return itemsize * (passes if context > 2 else passes - 1) * (taps - 1)
    if isinstance(filter, LongFilter) and not packed:
        exponentials = filter.exponentials()
        if exponentials is not None and carry.is_less(exponentials[0], cut):
            exponent, weight = exponentials
            numbers = exponent.shape[-1] * (2 if exponent.is_complex() else 1)
            return (passes - 1) * numbers * weight.real.itemsize * (context - 1)
    return itemsize * passes * 2 * piece * _others(context)


def kept_bytes(model: LanguageModel, shard: int) -> int:
    """Bytes of the parts that a process keeps: weights, gradients and AdamW's two moments."""
    parts = sum(_padded([p], shard) // shard for p in model.parameters())
    return int(parts + 3 * sum(_padded([p], shard) // shard for p in _trained(model)))


def gathered_bytes(model: LanguageModel, shard: int) -> int:
    """Bytes beside the parts, at the peak of a backward pass: what is whole meanwhile.

    The embedding, norm and head are whole throughout, and so are their gradients, which are copied
    last to be reduced; parts of these are not there before. A block is whole while it runs, the
    next one is gathered, and gradients are copied to be reduced: `WHOLE_BLOCKS` in all.
    """
    if shard == 1:
        return 0
    blocks = [_padded(block.parameters(), shard) for block in model.blocks]
    block = max(blocks)
    root = _padded(model.parameters(), shard) - sum(blocks)
    return int(2 * root + max(root - root / shard, WHOLE_BLOCKS * block - (root + block) / shard))


def _others(processes: int) -> float:
    """Share of what is whole that a process sends in a ring."""
    return (processes - 1) / processes


def _trained(model: LanguageModel) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def _padded(parameters: Iterable[Tensor], parts: int) -> int:
    """Bytes of parameters whose first dimension is filled up to a multiple of the parts."""
    return sum(_numel(p.shape, parts) * p.itemsize for p in parameters)


def _numel(shape: Sequence[int], parts: int) -> int:
    first, *others = shape
    return ceil(first / parts) * parts * prod(others)
