"""What an operator's long convolutions are made with: modes and few taps where the kernel sums
them, and spectra, which are kept of nothing else."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import generate
from test_hyena_filters import D, M, draw, make
from torch import Tensor

from hyena import LanguageModel, ModelConfig
from hyena.mixers.hyena import groups, kernels, operator
from hyena.ops.native import library


@pytest.fixture
def by_modes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Real modes are summed at any length; the lengths that were."""
    seen: list[int] = []

    def counted(op: Callable[..., Any]) -> Callable[..., Any]:
        def call(u: Tensor, *arguments: Any, **options: Any) -> Any:
            seen.append(u.shape[-1])
            return op(u, *arguments, **options)

        return call

    for name in ("BY_MODES", "BY_MODES_KEPT"):
        monkeypatch.setattr(kernels, name, 1)
    for name in ("modal_conv", "gated_modal_conv"):
        monkeypatch.setattr(operator, name, counted(getattr(operator, name)))
    return seen


@pytest.mark.cpu
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("L", [1, 63, M])
def test_real_modes_are_summed_where_the_kernel_is(
    order: int, L: int, by_modes: list[int], generator: torch.Generator
) -> None:
    if library.kernel() is None:
        pytest.skip(f"it takes the kernel: {library.why_not()}")
    exact, u = make("real modes", order, bias=False), draw(generator, 2, L, D)
    expected = with_module_gradients(exact, exact, u)
    assert not by_modes  # in float64 they are not
    op = copy.deepcopy(exact).float()
    got = with_module_gradients(op, op, u.float())
    assert by_modes == [L] * (order - 1)
    assert_all_close(got[:2], expected[:2], 1e-5, dtype=torch.float32)
    for a, b in zip(got[2:], expected[2:], strict=True):
        if float(b.norm()) > 1e-10:
            assert_close(a, b, 1e-4, dtype=torch.float32)
    mask = torch.arange(L) >= torch.tensor([[0], [L // 2]])
    assert_close(op(u.float(), mask=mask)[mask], exact(u, mask=mask)[mask].float(), 1e-5)
    with torch.no_grad():
        y, _ = generate(op, u.float(), (L + 1) // 2)
    assert_close(y, expected[0], 1e-5, dtype=torch.float32)


@pytest.mark.cpu
def test_packed_documents_are_not_summed_by_modes(
    by_modes: list[int], generator: torch.Generator
) -> None:
    op, u = make("real modes", dtype=torch.float32), draw(generator, 1, 30, D).float()
    ids = torch.arange(30)[None] // 13
    expected = torch.cat([op(piece) for piece in u.split([13, 13, 4], dim=1)], dim=1)
    by_modes.clear()
    assert_close(op(u, document_ids=ids), expected, 1e-5)
    assert not by_modes


@pytest.mark.cpu
@torch.no_grad()
def test_by_modes_no_input_changes_an_earlier_output(
    by_modes: list[int], generator: torch.Generator
) -> None:
    if library.kernel() is None:
        pytest.skip(f"it takes the kernel: {library.why_not()}")
    u = draw(generator, 1, 60, D).float()
    moved = u.clone()
    moved[:, 40:] = float("inf")
    for block_causal in (False, True):
        op = make("real modes", dtype=torch.float32, block_causal=block_causal)
        assert torch.equal(op(moved)[:, :40], op(u)[:, :40])
    assert by_modes == [60] * 4


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("kind", "length", "summed"),
    [
        ("one tap", M, True),
        ("short", M, True),
        ("short", 5, False),
        ("128 taps", M, False),
        ("128 taps", 600, True),
        ("longer than the input", M, False),
        ("real modes", M, False),
        ("real modes", kernels.BY_MODES, False),
        ("real modes", kernels.BY_MODES_KEPT, True),
    ],
)
@torch.no_grad()
def test_no_spectra_are_kept_of_what_the_kernel_sums(kind: str, length: int, summed: bool) -> None:
    if library.kernel() is None:
        pytest.skip(f"it takes the kernel: {library.why_not()}")
    op, u = make(kind, dtype=torch.float32), torch.ones(1, length, D)
    assert op.keeps_spectra(length) != summed
    op(u)
    assert (op.filter.kept.nbytes > 0) != summed
    assert not make(kind, block_causal=True).keeps_spectra(length)
    for other in (make(kind), make(kind, backend="torch")):  # which the kernel does not take
        assert other.keeps_spectra(length)
        other(u.double())
        assert other.filter.kept.nbytes > 0


@pytest.mark.cpu
def test_a_training_step_by_modes_in_pieces_is_that_of_the_whole(
    by_modes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose backward pass takes the taps."""
    monkeypatch.setattr(groups, "SHORTEST", 1)
    config = ModelConfig(vocab_size=11, width=8, layers=2, max_length=50, mixers="hyena-li")
    model, ids = LanguageModel(config), torch.arange(100).view(2, 50) % 11
    found = []
    for pieces in (False, True):
        model.activation_checkpointing = pieces
        model.working_memory = 0 if pieces else 1 << 40
        loss = model(ids, targets=ids.roll(-1, 1))
        gradients = torch.autograd.grad(loss, [*model.parameters()])
        found.append([loss.detach(), torch.cat([x.flatten() for x in gradients])])
    assert_all_close(found[1], found[0], 1e-5)
    assert set(by_modes) == ({50} if library.kernel() is not None else set())


@pytest.mark.cpu
def test_modes_are_summed_sooner_where_no_spectrum_is_at_hand() -> None:
    if library.kernel() is None:
        pytest.skip(f"it takes the kernel: {library.why_not()}")
    op, u = make("real modes", dtype=torch.float32), torch.zeros(1, 1, D)
    lengths = kernels.BY_MODES - 1, kernels.BY_MODES, kernels.BY_MODES_KEPT

    def summed() -> list[bool]:
        return [op.sums_modes(u, length, None) for length in lengths]

    op.train()
    assert summed() == [False, True, True]
    with torch.no_grad():
        assert summed() == [False, True, True]
        op.eval()
        assert summed() == [False, False, True]
    assert summed() == [False, True, True]  # of which gradients may be asked for
