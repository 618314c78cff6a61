"""The gradient of each row of a batch by itself, by `torch.func`, is that of the row alone."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import STRIPES, gradients, small_model, tokens
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

PLAIN = "hyena", "linear-attention", "rwkv", "s4d", "h3", "gss"
MODELS: list[tuple[str, dict[str, Any]]] = [*((mixer, {}) for mixer in PLAIN), ("hyena", STRIPES)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("mixers", "options"), MODELS)
def test_of_a_whole_model(
    mixers: str, options: dict[str, Any], dtype: torch.dtype, training: bool
) -> None:
    model = small_model(mixers, dtype=dtype, **options).train(training)
    ids = tokens(3, 10)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, parameters, (row[None, :-1],))
        return F.cross_entropy(logits[0], row[1:])

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, ids)
    for i, row in enumerate(ids):
        loss(parameters, row).backward()
        for name, expected in gradients(model).items():
            assert_close(found[name][i], expected, 1e-12 if dtype == torch.float64 else 1e-4)


def test_ids_outside_the_vocabulary_are_refused_all_the_same_where_they_can_be_read() -> None:
    model = small_model()
    parameters = dict(model.named_parameters())
    with pytest.raises(ValueError, match="token id 29 is outside the vocabulary of 29"):
        grad(lambda p: functional_call(model, p, (torch.tensor([[29]]),)).sum())(parameters)
