"""What every mixer promises, whatever its formula: causal, in each dtype, on each device."""

import copy
import re
from pathlib import Path

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import CASES, D, M, build, draw, each_mixer, generate
from torch import Tensor

from hyena.mixers import (
    SPECS,
)


def test_every_mixer_has_a_case() -> None:
    assert {name.split(",")[0] for name in CASES} == set(SPECS)
    for name in CASES:
        spec = SPECS[name.split(",")[0]]
        assert type(build(name)) is spec.type
        _, state = build(name).prefill(torch.zeros(1, 2, D, dtype=torch.float64))
        assert type(state) is spec.state


def test_the_page_describes_every_mixer() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mixers.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^mixers = \{\n(.*?)^\}", page, re.M | re.S)
    assert set(re.findall(r'"(\S+)":', block)) == set(SPECS)
    classes = {spec.type.__name__ for spec in SPECS.values()}
    assert {name for name in classes if f"`{name}`" not in page} == set()
    table = page[page.index("| mixer | state |") :].split("\n\n")[0]
    assert len(table.splitlines()) == 2 + len(SPECS)


@each_mixer
def test_causal(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 2, 20, D)
    for t in (1, 7, 19):
        moved = u.clone()
        moved[:, t] += 1
        change = (mixer(moved) - mixer(u)).detach().abs()
        assert float(change[:, :t].max()) < 1e-13
        assert bool((change[:, t:].amax(-1) > 1e-9).all())


@each_mixer
def test_narrower_dtypes(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 2, M, D)
    tolerances = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}
    for dtype, tolerance in tolerances.items():
        narrow = copy.deepcopy(mixer).to(dtype)
        rounded = copy.deepcopy(narrow).double()(u.to(dtype).double())
        assert_close(narrow(u.to(dtype)), rounded, tolerance, dtype=dtype)
        with torch.no_grad():
            y, state = generate(narrow, u.to(dtype), M - 5)
        assert_close(y, rounded, 2 * tolerance, dtype=dtype)
        assert not isinstance(state, tuple) or state.dtype == torch.float32  # sums over the past


SCANNED = ["linear-attention", "rwkv", "aft-conv", "mamba2"]


@pytest.mark.parametrize("name", SCANNED)
def test_float32_over_a_long_sequence(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 1, 4099, D)
    with torch.no_grad():
        if hasattr(mixer, "log_decay"):
            mixer.log_decay[0] = -9.0  # which hardly forgets, slower than any initial one
        for layer in (m for m in mixer.children() if isinstance(m, torch.nn.Linear)):
            layer.weight.mul_(2)  # keys that differ
    expected = with_module_gradients(mixer, mixer, u)
    narrow = copy.deepcopy(mixer).float()
    got = with_module_gradients(narrow, narrow, u.float())
    tolerance = 2e-5 if name == "mamba2" else 1e-5
    assert_all_close(got, expected, tolerance, dtype=torch.float32)


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@each_mixer
def test_under_autocast(name: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    mixer, u = build(name, dtype=torch.float32), draw(generator, 2, M, D).float()
    expected = mixer(u)
    with torch.autocast("cpu", dtype):
        y = mixer(u)
        y.float().square().sum().backward()
        with torch.no_grad():
            steps, state = generate(mixer, u, M - 5)
    assert_close(y, expected, 5e-2, dtype=dtype)
    assert_close(steps, expected, 5e-2, dtype=dtype)
    assert not isinstance(state, tuple) or state.dtype == torch.float32
    assert {p.grad.dtype for p in mixer.parameters() if p.grad is not None} == {torch.float32}


@each_mixer
@torch.no_grad()
def test_a_state_that_would_round_what_follows_is_refused(
    name: str, generator: torch.Generator
) -> None:
    mixer, u = build(name).float(), draw(generator, 2, 6, D)
    _, state = mixer.prefill(u[:, :5].float())
    message = (
        f"{type(mixer).__name__}.step: u is torch.float64 but the state is torch.float32, which "
        "would round what follows; read the prompt anew in torch.float64, or go on in torch.float32"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        mixer.double().step(u[:, 5], state)
    expected = mixer(u)[:, -1]
    assert_close(mixer.float().step(u[:, 5].float(), state)[0].double(), expected, 1e-5)


@each_mixer
@torch.no_grad()
def test_a_token_of_another_dtype_than_the_weights_is_refused(name: str) -> None:
    mixer = build(name)
    _, state = mixer.prefill(torch.zeros(2, 5, D, dtype=torch.float64))
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn):
        message = f"{type(mixer).__name__}: u is {dtype} but the weights are torch.float64; convert"
        with pytest.raises(ValueError, match=f"^{re.escape(message)} one"):
            mixer.step(torch.zeros(2, D, dtype=dtype), state)


@each_mixer
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # of PyTorch's kernel
def test_gradients_of_each_row_by_vmap(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 3, 7, D)
    parameters = {key: p.detach() for key, p in mixer.named_parameters() if p.requires_grad}

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, parameters, (row[None],)).square().sum()

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, u)
    apart = [torch.func.grad(loss)(parameters, row) for row in u]
    for key, found in together.items():
        assert_close(found, torch.stack([one[key] for one in apart]), 1e-11)


@each_mixer
@torch.no_grad()
def test_meta_device(name: str) -> None:
    mixer, u = build(name, device="meta"), torch.zeros(2, 5, D, device="meta").double()
    assert mixer(u).shape == (2, 5, D)
    y, state = mixer.prefill(u)
    assert y.shape == (2, 5, D)
    assert {x.device.type for x in state.tensors().values()} == {"meta"}
    if isinstance(state, tuple):
        assert mixer.step(u[:, 0], state)[0].shape == (2, D)


@each_mixer
def test_drawn_from_the_generator_alone(name: str) -> None:
    found = []
    for ambient in (1, 2):
        torch.manual_seed(ambient)
        mixer, generator = build(name), torch.Generator().manual_seed(3)
        for module in mixer.modules():
            if hasattr(module, "draw"):
                module.draw(generator)
                found += [p.detach().clone() for p in module.parameters(recurse=False)]
    half = len(found) // 2
    assert all(torch.equal(a, b) for a, b in zip(found[:half], found[half:], strict=True))


@pytest.mark.parametrize("name", SPECS)
def test_sizes_whose_operations_cannot_be_counted(name: str) -> None:
    mixer = build(name, device="meta")
    assert mixer.flops(2**48, 2**48).total > mixer.flops(7).total > 0
    called = f"{type(mixer).__name__}.flops: expected "
    for size in (0, -1, 2**64, 10**400):
        got = str(size) if size < 10**100 else "10+…"
        message = f"^{re.escape(called)}length from 1 to 2\\^48, got {got}$"
        with pytest.raises(ValueError, match=message):
            mixer.flops(size)
    for size in (1.5, "é", None):
        message = f"^{re.escape(called)}an integer as batch, got {type(size).__name__}$"
        with pytest.raises(TypeError, match=message):
            mixer.flops(7, size)
