"""Sequences with labels: read, batched, measured and predicted. `hyena.training.train` trains on
them, and `hyena.training.LabelsConfig` says where they are."""

from .predict import Prediction, predict

__all__ = ["Prediction", "predict"]
