"""The paper's claim on speed, and the data of its figure, which do not bear it out.

Poli et al. 2023 (arXiv:2302.10866): the abstract says twice as fast as highly optimised attention
at length 8K and 100 times at 64K. Figure 4.3 (batch 64, order 2, on a GPU with a fused FFT
convolution) was drawn from the times that its authors gave in the issues of their code,
HazyResearch/safari.
"""

LENGTHS = tuple(1 << a for a in range(10, 17))  # 1k … 64k

CLAIM = {8192: 2.0, 65536: 100.0}
"""Times faster than attention, by length."""

HYENA = (0.9, 1.16, 1.47, 1.5, 2.84, 5.41, 11.32)
ATTENTION = (0.4, 1.25, 2.16, 6.17, 21.74, 90.71, None)
FLASH_ATTENTION = (0.29, 0.3, 0.63, 2.1, 8.33, 32.85, 129.07)
"""Milliseconds at LENGTHS; None where memory ran out."""


def speedups(rival: tuple[float | None, ...]) -> dict[int, float]:
    """How many times faster Hyena is than a rival by the figure's data, by length."""
    pairs = zip(LENGTHS, HYENA, rival, strict=True)
    return {length: its / ours for length, ours, its in pairs if its is not None}
