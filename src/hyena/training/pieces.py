"""A model that is given whole rows, of which each process takes its piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hyena.model import LanguageModel

if TYPE_CHECKING:
    from hyena.distributed import ContextParallel


class InPieces(nn.Module):
    """What `hyena.training.run.window_loss` calls where processes share rows.

    Args: the model; the processes.
    """

    def __init__(self, model: LanguageModel, context: ContextParallel) -> None:
        super().__init__()
        self.model, self.context = model, context

    def forward(self, input_ids: Tensor, *, document_ids: Tensor | None, targets: Tensor) -> Tensor:
        """The mean loss of whole rows (B, L), the same on every process that shares them."""
        piece = self.context.piece
        loss: Tensor = self.model(
            piece(input_ids),
            document_ids=None if document_ids is None else piece(document_ids),
            targets=piece(targets),
            context=self.context,
        )
        return loss
