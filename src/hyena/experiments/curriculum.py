"""When a training goes on to the next phase, or to one more key."""

from __future__ import annotations

from dataclasses import dataclass, field

from hyena.experiments.phases import Phase

ANSWERS = 256
"""The latest answers of the training that decide."""
FEWEST_STEPS = 20
"""And of how many steps they are at least, so that a large batch does not decide by chance."""


@dataclass
class Place:
    """Where a training stands among its phases; plain numbers, so that a checkpoint can hold it.

    Attributes:
        phase: number of the phase.
        step: updates done in it.
        keys: most different keys in a sequence of it, None for all.
        recent: (right, asked) of the latest steps, since the last time something changed.
    """

    phase: int = 0
    step: int = 0
    keys: int | None = None
    recent: list[tuple[int, int]] = field(default_factory=list)


def begin(phases: list[Phase], number: int) -> Place:
    """The place at the beginning of a phase."""
    stage = phases[number].stage
    return Place(number, keys=None if stage is None else stage.keys)


def advance(place: Place, phases: list[Phase], right: int, asked: int) -> Place:
    """The place after one more update, in whose batch so many answers were right."""
    phase = phases[place.phase]
    stage, step = phase.stage, place.step + 1
    recent = _latest([*place.recent, (right, asked)]) if stage is not None else []
    if stage is not None:
        share = _share(recent)
        if place.keys is not None:
            if share is not None and share >= stage.more_keys_at:
                more = place.keys + 1
                all_keys = more >= getattr(phase.task, "keys", 0)
                return _unless_over(Place(place.phase, step, None if all_keys else more), phases)
        elif stage.until is not None and share is not None and share >= stage.until:
            return begin(phases, place.phase + 1)
    return _unless_over(Place(place.phase, step, place.keys, recent), phases)


def is_over(place: Place, phases: list[Phase]) -> bool:
    """Whether no update is left."""
    return place.phase == len(phases) - 1 and place.step >= phases[-1].steps


def _unless_over(place: Place, phases: list[Phase]) -> Place:
    if place.step >= phases[place.phase].steps and place.phase + 1 < len(phases):
        return begin(phases, place.phase + 1)
    return place


def _latest(recent: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """As few of the latest steps as decide."""
    first = max(0, len(recent) - FEWEST_STEPS)
    while first > 0 and sum(asked for _, asked in recent[first:]) < ANSWERS:
        first -= 1
    return recent[first:]


def _share(recent: list[tuple[int, int]]) -> float | None:
    """Of right answers; None while there are too few to decide."""
    asked = sum(count for _, count in recent)
    if len(recent) < FEWEST_STEPS or asked < ANSWERS:
        return None
    return sum(right for right, _ in recent) / asked
