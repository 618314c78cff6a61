"""Floating point operations of a layer, part by part; counted as in `hyena.filters.flops`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SIGMOID = 3  # exponential, sum, division
GELU = 4  # scaling, error function, sum, product
NORM = 8  # for each number: mean, variance, scaling, weight and bias
# Of a scan, for each number and position: what each block does alone, then what came before added.
SUM_OF_TWO = 10  # two sums, each a product and a sum twice; their common factor, twice
RUNNING_MAX = 6  # a sum and a maximum twice; the factor, twice


@dataclass(frozen=True)
class LayerFlops:
    """Operations of one layer for the whole batch."""

    parts: Mapping[str, float]
    """By name, in the order in which they run."""
    above_diagonal: float = 0.0
    """Of attention's scores, softmax and values: the pairs in the future, whose result is thrown
    away."""
    shared: float = 0.0
    """Of the parts, what each process makes whole of which some do the channels between them."""

    @property
    def total(self) -> float:
        """The sum of the parts; all L·L pairs, as run with a mask or packed documents."""
        return sum(self.parts.values())

    @property
    def causal(self) -> float:
        """Without the pairs in the future, which fused kernels skip, by blocks, without a mask."""
        return self.total - self.above_diagonal

    def __getitem__(self, part: str) -> float:
        return self.parts[part]


def rival_flops(
    positions: int,
    *,
    before: int,
    after: int,
    pointwise: float,
    products: float = 0,
    transforms: float = 0,
) -> LayerFlops:
    """Of a layer between linear ones.

    Args: B·L; ``before`` and ``after``: numbers in the weights of the linear layers; in the mixing:
        ``pointwise``, number by number, such as gates, scans, products of spectra, powers of poles;
        ``products`` of matrices and ``transforms``, those of a filter once a batch.
    """
    return LayerFlops(
        {
            "projections": 2 * before * positions,
            "products": products,
            "transforms": transforms,
            "pointwise": pointwise,
            "output": 2 * after * positions,
        }
    )
