"""Tensor parallel: layers that are cut by channels, hidden values or heads, over processes that all
have the whole rows.

Between the projections of an operator, of attention and of an MLP each channel, head or hidden
value stands alone. So each process has some: the rows of the first projection that make them, what
treats them, and the columns of the last projection that read them. The sums over all columns are
what a layer sends.

A layer stays the class that it is, and reads the part that is here where it read the whole:
parameters are parametrised by DTensors.

Sizes: D width, F filters of a channel, P processes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.utils import parametrize

from hyena.filters import HyenaFilter, LongFilter
from hyena.mixers import CausalSelfAttention, HyenaOperator
from hyena.model import LanguageModel
from hyena.model.mlp import MLP, GatedMLP


def tensor_parallel(model: LanguageModel, mesh: DeviceMesh) -> LanguageModel:
    """Cuts each layer over processes, by channels of operators, heads of attention and hidden
    values of MLPs; norms, embedding and head stay whole.

    All processes call the same methods with the same tokens, and find the same: forward, backward,
    prefill, step and generation, each with its part of the state. Call it before `shard`, over
    another dimension of the mesh.

    Args:
        model: changed in place.
        mesh: of one dimension, such as ``mesh["tensor"]``.

    Returns: the model.
    Raises: ValueError, before anything is changed, on layers of other kinds, on normalized filters,
        on sizes that the number of processes does not divide, and on dropout, which would differ
        between processes.
    """
    if mesh.ndim != 1:
        raise ValueError(
            f"tensor_parallel: expected a mesh of one dimension, got {mesh.ndim} of names "
            f'{mesh.mesh_dim_names}; name one of them, as mesh["tensor"] does'
        )
    for name, block in model.blocks.named_children():
        _check(f"blocks.{name}.mixer", block.mixer, mesh.size())
        _check(f"blocks.{name}.mlp", block.mlp, mesh.size())
    if model.config.dropout > 0:
        raise ValueError(
            f"tensor_parallel: expected dropout 0, got {model.config.dropout}; processes would "
            "draw different masks for what they have in common"
        )
    for block in model.blocks:
        mixer: Any = block.mixer
        mlp: Any = block.mlp
        if isinstance(mixer, HyenaOperator):
            _cut_operator(mixer, mesh)
        else:
            _cut_attention(mixer, mesh)
        plan = {name: ColwiseParallel() for name, _ in mlp.named_children()}
        parallelize_module(mlp, mesh, {**plan, "down": RowwiseParallel()})
    return model


def _check(name: str, layer: Any, processes: int) -> None:
    """Raises ValueError unless the layer of this name can be cut over so many processes."""
    if isinstance(layer, HyenaOperator) and not layer.bidirectional:
        sizes = {"channels": layer.width}
    elif isinstance(layer, CausalSelfAttention):
        sizes = {"heads of queries": layer.heads, "heads of keys": layer.kv_heads}
    elif isinstance(layer, MLP | GatedMLP):
        sizes = {"hidden values": layer.up.out_features}
    else:
        raise ValueError(
            f"tensor_parallel: {name} is a {type(layer).__name__}, which is not cut; it takes "
            "causal HyenaOperator, CausalSelfAttention, MLP and GatedMLP"
        )
    filter = getattr(layer, "filter", None)
    if isinstance(filter, HyenaFilter) and filter.normalized:
        raise ValueError(
            f"tensor_parallel: the filters of {name} are normalized over all channels, which no "
            "process has; build the model with normalized=False"
        )
    for what, size in sizes.items():
        if size % processes:
            raise ValueError(
                f"tensor_parallel: {processes} processes do not divide the {size} {what} of {name}"
            )


def _cut_operator(op: HyenaOperator, mesh: DeviceMesh) -> None:
    """Each process convolves its channels."""
    _cut(op.in_proj, [op.width] * (op.order + 1), mesh)
    _cut(op.short_conv, [op.width] * (op.order + 1), mesh)
    _cut_filter(op.filter, mesh)
    _sum_columns(op, mesh)
    op.cut_to(mesh.size())


def _cut_filter(filter: HyenaFilter | LongFilter, mesh: DeviceMesh) -> None:
    """What makes the filters of some channels is cut where that is known; of others the filters
    are, and what makes them is whole."""
    width = filter.channels // mesh.size()
    first = mesh.get_local_rank() * width
    styles: dict[tuple[nn.Module, str], nn.Module] = {(filter, "skip"): _Part(mesh, 1)}
    if isinstance(filter, HyenaFilter):
        rows = _Part(mesh, 0, [filter.channels] * filter.filters)
        styles |= {(filter.layers[-1], "weight"): rows, (filter, "decay"): _Part(mesh, 1)}
    else:
        filter.taps.register_forward_hook(lambda *call: call[-1][:, first : first + width])
    for part in list(filter.modules()):
        for name in [name for name, x in part._parameters.items() if x is not None]:
            styles.setdefault((part, name), _Whole(mesh))
    for (part, name), style in styles.items():
        if getattr(part, name) is not None:
            parametrize.register_parametrization(part, name, style, unsafe=True)


def _cut_attention(op: CausalSelfAttention, mesh: DeviceMesh) -> None:
    """Each process attends with its heads."""
    keys = op.kv_heads * op.head_dim
    _cut(op.in_proj, [op.heads * op.head_dim, keys, keys], mesh)
    _sum_columns(op, mesh)
    op.cut_to(mesh.size())


def _cut(layer: nn.Module, rows: Sequence[int], mesh: DeviceMesh) -> None:
    """Of each of some ranges of a layer's rows a part."""
    for name in [name for name, x in layer._parameters.items() if x is not None]:
        parametrize.register_parametrization(layer, name, _Part(mesh, 0, rows), unsafe=True)


def _sum_columns(op: Any, mesh: DeviceMesh) -> None:
    """The last projection reads what is here, and its sums are those of all processes; so are the
    gradients of what the first one reads."""

    def copied(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        whole = DTensor.from_local(inputs[0], mesh, [Replicate()], run_check=False)
        u: Tensor = whole.to_local(grad_placements=[Partial()])
        return u

    op.in_proj.register_forward_pre_hook(copied)
    parallelize_module(op, mesh, {"out_proj": RowwiseParallel()})


class _Part(nn.Module):
    """A parametrisation: the process's part of a tensor.

    Args:
        mesh: over whose processes it is cut.
        dim: along which it is cut.
        sizes: of ranges of that dimension, each of which is cut; none is one.
    """

    def __init__(self, mesh: DeviceMesh, dim: int, sizes: Sequence[int] | None = None) -> None:
        super().__init__()
        self.mesh, self.dim, self.sizes = mesh, dim, sizes

    def forward(self, *ranges: DTensor) -> Tensor:
        return torch.cat([x.to_local() for x in ranges], self.dim)

    def right_inverse(self, x: Tensor) -> list[Tensor]:
        ranges = [x] if self.sizes is None else x.split(list(self.sizes), self.dim)
        return [distribute_tensor(each, self.mesh, [Shard(self.dim)]) for each in ranges]


class _Whole(nn.Module):
    """A parametrisation: the whole tensor, of whose gradient each process has a part of the sum.

    Args: mesh: of the processes.
    """

    dim = 0

    def __init__(self, mesh: DeviceMesh) -> None:
        super().__init__()
        self.mesh = mesh

    def forward(self, x: DTensor) -> Tensor:
        return x.to_local(grad_placements=[Partial()])

    def right_inverse(self, x: Tensor) -> list[Tensor]:
        return [distribute_tensor(x, self.mesh, [Replicate()])]
