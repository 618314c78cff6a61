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

from hyena import HyenaOperator, LanguageModel, ModelConfig
from hyena.filters import LongFilter, ModalTaps
from hyena.mixers.hyena import groups, kernels, operator
from hyena.mixers.hyena.groups import Buffers, Input
from hyena.mixers.mixer import Room
from hyena.mixers.projections import channels_last
from hyena.model import FilterConfig
from hyena.ops import Segments
from hyena.ops.native import library
from hyena.ops.native import modal as native

each_kind = pytest.mark.parametrize("kind", ["real modes", "poles"])


@pytest.fixture
def by_modes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Modes are summed at any length; the lengths that were."""
    seen: list[int] = []

    def counted(op: Callable[..., Any]) -> Callable[..., Any]:
        def call(u: Tensor, *arguments: Any, **options: Any) -> Any:
            seen.append(u.shape[-1])
            return op(u, *arguments, **options)

        return call

    for name in ("BY_MODES", "BY_MODES_KEPT"):
        monkeypatch.setattr(kernels, name, 0)
    for name in ("modal_conv", "gated_modal_conv"):
        monkeypatch.setattr(operator, name, counted(getattr(operator, name)))
    return seen


@pytest.mark.cpu
@each_kind
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("L", [1, 63, M])
def test_modes_are_summed_where_the_kernel_is(
    L: int, order: int, kind: str, by_modes: list[int], generator: torch.Generator
) -> None:
    if library.kernel() is None:
        pytest.skip(f"it takes the kernel: {library.why_not()}")
    exact, u = make(kind, order, bias=False), draw(generator, 2, L, D)
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


@pytest.fixture
def exactly_by_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes are summed at any length, in float64 too, where PyTorch's ops do it."""

    def sums_modes(op: HyenaOperator, u: Tensor, length: int, segments: Segments | None) -> bool:
        return segments is None and op.filter.modes_sizes is not None  # type: ignore[union-attr]

    monkeypatch.setattr(HyenaOperator, "sums_modes", sums_modes)


@pytest.fixture
def no_state_apart(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A state that is not that of the scan is an error."""
    monkeypatch.setattr(LongFilter, "state_after", lambda *given: pytest.fail("made apart"))
    monkeypatch.setattr(LongFilter, "response", lambda *given: pytest.fail("made apart"))
    return monkeypatch


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("pieces", [False, True])
@each_kind
@torch.no_grad()
def test_the_state_after_a_prompt_is_that_of_the_scan(
    kind: str,
    dtype: torch.dtype,
    tolerance: float,
    order: int,
    pieces: bool,
    exactly_by_modes: None,
    no_state_apart: pytest.MonkeyPatch,
    generator: torch.Generator,
) -> None:
    op, u = make(kind, order, dtype=dtype), draw(generator, 2, 70, D).to(dtype)
    mask = torch.arange(70) >= torch.tensor([[0], [31]])
    found = []
    for padding in (None, mask):
        if pieces:
            given = Input(2, 70, [(slice(0, 2), slice(0, 70))], lambda rows, at: u[rows, at])
            room = Room(None, False)
            made = groups.between_projections(op, given, padding, None, room, 0, Buffers())
            y, state = channels_last(op.out_proj, made.y), made.state
        else:
            y, state = op.prefill(u, mask=padding)
        found.append((padding, y, state))
    no_state_apart.undo()  # and so the modes: by taps
    for padding, y, state in found:
        wanted, expected = op.prefill(u, mask=padding)
        real = mask if padding is not None else slice(None)
        assert_close(y[real], wanted[real], 10 * tolerance)
        assert state is not None
        assert state.settings() == expected.settings()
        for name, x in state.tensors().items():
            assert_close(x, expected.tensors()[name], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("order", [2, 3])
@each_kind
@torch.inference_mode()
def test_a_prompt_goes_on_from_the_state_of_a_scan(
    kind: str,
    dtype: torch.dtype,
    tolerance: float,
    order: int,
    exactly_by_modes: None,
    no_state_apart: pytest.MonkeyPatch,
    generator: torch.Generator,
) -> None:
    op, u = make(kind, order, dtype=dtype), draw(generator, 2, 70, D).to(dtype)
    parts, state = list[Tensor](), None
    for part in u.split([30, 1, 39], dim=1):
        y, state = op.prefill(part, state=state)
        parts.append(y)
    no_state_apart.undo()
    wanted, expected = op.prefill(u)
    assert_close(torch.cat(parts, 1), wanted, 10 * tolerance)
    assert state is not None
    assert state.settings() == expected.settings()
    for name, x in state.tensors().items():
        assert_close(x, expected.tensors()[name], tolerance)
    token = draw(generator, 2, D).to(dtype)
    assert_close(op.step(token, state)[0], op.step(token, expected)[0], 10 * tolerance)


@pytest.mark.cpu
@each_kind
def test_packed_documents_are_not_summed_by_modes(
    kind: str, by_modes: list[int], generator: torch.Generator
) -> None:
    op, u = make(kind, dtype=torch.float32), draw(generator, 1, 30, D).float()
    ids = torch.arange(30)[None] // 13
    expected = torch.cat([op(piece) for piece in u.split([13, 13, 4], dim=1)], dim=1)
    by_modes.clear()
    assert_close(op(u, document_ids=ids), expected, 1e-5)
    assert not by_modes


@pytest.mark.cpu
@each_kind
@torch.no_grad()
def test_by_modes_no_input_changes_an_earlier_output(
    kind: str, by_modes: list[int], generator: torch.Generator
) -> None:
    if library.kernel() is None:
        pytest.skip(f"it takes the kernel: {library.why_not()}")
    u = draw(generator, 1, 60, D).float()
    moved = u.clone()
    moved[:, 40:] = float("inf")
    for block_causal in (False, True):
        op = make(kind, dtype=torch.float32, block_causal=block_causal)
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
        ("poles", kernels.BY_MODES_KEPT, False),
        ("poles", 2 * kernels.BY_MODES_KEPT, True),
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
@each_kind
def test_a_training_step_by_modes_in_pieces_is_that_of_the_whole(
    kind: str, by_modes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose backward pass has no use for the output, and so does not make it again."""
    made: list[None] = []
    gradients_of = native.gradients

    def counted(*given: Any) -> Any:
        made.append(None)
        return gradients_of(*given)

    monkeypatch.setattr(native, "gradients", counted)
    model = small(kind)
    found = [step(model, pieces) for pieces in (False, True)]
    assert_all_close(found[1], found[0], 1e-5)
    layers, parts = 2, len(groups.groups_of(model.blocks[0].mixer, 2, 50, 0, torch.float32))  # type: ignore[arg-type]
    if library.kernel() is not None:
        # Whole once a layer, and in pieces, here shares of a channel, before and after the loss.
        assert by_modes == [50] * (layers + 2 * 8 * layers)
        assert len(made) == layers * parts


@each_kind
@pytest.mark.parametrize("frozen", ["", "poles", "residues", "skip", "short_conv", "mixer"])
def test_gradients_by_modes_in_pieces_are_those_by_taps(
    frozen: str, kind: str, exactly_by_modes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(kind).double()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not frozen or frozen not in name)
    got = step(model, pieces=True)
    monkeypatch.undo()  # by taps
    assert_all_close(got, step(model, pieces=False), 1e-12)


def small(kind: str) -> LanguageModel:
    mixer: dict[str, Any] = {"mixers": "hyena-li"}
    if kind == "poles":
        mixer = {"mixers": "hyena", "filter": FilterConfig(kind="modal", modes=3, groups=2)}
    config = ModelConfig(vocab_size=11, width=8, layers=2, max_length=50, **mixer)
    return LanguageModel(config, generator=torch.Generator().manual_seed(0))


def step(model: LanguageModel, pieces: bool) -> list[Tensor]:
    """The loss of a training step, and the gradient of each parameter."""
    ids = torch.arange(100).view(2, 50) % 11
    model.activation_checkpointing = pieces
    model.working_memory = 0 if pieces else 1 << 40
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "SHORTEST", 1)
        loss = model(ids, targets=ids.roll(-1, 1))
        gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    return [loss.detach(), torch.cat([x.flatten() for x in gradients])]


@pytest.mark.cpu
@torch.no_grad()
def test_of_many_modes_spectra_are_kept() -> None:
    """They are summed where taps are made anew, which takes the longer the more there are."""
    if library.kernel() is None:
        pytest.skip(f"it takes the kernel: {library.why_not()}")
    few, length = kernels.MOST_NUMBERS // 2, 2 * kernels.BY_MODES_KEPT
    for modes in (few, few + 1):
        op = HyenaOperator(D, length, filter=LongFilter(ModalTaps(D, modes), D, length))
        assert op.sums_modes(torch.zeros(1, 1, D), length, None)
        assert op.eval().sums_modes(torch.zeros(1, 1, D), length, None) == (modes == few)
        assert op.keeps_spectra(length) != (modes == few)


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
