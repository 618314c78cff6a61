"""The choice of a backend."""

import re

import pytest
import torch

from hyena.ops import backends, long_conv, short_conv, why_not_native


@pytest.mark.parametrize("op", [long_conv, short_conv])
def test_every_backend_gives_the_same(op, generator: torch.Generator) -> None:
    u = torch.randn(2, 3, 9, generator=generator)
    k = torch.randn(3, 4, generator=generator)
    expected = op(u.double(), k.double(), backend="naive").float()
    for backend in (*backends(), "auto"):
        torch.testing.assert_close(op(u, k, backend=backend), expected)


@pytest.mark.cpu
@pytest.mark.parametrize("op", [long_conv, short_conv])
def test_a_backend_that_is_not_there(op) -> None:
    u, k = torch.zeros(1, 1, 4), torch.zeros(1, 4)
    with pytest.raises(
        ValueError, match=r"^backend='fast' is unknown; expected one of auto, native, "
    ):
        op(u, k, backend="fast")
    if "native" not in backends():
        with pytest.raises(
            RuntimeError,
            match=r'^backend="native" was asked for, but the kernel did '
            rf'not load: {re.escape(why_not_native())}. Use backend="torch"$',
        ):
            op(u, k, backend="native")
