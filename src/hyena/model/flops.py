r"""Floating point operations of a forward pass, counted in two ways.

`paper_flops` is the formula of Poli et al. 2023 (arXiv:2302.10866, App. A.2), for figures to stand
beside the paper's. A Hyena layer has, with a leading factor 2 for multiply-add,

    projections order·D·D·L,  short convolution order·D·L·3,
    FFT convolutions 5·(order − 1)·D·L·log2 L,  output D·D·L.

It counts ``order`` projections where ``order + 1`` run (the gates and the value), and leaves out
the filter network, the gates and the padding of the FFTs. Of the blocks of the 153M and the 355M
model the missing projection is 14% (tested), so a saving over attention by this formula is partly
a saving on paper.

`executed_flops` counts what this package runs, and is the one to claim a saving on. In both, an
attention layer is counted in full (projections, attention matrix, softmax, value reduction), not as
six times the parameters. The paper has no formula for other mixers; they are counted as executed in
both. Neither counts what all kinds of layer share and what grows with D·L alone: the block's norms,
the MLP's GELU and residuals.

A matrix product of (m, k) and (k, n) is 2·m·k·n, its bias free, as in PyTorch's flop counter. A
sine, a cosine, an exponential or a division is 1. A real FFT of size n is 2.5·n·log2 n, and the
transforms are those of PyTorch's backend; the native kernel's are as large.

Sizes: B batch, L length, D width, N order, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log2

from hyena.model.config import ModelConfig
from hyena.model.flops_of_convolutions import by_halves, whole_row
from hyena.model.flops_of_filters import hyena_filters
from hyena.model.flops_of_rivals import RivalFlops, rival_flops

_PAPER_SHORT_WIDTH = 3
_SOFTMAX = 3  # for each pair of positions: exponential, sum, division
_ROTATION = 3  # for each number of a query or key: two products and a sum


@dataclass(frozen=True)
class HyenaFlops:
    """Operations of one block with a Hyena mixer, for the whole batch."""

    projections: float
    """Gates and value out of the input."""
    short_conv: float
    """The short convolution of every projected channel."""
    gates: float
    """Products with the gates; not in the paper's formula."""
    long_conv: float
    """The long convolutions: an FFT, a product of spectra and an FFT back, for each row. Or, if
    block-causal, many small ones and sums in the time domain."""
    filter_network: float
    """Matrix products that make the filters, once a batch; not in the paper's formula."""
    filter_values: float
    """What else makes them, once a batch: encoding, sines, window, normalisation and skip, or the
    waves, powers or transforms of filters of another kind; not in the formula."""
    filter_fft: float
    """The transform of the filters, once a batch; not in the paper's formula."""
    output: float
    """The output projection."""
    mlp: float
    """The two linear layers of the MLP."""

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return sum(vars(self).values())

    @property
    def causal(self) -> float:
        """The same: nothing of it lies in the future."""
        return self.total


@dataclass(frozen=True)
class AttentionFlops:
    """Operations of one block with an attention mixer, for the whole batch."""

    projections: float
    """Queries, keys and values out of the input."""
    rotation: float
    """Rotary positions; not in the paper's count."""
    scores: float
    """Products of queries and keys, for all L·L pairs."""
    softmax: float
    """The softmax, for all L·L pairs."""
    values: float
    """Sums of values, for all L·L pairs."""
    output: float
    """The output projection."""
    mlp: float
    """The two linear layers of the MLP."""
    above_diagonal: float
    """Of scores, softmax and values: the pairs in the future, whose result is thrown away."""

    @property
    def total(self) -> float:
        """The sum of the parts, all L·L pairs: what runs with a mask or packed documents."""
        return self.causal + self.above_diagonal

    @property
    def causal(self) -> float:
        """Without the pairs in the future, which fused kernels skip, by blocks, without a mask."""
        pairs = self.scores + self.softmax + self.values - self.above_diagonal
        return self.projections + self.rotation + pairs + self.output + self.mlp


@dataclass(frozen=True)
class ModelFlops:
    """Operations of a forward pass of the whole model on a batch (B, L), counted in one way."""

    batch: int
    """B."""
    length: int
    """L, in tokens."""
    layers: tuple[HyenaFlops | AttentionFlops | RivalFlops, ...]
    """Each block, from the first."""
    head: float
    """The product with the embedding that gives the logits."""

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

    Raises: ValueError if length or batch is below 1.
    """
    return FlopTable(paper_flops(config, length, batch), executed_flops(config, length, batch))


def paper_flops(config: ModelConfig, length: int, batch: int = 1) -> ModelFlops:
    """The paper's formula, see the head of `hyena.model.flops`; raises as `flops`.

    The logarithm is that of ``length``, and the leading factor 2 applies to every term, as printed.
    """
    D, N = config.width, config.order
    positions = batch * length

    def hyena() -> HyenaFlops:
        return HyenaFlops(
            projections=2 * N * D * D * positions,
            short_conv=2 * N * D * positions * _PAPER_SHORT_WIDTH,
            gates=0,
            long_conv=2 * 5 * (N - 1) * D * positions * log2(length),
            filter_network=0,
            filter_values=0,
            filter_fft=0,
            output=2 * D * D * positions,
            mlp=_mlp(config, positions),
        )

    return _model(config, length, batch, hyena, rotation=0)


def executed_flops(config: ModelConfig, length: int, batch: int = 1) -> ModelFlops:
    """What runs in a forward pass of one document a row, filters made anew; raises as `flops`.

    In evaluation the filters' spectra are kept between calls of one length, so that the parts
    ``filter_…`` fall away after the first call. Packed documents are convolved each at its own
    length, which costs about as much. With ``block_causal`` nothing is kept.
    """
    D, N = config.width, config.order
    positions = batch * length

    def hyena() -> HyenaFlops:
        row, filter_fft = (by_halves if config.block_causal else whole_row)(length)
        filters = hyena_filters(config, length)
        return HyenaFlops(
            projections=2 * (N + 1) * D * D * positions,
            short_conv=2 * (N + 1) * D * positions * config.short_width,
            gates=N * D * positions,
            long_conv=batch * (N - 1) * D * row,
            filter_network=filters.products,
            filter_values=filters.transforms + filters.pointwise,
            filter_fft=(N - 1) * D * filter_fft,
            output=2 * D * D * positions,
            mlp=_mlp(config, positions),
        )

    rotation = _ROTATION * 2 * D * positions if config.positions == "rotary" else 0
    return _model(config, length, batch, hyena, rotation)


def _model(
    config: ModelConfig,
    length: int,
    batch: int,
    hyena: Callable[[], HyenaFlops],
    rotation: float,
) -> ModelFlops:
    if length < 1 or batch < 1:
        raise ValueError(f"flops: expected length ≥ 1 and batch ≥ 1, got {length} and {batch}")

    def layer(mixer: str) -> HyenaFlops | AttentionFlops | RivalFlops:
        if mixer == "hyena":
            return hyena()
        if mixer == "attention":
            return _attention(config, length, batch, rotation)
        return rival_flops(config, mixer, length, batch)

    layers = tuple(layer(mixer) for mixer in config.layer_mixers())
    head = 2 * batch * length * config.width * config.vocab_size
    return ModelFlops(batch, length, layers, head)


def _mlp(config: ModelConfig, positions: int) -> float:
    return 2 * 2 * config.width * config.hidden * positions


def _attention(config: ModelConfig, length: int, batch: int, rotation: float) -> AttentionFlops:
    D, positions = config.width, batch * length
    pairs = batch * length * length
    scores = values = 2 * D * pairs
    softmax = _SOFTMAX * config.heads * pairs
    future = (length - 1) / (2 * length)  # share of the pairs above the diagonal
    return AttentionFlops(
        projections=2 * 3 * D * D * positions,
        rotation=rotation,
        scores=scores,
        softmax=softmax,
        values=values,
        output=2 * D * D * positions,
        mlp=_mlp(config, positions),
        above_diagonal=future * (scores + softmax + values),
    )
