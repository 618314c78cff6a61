"""Calls of the library with hostile arguments."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import api_targets
import api_targets_of_work
import torch
from case_outcome import Outcome, called
from hostile import value_for

# Arguments that say how much work there is: only what is no such number.
WORK = {
    *("max_new_tokens", "digits", "count", "steps", "beam_width", "largest", "minutes", "epochs"),
    *("samples", "most"),
}
TARGETS = {**api_targets.TARGETS, **api_targets_of_work.TARGETS}


def called_as(
    name: str,
    function: Any,
    arguments: dict[str, Any],
    gradients: bool,
    hostile: tuple[str, ...] = (),
) -> Outcome:
    """A call of a target; a step records no gradients."""
    given = {argument: arguments[argument] for argument in hostile}
    with torch.set_grad_enabled(gradients and not name.endswith(".step")):
        return called(lambda: function(**arguments), given)


def draw(rng: random.Random, sound: Path) -> tuple[str, Callable[[], Outcome]]:
    """One call: what it is, and a function that makes it."""
    torch.manual_seed(0)
    name = rng.choice(tuple(TARGETS))
    function, arguments = TARGETS[name]()
    changed = rng.sample(sorted(arguments), min(len(arguments), rng.choice((1, 1, 1, 2))))
    with torch.no_grad():
        for argument in changed:
            try:
                arguments[argument] = value_for(rng, arguments[argument], argument in WORK)
            except Exception:  # PyTorch has no such tensor: the good one stays
                continue
    gradients = rng.random() < 0.5
    what = f"{name}({', '.join(f'{a}={_shown(arguments[a])}' for a in changed)})"
    return what, lambda: called_as(name, function, arguments, gradients, tuple(changed))


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}{value.device if value.is_meta else ''}"
    return repr(value)[:80]
