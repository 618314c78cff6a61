"""The loss and the gradients of a model whose blocks keep their input alone, beside one whose
blocks keep all."""

from collections.abc import Callable
from typing import Any

import torch
from comparison import assert_close
from small_models import gradients, tokens
from torch import Tensor

from hyena.model import LanguageModel

L = 23
PACKED = {"document_ids": torch.stack([torch.arange(L) // 5, torch.arange(L) // 9])}


def loss_and_gradients(
    model: LanguageModel, loss: Callable[[], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    y = loss()
    y.backward()
    return y.detach(), gradients(model)


def assert_same(
    model: LanguageModel, tolerance: float = 1e-12, memory: int = 0, **options: Any
) -> None:
    """That the loss in pieces and its gradients are those of the whole."""
    ids = tokens(2, L)

    def loss() -> Tensor:
        y: Tensor = model(ids, targets=ids.roll(-1, 1), **options)
        return y

    model.train().activation_checkpointing = False
    expected, wanted = loss_and_gradients(model, loss)
    model.activation_checkpointing, model.working_memory = True, memory
    y, found = loss_and_gradients(model, loss)
    assert_close(y, expected, tolerance)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        try:
            assert_close(gradient, wanted[name], tolerance)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
