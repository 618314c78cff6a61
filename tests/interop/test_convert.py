"""`hyena.interop.convert`: nothing is written that could not be, and nothing over what is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import hyena
from hyena.cli.options import parse
from hyena.interop import convert
from hyena.interop.loading import FAMILIES
from hyena.interop.safari import SAFARI
from hyena.interop.safari_operator import to_ours, to_theirs
from hyena.model import FilterConfig
from hyena.training import TrainConfig


def model(**changes: Any) -> hyena.LanguageModel:
    sizes = {"width": 16, "layers": 2, "max_length": 32, "vocab_size": 12}
    return hyena.LanguageModel(hyena.ModelConfig(**{**sizes, **changes}))


@torch.no_grad()
@pytest.mark.parametrize("layout", ["channel_major", "order_major"])
@pytest.mark.parametrize("train_encoding", [True, False])
@pytest.mark.parametrize("order", [2, 3])
def test_a_model_of_ours_becomes_one_of_safaris(
    order: int, train_encoding: bool, layout: str, tmp_path: Path
) -> None:
    filter = FilterConfig(train_encoding=train_encoding, shift=0.1, window=True)
    ours = model(order=order, filter=filter)
    ours.save(tmp_path / "ours")
    settings = {"layout": layout}
    convert(tmp_path / "ours", tmp_path / "theirs", to="safari", settings=settings)
    again = hyena.load(tmp_path / "theirs", settings=settings)
    ids = torch.arange(12)[None]
    assert torch.allclose(again(ids), ours.eval()(ids), atol=1e-5)
    assert again.config.filter.shift == 0.1


@pytest.mark.parametrize("layout", ["channel_major", "order_major"])
@pytest.mark.parametrize("filters", [1, 3])
def test_every_transform_has_its_inverse(filters: int, layout: Any) -> None:
    how: dict[str, Any] = {"depth": 4, "filters": filters, "layout": layout}
    theirs = {
        "in_proj.weight": (8, 3),
        "short_conv.weight": (8, 1, 3),
        "filter.skip": (5 * filters,),
        "filter.sine_freq": (1, 7),
        "filter.encoding": (1, 6, 5),
        "filter.time": (1, 6, 1),
        "filter.layers.3.weight": (5 * filters, 7),
    }
    for name, shape in theirs.items():
        x = torch.randn(shape)
        assert torch.equal(to_theirs(name, to_ours(name, x, **how), **how), x), name
    deltas = -torch.rand(1, 1, 5 * filters)
    ours = to_ours("filter.decay", deltas, **how)
    assert torch.equal(to_theirs("filter.decay", ours, **how), deltas)


@pytest.mark.parametrize(
    ("to", "changes", "reason"),
    [
        ("safari", {"mixers": "hyena,attention"}, "it has attention layers"),
        ("safari", {"filter": FilterConfig(kind="explicit")}, "model.filter.kind is explicit, not"),
        ("safari", {"positions": "learned"}, "model.positions is learned, not rotary or none"),
        ("hyenadna-hf", {}, "model.filter.shift is 0.0, not 0.05"),
        ("stripedhyena", {}, "model.norm is layer, not rms; model.mlp is plain, not gated"),
        ("stripedhyena2", {"norm": "rms"}, "it has hyena layers"),
    ],
)
def test_a_model_that_the_family_does_not_have_is_refused(
    to: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model(**changes).save(tmp_path / "ours")
    with pytest.raises(ValueError, match="the model cannot be written as a") as error:
        convert(tmp_path / "ours", tmp_path / "theirs", to=to)
    assert reason in str(error.value)
    assert not (tmp_path / "theirs").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    model().save(tmp_path / "ours")
    with pytest.raises(FileExistsError, match="is there already; give a new or empty folder"):
        convert(tmp_path / "ours", tmp_path / "ours", to="safari")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="is there already"):
        convert(tmp_path / "ours", tmp_path / "file")


@pytest.mark.parametrize("to", ["gpt", None, ["safari"]])
def test_an_unknown_kind(to: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"convert: to=.* is unknown; expected hyena, safari"):
        convert(tmp_path, tmp_path / "x", to=to)


def test_settings_that_no_writing_needs_are_refused(tmp_path: Path) -> None:
    model().save(tmp_path / "ours")
    with pytest.raises(ValueError, match="are of other programs' files"):
        convert(tmp_path / "ours", tmp_path / "x", settings={"window": True})


def test_nothing_is_left_of_a_write_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    model().save(tmp_path / "ours")
    monkeypatch.setattr("hyena.interop.conversion.torch.save", full)
    with pytest.raises(OSError, match="No space left"):
        convert(tmp_path / "ours", tmp_path / "theirs", to="safari")
    assert not (tmp_path / "theirs").exists()


def test_each_table_has_every_weight_of_a_model_once() -> None:
    ours = model()
    rows = SAFARI.table(ours.config, hyena.interop.Settings()).rows
    assert sorted(row.ours for row in rows) == sorted(ours.state_dict())
    assert len({row.theirs for row in rows}) == len(rows)


def test_families_have_names_of_their_own_that_the_documentation_says() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    for name in names:
        assert re.search(rf"--to {name}\b", page)


def test_a_configuration_that_is_written_is_yaml_with_its_numbers(tmp_path: Path) -> None:
    config = hyena.ModelConfig(width=16, layers=1, max_length=32, norm_eps=1e-6)
    hyena.LanguageModel(config).save(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", to="safari")
    text = (tmp_path / "theirs/config.json").read_text()
    for found in (json.loads(text), yaml.safe_load(text)):
        assert found["layer_norm_epsilon"] == 1e-6


def test_the_options_that_the_documentation_names_make_models_that_can_be_written(
    tmp_path: Path,
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (none|`(--model[^`]+)`) \| (.*) \|$", page, re.MULTILINE)
    assert [name for name, *_ in rows] == ["safari", "hyenadna-hf", "stripedhyena", "stripedhyena2"]
    sizes = ["--model.width=16", "--model.layers=3", "--model.max_length=32", "--model.head_dim=8"]
    for name, _, options, layers in rows:
        words = ["--data", "d", "--out", "o", *sizes, *options.split()]
        config = parse("train", "a run", TrainConfig, None, words)
        assert config is not None
        hyena.LanguageModel(config.model).save(tmp_path / name)
        convert(tmp_path / name, tmp_path / f"theirs-{name}", to=name)
        (family,) = (family for family in FAMILIES if family.name == name)
        assert set(re.findall(r"`([\w-]+)`", layers)) == family.mixers
