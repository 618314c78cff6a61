"""Hyena operators whose filters are those of StripedHyena: few taps in groups, poles, real modes;
and operators without biases. Their definition, a state of one size, and what older states do."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import generate
from torch import Tensor, nn

from hyena import LanguageModel, ModelConfig
from hyena.filters import ExplicitTaps, HyenaFilter, LongFilter, ModalTaps, RealModalTaps, long
from hyena.generation.state_file import load_state, save_state
from hyena.mixers import HyenaOperator, HyenaState
from hyena.mixers.hyena.groups import Group
from hyena.model import FilterConfig
from hyena.ops.stepping.finite import FiniteState
from hyena.ops.stepping.online import OnlineState
from hyena.ops.stepping.recurrence import RecurrentState

D, M = 8, 300

TAPS: dict[str, Callable[..., nn.Module]] = {
    "one tap": lambda F, **place: ExplicitTaps(D, 1, filters=F, **place),
    "short": lambda F, **place: ExplicitTaps(D, 7, filters=F, groups=2, **place),
    "medium": lambda F, **place: ExplicitTaps(D, 64, filters=F, groups=4, decay=True, **place),
    "128 taps": lambda F, **place: ExplicitTaps(D, 128, filters=F, groups=4, **place),
    "longer than the input": lambda F, **place: ExplicitTaps(D, 2 * M, filters=F, **place),
    "poles": lambda F, **place: ModalTaps(D, 3, filters=F, groups=2, **place),
    "real modes": lambda F, **place: RealModalTaps(D, 16, filters=F, **place),
}
each_kind = pytest.mark.parametrize("kind", TAPS)
ENDING = ["one tap", "short", "medium", "128 taps", "longer than the input"]


def make(
    kind: str,
    order: int = 2,
    *,
    skip: bool = True,
    dtype: torch.dtype = torch.float64,
    policy: str = "extrapolate",
    **options: Any,
) -> HyenaOperator:
    place: dict[str, Any] = {"filters": order - 1, "dtype": torch.float64}
    taps = TAPS[kind](order - 1, dtype=torch.float64)
    filter = LongFilter(taps, D, M, skip=skip, length_policy=policy, **place)  # type: ignore[arg-type]
    op = HyenaOperator(D, M, order, filter=filter, dtype=torch.float64, **options)
    with torch.no_grad():  # beside which the rest is small as initialised
        op.out_proj.bias.zero_()
        op.in_proj.weight.mul_(2)
    return op.to(dtype).eval()


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def taps_by_definition(taps: Any, length: int) -> Tensor:
    """(F, D, L), power by power or tap by tap, from the parameters."""
    if isinstance(taps, ExplicitTaps):
        F, G, K = taps.weight.shape
        rates = [10 ** (2 * g / max(G - 1, 1)) for g in range(G)]
        window = torch.tensor(
            [[-a * j / max(K - 1, 1) for j in range(K)] for a in rates], dtype=torch.float64
        ).exp()
        h = taps.weight * window if taps.decay else taps.weight
        h = torch.cat([h, torch.zeros(F, G, length, dtype=h.dtype)], dim=-1)[..., :length]
    else:
        if isinstance(taps, ModalTaps):
            step, weight = torch.view_as_complex(taps.poles), torch.view_as_complex(taps.residues)
        else:
            step, weight = taps.log_poles.exp(), taps.residues
        power, rows = torch.ones_like(step), []
        for _ in range(length):
            rows.append((weight * power).sum(-1).real)
            power = power * step
        h = torch.stack(rows, dim=-1)
    return h.repeat_interleave(D // h.shape[1], dim=1)


def by_definition(op: HyenaOperator, u: Tensor) -> Tensor:
    """From the parameters, lag by lag."""
    filter, L = op.filter, u.shape[1]
    assert isinstance(filter, LongFilter)

    def convolved(x: Tensor, k: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for j in range(min(k.shape[1], L)):
            y = y + k[:, j, None] * torch.cat([x.new_zeros(*x.shape[:2], j), x[..., : L - j]], -1)
        return y

    z = u @ op.in_proj.weight.t()
    if op.in_proj.bias is not None:
        z = z + op.in_proj.bias
    z = convolved(z.transpose(1, 2), op.short_conv.weight)
    if op.short_conv.bias is not None:
        z = z + op.short_conv.bias[:, None]
    *gates, v = z.split(D, dim=1)
    h = taps_by_definition(filter.taps, L)
    for i, gate in enumerate(reversed(gates[1:])):
        v = v * gate
        v = convolved(v, h[i]) + (0 if filter.skip is None else filter.skip[i, :, None] * v)
    return (v * gates[0]).transpose(1, 2) @ op.out_proj.weight.t() + op.out_proj.bias


@each_kind
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("L", [1, 5, 40])
def test_equals_the_definition_with_every_gradient(
    kind: str, order: int, L: int, generator: torch.Generator
) -> None:
    for skip, bias in ((True, False), (False, True)):
        op, u = make(kind, order, skip=skip, bias=bias), draw(generator, 2, L, D)
        expected = _without_zeros(op, lambda u, op=op: by_definition(op, u), u)
        got = _without_zeros(op, op, u)
        assert_all_close(got, expected, 1e-10)
        with torch.no_grad():
            assert_close(op(u), expected[0], 1e-11)


def _without_zeros(op: HyenaOperator, f: Callable[[Tensor], Tensor], u: Tensor) -> list[Tensor]:
    """As `with_module_gradients`, without gradients that are zero: of one position most poles have
    none."""
    y, of_u, *found = with_module_gradients(op, lambda u: f(u) + 0 * _all(op), u)
    return [y, of_u, *(x for x in found if float(x.abs().max()) > 1e-14)]


def _all(op: HyenaOperator) -> Tensor:
    return torch.stack([p.sum() for p in op.parameters()]).sum()


@each_kind
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("L", [1, 63, M])
def test_in_float32_as_the_kernel_makes_it(
    kind: str, order: int, L: int, generator: torch.Generator
) -> None:
    for skip, bias in ((True, False), (False, True)):
        exact, u = make(kind, order, skip=skip, bias=bias), draw(generator, 2, L, D)
        op = copy.deepcopy(exact).float()
        expected = with_module_gradients(exact, exact, u)
        got = with_module_gradients(op, op, u.float())
        assert_all_close(got[:2], expected[:2], 1e-5, dtype=torch.float32)
        for a, b in zip(got[2:], expected[2:], strict=True):
            if float(b.norm()) > 1e-10:  # of one position most poles have none
                assert_close(a, b, 1e-4, dtype=torch.float32)
        with torch.no_grad():
            assert_close(op(u.float()), by_definition(exact, u), 1e-5, dtype=torch.float32)


@pytest.mark.cpu
@each_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_narrow_dtypes(kind: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    op, u = make(kind, bias=False).to(dtype), draw(generator, 2, 50, D).to(dtype)
    expected = copy.deepcopy(op).double()(u.double())
    bound = {torch.bfloat16: 4e-2, torch.float16: 5e-3}[dtype]
    with torch.no_grad():
        assert_close(op(u), expected, bound, dtype=dtype)
        assert_close(generate(op, u, 20)[0], expected, bound, dtype=dtype)


@each_kind
@pytest.mark.parametrize("backend", ["torch", "naive"])
@torch.no_grad()
def test_each_backend(kind: str, backend: Any, generator: torch.Generator) -> None:
    op, u = make(kind, 3), draw(generator, 2, 60, D)
    expected = op(u)
    op.backend = backend
    assert_close(op(u), expected, 1e-11)
    assert_close(generate(op, u, 20)[0], expected, 1e-11)


@each_kind
@torch.no_grad()
def test_block_causal(kind: str, generator: torch.Generator) -> None:
    op, u = make(kind, block_causal=True), draw(generator, 1, 60, D)
    y = op(u)
    assert_close(y, by_definition(op, u), 1e-11)
    moved = u.clone()
    moved[:, 40:] = float("inf")
    assert torch.equal(op(moved)[:, :40], y[:, :40])


@each_kind
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
@torch.no_grad()
def test_prefill_and_steps_equal_forward(
    kind: str, order: int, dtype: torch.dtype, bound: float, generator: torch.Generator
) -> None:
    op = make(kind, order, bias=False, dtype=dtype)
    u = draw(generator, 3, 150, D).to(dtype)
    expected = op(u)
    for prompt in (1, 2, 6, 7, 100):  # fewer than taps and more
        for options in ({}, {"future": 1}, {"future": 2, "keep_inputs": True}):
            y, state = generate(op, u, prompt, **options)  # type: ignore[arg-type]
            assert_close(y, expected, bound)
    assert isinstance(state.long, FiniteState if kind in ENDING else RecurrentState)


@each_kind
@torch.no_grad()
def test_pieces_of_a_prompt(kind: str, generator: torch.Generator) -> None:
    op, u = make(kind, 3), draw(generator, 2, 240, D)
    expected = op(u)
    for pieces in ((1, 1, 1), (2, 5, 3), (3, 0, 0, 4, 0, 100), (130, 0, 1, 0, 60)):
        at, state, found = 0, None, []
        for size in (*pieces, *[0] * 20):
            if size == 0:
                y, state = op.step(u[:, at], state)
                found.append(y[:, None])
            else:
                y, state = op.prefill(u[:, at : at + size], state=state)
                found.append(y)
            at += max(size, 1)
        assert_close(torch.cat(found, dim=1), expected[:, :at], 1e-11)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@torch.no_grad()
def test_a_state_of_one_size(kind: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    op, u = make(kind, 3, dtype=dtype), draw(generator, 2, 200, D).to(dtype)
    sizes = set()
    for prompt in (1, 10, 190):
        _, state = op.prefill(u[:, :prompt])
        for t in range(prompt, prompt + 10):
            sizes.add(sum(x.numel() for x in state.tensors().values()))
            _, state = op.step(u[:, t], state)
    taps: Any = op.filter.taps
    numbers = {
        "poles": lambda: 2 * 3,
        "real modes": lambda: 16,
    }.get(kind, lambda: taps.support - 1)()
    assert sizes == {2 * (2 * D * numbers + 4 * D * 2)}
    assert len({op.state_size(n, future) for n in (0, 10**6) for future in (None, 9)}) == 1


@pytest.mark.parametrize("kind", ENDING)
@torch.no_grad()
def test_a_state_that_an_older_version_wrote_goes_on(
    kind: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When filters that end were planned for as all others."""
    op, u = make(kind, 3), draw(generator, 2, 120, D)
    expected = op(u)
    with monkeypatch.context() as older:
        older.setattr(long, "MOST_FINITE", 0)
        _, state = op.prefill(u[:, :30])
        assert isinstance(state.long, OnlineState)
        _, state = op.step(u[:, 30], state)
    stored = HyenaState.from_tensors(
        {name: x.clone() for name, x in state.tensors().items()}, dict(state.settings())
    )
    for each in (state, stored):
        y, each = op.step(u[:, 31], each)
        assert_close(y, expected[:, 31], 1e-11)
        y, each = op.prefill(u[:, 32:50], state=each)
        assert_close(y, expected[:, 32:50], 1e-11)
        for t in range(50, 120):
            y, each = op.step(u[:, t], each)
            assert_close(y, expected[:, t], 1e-11)


@torch.no_grad()
def test_states_of_other_filters_are_refused(generator: torch.Generator) -> None:
    u = draw(generator, 1, 9, D)
    ops = [make(kind) for kind in ("short", "medium", "poles", "real modes")]
    for op in ops:
        _, state = op.prefill(u)
        for other in ops:
            if other is not op:
                with pytest.raises(ValueError, match=r"HyenaOperator\.step: the state, a HyenaSta"):
                    other.step(u[:, 0], state)
                with pytest.raises(ValueError, match=r"HyenaOperator\.prefill: the state, a Hyena"):
                    other.prefill(u, state=state)
        op.step(u[:, 0], state)


@pytest.mark.parametrize("kind", ["short", "real modes"])
@torch.no_grad()
def test_a_sequence_ends_at_max_length_by_policy(kind: str, generator: torch.Generator) -> None:
    op, u = make(kind, policy="error"), draw(generator, 1, M + 1, D)
    with pytest.raises(ValueError, match=rf"^the input is {M + 1} long but max_length is {M}"):
        op(u)
    _, state = op.prefill(u[:, :-1])
    for call in (lambda: op.step(u[:, 0], state), lambda: op.prefill(u[:, :1], state=state)):
        with pytest.raises(ValueError, match=rf"^the input is {M + 1} long but max_length is {M}"):
            call()


@pytest.mark.parametrize("kind", ["short", "medium", "real modes"])
@torch.no_grad()
def test_weights_that_change_count_for_copies_as_well(
    kind: str, generator: torch.Generator
) -> None:
    op, u = make(kind, dtype=torch.float32), draw(generator, 2, 200, D).float()
    _, state = op.prefill(u[:, :100])
    for t in range(100, 110):
        _, state = op.step(u[:, t], state)
    kept = copy.deepcopy(state)
    for parameter in op.parameters():
        parameter.mul_(1.01)
    for t in range(110, 180):
        y, state = op.step(u[:, t], state)
        z, kept = op.step(u[:, t], kept)
        assert torch.equal(y, z)


@torch.no_grad()
def test_states_of_models_in_files(tmp_path: Path) -> None:
    filter = FilterConfig(kind="explicit", taps=5)
    config = ModelConfig(vocab_size=11, width=8, layers=2, max_length=40, filter=filter)
    model, ids = LanguageModel(config).eval(), torch.arange(20).view(2, 10) % 11
    _, state = model.prefill(ids)
    _, state = model.step(ids[:, 0], state)
    assert isinstance(state.layers[0].long, FiniteState)
    save_state(state, tmp_path / "state")
    loaded = load_state(tmp_path / "state")
    for t in range(1, 10):
        expected, state = model.step(ids[:, t], state)
        found, loaded = model.step(ids[:, t], loaded)
        assert torch.equal(found, expected)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["short", "poles", "real modes"])
@pytest.mark.parametrize("training", [True, False])
def test_compiles_to_one_graph(kind: str, training: bool, generator: torch.Generator) -> None:
    torch.compiler.reset()
    op = make(kind, skip=False, bias=False, dtype=torch.float32).train(training)
    u = draw(generator, 2, 40, D).float()
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(training):
        assert_close(compiled(u), op(u), 1e-5)


def test_without_biases(generator: torch.Generator) -> None:
    op = HyenaOperator(D, M, 3, bias=False, dtype=torch.float64).eval()
    other = HyenaOperator(D, M, 3, dtype=torch.float64).eval()
    assert set(other.state_dict()) - set(op.state_dict()) == {"in_proj.bias", "short_conv.bias"}
    with torch.no_grad():
        other.in_proj.bias.zero_()
        assert other.short_conv.bias is not None
        other.short_conv.bias.zero_()
    other.load_state_dict(op.state_dict(), strict=False)
    u = draw(generator, 2, 50, D)
    assert_close(op(u), other(u), 1e-13)
    mask = torch.arange(50) >= torch.tensor([[0], [7]])
    assert_close(op(u, mask=mask)[mask], other(u, mask=mask)[mask], 1e-13)
    with torch.no_grad():
        assert_close(generate(op, u, 20)[0], other(u), 1e-11)
        op, other, u = op.float(), other.float(), u.float()
        assert_close(op(u), other(u), 1e-6)  # through the kernel
        assert_close(generate(op, u, 20)[0], other(u), 1e-5)
    narrow = torch.bfloat16
    with torch.autocast("cpu", narrow), torch.no_grad():
        assert_close(op(u), other(u), 2e-2, dtype=narrow)
    group = Group(op, slice(2, 5))
    assert group.bias.shape == group.short[1].shape == (4 * 3,)
    assert not group.bias.any()
    assert not group.short[1].any()
    assert not group.bias.requires_grad


def test_a_filter_of_a_network_has_a_skip_of_its_own() -> None:
    filter = HyenaFilter(D, M)
    assert filter.direct is filter.skip
