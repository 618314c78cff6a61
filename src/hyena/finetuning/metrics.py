"""How well labels are predicted: accuracy, F1 and Matthews' correlation of classes, Pearson's
correlation and the root mean squared error of numbers.

Each tally is filled a batch at a time. Those of several processes are added up by `shared`.

Sizes: n rows or positions, C classes, N rows that are evaluated, T targets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hyena.model.label_head import Labels

Metrics = dict[str, float]


class ClassTally:
    """Counts of what was and what was predicted, and the sum of the losses."""

    def __init__(self, labels: Labels) -> None:
        self._classes = len(labels.names)
        # Of each class, how often each was predicted; behind them all the sum of the losses.
        self.shared = torch.zeros(self._classes**2 + 1, dtype=torch.float64)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Logits (n, C) and classes (n,), on the CPU."""
        z = outputs.double()
        places = targets * self._classes + z.argmax(-1)
        self.shared[:-1] += torch.bincount(places, minlength=self._classes**2)
        self.shared[-1] += torch.nn.functional.cross_entropy(z, targets, reduction="sum")

    def metrics(self) -> Metrics:
        """Of all that was added: ``loss``, ``accuracy``, ``f1`` and ``mcc``.

        ``f1`` is the mean over the classes that there are or that were predicted. ``mcc`` is that
        of several classes (Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006), and 0 where it
        would be 0 / 0.
        """
        counts = self.shared[:-1].view(self._classes, self._classes)
        total, right = counts.sum(), counts.trace()
        there, predicted = counts.sum(1), counts.sum(0)
        either = (there + predicted) > 0
        f1 = (2 * counts.diagonal() / (there + predicted))[either].mean()
        covariance = right * total - there @ predicted
        spread = (total**2 - there @ there) * (total**2 - predicted @ predicted)
        return {
            "loss": float(self.shared[-1] / total),
            "accuracy": float(right / total),
            "f1": float(f1),
            "mcc": float(covariance) / math.sqrt(float(spread)) if float(spread) > 0 else 0.0,
        }


class NumberTally:
    """The predictions of the rows of a regression."""

    def __init__(self, labels: Labels, targets: Tensor) -> None:
        """Args: targets (N, T), standardised."""
        self._labels, self._targets = labels, targets.double()
        self.shared = torch.zeros_like(self._targets)  # those of other processes are added

    def add(self, rows: list[int], outputs: Tensor) -> None:
        """Standardised predictions (n, T) of some rows, on the CPU."""
        self.shared[rows] = outputs.double()

    def metrics(self) -> Metrics:
        """Of all rows: ``loss``, the mean squared error in units of the training rows' deviations;
        ``pearson``; and ``rmse`` in the units of the labels.

        Of several targets ``pearson`` is the mean, ``rmse`` is left out since their units may
        differ, and each has its own, ``pearson_NAME`` and ``rmse_NAME``. A correlation with what is
        the same in all rows is left out.
        """
        errors = (self.shared - self._targets).square().mean(0)
        found = {"loss": float(errors.mean())}
        correlations = _correlations(self.shared, self._targets)
        names, several = self._labels.names, len(self._labels.names) > 1
        known = [r for r in correlations if r is not None]
        if known:
            found["pearson"] = sum(known) / len(known)
        units = torch.tensor(self._labels.deviations, dtype=torch.float64)
        roots = (errors.sqrt() * units).tolist()
        if not several:
            return {**found, "rmse": roots[0]}
        for name, r, root in zip(names, correlations, roots, strict=True):
            if r is not None:
                found[f"pearson_{name}"] = r
            found[f"rmse_{name}"] = root
        return found


def _correlations(x: Tensor, y: Tensor) -> list[float | None]:
    """Pearson's correlation of each column of x and y (N, T), None of one that is constant."""
    constant = (x.amax(0) == x.amin(0)) | (y.amax(0) == y.amin(0))
    x, y = x - x.mean(0), y - y.mean(0)
    found = (x * y).sum(0) / (x.square().sum(0) * y.square().sum(0)).sqrt()
    pairs = zip(found.tolist(), constant.tolist(), strict=True)
    return [None if same else r for r, same in pairs]
