"""S4D, H3 and GSS equal their definitions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import draw, generate
from state_space_definitions import by_rows

from hyena.mixers import GSS, H3, S4D

D = 12
Make = Callable[..., Any]

MIXERS: dict[str, Make] = {
    "S4D": lambda **place: S4D(D, state=6, **place),
    "S4D, inv": lambda **place: S4D(D, state=6, initial="inv", **place),
    "H3": lambda **place: H3(D, state=6, **place),
    "H3, heads": lambda **place: H3(D, head_dim=3, state=6, **place),
    "GSS": lambda **place: GSS(D, state=6, **place),
}


@pytest.fixture(params=MIXERS.values(), ids=MIXERS)
def make(request: pytest.FixtureRequest) -> Make:
    """A constructor of mixers in float64 whose states go on changing for some time."""

    def build(**place: Any) -> Any:
        return request.param(**{"dtype": torch.float64, **place})

    return build


@pytest.mark.parametrize("L", [1, 2, 7, 20])
def test_equals_the_definition_with_every_gradient(
    make: Make, L: int, generator: torch.Generator
) -> None:
    mixer, u = make(), draw(generator, 2, L, D)
    expected = with_module_gradients(mixer, lambda u: by_rows(mixer, u), u)
    assert_all_close(with_module_gradients(mixer, mixer, u), expected, 1e-10)


def test_a_long_prompt_goes_on(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 1, 1500, D)
    with torch.no_grad():
        y, _ = generate(mixer, u, 1490)
        assert_close(y[:, 1490:], mixer(u)[:, 1490:], 1e-10)
