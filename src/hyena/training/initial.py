"""The model that a run trains: drawn from its seed, saved elsewhere, or in its own checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from hyena.arguments import plural, several
from hyena.data import Tokenizer, is_prepared, load_tokenizer, read_manifest
from hyena.files.records import flatten, to_plain
from hyena.finetuning.config import LANGUAGE_MODELING
from hyena.model import LanguageModel, ModelConfig, load
from hyena.model.checkpoint import read_config, read_labels
from hyena.model.label_head import LabelHead, Labels
from hyena.model.saved import checkpoints_of, find_model, list_checkpoints, some
from hyena.training.checkpoint import Start, remedy
from hyena.training.config import TrainConfig
from hyena.training.loop import seed_of

# What a run may have of its own in a model that it begins with: no weight depends on it.
_OWN = ("dropout", "length_policy", "block_causal")

_HEAD = 0  # of the seeds that are made of the run's, that of the head for labels


def resolved(config: TrainConfig) -> TrainConfig:
    """The configuration with the model that it begins with, if ``init`` names one; else the model
    that is drawn has the vocabulary of the data, unless another one was given.

    A run that goes on asks its own checkpoint: the model of ``init`` may be gone by then.

    Raises: FileNotFoundError if there is no such model; ValueError if it is damaged, is not what
        ``model`` asks for, or has another tokenizer than the data.
    """
    config = replace(config, freeze=several(config.freeze))
    if config.task != LANGUAGE_MODELING:
        labels = replace(config.labels, columns=several(config.labels.columns))
        config = replace(config, labels=labels)
    if config.init is None:
        return replace(config, model=of_data(config))
    begun = _begun(config)
    folder = find_model(Path(config.init)) if begun is None else begun
    model = _model_of(folder, config.model)
    if begun is None and config.task == LANGUAGE_MODELING:
        _check_tokenizer(folder, config.data)
    return replace(config, model=model)


def of_data(config: TrainConfig) -> ModelConfig:
    """The model that is drawn, with as many ids as the tokenizer of the data has, if that is known
    already. An option at its default was not given.

    Raises: as `hyena.data.read_manifest` and `hyena.data.load_tokenizer`.
    """
    if config.model.vocab_size != ModelConfig.vocab_size:
        return config.model
    if config.task != LANGUAGE_MODELING:
        name = config.labels.tokenizer
        size = None if name is None else load_tokenizer(name).vocab_size
    else:
        there = is_prepared(config.data)
        size = read_manifest(config.data).tokenizer.vocab_size if there else None
    return config.model if size is None else replace(config.model, vocab_size=size)


def unused_ids(config: TrainConfig, tokenizer: Tokenizer) -> str:
    """A note on ids of a model that is drawn, of which the tokenizer has none."""
    size = config.model.vocab_size
    if config.init is not None or tokenizer.vocab_size >= size:
        return ""
    return (
        f"model.vocab_size is {size:,}, but tokenizer {tokenizer.name} has "
        f"{tokenizer.vocab_size:,} ids: the loss counts the others as well; leave it out to have "
        "as many"
    )


def tokenizer_of(config: TrainConfig) -> Tokenizer:
    """The tokenizer of sequences with labels: that of the checkpoint with which the run goes on, of
    the model that it begins with, or the one that ``labels.tokenizer`` names.

    Raises: FileNotFoundError if there is none; ValueError if the model has another one.
    """
    name, begun = config.labels.tokenizer, _begun(config)
    if begun is not None:
        return load_tokenizer(begun)
    folder = None if config.init is None else find_model(Path(config.init))
    own: Tokenizer | None = None
    with suppress(FileNotFoundError):  # of a model that was saved without one
        if folder is not None:
            own = load_tokenizer(folder)
    found = own if name is None else load_tokenizer(name)
    if found is None:
        where = "a model that is drawn" if folder is None else f"the model in {folder}"
        raise FileNotFoundError(
            f"no tokenizer is saved with {where}; give one with --labels.tokenizer "
            "(labels.tokenizer), such as bytes or hyenadna"
        )
    if own is not None and own.fingerprint != found.fingerprint:
        raise ValueError(
            f"labels.tokenizer: {found.name} was asked for, but the model in {folder} was trained "
            f"with {own.name}, which is saved with it; leave it out"
        )
    if found.vocab_size > config.model.vocab_size:
        raise ValueError(
            f"tokenizer {found.name} has {found.vocab_size} ids, but the model has vocab_size "
            f"{config.model.vocab_size}; give the one it was trained with to --labels.tokenizer"
        )
    return found


def own_options(config: TrainConfig) -> str:
    """A note on the options that the model of ``init`` was trained with, and will not be here."""
    if config.init is None:
        return ""
    given = read_config(find_model(Path(config.init)))
    changed = [
        f"model.{name} is {now} here, {before} there"
        for name in _OWN
        if (now := getattr(config.model, name)) != (before := getattr(given, name))
    ]
    return f"beginning with the weights of {config.init}: {'; '.join(changed)}" if changed else ""


def other_labels(config: TrainConfig, labels: Labels | None) -> str:
    """A note on the head for labels that the model of ``init`` has, if it is not trained further.

    Args: labels: of the run, None of one without.
    """
    given = None if config.init is None else read_labels(find_model(Path(config.init)))
    if given is None or given == labels:
        return ""
    said = f"the model in {config.init} has a head for labels, which is left out:"
    if labels is None:
        return f"{said} the task is {config.task}"
    names = [field.name for field in fields(Labels) if field.compare]
    others = [name for name in names if getattr(given, name) != getattr(labels, name)]
    differ = plural(len(others), "differs", "differ")
    return f"{said} its {', '.join(others)} {differ}, and a new one is drawn"


def build(config: TrainConfig, start: Start, labels: Labels | None = None) -> LanguageModel:
    """The model of a run at its start, on the CPU, with what is frozen.

    Weights that are drawn are the same for a seed, whatever the device and precision.

    Args:
        labels: what a head is to say, None of a model that has none. That of the model of ``init``
            is trained further if its labels are the same; else one is drawn.

    Raises: ValueError if what is saved is damaged or another model, and as `freeze`.
    """
    if start.checkpoint is not None:
        model = _resumed(config, start.checkpoint, labels)
    elif config.init is not None:
        given = load(config.init)
        head, given.label_head = given.label_head, None
        model = LanguageModel(config.model, device="meta")
        model.load_state_dict(given.state_dict(), assign=True)
        if labels is None or head is None or head.labels != labels:
            head = _drawn_head(config, labels)
        else:
            head.labels = labels  # which may be in other columns
        model.label_head = head
    else:
        generator = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=()):  # PyTorch's layers draw first, from its own
            model = LanguageModel(config.model, generator=generator)
        model.label_head = _drawn_head(config, labels)
    if config.precision == "64":
        model.double()
    elif start.checkpoint is None:
        model.float()  # whatever it was saved in
    model.activation_checkpointing = config.activation_checkpointing
    model.working_memory, model.kept_memory = config.working_memory, config.kept_memory
    if labels is not None and model.head is not None:
        model.head.requires_grad_(False)  # it has no part in labels
    freeze(model, several(config.freeze))
    return model


def _drawn_head(config: TrainConfig, labels: Labels | None) -> LabelHead | None:
    if labels is None:
        return None
    generator = torch.Generator().manual_seed(seed_of(config.seed, _HEAD))
    return LabelHead(config.model.width, labels, generator=generator)


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Takes parameters out of training, so that they get no gradient, moments or decay.

    Args:
        model: any; a parameter with several names is frozen by each of them.
        patterns: of whole names, as of `fnmatch`: ``*`` is any text, ``?`` a character and
            ``[01]`` one of these.

    Raises: ValueError for a pattern that matches nothing, and if nothing is left to train.
    """
    named = list(model.named_parameters(remove_duplicate=False))
    for pattern in patterns:
        found = [parameter for name, parameter in named if fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(
                f"freeze: {pattern!r} matches no parameter; expected a pattern of whole names, as "
                f"of {some([name for name, _ in named])}"
            )
        for parameter in found:
            parameter.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for _, parameter in named):
        raise ValueError(
            f"freeze: nothing is left to train beside {', '.join(map(repr, patterns))}; leave "
            "some of them out"
        )


def _model_of(folder: Path, asked: ModelConfig) -> ModelConfig:
    """That of a saved model, with what a run may have of its own. An option of ``asked`` that is at
    its default was not given."""
    given = read_config(folder)
    now, there, plain = (flatten(to_plain(c)) for c in (asked, given, ModelConfig()))
    other = [n for n in there if n not in _OWN and now[n] not in (there[n], plain[n])]
    if other:
        said = ", ".join(f"model.{n} is {there[n]!r} there, not {now[n]!r}" for n in other)
        longer = "; for longer windows give length and model.length_policy"
        raise ValueError(
            f"init: the model in {folder} is another one: {said}. Leave that out: only "
            f"{', '.join(_OWN)} may differ{longer if 'max_length' in other else ''}"
        )
    own = {name: getattr(asked, name) for name in _OWN}
    return replace(given, **own)


def _check_tokenizer(folder: Path, data: Path) -> None:
    """Raises ValueError if a model was trained with another tokenizer than made the data."""
    try:
        own = load_tokenizer(folder)
    except FileNotFoundError:  # of a model that was saved without one
        return
    theirs = read_manifest(data).tokenizer
    if own.fingerprint != theirs.fingerprint:
        raise ValueError(
            f"init: the model in {folder} was trained with tokenizer {own.name!r} (fingerprint "
            f"{own.fingerprint[:8]}), but {data} was made with {theirs.name!r} "
            f"({theirs.fingerprint[:8]}); prepare the text with --tokenizer {folder}"
        )


def _resumed(config: TrainConfig, checkpoint: Path, labels: Labels | None) -> LanguageModel:
    try:
        model = load(checkpoint)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"cannot resume: {error}; or {remedy(checkpoint)}") from error
    if to_plain(model.config) != to_plain(config.model):
        raise ValueError(
            f"cannot resume: the model of {checkpoint / 'config.json'} is not that of "
            f"training.json; {remedy(checkpoint)}"
        )
    if (None if model.label_head is None else model.label_head.labels) != labels:
        raise ValueError(
            f"cannot resume: the labels of {checkpoint / 'config.json'} are not those of "
            f"{config.data}; {remedy(checkpoint)}"
        )
    return model


def _begun(config: TrainConfig) -> Path | None:
    """The checkpoint with which a run goes on; None if it begins."""
    saved = list_checkpoints(checkpoints_of(config.out)) if config.resume else []
    return saved[-1] if saved else None
