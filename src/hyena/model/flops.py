"""Floating point operations of a forward pass, counted in two ways.

`executed_flops` counts what this package runs, and is the one to claim a saving on: each mixer
counts its own, see `hyena.mixers.Mixer.flops`.

`paper_flops` is the formula of Poli et al. 2023 (arXiv:2302.10866, App. A.2), for figures to stand
beside the paper's. A Hyena layer has, with a leading factor 2 for multiply-add,

    projections order·D·D·L,  short convolution order·D·L·3,
    FFT convolutions 5·(order − 1)·D·L·log2 L,  output D·D·L.

It counts ``order`` projections where ``order + 1`` run (the gates and the value), and leaves out
the filter network, the gates and the padding of the FFTs. Of the blocks of the 153M and the 355M
model the missing projection is 14% (tested), so a saving over attention by this formula is partly
a saving on paper. The paper has no formula for other mixers; they are counted as executed in both.

Neither counts what all kinds of layer share and what grows with D·L alone: the block's norms, the
MLP's activation, a gated one's product, and residuals.

Sizes: B batch, L length, D width, N order, V vocabulary.
"""

from dataclasses import dataclass, replace
from math import log2

from hyena.mixers.flops import LayerFlops
from hyena.model.build import build_mixer
from hyena.model.config import ModelConfig
from hyena.ops.arguments import check_size

_PAPER_SHORT_WIDTH = 3


@dataclass(frozen=True)
class ModelFlops:
    """Operations of a forward pass of the whole model on a batch (B, L), counted in one way."""

    batch: int
    """B."""
    length: int
    """L, in tokens."""
    layers: tuple[LayerFlops, ...]
    """Each block, from the first: its mixer's parts, and ``mlp``."""
    head: float
    """The product with the embedding, or the head's own matrix, that gives the logits."""

    @property
    def total(self) -> float:
        """All blocks and the head; attention with all L·L pairs."""
        return sum(layer.total for layer in self.layers) + self.head

    @property
    def causal(self) -> float:
        """The same without attention's pairs in the future."""
        return sum(layer.causal for layer in self.layers) + self.head

    def per_token(self, operations: float | None = None) -> float:
        """``operations``, or the total if not given, over the B·L tokens."""
        return (self.total if operations is None else operations) / (self.batch * self.length)


@dataclass(frozen=True)
class FlopTable:
    """Both counts side by side."""

    paper: ModelFlops
    """By the paper's formula."""
    executed: ModelFlops
    """As executed by this package."""


def flops(config: ModelConfig, length: int, batch: int = 1) -> FlopTable:
    """Operations of a forward pass on ``batch`` rows of ``length`` tokens, counted in both ways.

    A training step is about three times as much, four with activation checkpointing. Lengths that
    the model's length policy refuses can be asked for: this is arithmetic only.

    Raises: TypeError on what is no integer; ValueError unless both are from 1 to 2^48.
    """
    return FlopTable(paper_flops(config, length, batch), executed_flops(config, length, batch))


def paper_flops(config: ModelConfig, length: int, batch: int = 1) -> ModelFlops:
    """The paper's formula, see the head of `hyena.model.flops`; raises as `flops`.

    The logarithm is that of ``length``, and the leading factor 2 applies to every term, as printed.
    """
    executed = executed_flops(config, length, batch)
    length, batch = executed.length, executed.batch
    D, N, positions = config.width, config.order, batch * length

    def by_paper(name: str, layer: LayerFlops) -> LayerFlops:
        parts = dict(layer.parts)
        if name == "attention":
            parts["rotation"] = 0
        elif name == "hyena":
            parts = dict.fromkeys(parts, 0.0) | {
                "projections": 2 * N * D * D * positions,
                "short_conv": 2 * N * D * positions * _PAPER_SHORT_WIDTH,
                "long_conv": 2 * 5 * (N - 1) * D * positions * log2(length),
                "output": 2 * D * D * positions,
                "mlp": parts["mlp"],
            }
        return replace(layer, parts=parts, shared=0.0)

    return replace(executed, layers=tuple(map(by_paper, config.layer_mixers(), executed.layers)))


def executed_flops(config: ModelConfig, length: int, batch: int = 1) -> ModelFlops:
    """What runs in a forward pass of one document a row, filters made anew; raises as `flops`.

    In evaluation the filters' spectra are kept between calls of one length, so that the parts
    ``filter_…`` fall away after the first call. Packed documents are convolved each at its own
    length, which costs about as much. With ``block_causal`` nothing is kept.
    """

    length = check_size("LanguageModel.flops", "length", length, 1)
    batch = check_size("LanguageModel.flops", "batch", batch, 1)

    def block(name: str) -> LayerFlops:
        mixer = build_mixer(config, name, device="meta").flops(length, batch)
        matrices = 2 if config.mlp == "plain" else 3
        mlp = 2 * matrices * config.width * config.hidden * batch * length
        return replace(mixer, parts={**mixer.parts, "mlp": mlp})

    names = config.layer_mixers()
    blocks = {name: block(name) for name in dict.fromkeys(names)}
    head = 2 * batch * length * config.width * config.vocab_size
    return ModelFlops(batch, length, tuple(blocks[name] for name in names), head)
