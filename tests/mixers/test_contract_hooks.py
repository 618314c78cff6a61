"""What hooks on a mixer's parts change counts in generation as in forward, or is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_close
from mixer_cases import D, build, draw, each_mixer, generate
from torch import Tensor, nn

from hyena.mixers.rivals.state_space import StateSpace

Change = Callable[[nn.Module], Any]


def hook(part: nn.Module) -> None:
    part.register_forward_hook(lambda module, inputs, output: 1.5 * output)


def pre_hook(part: nn.Module) -> None:
    part.register_forward_pre_hook(
        lambda module, inputs: (1.5 * inputs[0],) if isinstance(inputs[0], Tensor) else None
    )


def own_forward(part: nn.Module) -> None:
    forward = part.forward
    part.forward = lambda *x, **options: 1.5 * forward(*x, **options)  # type: ignore[method-assign]


REFUSED = "StateSpace: taps has hooks or a forward of its own, which a state cannot follow; "


@pytest.mark.parametrize("change", [hook, pre_hook, own_forward])
@each_mixer
@torch.no_grad()
def test_of_each_part(name: str, change: Change, generator: torch.Generator) -> None:
    u = draw(generator, 2, 9, D)
    plain = build(name).eval()
    for key, _ in plain.named_modules():
        if not key or isinstance(plain.get_submodule(key), nn.ModuleList):
            continue
        mixer = build(name).eval()
        mixer.load_state_dict(plain.state_dict())
        change(mixer.get_submodule(key))
        expected = mixer(u)
        takes_tensors = change is not pre_hook or not torch.equal(expected, plain(u))
        assert takes_tensors or key.split(".")[0] == "filter", f"{key} changes nothing"
        if isinstance(plain.get_submodule(key.rpartition(".")[0]), StateSpace):
            with pytest.raises(ValueError, match=f"^{REFUSED}"):
                generate(mixer, u, 4)
        else:
            assert_close(generate(mixer, u, 4)[0], expected, 1e-11)


@each_mixer
@torch.no_grad()
def test_of_all_modules(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 9, D)
    layers = [m for m in mixer.modules() if isinstance(m, nn.Linear)]
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: 1.5 * output if module in layers else None
    )
    try:
        assert_close(generate(mixer, u, 4)[0], mixer(u), 1e-11)
    finally:
        handle.remove()
