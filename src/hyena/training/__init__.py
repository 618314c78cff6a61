"""Training of language models, and of heads for labels on them: configuration, optimizer,
checkpoints and the loop.

``loop`` makes the updates of whatever is trained; ``run`` trains a language model by it for an
``objective``, and `hyena.experiments` models of tasks.
"""

from hyena.finetuning.config import LabelsConfig
from hyena.model.saved import list_checkpoints
from hyena.training.checkpoint import Best, TrainingState, read_training_state
from hyena.training.config import (
    CheckpointConfig,
    EvaluationConfig,
    ScheduleConfig,
    TrainConfig,
    learning_rate,
)
from hyena.training.lengths import LengthConfig
from hyena.training.metrics import Record, read_metrics
from hyena.training.optimizer import OptimizerConfig, ParameterRule, adamw, parameter_groups
from hyena.training.run import TrainResult, train

__all__ = [
    "Best",
    "CheckpointConfig",
    "EvaluationConfig",
    "LabelsConfig",
    "LengthConfig",
    "OptimizerConfig",
    "ParameterRule",
    "Record",
    "ScheduleConfig",
    "TrainConfig",
    "TrainResult",
    "TrainingState",
    "adamw",
    "learning_rate",
    "list_checkpoints",
    "parameter_groups",
    "read_metrics",
    "read_training_state",
    "train",
]
