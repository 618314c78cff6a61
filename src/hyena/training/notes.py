"""What whoever begins a run is told of it before the first step."""

from __future__ import annotations

from hyena.arguments import plural
from hyena.model import ModelConfig
from hyena.model.build import layers_in_words, without_effect
from hyena.training.checkpoint import Start
from hyena.training.initial import other_labels, own_options, unused_ids
from hyena.training.objective import Objective


def notes(objective: Objective, start: Start) -> list[str]:
    """What whoever began the run may not have expected of it."""
    found = [*objective.notes, _without_effect(start.config.model)]
    if start.checkpoint is None:
        found += [own_options(start.config), other_labels(start.config, objective.labels)]
        found += [unused_ids(start.config, objective.tokenizer)]
    return [note for note in found if note]


def _without_effect(model: ModelConfig) -> str:
    """A note on options that no layer reads. They are no error: one file may serve models of
    several kinds."""
    names = without_effect(model)
    if not names:
        return ""
    has = plural(len(names), "has", "have")
    options = ", ".join(f"model.{name}" for name in names)
    return f"{options} {has} no effect on a model of {layers_in_words(model)}"
