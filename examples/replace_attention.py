"""Hyena in a model that was written for attention: one call, then train as ever.

The model is PyTorch's own TransformerEncoder, tagging each token of a sequence. The task needs the
sequence mixed: the tag of a position is the token that stands eight places before it. Sequences
have different lengths, so batches are padded.

Run: python examples/replace_attention.py
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena import replace_attention

TOKENS, PAD, MAX_LENGTH, BACK = 8, 8, 32, 8  # tokens are 0 … 7, and 8 is padding
NO_TAG = -100  # what cross_entropy ignores


class Tagger(nn.Module):
    """Token ids (B, L) → logits of the tags (B, L, TOKENS)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True
        )
        self.embedding = nn.Embedding(TOKENS + 1, width)
        # There is no positional embedding: Hyena's filters are functions of the position.
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(width, TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(ids), src_key_padding_mask=ids == PAD))


def batch_of(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Token ids and tags, (size, MAX_LENGTH) each, padded on the right."""
    ids = torch.randint(TOKENS, (size, MAX_LENGTH), generator=generator)
    lengths = torch.randint(MAX_LENGTH // 2, MAX_LENGTH + 1, (size, 1), generator=generator)
    position = torch.arange(MAX_LENGTH)
    tags = ids.roll(BACK, dims=1)
    padding = position >= lengths
    tags = tags.masked_fill(padding | (position < BACK), NO_TAG)
    return ids.masked_fill(padding, PAD), tags


def loss_of(model: nn.Module, ids: Tensor, tags: Tensor) -> Tensor:
    """Mean cross-entropy, in nats a tag."""
    return F.cross_entropy(model(ids).flatten(0, 1), tags.flatten(), ignore_index=NO_TAG)


def main(steps: int = 60) -> tuple[float, float]:
    """Returns the loss on held-out sequences before and after training."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Tagger()

    # The one call. causal=False: a tag may depend on the whole sequence, as with attention before.
    names = replace_attention(model, MAX_LENGTH, causal=False)
    print("replaced:", ", ".join(names))

    # The optimizer comes after it, so that it holds the new parameters.
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    held_out = batch_of(64, generator)

    def evaluate() -> float:
        model.eval()
        with torch.no_grad():
            return loss_of(model, *held_out).item()

    first = evaluate()
    print(f"loss before training: {first:.3f}")
    for _ in range(steps):
        model.train()
        loss = loss_of(model, *batch_of(32, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    last = evaluate()
    print(f"loss after {steps} steps: {last:.3f}")
    return first, last


if __name__ == "__main__":
    main()
