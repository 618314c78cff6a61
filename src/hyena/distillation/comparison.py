"""How far the outputs of two models are apart.

Sizes: L length, V vocabulary.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from hyena.model import LanguageModel
from hyena.model.language_model import check_model
from hyena.ops.arguments import check_tensor, shown


@torch.no_grad()
def logit_error(teacher: LanguageModel, student: LanguageModel, inputs: Iterable[Tensor]) -> float:
    """‖z′ − z‖/‖z‖ over the logits z of one model and z′ of the other at all positions.

    A constant added to the logits of a position changes no probability, so the mean over the
    vocabulary is taken out of each first.

    Args:
        teacher, student: the models, on one device, in evaluation mode.
        inputs: token ids (L,), a tensor a sequence.

    Returns: the relative error, 0 if the teacher's logits are all alike.
    Raises: TypeError if one is no `hyena.LanguageModel`; TypeError or ValueError on other inputs.
    """
    for model in (teacher, student):
        check_model("logit_error", model)
    if not isinstance(inputs, Iterable):
        raise TypeError(f"logit_error: expected inputs, tensors of ids, got {shown(inputs)}")
    device, V = teacher.embedding.weight.device, teacher.config.vocab_size
    apart = whole = 0.0
    for ids in inputs:
        check_tensor("logit_error", "inputs", ids)
        if ids.is_meta:
            raise ValueError("logit_error: an input is on meta, without values; put it on the CPU")
        z, other = (
            model(ids[None].to(device))[..., :V].double().cpu() for model in (teacher, student)
        )
        z, other = (x - x.mean(-1, keepdim=True) for x in (z, other))
        apart += float((other - z).square().sum())
        whole += float(z.square().sum())
    return (apart / whole) ** 0.5 if whole else 0.0
