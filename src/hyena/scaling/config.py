"""What a scaling sweep is asked for: families of models, sizes and budgets of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hyena.experiments.executors import Executor
from hyena.experiments.plan import Settings, check_fair, flat
from hyena.training import TrainConfig
from hyena.training.limits import check, check_choice, check_least, check_positive

Budgets = Literal["all", "top"]

# What the sweep sets in each training, or needs at a value of its own.
_TAKEN = {
    *("data", "out", "seed", "steps", "resume", "stop_after", "log_every"),
    *("model.width", "model.layers"),
}


@dataclass
class Family:
    """A kind of model, such as a mixer: a curve of the figures."""

    name: str
    """What tables call it."""
    settings: Settings = field(default_factory=dict)
    """Its options, of `hyena train`."""
    trials: list[Settings] = field(default_factory=lambda: [{}])
    """Options to choose among, as many for every family, so that none is tuned more."""
    trials_of: str | None = None
    """Name of another family, whose chosen trial this one takes, without trials of its own."""
    budgets: Budgets = "all"
    """Train at all budgets, or at the largest alone."""
    seeds: int | None = None
    """How many of the seeds it is trained with; none takes all."""


@dataclass
class Change:
    """One thing that is done otherwise, to see what it does to the loss."""

    name: str
    """What the table calls it."""
    settings: Settings
    """The options that are changed, of `hyena train`."""


@dataclass
class Size:
    """A size of all families."""

    width: int
    """The model's width."""
    layers: int
    """Its blocks."""
    seeds: int | None = None
    """How many of the seeds are trained at this size; none takes all."""

    def __str__(self) -> str:
        return f"{self.width} x {self.layers}"


@dataclass
class ScalingConfig:
    """Trainings of families of language models over sizes and budgets.

    The options of a training are those of base, then of the family, then of the trial; each wins
    over those before it. A family's trials run at the smallest size. The one that predicts the
    validation documents best is trained at all sizes and budgets, from all seeds.

    Raises: ValueError if the values do not fit together.
    """

    out: Path
    """Folder of the sweep. Trainings that are finished in it are kept."""
    data: Path
    """Folder of prepared tokens with validation and test documents."""
    families: list[Family]
    """The kinds of model."""
    sizes: list[Size]
    """The sizes."""
    tokens_per_parameter: list[float]
    """The budgets: tokens to train on, for each parameter outside the embedding that the first
    family has at the size. So all families see the same tokens."""
    tuning_tokens_per_parameter: float
    """The budget of the trials."""
    most_epochs: float = 4.0
    """Train on no more than so many times the training text."""
    equal_parameters: bool = True
    """Give each family the first one's number of parameters at each size, through the width of its
    MLP."""
    changes: list[Change] = field(default_factory=list)
    """Changes to the first family, each trained by itself with the trial that is chosen for it: a
    table says what each does to the perplexity."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds; the first one is that of the trials."""
    base: Settings = field(default_factory=dict, metadata={"options_of": TrainConfig})
    """Options of all trainings, of `hyena train`."""
    jobs: int = 1
    """Trainings side by side, each in a process of its own."""
    threads: int | None = None
    """Threads of each; none takes PyTorch's number. Another number rounds differently."""
    executor: Executor = "processes"
    """Where they run: in processes of this machine, or as jobs of slurm; local jobs are such jobs
    on this machine, to try it out. Jobs need the extra cluster."""
    job_options: Settings = field(default_factory=dict)
    """Options of each job, those of submitit's update_parameters, such as slurm_partition and
    timeout_min."""
    most_hours: float | None = None
    """Hours that the whole may take by the plan: the largest sizes are left out until it does."""
    most_cell_hours: float = 2.0
    """Hours that a training may take by the plan: longer ones are left out."""
    plan: bool = False
    """Measure speeds and print the plan, and train nothing."""

    def __post_init__(self) -> None:
        check_least(self, {"jobs": 1, "threads": 1})
        check_choice(self, {"executor": Executor})
        positive = ("most_epochs", "most_hours", "most_cell_hours", "tuning_tokens_per_parameter")
        check_positive(self, *positive)
        budgets = "one or more positive numbers, all different"
        check(self, ["tokens_per_parameter"], lambda x: _unlike(x) and min(x) > 0, budgets)
        check(self, ["seeds"], _unlike, "one or more, all different")
        check(self, ["families", "sizes"], bool, "one or more")
        if not _unlike([(size.width, size.layers) for size in self.sizes]):
            listed = ", ".join(map(str, self.sizes))
            raise ValueError(f"sizes: expected one or more, all different, got {listed}")
        for size in self.sizes:
            check_least(size, {"width": 1, "layers": 1, "seeds": 1}, "sizes.")
        for family in self.families:
            check_least(family, {"seeds": 1}, f"families: {family.name}: ")
            check_choice(family, {"budgets": Budgets}, f"families: {family.name}: ")
        self._take_trials()
        check_fair("families", [(family.name, family.trials) for family in self.families])
        names = [family.name for family in self.families]
        for change in self.changes:
            if change.name in names:
                raise ValueError(
                    f"changes: {change.name!r} is the name of two; they, and families, need "
                    "different ones"
                )
            if not change.settings:
                raise ValueError(f"changes: {change.name} has no settings; say what is changed")
            names.append(change.name)
        self._check_options()

    def _take_trials(self) -> None:
        """Gives families their trials that take them from another one."""
        own = {family.name: family for family in self.families if family.trials_of is None}
        for family in self.families:
            if family.trials_of is None:
                continue
            if family.trials_of not in own:
                raise ValueError(
                    f"families: {family.name}: trials_of is {family.trials_of!r}; expected a "
                    f"family with trials of its own: {', '.join(own) or 'there is none'}"
                )
            trials = own[family.trials_of].trials
            if family.trials not in ([{}], trials):
                raise ValueError(f"families: {family.name}: give trials or trials_of, not both")
            family.trials = trials

    def _check_options(self) -> None:
        first: list[tuple[str, Settings]] = []
        others = [(f"changes: {change.name}", change.settings) for change in self.changes]
        for family in self.families:
            places = first if family is self.families[0] else others
            of_family = (family.settings, *family.trials)
            places.extend((f"families: {family.name}", settings) for settings in of_family)
        for place, settings in [("base", self.base), *first, *others]:
            taken = [name for name in flat(settings) if name in _TAKEN]
            if taken:
                raise ValueError(
                    f"{place}: {taken[0]} is set by the sweep itself; leave it out, or give sizes, "
                    "budgets and seeds beside families"
                )
        if not self.equal_parameters:
            return
        for place, settings in others:
            if "model.mlp_width" in flat(settings):
                raise ValueError(
                    f"{place}: model.mlp_width is made to fit the parameters of "
                    f"{self.families[0].name}; leave it out, or set equal_parameters to false"
                )


def _unlike(values: Sequence[object]) -> bool:
    """Whether there are some, and all are different."""
    return 0 < len(values) == len(set(values))
