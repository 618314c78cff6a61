"""Laws of the loss: curves over the compute at one size, and a joint law of size and tokens.

Numbers in, numbers out. Compute C may be FLOPs, seconds or tokens; the loss nats per token or bits
per byte: whatever falls as training goes on. N is a number of parameters, T of tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Form = Literal["power law", "power law with a floor", "line in log compute"]
"""The forms of a curve."""

_LEAST: dict[Form, int] = {"power law": 2, "power law with a floor": 3, "line in log compute": 2}
"""How many different computes a form needs."""
_FLAT = 1e-6
"""A curve that falls by no larger share of its loss does not fall."""
_ROUNDING = 1e-5
"""A compute that is no larger a share beyond an end of the measured range is that end."""
_RATES = np.geomspace(1e-3, 10, 41)
"""Among which the rate of a curve with a floor is sought first."""
_EXPONENTS = np.geomspace(0.05, 1.5, 8)
"""Among which the joint law's are sought first."""
_MOST_EXPONENT = 5.0
_MOST_STEPS = 500


@dataclass(frozen=True)
class Curve:
    r"""A loss over the compute, within the range in which it was measured.

    .. math:: L(C) = E + (L_0 - E)\,(C / C_0)^{-b} \quad\text{or}\quad L(C) = L_0 - b \ln(C / C_0)

    Attributes:
        form: the second for "line in log compute", else the first.
        first: L₀, the loss at the least compute.
        rate: b.
        floor: E; 0 for "power law", −∞ for the line.
        least, most: C₀ and the greatest compute that was measured.
    """

    form: Form
    first: float
    rate: float
    floor: float
    least: float
    most: float

    def loss(self, compute: float) -> float:
        """L(C)."""
        u = math.log(compute / self.least)
        if self.form == "line in log compute":
            return self.first - self.rate * u
        return self.floor + (self.first - self.floor) * math.exp(-self.rate * u)

    def reach(self, loss: float) -> float:
        """The least compute of the measured range at which the curve is at ``loss`` or below it.

        Returns: −∞ if it is below it at the least compute already, ∞ if it is above it at the
            greatest one still. Nothing is extrapolated.
        """
        if self.first - self.loss(self.most) <= _FLAT * self.first:  # level, or it rises
            return -math.inf if loss >= (1 - _FLAT) * self.first else math.inf
        if loss <= self.floor:
            return math.inf
        if self.form == "line in log compute":
            u = (self.first - loss) / self.rate
        else:
            u = math.log((self.first - self.floor) / (loss - self.floor)) / self.rate
        span = math.log(self.most / self.least)
        if not -_ROUNDING <= u <= span + _ROUNDING:
            return math.copysign(math.inf, u)
        return self.least * math.exp(min(max(u, 0.0), span))


def fit_curves(
    compute: Sequence[float] | Array, losses: Sequence[float] | Array
) -> dict[Form, Curve]:
    """The curve of each form for which there are enough different computes; none for a single one.

    Raises: ValueError if they are not as many, or not all positive and finite.
    """
    x, _ = _check("compute", compute, losses)
    different = len(set(x.tolist()))
    return {f: fit_curve(f, compute, losses) for f, least in _LEAST.items() if least <= different}


def fit_curve(
    form: Form, compute: Sequence[float] | Array, losses: Sequence[float] | Array
) -> Curve:
    """The curve of a form with the least squares of its errors, each relative to the loss.

    For "power law" these are the differences of the logarithms, so that the fit is a straight line
    in both logarithms. Where "power law with a floor" would fit best with a floor below zero, or
    rising, it is that power law.

    Args:
        form: which.
        compute, losses: the points, in any order; several may have one compute.

    Raises: ValueError if they are not as many, or not all positive and finite; or if fewer than two
        computes differ, three with a floor.
    """
    x, y = _check("compute", compute, losses)
    different = len(set(x.tolist()))
    if different < _LEAST[form]:
        raise ValueError(
            f"fit_curve: {form} needs {_LEAST[form]} different computes or more, got {different}"
        )
    least, most = float(x.min()), float(x.max())
    u = np.log(x / least)
    if form == "line in log compute":
        (first, rate), _ = _least_squares(np.stack([np.ones_like(u), -u], 1) / y[:, None])
        return Curve(form, float(first), float(rate), -math.inf, least, most)
    if form == "power law with a floor":
        floor, amount, rate = _with_floor(u, y)
        if floor > 0 and amount > 0:
            return Curve(form, floor + amount, rate, floor, least, most)
    (first, rate), _ = _least_squares(np.stack([np.ones_like(u), -u], 1), np.log(y))
    return Curve(form, math.exp(first), float(rate), 0.0, least, most)


def _with_floor(u: Array, y: Array) -> tuple[float, float, float]:
    """E, A and b of E + A·exp(−b·u): E and A solved for each b, and b sought."""

    def solved(rate: float) -> tuple[Array, float]:
        return _least_squares(np.stack([np.ones_like(u), np.exp(-rate * u)], 1) / y[:, None])

    best = int(np.argmin([solved(rate)[1] for rate in _RATES]))
    low, high = _RATES[max(best - 1, 0)], _RATES[min(best + 1, len(_RATES) - 1)]
    rate = _lowest(lambda rate: solved(rate)[1], float(low), float(high))
    (floor, amount), _ = solved(rate)
    return float(floor), float(amount), rate


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one valley is lowest, by the golden section."""
    golden = (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(70):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = function(right)
    return left if at_left <= at_right else right


@dataclass(frozen=True)
class JointLaw:
    r"""The loss of a family by size and tokens (Hoffmann et al. 2022, arXiv:2203.15556, eq. 2).

    .. math:: L(N, T) = E + A / N^a + B / T^b

    Attributes:
        floor: E.
        size_factor, size_exponent: A and a.
        token_factor, token_exponent: B and b.
        error: root of the mean square of ln(law / loss) over the points.
    """

    floor: float
    size_factor: float
    size_exponent: float
    token_factor: float
    token_exponent: float
    error: float

    def loss(self, parameters: float, tokens: float) -> float:
        """L(N, T)."""
        of_size = self.size_factor * parameters**-self.size_exponent
        return self.floor + of_size + self.token_factor * tokens**-self.token_exponent


def fit_joint(
    parameters: Sequence[float] | Array,
    tokens: Sequence[float] | Array,
    losses: Sequence[float] | Array,
) -> JointLaw | None:
    """The joint law with the least squares of ln(law / loss), by Levenberg and Marquardt's method.

    It begins at the best of a grid of exponents. All five numbers stay positive.

    Args: the points, in any order; a seed each counts as one.
    Returns: None unless three sizes or more have two counts of tokens or more each, since fewer do
        not tell the five numbers apart.
    Raises: ValueError if they are not as many, or not all positive and finite.
    """
    N, y = _check("parameters", parameters, losses)
    T, _ = _check("tokens", tokens, losses)
    counts = [len(set(T[size == N].tolist())) for size in np.unique(N)]
    if sum(count >= 2 for count in counts) < 3:
        return None
    middle_n, middle_t = float(np.log(N).mean()), float(np.log(T).mean())
    n, t = np.log(N) - middle_n, np.log(T) - middle_t

    def model(theta: Array) -> tuple[Array, Array]:
        """Of ln E, ln A, ln B, a and b: the errors, and their derivatives by each."""
        e, a, b = theta[0] + 0 * n, theta[1] - theta[3] * n, theta[2] - theta[4] * t
        parts = np.exp(np.stack([e, a, b], 1))
        shares = parts / parts.sum(1, keepdims=True)
        by_exponents = -shares[:, 1:] * np.stack([n, t], 1)
        return np.log(parts.sum(1) / y), np.concatenate([shares, by_exponents], 1)

    theta, error = _marquardt(model, _beginning(n, t, y))
    E, A, B, a, b = (float(x) for x in (*np.exp(theta[:3]), *theta[3:]))
    return JointLaw(E, A * math.exp(a * middle_n), a, B * math.exp(b * middle_t), b, error)


def _beginning(n: Array, t: Array, y: Array) -> Array:
    """ln E, ln A, ln B, a and b: the best of a grid of exponents, with the amounts solved for."""
    found, best = np.zeros(5), math.inf
    for a, b in itertools.product(_EXPONENTS, repeat=2):
        design = np.stack([np.ones_like(n), np.exp(-a * n), np.exp(-b * t)], 1) / y[:, None]
        amounts = np.maximum(_least_squares(design)[0], 1e-2 * y.min())  # which have a logarithm
        error = float(np.square(design @ amounts - 1).sum())
        if error < best:
            found, best = np.array([*np.log(amounts), a, b]), error
    return found


def _marquardt(model: Callable[[Array], tuple[Array, Array]], theta: Array) -> tuple[Array, float]:
    """The parameters (5,) of least squares near ``theta``, and the root of the mean square."""
    damping = 1e-3
    errors, slopes = model(theta)
    for _ in range(_MOST_STEPS):
        held = math.sqrt(damping) * np.diag(np.linalg.norm(slopes, axis=0) + 1e-9)
        step, _ = _least_squares(
            np.concatenate([slopes, held]), np.concatenate([-errors, np.zeros(len(theta))])
        )
        new = theta + np.clip(step, -1, 1)  # no exponential overflows
        new[3:] = np.clip(new[3:], 1e-3, _MOST_EXPONENT)
        new_errors, new_slopes = model(new)
        if new_errors @ new_errors < errors @ errors:
            theta, errors, slopes, damping = new, new_errors, new_slopes, max(damping / 10, 1e-15)
        elif damping > 1e9:
            break
        else:
            damping *= 10
    return theta, float(np.sqrt(np.square(errors).mean()))


def _least_squares(design: Array, wanted: Array | None = None) -> tuple[Array, float]:
    """The coefficients of the columns whose sum is nearest to ``wanted``, or to 1 everywhere; and
    the sum of the squares that are left."""
    if wanted is None:
        wanted = np.ones(len(design))
    found: Array = np.linalg.lstsq(design, wanted, rcond=None)[0].astype(np.float64)
    return found, float(np.square(design @ found - wanted).sum())


def _check(
    name: str, amounts: Sequence[float] | Array, losses: Sequence[float] | Array
) -> tuple[Array, Array]:
    """Both as arrays. Raises: ValueError if they cannot be the points of a law."""
    x, y = np.asarray(amounts, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"a law was asked for with {name} {x.shape} and losses {y.shape}; give one of each for "
            "every point"
        )
    for what, values in ((name, x), ("losses", y)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"a law was asked for, but {what} are not all positive and finite")
    return x, y
