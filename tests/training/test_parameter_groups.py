import pytest
import torch
from tiny_runs import MakeConfig
from torch import nn

from hyena.model import LanguageModel
from hyena.training import OptimizerConfig, ParameterRule, adamw, parameter_groups


class Filter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoding = nn.Parameter(torch.zeros(4, 3))
        self.network = nn.Linear(3, 8)
        self.skip = nn.Parameter(torch.zeros(2, 8))


class Mixer(nn.Module):
    def __init__(self, filtered: bool) -> None:
        super().__init__()
        if filtered:
            self.filter = Filter()
        self.projection = nn.Linear(8, 8)


class Layer(nn.Module):
    def __init__(self, filtered: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mixer = Mixer(filtered)


class Model(nn.Module):
    """The names and shapes that the rules are about, and nothing else."""

    def __init__(self, filtered: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.layers = nn.ModuleList([Layer(filtered), Layer(filtered)])


def settings(model: nn.Module, config: OptimizerConfig) -> dict[str, tuple[float, float]]:
    """(peak learning rate, weight decay) of each parameter."""
    return {
        name: (group["peak_lr"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for name in group["names"]
    }


def test_defaults() -> None:
    found = settings(Model(), OptimizerConfig(lr=1e-3, weight_decay=0.1, filter_lr=5e-4))
    assert found["embedding.weight"] == (1e-3, 0.1)
    assert found["layers.0.mixer.projection.weight"] == (1e-3, 0.1)
    assert found["layers.0.mixer.projection.bias"] == (1e-3, 0.0)
    assert found["layers.0.mixer.filter.skip"] == (1e-3, 0.0)
    assert found["layers.1.norm.weight"] == (1e-3, 0.0)
    assert found["layers.1.mixer.filter.network.weight"] == (5e-4, 0.0)
    assert found["layers.1.mixer.filter.network.bias"] == (5e-4, 0.0)
    assert found["layers.1.mixer.filter.encoding"] == (1e-5, 0.0)


def test_filters_follow_the_learning_rate_unless_told() -> None:
    found = settings(Model(), OptimizerConfig(lr=1e-3))
    assert found["layers.0.mixer.filter.network.weight"] == (1e-3, 0.0)


@pytest.mark.parametrize("mixers", ["hyena", "attention", "hyena,attention"])
def test_every_parameter_is_in_exactly_one_group(make: MakeConfig, mixers: str) -> None:
    model = LanguageModel(make(model={"mixers": mixers}).model)
    groups = parameter_groups(model, OptimizerConfig())
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == set(model.parameters())
    assert any(".mixer.filter." in n for g in groups for n in g["names"]) == ("hyena" in mixers)


def test_the_built_in_rules_tolerate_a_model_without_filters() -> None:
    assert len(parameter_groups(Model(filtered=False), OptimizerConfig())) == 2


def test_rules_come_first_and_the_first_match_wins() -> None:
    rules = [
        ParameterRule(r"layers\.0\.mixer\.filter", lr=3e-4),
        ParameterRule(r"\.mixer\.", lr_scale=0.5, weight_decay=0.01),
    ]
    found = settings(Model(), OptimizerConfig(lr=1e-3, weight_decay=0.1, rules=rules))
    assert found["layers.0.mixer.filter.encoding"] == (3e-4, 0.1)
    assert found["layers.1.mixer.filter.encoding"] == (5e-4, 0.01)
    assert found["layers.1.mixer.projection.bias"] == (5e-4, 0.01)
    assert found["embedding.weight"] == (1e-3, 0.1)


def test_frozen_parameters_are_left_out() -> None:
    model = Model()
    model.embedding.weight.requires_grad_(False)
    assert "embedding.weight" not in settings(model, OptimizerConfig())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([ParameterRule("attention")], "'attention' matched no parameters; there are 17, among"),
        (
            [ParameterRule("mixer"), ParameterRule("filter")],
            "'filter' has no effect: earlier rules took everything it matches, such as layers.0",
        ),
        ([ParameterRule("(")], r"'\(' is not a regular expression: missing \)"),
        ([ParameterRule("skip", lr=1.0, lr_scale=1.0)], "'skip' has both lr=1 and lr_scale=1"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rules: list[ParameterRule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parameter_groups(Model(), OptimizerConfig(rules=rules))


def test_adamw_takes_betas_and_groups() -> None:
    optimizer = adamw(Model(), OptimizerConfig(betas=(0.8, 0.9), eps=1e-6))
    assert all(g["betas"] == (0.8, 0.9) and g["eps"] == 1e-6 for g in optimizer.param_groups)
    assert {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == {
        (6e-4, 0.1),
        (6e-4, 0.0),
        (1e-5, 0.0),
    }


@pytest.mark.parametrize("value", ["x", -1.0, float("nan"), float("inf"), [1.0], 10**400])
@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay", "filter_lr", "encoding_lr"])
def test_a_number_that_is_none_or_negative_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected 0 or a positive number, got "):
        adamw(Layer(True), OptimizerConfig(**{name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("betas", [0.9, (0.9,), (0.9, 1.0), ("a", "b")])
def test_other_betas_are_refused(betas: object) -> None:

    with pytest.raises(ValueError, match=r"^betas: expected two numbers, from 0 to below 1, "):
        adamw(Layer(True), OptimizerConfig(betas=betas))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (ParameterRule(pattern=3), "pattern: expected a text, got 3"),  # type: ignore[arg-type]
        (ParameterRule("norm", lr="x"), "lr: expected 0 or a positive"),  # type: ignore[arg-type]
    ],
)
def test_a_rule_of_another_kind_is_refused(rule: ParameterRule, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^optimizer\.rules\.{message}"):
        parameter_groups(Layer(True), OptimizerConfig(rules=[rule]))
