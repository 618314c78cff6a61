"""Which mixers torch.export makes a program of for any batch and length, in float32."""

from collections.abc import Callable

import pytest
import torch
from comparison import assert_close
from torch import nn
from torch.export import Dim

from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    FourierTaps,
    LongFilter,
    ModalTaps,
    RealModalTaps,
    TransferFunctionTaps,
)
from hyena.mixers import GSS, H3, S4D, HyenaOperator

D, M = 8, 150

TAPS: dict[str, Callable[[], nn.Module]] = {
    "explicit": lambda: ExplicitTaps(D, 20),
    "explicit, groups": lambda: ExplicitTaps(D, 7, groups=2, decay=True),
    "poles": lambda: ModalTaps(D, 3, groups=2),
    "real modes": lambda: RealModalTaps(D, 4),
    "fourier": lambda: FourierTaps(D, 8, 64),  # a period that lengths go beyond
    "s4d": lambda: DiagonalSSM(D, state=8),
    "transfer function": lambda: TransferFunctionTaps(D, 6),
}
RIVALS: dict[str, Callable[[], nn.Module]] = {
    "S4D": lambda: S4D(D, state=8),
    "H3": lambda: H3(D, head_dim=2, state=8),
    "GSS": lambda: GSS(D, state=8),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside torch.export
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", [*TAPS, *RIVALS])
def test_an_exported_program_takes_any_batch_and_length(
    name: str, generator: torch.Generator
) -> None:
    if name in TAPS:
        filter = LongFilter(TAPS[name](), D, M, length_policy="extrapolate")
        mixer: nn.Module = HyenaOperator(D, M, filter=filter)
    else:
        mixer = RIVALS[name]()
    sizes = {0: Dim("batch", min=1, max=8), 1: Dim("length", min=2, max=M)}
    with torch.no_grad():
        u = torch.randn(2, 20, D, generator=generator)
        program = torch.export.export(mixer, (u,), dynamic_shapes=(sizes,)).module()
        for batch, length in ((1, 2), (2, 19), (5, 63), (2, 64), (2, 65), (1, M)):
            u = torch.randn(batch, length, D, generator=generator)
            assert_close(program(u), mixer(u), 2e-6)
