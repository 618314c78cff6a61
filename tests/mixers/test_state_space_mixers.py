"""S4D, H3 and GSS equal their definitions."""

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import CASES, D, Make, draw, generate
from state_space_definitions import by_rows

from hyena.mixers import S4D

MIXERS: dict[str, Make] = {
    **{name: CASES[name] for name in ("s4d", "h3", "h3, heads", "gss")},
    "s4d, inv": lambda **place: S4D(D, state=6, initial="inv", **place),
}
each_mixer = pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)


@each_mixer
@pytest.mark.parametrize("L", [1, 2, 7, 13])
def test_equals_the_definition_with_every_gradient(
    make: Make, L: int, generator: torch.Generator
) -> None:
    mixer, u = make(dtype=torch.float64), draw(generator, 2, L, D)
    expected = with_module_gradients(mixer, lambda u: by_rows(mixer, u), u)
    assert_all_close(with_module_gradients(mixer, mixer, u), expected, 1e-10)


@each_mixer
def test_a_long_prompt_goes_on(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(dtype=torch.float64), draw(generator, 1, 1000, D)
    with torch.no_grad():
        y, _ = generate(mixer, u, 995)
        assert_close(y[:, 995:], mixer(u)[:, 995:], 1e-10)
