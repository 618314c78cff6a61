"""Models that were changed after they were built: what `hyena.load` could not read is refused
before anything is written, in one line that says how to undo it; the rest comes back as it was."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import LowRank, small_model, tokens
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import hyena
from hyena.model import LanguageModel, save


class Adapter(nn.Module):
    """Named as PEFT names a linear layer with a LoRA adapter."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base_layer(x)
        return y


class Subclass(Tensor):
    """As tensors that are quantised, or spread over processes, are of a class of their own."""


def up(model: LanguageModel) -> nn.Linear:
    layer: nn.Linear = model.blocks[0].mlp.up  # type: ignore[union-attr, assignment]
    return layer


def with_norm_weight(value: Tensor) -> Callable[[LanguageModel], object]:
    def change(model: LanguageModel) -> None:
        model.norm.weight = nn.Parameter(value, requires_grad=False)

    return change


def quantised(model: LanguageModel) -> LanguageModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao is to take its place
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


PARAMETRIZED = "torch.nn.utils.parametrize.remove_parametrizations"
NORMALISED = "torch.nn.utils.remove_weight_norm or remove_spectral_norm"
OTHERWISE = "safetensors.torch.save_file"
REFUSED: dict[str, tuple[Callable[[LanguageModel], object], str]] = {
    "weight norm": (lambda m: parametrizations.weight_norm(up(m)), PARAMETRIZED),
    "spectral norm": (lambda m: parametrizations.spectral_norm(up(m)), PARAMETRIZED),
    "old weight norm": (lambda m: weight_norm(up(m)), NORMALISED),
    "old spectral norm": (lambda m: spectral_norm(up(m)), NORMALISED),
    "pruned": (lambda m: prune.l1_unstructured(up(m), "weight", 0.5), "prune.remove"),
    "LoRA": (lambda m: setattr(m.blocks[0].mlp, "up", Adapter(up(m))), "as by merge_and_unload"),
    "adapter": (lambda m: setattr(m, "embedding", LowRank(m.embedding)), OTHERWISE),
    "quantised": (quantised, "save the model before it is quantised"),
    "replaced": (
        lambda m: hyena.replace_attention(m, max_length=24, causal=True),
        "unknown blocks.1.mixer.filter",
    ),
    "one more layer": (lambda m: m.blocks.append(m.blocks[0]), "unknown blocks.3."),
    "one layer less": (lambda m: m.blocks.pop(1), "missing blocks.2."),
    "resized": (lambda m: setattr(m, "embedding", nn.Embedding(40, 12)), "got (40, 12)"),
    "another norm": (lambda m: setattr(m, "norm", nn.RMSNorm(12)), "missing norm.bias"),
    "integers": (with_norm_weight(torch.ones(12, dtype=torch.int8)), "of floats, got torch.int8"),
    "sparse": (with_norm_weight(torch.ones(12).to_sparse()), "got torch.sparse_coo; gather"),
    "of a subclass": (with_norm_weight(torch.ones(12).as_subclass(Subclass)), "got Subclass"),
    "meta": (lambda m: m.to("meta"), 'is on the device "meta", where it has no values; load or'),
}


@pytest.mark.cpu
@pytest.mark.parametrize("change", REFUSED)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the old weight norm
def test_what_load_could_not_read_is_refused(change: str, tmp_path: Path) -> None:
    make, message = REFUSED[change]
    model = small_model("hyena,attention,attention")
    changed = make(model)
    with pytest.raises(ValueError, match=r"^save: ") as raised:
        (changed if isinstance(changed, LanguageModel) else model).save(tmp_path / "model")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.cpu
def test_a_run_without_its_parametrizations_is_saved(tmp_path: Path) -> None:
    """What the message says helps."""
    model, ids = small_model(), tokens(2, 9)
    parametrizations.weight_norm(up(model))
    expected = model(ids)
    nn.utils.parametrize.remove_parametrizations(up(model), "weight")
    model.save(tmp_path)
    assert torch.allclose(hyena.load(tmp_path)(ids), expected, rtol=1e-12)


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("block_causal", 1, "expected bool"), ("width", 16, r"expected embedding\.weight \(32, 16\)")],
)
def test_a_config_that_was_changed_is_refused(
    field: str, value: object, message: str, tmp_path: Path
) -> None:
    model = small_model()
    setattr(model.config, field, value)
    with pytest.raises(ValueError, match=rf"^save: .*{message}"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def shared(model: LanguageModel) -> None:
    model.blocks[2] = model.blocks[0]
    model.norm.bias = model.norm.weight


def overlapping(model: LanguageModel) -> None:
    values = torch.randn(18, dtype=torch.float64)
    model.norm.weight, model.norm.bias = nn.Parameter(values[:12]), nn.Parameter(values[6:])


def strided(model: LanguageModel) -> None:
    up(model).weight = nn.Parameter(up(model).weight.detach().t().contiguous().t())
    model.norm.weight = nn.Parameter(torch.ones(1, dtype=torch.float64).expand(12))


def partly_nan(model: LanguageModel) -> None:
    model.norm.weight.data[3] = float("nan")


def compiled_blocks(model: LanguageModel) -> None:
    for i, block in enumerate(model.blocks):
        model.blocks[i] = torch.compile(block, backend="eager")  # type: ignore[assignment]


@pytest.mark.cpu
@pytest.mark.parametrize("change", [shared, overlapping, strided, partly_nan, compiled_blocks])
def test_weights_come_back_however_they_lie(
    change: Callable[[LanguageModel], None], tmp_path: Path
) -> None:
    model = small_model()
    change(model)
    model.save(tmp_path)
    found = hyena.load(tmp_path).state_dict()
    expected = {n.replace("_orig_mod.", ""): value for n, value in model.state_dict().items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name].nan_to_num(7), value.nan_to_num(7)), name


@pytest.mark.cpu
def test_weights_of_several_dtypes_come_back(tmp_path: Path) -> None:
    model = small_model(dtype=torch.float32)
    model.blocks[0].half()
    model.blocks[1].bfloat16()
    model.save(tmp_path)
    expected = {name: value.dtype for name, value in model.state_dict().items()}
    assert {n: v.dtype for n, v in hyena.load(tmp_path).state_dict().items()} == expected


@pytest.mark.cpu
@pytest.mark.parametrize("write", [save, LanguageModel.save])
def test_a_compiled_model_is_saved_as_the_model(
    write: Callable[[LanguageModel, Path], None], tmp_path: Path
) -> None:
    model = small_model()
    write(torch.compile(model, backend="eager"), tmp_path)  # type: ignore[arg-type]
    assert hyena.load(tmp_path).state_dict().keys() == model.state_dict().keys()


@pytest.mark.cpu
def test_a_wrapper_for_several_devices_is_to_be_taken_off(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"^save: expected a LanguageModel, got .*; pass its \.module"
    ):
        save(nn.DataParallel(small_model()), tmp_path / "new")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
