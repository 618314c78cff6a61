"""The head of a language model: what turns a position into the logits of the next token.

Sizes: B batch, L length, D width, V vocabulary.
"""

import torch
from torch import Tensor, nn

from hyena.ops.observed import PLAIN, has_hooks


def weight_of(
    embedding: nn.Module, head: nn.Module | None, vocabulary: int, device: torch.device
) -> Tensor | None:
    """The matrix of the product that gives the logits, (V, D), without the vocabulary's padding.

    Without a head it is the rows that the embedding gives: an adapter around that counts here too.
    None of a head that is more than its matrix, which has to be called: see `logits_by`.
    """
    if head is not None:
        if type(head) is nn.Linear and head.bias is None and not has_hooks(head):
            return head.weight[:vocabulary] if type(head.weight) in PLAIN else None
        return None
    if type(embedding) is nn.Embedding:
        return embedding.weight[:vocabulary]
    # In one row: adapters that differ from row to row of a batch then refuse it.
    weight: Tensor = embedding(torch.arange(vocabulary, device=device)[None])
    return weight[0]


def logits_by(head: nn.Module | None, x: Tensor, vocabulary: int) -> Tensor:
    """What a head with hooks, an adapter or quantised weights gives when it is called: (…, V)."""
    assert head is not None  # of one there is `weight_of`
    dtypes = (p.dtype for p in head.parameters() if p.is_floating_point())
    z: Tensor = head(x.to(next(dtypes, x.dtype)))
    return z[..., :vocabulary]
