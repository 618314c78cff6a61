"""Sequences with labels: read, batched, measured and predicted. `hyena.training.train` trains on
them, and `hyena.training.LabelsConfig` says where they are."""

from .predictions import Prediction, predict

__all__ = ["Prediction", "predict"]
