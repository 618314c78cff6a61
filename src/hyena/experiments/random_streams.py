"""Random numbers of a cell as pure functions of its seed, what they are for, and the step.

Nothing random is left over from one step to the next, so that a resumed training is the
uninterrupted one without a random state in its checkpoint.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What random numbers are for."""

    WEIGHTS = 0
    TRAINING = 1
    SAMPLES = 2
    ORDER = 3
    VALIDATION = 4
    TEST = 5
    DROPOUT = 6


def stream_seed(seed: int, stream: Stream, index: int = 0) -> int:
    """A seed for a stream's ``index``-th draw, such as a step's."""
    (mixed,) = np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)
    return int(mixed) & (2**63 - 1)


def generator(seed: int, stream: Stream, index: int = 0) -> torch.Generator:
    """A generator for it."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, index))
