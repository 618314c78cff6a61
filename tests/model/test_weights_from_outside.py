"""Weights that something outside of the model changed: they count at the next forward or prefill.
In a state between two steps a change of all that is trained, if PyTorch counts it, does so at the
next one; of a single tensor of these after as many as there are; any other after at most 64, or one
after `clear_cache`."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from comparison import assert_close
from small_models import STRIPES, LowRank, small_model, tokens
from torch import Tensor, nn

from hyena.mixers import SPECS, HyenaOperator
from hyena.mixers.state import MixerState
from hyena.model import FilterConfig, LanguageModel, ModelState

FILTERS = {
    "hyena": FilterConfig(emb_dim=5, width=6, sine_freq=3.0),
    "explicit": FilterConfig(kind="explicit", taps=7),
    "modal": FilterConfig(kind="modal", modes=4),
    "fourier": FilterConfig(kind="fourier", modes=4),
    "s4d": FilterConfig(kind="s4d"),
    "transfer-function": FilterConfig(kind="transfer-function", degree=4),
}
RIVALS = [name for name, spec in SPECS.items() if spec.type is not HyenaOperator]


def through_data(model: LanguageModel) -> None:
    """As averages of weights and loaders of them write."""
    for parameter in model.parameters():
        parameter.data.mul_(1.1)


def a_fused_step(model: LanguageModel) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, fused=True)
    model(tokens(1, 9)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def an_optimizer_step(model: LanguageModel) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    optimizer.zero_grad()


def loaded_weights(model: LanguageModel) -> None:
    model.load_state_dict({name: 1.1 * x for name, x in model.state_dict().items()})


def copied_weights(model: LanguageModel) -> None:
    for parameter in model.parameters():
        parameter.copy_(1.1 * parameter)


each_change = pytest.mark.parametrize("change", [through_data, a_fused_step])


def fresh(model: LanguageModel) -> LanguageModel:
    """Another model of the same weights."""
    other = LanguageModel(model.config, dtype=model.embedding.weight.dtype).eval()
    other.load_state_dict(model.state_dict())
    return other


def continued(model: LanguageModel, ids: Tensor, prompt: int) -> Tensor:
    """Logits by prefill and steps."""
    logits, state = model.prefill(ids[:, :prompt])
    found = [logits]
    for t in range(prompt, ids.shape[1]):
        logits, state = model.step(ids[:, t], state)
        found.append(logits[:, None])
    return torch.cat(found, dim=1)


@each_change
@pytest.mark.parametrize("kind", [*FILTERS, *(name for name in SPECS if name != "hyena")])
def test_forward_prefill_and_steps_are_those_of_a_fresh_model(
    kind: str, change: Callable[[LanguageModel], None]
) -> None:
    filters = {"filter": FILTERS[kind], "mixers": "hyena"} if kind in FILTERS else {"mixers": kind}
    model, ids = small_model(dtype=torch.float32, **filters), tokens(2, 12)  # type: ignore[arg-type]
    with torch.no_grad():
        model(ids)
        continued(model, ids, 5)
    change(model)
    with torch.no_grad():
        expected = fresh(model)(ids)
        assert torch.equal(model(ids), expected)
        assert_close(continued(model, ids, 5), expected, 2e-5)


def cleared(model: LanguageModel) -> None:
    through_data(model)
    model.clear_cache()


def goes_on(
    model: LanguageModel, change: Callable[[LanguageModel], None], late: int, prompt: int = 9
) -> None:
    """A state that has taken a step goes on with the weights of now, so many steps after."""
    ids = tokens(1, 160)
    _, state = model.prefill(ids[:, :prompt], future=150)
    _, state = model.step(ids[:, prompt], state)
    change(model)
    for t in range(prompt + 1, prompt + 1 + late):
        _, state = model.step(ids[:, t], state)
    # What a fresh model makes of the same state: the past as it is, the weights as they are.
    other, copied = fresh(model), copy.deepcopy(state)
    for t in range(state.length, prompt + 6 + late):
        logits, state = model.step(ids[:, t], state)
        expected, copied = other.step(ids[:, t], copied)
        assert_close(logits, expected, 1e-5)


@pytest.mark.cpu
@pytest.mark.parametrize("native", [True, False], ids=["native", "modules"])
@pytest.mark.parametrize(
    ("change", "late"),
    [
        (an_optimizer_step, 0),
        (loaded_weights, 0),
        (copied_weights, 0),
        (cleared, 0),
        (through_data, 65),
    ],
)
@pytest.mark.parametrize("kind", ["hyena", "s4d"])
@torch.no_grad()
def test_a_state_goes_on_with_the_weights_of_now(
    kind: str, change: Callable[[LanguageModel], None], late: int, native: bool
) -> None:
    dtype = torch.float32 if native else torch.float64
    goes_on(small_model(dtype=dtype, filter=FILTERS[kind], max_length=200), change, late)


@pytest.mark.parametrize("mixer", RIVALS)
@torch.no_grad()
def test_a_state_of_another_mixer_goes_on_with_the_weights_of_now(mixer: str) -> None:
    goes_on(small_model(dtype=torch.float32, mixers=mixer, max_length=200), through_data, 0)


def read_in_a_state(model: LanguageModel) -> list[Tensor]:
    """What the first layer's state reads of the weights once for many steps."""
    parts = model.blocks[0].mixer.filter, model.blocks[0].mixer.short_conv
    return [x for part in parts for x in (*part.parameters(), *part.buffers())]


@pytest.mark.cpu
@pytest.mark.parametrize("native", [True, False], ids=["native", "modules"])
@pytest.mark.parametrize("kind", ["hyena", "s4d"])
@torch.no_grad()
def test_a_change_of_one_tensor_is_seen_after_as_many_steps_as_there_are(
    kind: str, native: bool
) -> None:
    dtype = torch.float32 if native else torch.float64
    model = small_model(dtype=dtype, filter=FILTERS[kind], max_length=200)

    trained = sum(x.requires_grad for x in read_in_a_state(model))

    for i, x in enumerate(read_in_a_state(model)):

        def change(model: LanguageModel, i: int = i) -> None:
            read_in_a_state(model)[i].mul_(1.5)

        goes_on(copy.deepcopy(model), change, trained if x.requires_grad else 65)


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "some frozen"])
@torch.no_grad()
def test_an_optimizers_step_counts_at_the_next_one_at_any_length(frozen: bool) -> None:
    """Whichever tensor a step looks at: one that no optimizer moves would hide the change."""
    model = small_model(dtype=torch.float32, filter=FILTERS["hyena"], max_length=200)
    tensors = read_in_a_state(model)
    if frozen:
        model.blocks[0].mixer.filter.skip.requires_grad_(False)
        model.blocks[0].mixer.short_conv.requires_grad_(False)
    assert not all(x.requires_grad for x in tensors)  # a buffer at least
    for prompt in range(9, 9 + len(tensors)):
        goes_on(copy.deepcopy(model), an_optimizer_step, 0, prompt)


@torch.no_grad()
def test_weights_of_which_none_is_trained_count_like_trained_ones() -> None:
    model = small_model(dtype=torch.float32, filter=FILTERS["hyena"], max_length=200)
    model.requires_grad_(False)
    for prompt in range(9, 9 + len(read_in_a_state(model))):
        goes_on(copy.deepcopy(model), loaded_weights, 0, prompt)


class Adapted(nn.Module):
    """A layer of a filter beside an adapter, so that nobody knows what the filter depends on."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.scaling = layer, 1.0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y + self.scaling * y.square()


def switched_off(model: LanguageModel) -> None:
    for block in model.blocks:
        block.mixer.filter.layers[1].scaling = 0.0


@pytest.mark.parametrize("change", [through_data, switched_off])
@torch.no_grad()
def test_a_state_reads_a_filter_that_cannot_be_compared_again_after_64_steps(
    change: Callable[[LanguageModel], None],
) -> None:
    model, ids = small_model(dtype=torch.float32, max_length=200), tokens(1, 160)
    for block in model.blocks:
        block.mixer.filter.layers[1] = Adapted(block.mixer.filter.layers[1])
    _, state = model.prefill(ids[:, :9], future=150)
    _, state = model.step(ids[:, 9], state)
    change(model)
    for t in range(10, 75):
        _, state = model.step(ids[:, t], state)
    other = copy.deepcopy(model)
    copied = ModelState([forgetful(layer) for layer in state.layers], state.length)
    for t in range(75, 85):
        logits, state = model.step(ids[:, t], state)
        expected, copied = other.step(ids[:, t], copied)
        assert_close(logits, expected, 1e-5)


def forgetful(layer: MixerState) -> MixerState:
    """The same state, which has read no weights yet."""
    return layer.from_tensors(layer.copy().tensors(), layer.settings())


@torch.inference_mode()
def test_a_state_of_tensors_without_versions_sees_a_change_after_64_steps() -> None:
    model = small_model(dtype=torch.float32, max_length=200)
    assert all(parameter.is_inference() for parameter in model.parameters())
    goes_on(model, copied_weights, 65)


def doubled(module: nn.Module) -> None:
    """A hook that doubles what the module gives."""
    module.register_forward_hook(lambda module, inputs, output: 2 * output)


def with_doubled_weights(*parameters: nn.Parameter | None) -> None:
    with torch.no_grad():
        for parameter in parameters:
            if parameter is not None:
                parameter.mul_(2)


HOOKED = {
    "norm": lambda model: [model.norm],
    "norm1": lambda model: [block.norm1 for block in model.blocks],
    "norm2": lambda model: [block.norm2 for block in model.blocks],
    "in_proj": lambda model: [block.mixer.in_proj for block in model.blocks],
    "out_proj": lambda model: [block.mixer.out_proj for block in model.blocks],
    "short_conv": lambda model: [block.mixer.short_conv for block in model.blocks],
    "mlp.up": lambda model: [block.mlp.up for block in model.blocks],
    "positions": lambda model: [model.positions],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("where", HOOKED)
def test_hooks_fire_in_forward_prefill_and_steps(where: str, dtype: torch.dtype) -> None:
    model = small_model(dtype=dtype, positions="learned")
    other, ids = copy.deepcopy(model), tokens(2, 12)
    for module in HOOKED[where](model):
        doubled(module)
    for module in HOOKED[where](other):
        with_doubled_weights(module.weight, getattr(module, "bias", None))
    tolerance = 2e-5 if dtype == torch.float32 else 5e-2
    with torch.no_grad():
        expected = other(ids)
        assert_close(model(ids), expected, tolerance)
        assert_close(continued(model, ids, 5), expected, tolerance)
    assert_close(model(ids), expected, tolerance)


STRIPED = {
    "norm": HOOKED["norm"],
    "norm1": HOOKED["norm1"],
    "norm2": HOOKED["norm2"],
    "mlp.gate": lambda model: [block.mlp.gate for block in model.blocks],
    "mlp.up": HOOKED["mlp.up"],
    "head": lambda model: [model.head],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("where", STRIPED)
def test_hooks_fire_in_striped_models(where: str, dtype: torch.dtype) -> None:
    model = small_model(dtype=dtype, **STRIPES)
    other, ids = copy.deepcopy(model), tokens(2, 12)
    for module in STRIPED[where](model):
        doubled(module)
    for module in STRIPED[where](other):
        with_doubled_weights(module.weight)
    tolerance = 2e-5 if dtype == torch.float32 else 0.1
    with torch.no_grad():
        expected = other(ids)
        assert_close(model(ids), expected, tolerance)
        assert_close(continued(model, ids, 5), expected, tolerance)
    assert_close(model(ids), expected, tolerance)


@pytest.mark.parametrize("kind", ["hyena", "explicit", "s4d"])
@pytest.mark.parametrize("where", ["filter", "inside"])
def test_hooks_on_filters_fire(kind: str, where: str) -> None:
    model, ids = small_model(filter=FILTERS[kind]), tokens(2, 12)
    other = copy.deepcopy(model)
    for hooked, plain in zip(model.blocks, other.blocks, strict=True):
        filter, same = hooked.mixer.filter, plain.mixer.filter
        last = "layers" if kind == "hyena" else "taps"
        inner = filter.layers[-1] if kind == "hyena" else filter.taps
        doubled(filter if where == "filter" else inner)
        with_doubled_weights((same.layers[-1] if last == "layers" else same.taps).weight)
    with torch.no_grad():
        expected = other(ids)
        assert_close(model(ids), expected, 1e-10)
        assert_close(continued(model, ids, 5), expected, 1e-10)


@torch.no_grad()
def test_which_hooks_fire_when() -> None:
    """The table in docs/training.md."""
    model, ids = small_model("hyena,attention", layers=2, positions="learned"), tokens(2, 12)
    fired: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: fired.append(name))

    def firing(run: Callable[[], object]) -> set[str]:
        fired.clear()
        run()
        return set(fired)

    whole = {"", *(f"blocks.{i}{part}" for i in range(2) for part in ("", ".mixer"))}
    everything = {name for name, _ in model.named_modules()} - {"blocks"}
    filters = {name for name in everything if ".filter" in name}
    assert len(filters) > 1
    everything -= {name for name in filters if isinstance(model.get_submodule(name), nn.ModuleList)}
    assert firing(lambda: model(ids)) == everything
    _, state = model.prefill(ids[:, :5])
    assert firing(lambda: model.prefill(ids[:, :5])) == everything - whole
    assert firing(lambda: model.step(ids[:, 5], state)) == everything - whole
    assert firing(lambda: model.step(ids[:, 6], state)) == everything - whole - filters


def test_a_hook_on_the_norm_sees_the_embeddings_that_the_head_reads() -> None:
    model, ids, seen = small_model(), tokens(2, 9), []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        logits = model(ids)
        assert_close(seen[0] @ model.embedding.weight[: model.config.vocab_size].t(), logits, 1e-12)


@pytest.mark.parametrize("kind", ["hyena", "s4d", "attention"])
def test_a_model_with_every_linear_layer_quantised(kind: str) -> None:
    filters = {"mixers": kind} if kind not in FILTERS else {"filter": FILTERS[kind]}
    model, ids = small_model(dtype=torch.float32, **filters), tokens(2, 12)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao is to take its place
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not any(type(module) is nn.Linear for module in quantised.modules())
    with torch.no_grad():
        logits = quantised(ids)
        assert_close(logits, model(ids), 0.1)
        assert not torch.equal(logits, model(ids))
        assert_close(continued(quantised, ids, 5), logits, 0.1)  # activations are rounded anew


class Wrapped(nn.Module):
    """As PEFT wraps a norm that is to be tuned: a copy beside the original."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.original, self.copy = module, copy.deepcopy(module)

    def forward(self, *inputs: Tensor) -> Tensor:
        y: Tensor = self.copy(*inputs)
        return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("which", ["wrapped", "rms", "rms without weight", "without bias"])
def test_norms_of_another_kind(which: str, dtype: torch.dtype) -> None:
    def another(norm: nn.LayerNorm) -> nn.Module:
        if which == "wrapped":
            return Wrapped(norm)
        if which == "without bias":
            return nn.LayerNorm(12, bias=False, dtype=dtype)
        return nn.RMSNorm(12, elementwise_affine=which == "rms", dtype=dtype, eps=1e-5)

    model, ids = small_model(dtype=dtype), tokens(2, 12)
    with torch.no_grad():
        before = model(ids)
    model.norm = another(model.norm)  # type: ignore[assignment]
    for block in model.blocks:
        block.norm1, block.norm2 = another(block.norm1), another(block.norm2)
    with torch.no_grad():
        logits = model(ids)
        assert torch.allclose(logits, before) == (which == "wrapped")
        tolerance = 2e-5 if dtype == torch.float32 else 5e-2
        assert_close(continued(model, ids, 5), logits, tolerance)
    model(ids).square().mean().backward()


def test_an_adapter_of_the_embedding_is_one_of_the_head_too() -> None:
    merged, ids = small_model(), tokens(2, 12)
    model = copy.deepcopy(merged)
    adapter = LowRank(model.embedding)
    model.embedding = adapter  # type: ignore[assignment]
    with torch.no_grad():
        merged.embedding.weight.add_((adapter.b @ adapter.a).t())
        expected = merged(ids)
        assert_close(model(ids), expected, 1e-12)
        assert_close(continued(model, ids, 5), expected, 1e-10)
    (alone,) = torch.autograd.grad(model(ids).square().mean(), [adapter.a])
    (whole,) = torch.autograd.grad(merged(ids).square().mean(), [merged.embedding.weight])
    assert_close(alone, adapter.b.t() @ whole.t(), 1e-10)


def test_blocks_in_a_wrapper_are_not_left_out() -> None:
    class Around(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def __getattr__(self, name: str) -> object:
            modules = self.__dict__["_modules"]
            return modules[name] if name in modules else getattr(modules["block"], name)

        def forward(self, *inputs: object) -> Tensor:
            y: Tensor = self.block(*inputs)
            return y

    model, ids = small_model(), tokens(2, 12)
    expected = model(ids)
    size = model.state_size(9)
    model.blocks[1] = Around(model.blocks[1])
    with torch.no_grad():
        assert_close(continued(model, ids, 5), expected, 1e-10)
    assert model.state_size(9) == size
