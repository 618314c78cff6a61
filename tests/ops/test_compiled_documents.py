"""Documents in a compiled program: one compilation takes any of them."""

from collections.abc import Callable

import pytest
import torch
from comparison import assert_close
from torch import Tensor
from torch._dynamo.utils import counters

from hyena import HyenaOperator, LanguageModel, ModelConfig
from hyena.filters import LengthPolicy
from hyena.ops import Segments, backends, gated_conv, long_conv, short_conv

# Dynamo makes an instance of the autograd function, of which PyTorch warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

B, D, L = 2, 4, 40
DOCUMENTS = [[40], [11, 29], [1, 2, 3, 34], [20, 20]]


def ids_of(lengths: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).expand(B, L)


def compiles_once(
    f: Callable[[Tensor], Tensor], documents: list[list[int]] = DOCUMENTS
) -> Callable[[Tensor], Tensor]:
    torch.compiler.reset()
    counters.clear()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for lengths in documents:
            ids = ids_of(lengths).clone()
            assert_close(compiled(ids), f(ids), 2e-6)
    assert counters["stats"]["unique_graphs"] == 1
    return compiled


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


@pytest.mark.parametrize("policy", ["error", "interpolate"])
def test_of_a_row_longer_than_any_document_may_be(
    policy: LengthPolicy, generator: torch.Generator
) -> None:
    operator = HyenaOperator(D, 34, length_policy=policy)
    u = torch.randn(B, L, D, generator=generator)
    compiled = compiles_once(lambda ids: operator(u, document_ids=ids), DOCUMENTS[1:])
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match=r"a packed document is longer than .*34"),
    ):
        compiled(ids_of([35, 5]).clone())


def test_of_a_model(generator: torch.Generator) -> None:
    model = LanguageModel(ModelConfig(width=D, layers=2, max_length=34, vocab_size=9)).eval()
    tokens = torch.randint(9, (B, L), generator=generator)
    compiled = compiles_once(lambda ids: model(tokens, document_ids=ids), DOCUMENTS[1:])
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match=r"a packed document is longer than .*34"),
    ):
        compiled(ids_of([35, 5]).clone())


def test_told_by_their_cumulative_lengths() -> None:
    def f(edges: Tensor) -> Tensor:
        return Segments.from_cu_seqlens(edges, B, L).ids

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for edges in ([0, 7, 80], [0, 40, 80], [0, 1, 80]):
        x = torch.tensor(edges)
        assert torch.equal(compiled(x), f(x))
