"""Sharded parameters: PyTorch's FSDP2, applied to the blocks of a model and to the model itself."""

from dataclasses import replace

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from hyena.model import LanguageModel

_OF_BLOCK = "prefill", "step"
_OF_MODEL = "prefill", "step", "token_losses", "_hidden"


def shard(
    model: LanguageModel,
    mesh: DeviceMesh,
    *,
    precision: MixedPrecisionPolicy | None = None,
    reshard_after_forward: bool = True,
) -> LanguageModel:
    """Keeps of each parameter a part on each process, and the whole only while its block runs.

    `torch.distributed.fsdp.fully_shard` on each block and on the model, whose embedding, norm and
    head are one group. A block is the least that is gathered: it reads norms and filters past their
    forward. All processes call the same methods with as many tokens, generation included, since
    each call gathers.

    Args:
        model: changed in place.
        mesh: of one dimension, over which parameters are sharded; or of two, replicated over the
            first and sharded over the second.
        precision: dtypes of parameters while they are whole, and of the sums of gradients. What
            blocks are given is not cast, whatever it says: the residual stream is float32 or wider.
        reshard_after_forward: give a block's parameters back after its forward pass and gather them
            again for the backward pass; otherwise they stay.

    Returns: the model.
    Raises: ValueError on a mesh of more dimensions.
    """
    if mesh.ndim > 2:
        raise ValueError(
            f"shard: expected a mesh of one dimension or two, got {mesh.ndim} of names "
            f'{mesh.mesh_dim_names}; name them, as mesh["replicate", "shard"] does'
        )
    policy = replace(precision or MixedPrecisionPolicy(), cast_forward_inputs=False)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
        for name in _OF_BLOCK:
            register_fsdp_forward_method(block, name)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    for name in _OF_MODEL:
        register_fsdp_forward_method(model, name)
    return model
