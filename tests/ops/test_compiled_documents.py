"""Documents in a compiled program: one compilation takes any of them."""

from collections.abc import Callable

import pytest
import torch
from comparison import assert_close
from torch import Tensor
from torch._dynamo.utils import counters

from hyena import HyenaOperator
from hyena.ops import Segments, backends, gated_conv, long_conv, short_conv

# Dynamo makes an instance of the autograd function, of which PyTorch warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

B, D, L = 2, 4, 40
DOCUMENTS = [[40], [11, 29], [1, 2, 3, 34], [20, 20]]


def ids_of(lengths: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).expand(B, L)


def compiles_once(f: Callable[[Tensor], Tensor]) -> None:
    torch.compiler.reset()
    counters.clear()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for lengths in DOCUMENTS:
            ids = ids_of(lengths).clone()
            assert_close(compiled(ids), f(ids), 2e-6)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("block_causal", [False, True])
@pytest.mark.parametrize("backend", [name for name in backends() if name != "naive"])
def test_of_a_convolution(backend: str, block_causal: bool, generator: torch.Generator) -> None:
    z = torch.randn(B, 3 * D, L, generator=generator)
    k, taps = torch.randn(D, L, generator=generator), torch.randn(3 * D, 3, generator=generator)
    options = {"block_causal": block_causal, "backend": backend}

    def f(ids: Tensor) -> Tensor:
        segments = Segments.from_document_ids(ids)
        short = short_conv(z, taps, segments=segments, backend=backend)  # type: ignore[arg-type]
        long = long_conv(z[:, :D], k, segments=segments, **options)  # type: ignore[arg-type]
        gated = gated_conv(z, k, short=(taps, None), segments=segments, **options)  # type: ignore[arg-type]
        return torch.cat([short, long, gated], dim=1)

    compiles_once(f)


def test_of_an_operator(generator: torch.Generator) -> None:
    operator, u = HyenaOperator(D, L), torch.randn(B, L, D, generator=generator)
    compiles_once(lambda ids: operator(u, document_ids=ids))


def test_told_by_their_cumulative_lengths() -> None:
    def f(edges: Tensor) -> Tensor:
        return Segments.from_cu_seqlens(edges, B, L).ids

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for edges in ([0, 7, 80], [0, 40, 80], [0, 1, 80]):
        x = torch.tensor(edges)
        assert torch.equal(compiled(x), f(x))
