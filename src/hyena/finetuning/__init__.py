"""Sequences with labels: read, batched, measured and predicted. `hyena.training.train` trains on
them, and `hyena.training.LabelsConfig` says where they are."""

from .evaluation import LabelEvaluation, evaluate_labels
from .predictions import Prediction, predict

__all__ = ["LabelEvaluation", "Prediction", "evaluate_labels", "predict"]
