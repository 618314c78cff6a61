"""AdamW with parameter groups chosen by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hyena.training.limits import check, check_not_negative

_FILTER = re.compile(r"\bmixer\.(two_sided_)?filter\.")


@dataclass
class ParameterRule:
    """What the parameters whose names match a pattern are trained with."""

    pattern: str
    """Regular expression, searched for anywhere in a parameter's name."""
    lr: float | None = None
    """Peak learning rate of these parameters; none means that of the optimizer."""
    lr_scale: float | None = None
    """Peak learning rate as a multiple of the optimizer's, instead of lr."""
    weight_decay: float | None = None
    """Weight decay of these parameters; none means that of the optimizer."""


@dataclass
class OptimizerConfig:
    """AdamW, with the defaults of the paper and its public code."""

    lr: float = 6e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of the two moments."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.1
    """Decoupled weight decay of matrices: projections, MLPs, short filters and the embedding."""
    filter_lr: float | None = None
    """Peak learning rate of the filters' networks (never decayed); none means lr."""
    encoding_lr: float = 1e-5
    """Peak learning rate of trainable positional encodings (never decayed)."""
    rules: list[ParameterRule] = field(default_factory=list)
    """Rules that come before the built-in ones; the first that matches a name wins."""


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sorts the trainable parameters into groups of equal learning rate and weight decay.

    The first match wins, in this order: the rules of the configuration; the filters' positional
    encodings (`encoding_lr`, no decay); the other parameters of the filters' networks and windows
    (`filter_lr`, no decay); norms, biases and the filters' skip weights (no decay); the rest.

    Args:
        model: any module; a filter is a module named ``filter`` inside one named ``mixer``.
        config: learning rates, decay and rules.

    Returns: groups for a torch optimizer with the keys ``params``, ``names`` (of each parameter),
        ``lr``, ``peak_lr`` (what the schedule scales) and ``weight_decay``.
    Raises: ValueError for a negative number, and for a rule with a bad pattern, with both lr and
        lr_scale, or without effect.
    """
    check_not_negative(config, "eps", "lr", "weight_decay", "filter_lr", "encoding_lr")
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    patterns = [_compiled(rule) for rule in config.rules]
    used = [False] * len(patterns)
    grouped: dict[tuple[float, float], tuple[list[str], list[nn.Parameter]]] = {}
    for name, parameter in named:
        first = next((i for i, pattern in enumerate(patterns) if pattern.search(name)), None)
        if first is None:
            settings = _built_in(name, parameter, config)
        else:
            used[first] = True
            settings = _settings(config.rules[first], config)
        names, parameters = grouped.setdefault(settings, ([], []))
        names.append(name)
        parameters.append(parameter)
    for i, pattern in enumerate(patterns):
        if not used[i]:
            _refuse_idle_rule(pattern, [name for name, _ in named])
    return [
        {"params": parameters, "names": names, "lr": lr, "peak_lr": lr, "weight_decay": decay}
        for (lr, decay), (names, parameters) in grouped.items()
    ]


def adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; raises what that raises, and ValueError on other betas."""
    betas = "two numbers, from 0 to below 1"
    check(config, ["betas"], lambda x: len(x) == 2 and all(0 <= b < 1 for b in x), betas)
    return torch.optim.AdamW(
        parameter_groups(model, config), betas=config.betas, eps=config.eps, fused=True
    )


def _built_in(name: str, parameter: nn.Parameter, config: OptimizerConfig) -> tuple[float, float]:
    if re.search(r"\.(two_sided_)?filter\.encoding$", name):
        return config.encoding_lr, 0.0
    if _FILTER.search(name) and not name.endswith(".skip"):
        return config.lr if config.filter_lr is None else config.filter_lr, 0.0
    flat = parameter.ndim < 2 or name.endswith("filter.skip")  # skip has a row for each filter
    return config.lr, 0.0 if flat else config.weight_decay


def _compiled(rule: ParameterRule) -> re.Pattern[str]:
    check_not_negative(rule, "lr", "lr_scale", "weight_decay", of="optimizer.rules.")
    check(rule, ["pattern"], lambda x: isinstance(x, str), "a text", "optimizer.rules.")
    if rule.lr is not None and rule.lr_scale is not None:
        raise ValueError(
            f"optimizer rule {rule.pattern!r} has both lr={rule.lr:g} and "
            f"lr_scale={rule.lr_scale:g}; give one of them"
        )
    try:
        return re.compile(rule.pattern)
    except re.error as error:
        raise ValueError(
            f"optimizer rule {rule.pattern!r} is not a regular expression: {error}; mend it"
        ) from error


def _settings(rule: ParameterRule, config: OptimizerConfig) -> tuple[float, float]:
    if rule.lr_scale is not None:
        lr = config.lr * rule.lr_scale
    else:
        lr = config.lr if rule.lr is None else rule.lr
    return lr, config.weight_decay if rule.weight_decay is None else rule.weight_decay


def _refuse_idle_rule(pattern: re.Pattern[str], names: list[str]) -> None:
    taken = [name for name in names if pattern.search(name)]
    if taken:
        raise ValueError(
            f"optimizer rule {pattern.pattern!r} has no effect: earlier rules took everything it "
            f"matches, such as {taken[0]}; move it before them"
        )
    sample = names if len(names) <= 6 else [*names[:: max(1, len(names) // 5)][:5], names[-1]]
    raise ValueError(
        f"optimizer rule {pattern.pattern!r} matched no parameters; "
        f"there are {len(names)}, among them {', '.join(sample)}"
    )
