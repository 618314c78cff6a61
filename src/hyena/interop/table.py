"""A family of released models: one table says which of its tensors are ours, for both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from hyena.arguments import shown
from hyena.filters import LengthPolicy
from hyena.interop.pytorch_file import ALIGNED
from hyena.interop.settings import Settings, check_of_family
from hyena.model import LanguageModel, ModelConfig
from hyena.model.build import option
from hyena.model.saved import some
from hyena.ops.arguments import FLOATS

Transform = Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    """A tensor that both have alike."""
    return x


@dataclass(frozen=True)
class Row:
    """A tensor of ours and of a family's files. Its shape in a file is what ``write`` makes of
    ours, so none is written down."""

    ours: str
    theirs: str
    read: Transform = same
    """Makes ours of the file's."""
    write: Transform = same
    """The inverse."""
    also: tuple[str, ...] = ()
    """Further names under which a file has the same tensor; it may leave them out."""
    repeated: bool = True
    """Write it under these names too."""
    may_lack: bool = False
    """A file that has it in no layer means zeros."""
    leave_zeros_out: bool = False
    """Zeros in all layers are not written: the file is then of a model without this bias."""
    wide: bool = False
    """Keep it in float32 where fewer bits are asked for: what a filter is computed from."""

    @property
    def kind(self) -> str:
        """The tensor's name without the number of its layer."""
        return re.sub(r"\.\d+\.", ".", self.theirs)


@dataclass(frozen=True)
class Table:
    """All tensors of a model of some sizes."""

    rows: Sequence[Row]
    made: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    """What files have besides, and what follows from the sizes: written, but not read."""

    def read(
        self,
        tensors: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
        dtype: torch.dtype,
        device: torch.device,
    ) -> dict[str, Tensor]:
        """Our weights from a file's tensors.

        Those that a file has as they are stay where they are, mapped; the others are copied, one by
        one.

        Args:
            tensors: the file's, by name.
            expected: ours by name, such as on "meta", for their shapes.
            dtype, device: of the weights.

        Raises: ValueError that lists all names that lack or are unknown, and all shapes that do not
            fit.
        """
        self._check(tensors, expected)
        weights: dict[str, Tensor] = {}
        for row in self.rows:
            wanted = torch.promote_types(dtype, torch.float32) if row.wide else dtype
            found = tensors.get(row.theirs)
            if found is None:
                shape = expected[row.ours].shape
                weights[row.ours] = torch.zeros(shape, dtype=wanted, device=device)
                continue
            value = row.read(found).to(device, wanted).contiguous()
            if not value.is_meta and value.data_ptr() % ALIGNED:
                value = value.clone()
            weights[row.ours] = value
        return weights

    def write(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file's tensors from our weights; no two share memory.

        Raises: ValueError if there are weights that the file has no place for.
        """
        if more := weights.keys() - {row.ours for row in self.rows}:
            raise ValueError(f"the model has {some(more)}, for which the files have no place")
        written = {
            row.kind
            for row in self.rows
            if not row.leave_zeros_out or bool(weights[row.ours].any())
        }
        tensors: dict[str, Tensor] = {}
        for row in self.rows:
            if row.kind not in written:
                continue
            tensors[row.theirs] = row.write(weights[row.ours].detach()).contiguous()
            for name in row.also if row.repeated else ():
                tensors[name] = tensors[row.theirs].clone()
        return {**tensors, **{name: make() for name, make in self.made.items()}}

    def _check(self, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        rows = {row.theirs: row for row in self.rows}
        repeats = {name: row for row in self.rows for name in row.also}
        there = {row.kind for name, row in rows.items() if name in tensors}
        needed = {name for name, row in rows.items() if not row.may_lack or row.kind in there}
        missing = sorted(needed - tensors.keys())
        unknown = sorted(tensors.keys() - rows.keys() - repeats.keys() - self.made.keys())
        problems = []
        if missing or unknown:
            problems.append(
                f"missing {', '.join(missing) or 'none'}; unknown {', '.join(unknown) or 'none'}"
            )
        for name, row in rows.items():
            value = tensors.get(name)
            if value is None:
                continue
            shape = row.write(expected[row.ours]).shape
            if value.shape != shape or value.dtype not in FLOATS:
                problems.append(
                    f"{name}, {tuple(value.shape)} of {value.dtype}, is not what the sizes of its "
                    f"other tensors make it, {tuple(shape)} of floats"
                )
        if problems:
            raise ValueError(f"the checkpoint does not fit: {'; '.join(problems)}")
        for name, row in repeats.items():
            if name in tensors and not are_equal(tensors[name], tensors[row.theirs]):
                raise ValueError(
                    f"{name} differs from {row.theirs}, but is the same tensor in models of this "
                    "kind: an untied head, or a sine frequency for each layer, is not supported"
                )


def are_equal(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors of a file have the same shape and numbers."""
    return x.shape == y.shape and torch.equal(x.to(y.dtype), y)


def _as_it_is(model: LanguageModel) -> tuple[ModelConfig, Mapping[str, Tensor]]:
    return model.config, model.state_dict()


@dataclass(frozen=True)
class Family:
    """A kind of released models, and all that is needed to read and write them."""

    name: str
    """As in ``hyena convert --to NAME``."""
    title: str
    """For messages, such as "a safari language model"."""
    marks: Callable[[Mapping[str, Tensor]], bool]
    """Whether a file's tensors are of this family."""
    reads: frozenset[str]
    """The names of the settings that there are of it."""
    settings: Callable[[Mapping[str, Any]], Settings]
    """What a configuration of the family says."""
    prepared: Callable[[dict[str, Tensor], Settings], dict[str, Tensor]]
    """The file's tensors under the names and in the layout of the table."""
    config: Callable[[Mapping[str, Tensor], Settings], ModelConfig]
    """What the tensors and the settings make the model."""
    table: Callable[[ModelConfig, Settings], Table]
    requires: Mapping[str, tuple[object, ...]]
    """Options that a model has to have to be written as one of the family, with their values."""
    mixers: frozenset[str]
    """The mixers that the family has."""
    configuration: Callable[[ModelConfig, Settings, Mapping[str, Tensor]], dict[str, Any]]
    """What is written beside the tensors, given these."""
    sizes: tuple[str, ...]
    """What of a configuration the weights say as well."""
    prefix: str = ""
    """Before the names of a file that is written."""
    weights: str = "model.safetensors"
    """The file that is written."""
    beside: str = "config.json"
    """The configuration's file."""
    as_theirs: Callable[[LanguageModel], tuple[ModelConfig, Mapping[str, Tensor]]] = _as_it_is
    """Config and weights of the same model without what only ours have."""
    notes: Callable[[ModelConfig, Mapping[str, Any]], list[str]] = lambda config, public: []
    """What a user should know of a model, given the public configuration as well."""

    def check_writable(self, config: ModelConfig) -> None:
        """Raises ValueError that says all that keeps a model from being one of the family."""
        wrong = [
            f"model.{name} is {option(config, name)}, not {' or '.join(map(str, allowed))}"
            for name, allowed in self.requires.items()
            if option(config, name) not in allowed
        ]
        others = sorted(set(config.layer_mixers()) - self.mixers)
        if others:
            wrong.append(f"it has {', '.join(others)} layers")
        if wrong:
            raise ValueError(f"the model cannot be written as {self.title}: {'; '.join(wrong)}")

    def model(
        self,
        tensors: Mapping[str, Tensor],
        settings: Settings,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        length_policy: str | None = None,
    ) -> LanguageModel:
        """The model that a file's tensors are, in evaluation mode.

        Args:
            tensors: by the names that `hyena.interop.weights.read` gives.
            settings: what they do not say.
            dtype: of the parameters; none takes that of the file's embedding.
            device, length_policy: see `hyena.load`.

        Raises: ValueError on a setting that is needed or does not fit, and as `Table.read`.
        """
        tensors = self.prepared(dict(tensors), settings)
        config = self.config(tensors, settings)
        if length_policy is not None:
            config = replace(config, length_policy=cast(LengthPolicy, length_policy))
        table = self.table(config, settings)
        model = LanguageModel(config, device="meta")
        if dtype is None:
            embedding = tensors.get(table.rows[0].theirs)
            dtype = torch.float32 if embedding is None else embedding.dtype
        place = torch.device("cpu") if device is None else device
        found = table.read(tensors, model.state_dict(), dtype, place)
        model.load_state_dict(found, assign=True)
        return model.eval()

    def check_configuration(
        self,
        config: ModelConfig,
        settings: Settings,
        tensors: Mapping[str, Tensor],
        public: Mapping[str, Any],
    ) -> None:
        """Raises ValueError if a public configuration is of a model of other sizes: what else it
        says would be of that one, too."""
        own = self.configuration(config, settings, tensors)
        wrong = [
            f"{name} {shown(public[name])}, the weights {shown(own[name])}"
            for name in self.sizes
            if public.get(name) is not None and public[name] != own[name]
        ]
        if wrong:
            raise ValueError(
                f"the configuration is of another model: it says {'; '.join(wrong)}; give the one "
                "that belongs to the weights (configuration=, on the command line --configuration)"
            )

    def written(
        self, model: LanguageModel, settings: Settings
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors of a file of this family, by name, and the configuration beside it.

        Raises: ValueError if the model is none of the family, or a setting is not of it.
        """
        check_of_family(settings, self.reads, self.title)
        self.check_writable(model.config)
        config, weights = self.as_theirs(model)
        tensors = self.table(config, settings).write(weights)
        beside = self.configuration(config, settings, tensors)
        named = {
            f"{self.prefix}{name}" if name.startswith("backbone.") else name: value
            for name, value in tensors.items()
        }
        return named, beside
