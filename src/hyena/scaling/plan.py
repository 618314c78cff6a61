"""The trainings of a scaling sweep: what each is made of, and where in the folder it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hyena.data import Manifest, read_manifest
from hyena.experiments.plan import Settings, flat
from hyena.files.records import flatten, from_plain, read_listed, to_plain, write_listed
from hyena.model import LanguageModel, ModelConfig
from hyena.scaling.config import Family, ScalingConfig, Size
from hyena.training import LabelsConfig, TrainConfig
from hyena.training.config import check_config
from hyena.training.resume import FREE_ON_RESUME

Phase = Literal["tune", "grid"]
"""Trials of each family, of which the best on validation documents is chosen; or the trainings that
the figures are of."""

FILE, CELLS = "scaling.json", "cells"
FORMAT_VERSION = 1
RUN = "run"
"""In a cell's folder: the folder of its run of `hyena train`."""

# Of a training, where nothing else is asked for: the last weights are those that are measured.
_DEFAULTS: Settings = {"checkpoint.best": False, "checkpoint.keep": 1}
_PARTS = 10  # of a training, after each of which it is evaluated and saved


@dataclass(frozen=True, eq=False)
class Cell:
    """A training and its measurement.

    Attributes:
        family: its name.
        size: of the model.
        tokens: that it trains on.
        tokens_per_parameter: the budget that this comes from.
        trial: its place among the family's trials, from 0.
        seed: of weights and data.
        phase: see `Phase`.
        train: the training.
        folder: of the cell.
    """

    family: str
    size: Size
    tokens: int
    tokens_per_parameter: float
    trial: int
    seed: int
    phase: Phase
    train: TrainConfig
    folder: Path

    def __str__(self) -> str:
        budget = f"{self.tokens_per_parameter:g} tokens a parameter"
        trial = f", trial {self.trial + 1}" if self.phase == "tune" else ""
        return f"{self.family} {self.size}, {budget}{trial}, seed {self.seed}"


def make_plan(config: ScalingConfig, chosen: Mapping[str, int]) -> list[Cell]:
    """The cells, all checked: each model can be made, and trained on the data.

    First the trials of each family that has several of its own, at the smallest size; then the
    trial that is chosen, or the only one, of each family at all sizes and budgets, the smallest
    first; after the families of a size the changes to the first one.

    Args:
        config: the sweep.
        chosen: the place of the trial by the family's name; a family that is missing has none yet.

    Raises: ValueError, which names the family, if an option is unknown or does not fit;
        FileNotFoundError if the data are not there.
    """
    planner = _Planner(config)
    sizes = sorted(config.sizes, key=planner.parameters_of_first)
    cells: list[Cell] = []
    for family in config.families:
        if len(family.trials) > 1 and family.trials_of is None:
            budget = config.tuning_tokens_per_parameter
            trials = range(len(family.trials))
            cells += [
                planner.cell(family, sizes[0], budget, trial, config.seeds[0], "tune")
                for trial in trials
            ]
    _refuse_same(cells)
    of_grid = []
    for size in sizes:
        for family in [*config.families, *_changed(config, chosen)]:
            trial = chosen.get(family.name) if len(family.trials) > 1 else 0
            if trial is not None:
                of_grid += planner.grid(family, size, trial)
    cells += of_grid
    places: dict[Path, str] = {}
    for cell in cells:
        other = places.setdefault(cell.folder, cell.family)
        if other != cell.family:
            raise ValueError(
                f"families: {other} and {cell.family} have the same options, and names that give "
                "the same folder; choose names of other letters or digits"
            )
    return cells


def _changed(config: ScalingConfig, chosen: Mapping[str, int]) -> list[Family]:
    """The first family with each of the changes, which win over its trial; none of them before that
    is chosen."""
    first = config.families[0]
    trial = chosen.get(first.name) if len(first.trials) > 1 else 0
    if trial is None:
        return []
    own = {**flat(first.settings), **flat(first.trials[trial])}
    return [
        replace(first, name=change.name, settings={**own, **flat(change.settings)}, trials=[{}])
        for change in config.changes
    ]


class _Planner:
    """Makes the cells of a sweep, with what it has found of data and models."""

    def __init__(self, config: ScalingConfig) -> None:
        self.config = config
        self.manifest = read_manifest(config.data)
        for split, what in (("validation", "choose among trials"), ("test", "measure")):
            if split not in self.manifest.splits:
                raise ValueError(
                    f"{config.data} has no {split} documents to {what} by; prepare it with some"
                )
        self._parameters: dict[str, int] = {}

    def grid(self, family: Family, size: Size, trial: int) -> list[Cell]:
        """The cells of a family at a size, budgets ascending. Of budgets that the training text
        makes the same one, the smallest."""
        config = self.config
        budgets = sorted(config.tokens_per_parameter)
        numbers = [n for n in (family.seeds, size.seeds) if n is not None]
        seeds = config.seeds[: min(numbers, default=len(config.seeds))]
        cells: dict[int, list[Cell]] = {}  # by their tokens
        for budget in budgets:
            found = [self.cell(family, size, budget, trial, seed, "grid") for seed in seeds]
            cells.setdefault(found[0].tokens, found)
        if family.budgets == "top":
            cells = {tokens: found for tokens, found in cells.items() if tokens == max(cells)}
        return [cell for found in cells.values() for cell in found]

    def cell(
        self, family: Family, size: Size, budget: float, trial: int, seed: int, phase: Phase
    ) -> Cell:
        of = "families" if family in self.config.families else "changes"
        where = f"{of}: {family.name}, trial {trial + 1} at {size}"
        try:
            train = self._train(family, size, trial, budget)
            check_config(train)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        train.seed = seed
        folder = self._folder(family, size, budget, trial, phase, train)
        train.out = folder / RUN
        tokens = train.steps * train.batch * train.window()
        return Cell(family.name, size, tokens, budget, trial, seed, phase, train, folder)

    def parameters_of_first(self, size: Size) -> int:
        """Parameters outside the embedding that the first family has at a size."""
        family = self.config.families[0]
        try:
            return self._count(self._options(family, size, 0).model)
        except ValueError as error:
            raise ValueError(f"families: {family.name} at {size}: {error}") from error

    def _train(self, family: Family, size: Size, trial: int, budget: float) -> TrainConfig:
        """The training of a budget, but for its seed and its place."""
        train = self._options(family, size, trial)
        if self.config.equal_parameters and family is not self.config.families[0]:
            train.model = self._fitted(train.model, self.parameters_of_first(size))
        self._count(train.model)  # which says if there is no such model
        vocabulary = self.manifest.tokenizer.vocab_size
        if train.model.vocab_size < vocabulary:
            raise ValueError(
                f"model.vocab_size is {train.model.vocab_size}, but the tokens in "
                f"{self.config.data} are of {vocabulary}; set it in base"
            )
        step = train.batch * train.window()
        most = int(self.config.most_epochs * self.manifest.splits["train"].tokens / step)
        train.steps = max(1, min(round(budget * self.parameters_of_first(size) / step), most))
        given = self._given(family, trial)
        every = max(1, train.steps // _PARTS)
        if "evaluation.every" not in given:
            train.evaluation.every = every
        if "checkpoint.every" not in given:
            train.checkpoint.every = every
        return train

    def _given(self, family: Family, trial: int) -> Settings:
        parts = (self.config.base, family.settings, family.trials[trial])
        return {name: value for part in parts for name, value in flat(part).items()}

    def _options(self, family: Family, size: Size, trial: int) -> TrainConfig:
        """The options of a training that do not depend on its budget."""
        own = {
            "model.width": size.width,
            "model.layers": size.layers,
            "data": str(self.config.data),
            "out": str(self.config.out),
            "resume": True,
        }
        options = {**_DEFAULTS, **self._given(family, trial), **own}
        return from_plain(TrainConfig, _nested(options), "training")

    def _fitted(self, model: ModelConfig, parameters: int) -> ModelConfig:
        """The model with the width of the MLP that brings it nearest to a number of parameters."""
        wider = replace(model, mlp_width=model.hidden + 1)
        found = self._count(model)
        width = model.hidden + round((parameters - found) / (self._count(wider) - found))
        if width < 1:
            raise ValueError(
                f"equal_parameters: the model has {found:,} parameters outside the embedding, and "
                f"could not be brought to {parameters:,} by the width of its MLP; set it to false"
            )
        return replace(model, mlp_width=width)

    def _count(self, model: ModelConfig) -> int:
        key = json.dumps(to_plain(model))
        if key not in self._parameters:
            self._parameters[key] = outside_embedding(LanguageModel(model, device="meta"))
        return self._parameters[key]

    def _folder(
        self,
        family: Family,
        size: Size,
        budget: float,
        trial: int,
        phase: Phase,
        train: TrainConfig,
    ) -> Path:
        """The digest keeps a cell apart from one that a changed sweep gives the same place to."""
        name = re.sub(r"[^\w.]+", "-", family.name).strip("-")[:40]
        parts = [phase, name, f"{size.width}x{size.layers}", f"{budget:g}"]
        parts += [f"trial-{trial + 1}", f"seed-{train.seed}", digest_of(train, self.manifest)]
        return self.config.out / CELLS / "_".join(parts)


def outside_embedding(model: LanguageModel) -> int:
    """Parameters of a model but for its embedding, a head of its own, and learned positions."""
    tables = [x for x in (model.embedding, model.positions, model.head) if x is not None]
    return model.parameter_count() - sum(p.numel() for x in tables for p in x.parameters())


def digest_of(train: TrainConfig, manifest: Manifest) -> str:
    """A few letters that tell trainings with other weights at the end apart. Settings of the model,
    of the task and of labels do not count at their defaults, so that a later field leaves finished
    trainings as they are."""
    plain = flatten(to_plain(train))
    labels = {"task": TrainConfig.task, "labels": to_plain(LabelsConfig())}
    default = flatten({"model": to_plain(ModelConfig()), **labels})
    settings = {
        name: value
        for name, value in plain.items()
        if name not in FREE_ON_RESUME and (name not in default or value != default[name])
    }
    text = {name: split.sha256 for name, split in manifest.splits.items()}
    content = json.dumps([settings, text, manifest.tokenizer.fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _nested(options: Settings) -> dict[str, Any]:
    """Options by dotted names as dicts in dicts."""
    tree: dict[str, Any] = {}
    for name, value in options.items():
        *path, last = name.split(".")
        inside = tree
        for part in path:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise ValueError(f"{name} is an option of {part}, which is given as {inside!r:.40}")
        inside[last] = value
    return tree


def _refuse_same(trials: Sequence[Cell]) -> None:
    """Refuses two trials of a family that are the same training."""
    seen: dict[tuple[str, str], Cell] = {}
    for cell in trials:
        key = cell.family, cell.folder.name.rpartition("_")[2]
        if key in seen:
            raise ValueError(
                f"families: {cell.family}: trials {seen[key].trial + 1} and {cell.trial + 1} have "
                "the same options; leave out either"
            )
        seen[key] = cell


@dataclass(frozen=True)
class Speed:
    """How fast a family trains at a size, with nothing beside it.

    Attributes:
        family: its name.
        width: of the model.
        layers: of the model.
        tokens_per_second: of its training steps.
    """

    family: str
    width: int
    layers: int
    tokens_per_second: float


@dataclass(frozen=True)
class Planned:
    """What ``scaling.json`` holds.

    Attributes:
        config: the plain `ScalingConfig` of the latest call.
        chosen: the place of each family's trial, as far as it is chosen.
        left_out: sentences on what is not trained, and why.
        folders: names of the cells' folders, in order.
        speeds: of each family at each size, as they were measured before the first training.
    """

    config: dict[str, Any]
    chosen: dict[str, int]
    left_out: list[str]
    folders: list[str]
    speeds: list[Speed] = field(default_factory=list)


def write_plan(
    config: ScalingConfig,
    chosen: Mapping[str, int],
    cells: Iterable[Cell],
    left_out: Sequence[str] = (),
    speeds: Sequence[Speed] = (),
) -> None:
    """Writes ``scaling.json``: which cells there are, what is left out, and the speeds."""
    folders = [cell.folder.name for cell in cells]
    planned = Planned(to_plain(config), dict(chosen), list(left_out), folders, list(speeds))
    (config.out / CELLS).mkdir(parents=True, exist_ok=True)
    write_listed(config.out / FILE, planned, FORMAT_VERSION)


def read_plan(out: Path) -> Planned:
    """What ``scaling.json`` says.

    Raises: FileNotFoundError if there is no scaling sweep in the folder; ValueError if the file is
        damaged.
    """
    path = out / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{out} holds no scaling sweep: it has no {FILE}; give the folder that was --out of "
            "`hyena scaling run`"
        )
    return read_listed(path, Planned, FORMAT_VERSION, advice="run the sweep again, which writes it")
