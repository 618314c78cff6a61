"""A module with other tensors in the place of its parameters, while it stays as it is itself.

`torch.func.functional_call` puts the tensors into the module and takes them out again. Of two
threads that do so at once one may put back what the other had put in, for good.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def with_parameters(module: M, tensors: Mapping[str, Tensor]) -> M:
    """A copy of the module with these tensors as the parameters of these names. All else it shares:
    buffers, hooks, other parameters. What reads a parameter from the module that is given, and not
    by its name in the copy, such as a bound forward of the instance, reads the old one."""
    copies: dict[nn.Module, nn.Module] = {}

    def copy_of(part: nn.Module) -> nn.Module:
        if part not in copies:
            other = copies[part] = object.__new__(type(part))
            # not by assignment, which a module takes for that of a part
            own: dict[str, Any] = {**part.__dict__, "_parameters": dict(part._parameters)}
            inner = part._modules.items()
            own["_modules"] = {n: None if x is None else copy_of(x) for n, x in inner}
            other.__dict__.update(own)
        return copies[part]

    whole = copy_of(module)
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        whole.get_submodule(path)._parameters[last] = tensor  # type: ignore[assignment]
    return cast(M, whole)
