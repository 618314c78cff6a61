"""The linear layers of a model, as libraries that change layers ask for them."""

from torch import nn

from hyena.ops.observed import PLAIN

PROJECTIONS = ["in_proj", "out_proj", "up", "gate", "down"]
"""What the projections of mixers and the layers of MLPs are called: the ``target_modules`` of
PEFT's configurations."""

_FILTERS = {"filter", "two_sided_filter"}


def outside_filters(module: nn.Module, name: str) -> bool:
    """Whether a module, of this dotted name in its model, is a linear layer and none of a filter's
    network: the ``filter_fn`` of torchao's ``quantize_``.

    A filter's layers are few numbers, and every tap is made of all of them: rounded to 8 bits they
    cost more than they spare. Weights that are quantised already are left as they are.
    """
    linear = isinstance(module, nn.Linear) and type(module.weight) in PLAIN
    return linear and _FILTERS.isdisjoint(name.split("."))
