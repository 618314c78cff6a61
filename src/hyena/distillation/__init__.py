"""Generation in constant memory: filters turned into small recurrences."""

from hyena.distillation.distill import Distilled, Form, Layer, distill, logit_error
from hyena.distillation.drawing import draw_distillation
from hyena.distillation.fit import Fit, fit
from hyena.distillation.hankel import Hankel, hankel
from hyena.distillation.modes import Modes

__all__ = [
    "Distilled",
    "Fit",
    "Form",
    "Hankel",
    "Layer",
    "Modes",
    "distill",
    "draw_distillation",
    "fit",
    "hankel",
    "logit_error",
]
