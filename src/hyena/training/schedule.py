"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hyena.ops.arguments import check_numbers


@dataclass
class ScheduleConfig:
    """Linear warm-up, then a cosine to the floor at the end of the run."""

    warmup_steps: int | None = None
    """Steps of the linear warm-up; none means a hundredth of the run."""
    start_lr: float = 1e-6
    """Learning rate of the first warm-up step."""
    min_lr: float | None = None
    """Learning rate the cosine ends at; none means a tenth of the peak."""

    def warmup(self, steps: int) -> int:
        """Steps of the warm-up in a run of ``steps`` steps."""
        return steps // 100 if self.warmup_steps is None else self.warmup_steps

    def floor(self, peak: float) -> float:
        """The learning rate the cosine ends at, for a run with the given peak."""
        return peak / 10 if self.min_lr is None else self.min_lr


def learning_rate(
    step: int, *, peak: float, start: float, floor: float, warmup: int, steps: int
) -> float:
    r"""Learning rate of the update that follows ``step`` finished ones.

    .. math:: \eta_s = \begin{cases}
        a + (p - a)\,s / w & s < w \\
        f + \tfrac12 (p - f)\,(1 + \cos(\pi\,(s - w) / (S - w))) & s \ge w
        \end{cases}

    Poli et al. 2023 (arXiv:2302.10866), Table A.4 gives p = 6e-4, a = 1e-6 and f = 6e-5.

    Args:
        step: s, updates done so far; from S on the rate stays at the floor.
        peak: p, reached at step w.
        start: a, the rate at step 0 if there is a warm-up.
        floor: f, the rate at step S.
        warmup: w, steps of warm-up.
        steps: S, steps of the run.

    Raises: ValueError on what is no finite number.
    """
    check_numbers("learning_rate", step=step, warmup=warmup, steps=steps)
    check_numbers("learning_rate", peak=peak, start=start, floor=floor)
    if step < warmup:
        return start + (peak - start) * step / warmup
    if step >= steps:
        return floor
    return floor + 0.5 * (peak - floor) * (
        1 + math.cos(math.pi * (step - warmup) / (steps - warmup))
    )
