"""The losses of tokens, and which of them are the likeliest: those that greedy decoding would take.

Sizes: B batch, L length, N positions with a target, D width, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.arguments import IGNORE
from hyena.model.head import logits_by, weight_of
from hyena.model.hidden import hidden
from hyena.model.inputs import check_targets
from hyena.model.language_model import LanguageModel
from hyena.model.linear_cross_entropy import LOGITS_BYTES, losses_of


@torch.no_grad()
def losses_and_greedy(
    model: LanguageModel, input_ids: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss of each target in nats, as `hyena.LanguageModel.token_losses` has it, and whether no
    other token is likelier.

    There are logits of some positions with a target at a time, and never of the others.

    Args:
        input_ids, targets: (B, L) int64, see `hyena.LanguageModel.forward`.

    Returns: losses (B, L), 0 where there is no target, float64 for float64 parameters and float32
        otherwise; and (B, L) bool, False where there is no target.
    Raises: ValueError as `hyena.LanguageModel.forward`.
    """
    check_targets(targets, input_ids, model.config)
    x = hidden(model, input_ids)
    targets = targets.to(x.device)
    scored = targets != IGNORE
    x, wanted = x[scored], targets[scored]  # (N, D), (N,)
    vocabulary = model.config.vocab_size
    weight = weight_of(model.embedding, model.head, vocabulary, x.device)
    losses, greedy = [], []
    most = max(1, LOGITS_BYTES // (vocabulary * 4))
    for part, ids in zip(x.split(most), wanted.split(most), strict=True):
        if weight is None:
            z = logits_by(model.head, part, vocabulary)
        else:
            z = F.linear(part.to(weight.dtype), weight)
        losses.append(losses_of(z, ids, "none"))
        greedy.append(z.argmax(-1) == ids)
    found = torch.cat(losses)
    of_all = found.new_zeros(targets.shape)
    of_all[scored] = found
    is_greedy = torch.zeros_like(scored)
    is_greedy[scored] = torch.cat(greedy)
    return of_all, is_greedy
