"""The Hyena operator against its definition by matrices, and what it promises beyond that."""

import copy
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_definitions import hyena_matrices, hyena_operator
from torch import Tensor

from hyena.filters import HyenaFilter
from hyena.mixers import HyenaOperator
from hyena.ops import Segments
from hyena.ops.native import library

D, M = 4, 12  # width, max_length


def make(order: int = 2, *, dtype: torch.dtype = torch.float64, **options: Any) -> HyenaOperator:
    return HyenaOperator(D, options.pop("max_length", M), order, dtype=dtype, **options)


def unbiased(op: HyenaOperator) -> HyenaOperator:
    """Without the bias at the output, beside which the rest is small as initialised."""
    with torch.no_grad():
        op.out_proj.bias.zero_()
    return op


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("short_width", [1, 3, 5])
@pytest.mark.parametrize("L", [1, 2, 7, M])
def test_equals_the_definition_with_every_gradient(
    L: int, short_width: int, order: int, bidirectional: bool, generator: torch.Generator
) -> None:
    op = make(order, short_width=short_width, bidirectional=bidirectional)
    u = draw(generator, 2, L, D)
    expected = with_module_gradients(op, lambda u: hyena_operator(op, u), u)
    assert_all_close(with_module_gradients(op, op, u), expected, 1e-12)
    with torch.no_grad():  # through kept spectra
        assert_close(op.eval()(u), expected[0], 1e-13)


@pytest.mark.parametrize("order", [2, 3])
def test_an_even_short_width(order: int, generator: torch.Generator) -> None:
    op, u = make(order, short_width=4), draw(generator, 2, 9, D)
    assert_close(op(u), hyena_operator(op, u), 1e-13)


def test_the_naive_backend_is_the_same(generator: torch.Generator) -> None:
    op, u = make(3), draw(generator, 2, M, D)
    naive = make(3, backend="naive")
    naive.load_state_dict(op.state_dict())
    assert_close(naive(u), op(u), 1e-13)
    with torch.no_grad():
        assert_close(naive.eval()(u), op(u), 1e-13)


def test_causal_matrices_are_triangular(generator: torch.Generator) -> None:
    H, _ = hyena_matrices(make(3), draw(generator, M, D))
    assert torch.equal(H, H.tril())
    assert bool(H.diagonal(dim1=1, dim2=2).all())
    H, _ = hyena_matrices(make(3, bidirectional=True), draw(generator, M, D))
    assert bool((H != 0).all())


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("t", [1, 5, M - 1])
def test_causal(t: int, order: int, generator: torch.Generator) -> None:
    u = draw(generator, 2, M, D)
    moved = u.clone()
    moved[:, t] += 1
    exact, fast = make(order, backend="naive"), make(order)
    fast.load_state_dict(exact.state_dict())
    assert torch.equal(exact(moved)[:, :t], exact(u)[:, :t])
    change = fast(moved) - fast(u)
    assert float(change[:, :t].detach().abs().max()) < 1e-14
    assert float(change[:, t:].detach().abs().amin(-1).max()) > 1e-4


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", [2, 3])
def test_block_causal(order: int, packed: bool, generator: torch.Generator) -> None:
    L = 100
    op = make(order, max_length=L, block_causal=True)
    same = make(order, max_length=L)
    same.load_state_dict(op.state_dict())
    u = draw(generator, 2, L, D)
    ids = torch.arange(L).div(60, rounding_mode="floor").expand(2, L) if packed else None
    before = op(u, document_ids=ids)
    expected = with_module_gradients(same, lambda u: same(u, document_ids=ids), u)
    got = with_module_gradients(op, lambda u: op(u, document_ids=ids), u)
    assert_all_close(got, expected, 1e-12)
    with torch.no_grad():  # no kept spectra, which are of whole rows
        assert torch.equal(op.eval()(u, document_ids=ids), before)
    for t in (1, 32, 50, 99):
        for value in (1e30, torch.inf, torch.nan):
            moved = u.clone()
            moved[:, t] = value
            after = op(moved, document_ids=ids)
            assert torch.equal(after[:, :t], before[:, :t])
            assert bool((after[:, t] != before[:, t]).all())
            if packed and t < 60:
                assert torch.equal(after[:, 60:], before[:, 60:])
    with torch.no_grad():
        y, state = op.prefill(u[:, :70])
        assert torch.equal(y, op(u[:, :70]))
        assert_close(op.step(u[:, 70], state)[0], op(u)[:, 70], 1e-12)


def test_the_bidirectional_operator_sees_both_sides(generator: torch.Generator) -> None:
    op, u = make(bidirectional=True), draw(generator, 1, M, D)
    for t in (0, 6, M - 1):
        moved = u.clone()
        moved[:, t] += 1
        assert bool(((op(moved) - op(u)).detach().abs().amax(-1) > 1e-10).all())


def test_lag_zero_counts_once(generator: torch.Generator) -> None:
    """With the filter zero but at lag 0, the convolution multiplies by h_0 + skip."""

    class LagZero(HyenaFilter):
        def forward(self, length: int) -> Tensor:
            h = torch.zeros(1, D, 2 * length - 1, dtype=torch.float64)
            h[..., length - 1] = 0.5
            return h

    op = make(
        bidirectional=True,
        short_width=1,
        filter=LagZero(D, M, bidirectional=True, dtype=torch.float64),
    )
    u = draw(generator, 2, M, D)
    z = op.in_proj(u) * op.centred_short_conv.weight[:, 0] + op.centred_short_conv.bias
    x0, x1, v = z.split(D, dim=-1)
    expected = op.out_proj(x0 * (0.5 + op.two_sided_filter.skip[0]) * x1 * v)
    assert_close(op(u), expected, 1e-13)


def test_the_order_of_the_projections_and_of_the_filters(generator: torch.Generator) -> None:
    """The last gate is applied first, with the first filter; the first gate comes last."""
    op, u = make(3, short_width=1), draw(generator, 1, 1, D)
    z = op.in_proj(u) * op.short_conv.weight[:, 0] + op.short_conv.bias
    x0, x1, x2, v = z.split(D, dim=-1)
    tap = op.filter(1)[..., 0] + op.filter.skip
    assert_close(op(u), op.out_proj(x0 * tap[1] * x1 * tap[0] * x2 * v), 1e-13)


def test_float32(generator: torch.Generator) -> None:
    op = unbiased(make(3, max_length=300))
    u = draw(generator, 2, 300, D)
    narrow = copy.deepcopy(op).float()
    assert_close(narrow(u.float()), op(u), 1e-4, dtype=torch.float32)
    # What the float32 filter loses to its sine network is not the convolutions' doing.
    h = narrow.filter(300)
    op.filter.forward = lambda length: h.double()  # type: ignore[method-assign]
    assert_close(narrow(u.float()), op(u), 2e-6, dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_modules(dtype: torch.dtype, generator: torch.Generator) -> None:
    narrow = unbiased(make(3, max_length=100, dtype=dtype))
    wide = copy.deepcopy(narrow).double()
    u = draw(generator, 2, 100, D).to(dtype)
    tolerance = 3e-2 if dtype == torch.bfloat16 else 4e-3
    assert_close(narrow(u), wide(u.double()), tolerance, dtype=dtype)
    with torch.no_grad():
        y, state = narrow.eval().prefill(u[:, :-1])
        last, state = narrow.step(u[:, -1], state)
        assert_close(last, wide(u.double())[:, -1], 2 * tolerance, dtype=dtype)
    tensors = state.tensors()
    assert {x.dtype for x in (y, tensors["short"], tensors["inputs"])} == {dtype}
    assert tensors["line"].dtype == torch.float32  # sums


@pytest.mark.cpu
def test_autocast(generator: torch.Generator) -> None:
    op = unbiased(make(3, max_length=100, dtype=torch.float32))
    u = draw(generator, 2, 100, D).float()
    with torch.autocast("cpu", torch.bfloat16):
        got = with_module_gradients(op, op, u)
        with torch.no_grad():
            op.eval()
            _, state = op.prefill(u[:, :-1])
            last, _ = op.step(u[:, -1], state)
            op.train()
    expected = with_module_gradients(op, op, u)
    assert got[0].dtype == last.dtype == torch.bfloat16
    assert_close(got[0], expected[0], 2e-2, dtype=torch.bfloat16)
    assert_close(last, expected[0][:, -1], 4e-2, dtype=torch.bfloat16)
    assert_all_close(got[1:], expected[1:], 4e-2, dtype=torch.float32)


def test_dropout_in_training_only(generator: torch.Generator) -> None:
    op, u = make(3, dropout=0.5), draw(generator, 2, M, D)
    plain = make(3)
    plain.load_state_dict(op.state_dict())
    assert torch.equal(op.eval()(u), plain(u))
    op.train()
    first, second = op(u), op(u)
    assert not torch.equal(first, second)
    assert not torch.allclose(first, plain(u))
    torch.manual_seed(0)
    first = op(u)
    torch.manual_seed(0)
    assert torch.equal(op(u), first)


@pytest.mark.parametrize("shape", [(0, 5, D), (2, 0, D)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_empty_inputs(shape: tuple[int, ...], bidirectional: bool) -> None:
    op = make(bidirectional=bidirectional)
    u = torch.zeros(shape, dtype=torch.float64)
    mask = torch.ones(shape[:2], dtype=torch.bool)
    ids = torch.zeros(shape[:2], dtype=torch.int64)
    for options in ({}, {"mask": mask}, {"document_ids": ids}):
        assert op(u, **options).shape == shape
    with torch.no_grad():
        assert op.eval()(u).shape == shape


def test_any_strides(generator: torch.Generator) -> None:
    op, u = make(), draw(generator, 3, M, D)
    assert_close(op(u.transpose(0, 1).contiguous().transpose(0, 1)), op(u), 1e-14)


def test_meta_device() -> None:
    op = HyenaOperator(D, M, 3, device="meta")
    assert op(torch.zeros(2, M, D, device="meta")).shape == (2, M, D)
    with torch.no_grad():
        assert op.eval()(torch.zeros(2, M, D, device="meta")).is_meta


def test_a_copy_and_a_loaded_state_are_the_same_operator(generator: torch.Generator) -> None:
    op, u = make(3).eval(), draw(generator, 2, M, D)
    with torch.no_grad():
        expected = op(u)
        assert torch.equal(copy.deepcopy(op)(u), expected)
        other = make(3).eval()
        assert not torch.allclose(other(u), expected)
        other.load_state_dict(op.state_dict())
        assert torch.equal(other(u), expected)


def test_a_causal_state_is_refused_by_the_bidirectional_operator() -> None:
    causal, bidirectional = make(), make(bidirectional=True)
    with pytest.raises(RuntimeError, match=r'Missing key.*"two_sided_filter\.skip"'):
        bidirectional.load_state_dict(causal.state_dict())
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"centred_short_conv\.weight"'):
        causal.load_state_dict(bidirectional.state_dict())


def test_gradients_of_each_sample(generator: torch.Generator) -> None:
    op, u = make(3), draw(generator, 3, M, D)
    parameters = {n: p.detach() for n, p in op.named_parameters()}

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(op, parameters, (row[None],)).pow(2).sum()

    gradient = torch.func.grad(loss)
    for training in (True, False):
        op.train(training)
        got = torch.func.vmap(gradient, (None, 0))(parameters, u)
        for i, row in enumerate(u):
            expected = gradient(parameters, row)
            assert_all_close([got[n][i] for n in parameters], list(expected.values()), 1e-12)


def test_an_ensemble_by_vmap(generator: torch.Generator) -> None:
    op, u = make(3).eval(), draw(generator, 2, M, D)
    stacked = {n: torch.stack([p, 1.1 * p]) for n, p in op.state_dict().items()}

    def call(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(op, parameters, (u,))

    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            got = torch.func.vmap(call)(stacked)
            assert_close(got[0], op(u), 1e-13)
            assert_close(got[1], call({n: p[1] for n, p in stacked.items()}), 1e-13)


# PyTorch's tracer makes an instance of the autograd function, of which PyTorch warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_compiles_to_one_graph(
    training: bool, bidirectional: bool, generator: torch.Generator
) -> None:
    op = make(3, bidirectional=bidirectional).train(training)
    u = draw(generator, 2, M, D)
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(training):
        if training:
            expected = with_module_gradients(op, op, u)
            assert_all_close(with_module_gradients(op, compiled, u), expected, 1e-14)
        else:
            assert_close(compiled(u), op(u), 1e-13)


# Lengths.


def test_by_default_a_longer_input_is_refused(generator: torch.Generator) -> None:
    for op in (make(), make(bidirectional=True), make().eval()):
        with pytest.raises(ValueError, match=r"^the input is 13 long but max_length is 12; "):
            op(draw(generator, 1, M + 1, D))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("policy", ["extrapolate", "interpolate"])
def test_a_longer_input(policy: Any, bidirectional: bool, generator: torch.Generator) -> None:
    op = make(3, length_policy=policy, bidirectional=bidirectional)
    u = draw(generator, 2, 2 * M + 1, D)
    expected = hyena_operator(op, u)
    assert_close(op(u), expected, 1e-12)
    with torch.no_grad():
        assert_close(op.eval()(u), expected, 1e-12)


def test_extrapolation_does_not_change_what_came_before(generator: torch.Generator) -> None:
    op, u = make(length_policy="extrapolate"), draw(generator, 2, 2 * M, D)
    assert_close(op(u)[:, :M], op(u[:, :M]), 1e-13)


def test_packed_documents_are_measured_one_by_one(generator: torch.Generator) -> None:
    """A row may be longer than max_length if none of its documents is."""
    op, u = make(), draw(generator, 1, 2 * M, D)
    ids = torch.arange(2).repeat_interleave(M)[None]
    assert_close(op(u, document_ids=ids), torch.cat([op(u[:, :M]), op(u[:, M:])], 1), 1e-13)


def test_interpolation_needs_one_length_for_all(generator: torch.Generator) -> None:
    op, u = make(length_policy="interpolate"), draw(generator, 1, M + 2, D)
    mask = torch.ones(1, M + 2, dtype=torch.bool)
    ids = torch.tensor([[0] * (M + 1) + [1]])
    for options in ({"mask": mask}, {"document_ids": ids}):
        with pytest.raises(
            ValueError,
            match=(
                r"^the length 1[34] of a padded row or packed document exceeds max_length 12: with "
                r'length_policy "interpolate" each would need a filter of its own length; '
            ),
        ):
            op(u, **options)
    short = torch.tensor([[0] * M + [1] * 2])
    expected = torch.cat([op(u[:, :M]), op(u[:, M:])], 1)
    assert_close(op(u, document_ids=short), expected, 1e-13)
    assert_close(op(u, document_ids=short, mask=mask), expected, 1e-13)


# Messages.


@pytest.mark.parametrize("filter", ["hyena", 3, HyenaFilter, torch.nn.Conv1d(1, 1, 1)])
def test_what_is_no_filter_is_refused(filter: Any) -> None:
    with pytest.raises(TypeError, match=r"^HyenaOperator: expected as filter a HyenaFilter or a L"):
        HyenaOperator(D, M, filter=filter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 1}, r"expected order ≥ 2, got 1$"),
        (
            {"short_width": 4, "bidirectional": True},
            r"bidirectional needs an odd short_width, to have a middle tap; got 4$",
        ),
        (
            {"filter": HyenaFilter(D, M, filters=2)},
            r"the filter does not fit; expected \(channels, filters, max_length, bidirectional\) = "
            r"\(4, 1, 12, False\), got \(4, 2, 12, False\)$",
        ),
        ({"dropout": 1.0}, r"expected 0 ≤ dropout < 1, got 1\.0$"),
        (
            {"block_causal": True, "bidirectional": True},
            r"block_causal keeps the future out, but bidirectional asks for it; drop one of them$",
        ),
        (
            {"filter": HyenaFilter(D, M), "length_policy": "error"},
            r"length_policy belongs to the filter; give it to the filter's constructor when you ",
        ),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^HyenaOperator: {message}"):
        HyenaOperator(**{"width": D, "max_length": M, **options})


@pytest.mark.cpu
def test_unknown_settings() -> None:
    with pytest.raises(ValueError, match=r"^length_policy='cut' is unknown"):
        make(length_policy="cut")
    with pytest.raises(ValueError, match=r"^backend='fast' is unknown"):
        make(backend="fast")
    absent = pytest.raises(
        RuntimeError, match=r'^backend="native" was asked for, but the kernel did'
    )
    with library.use("none"), absent:
        make(backend="native")


@pytest.mark.parametrize("call", ["prefill", "step"])
def test_a_bidirectional_operator_cannot_generate(call: str) -> None:
    op = make(bidirectional=True)
    with pytest.raises(
        ValueError, match=rf"^HyenaOperator\.{call}: a bidirectional operator sees "
    ):
        getattr(op, call)(torch.zeros(1, 2, D), *([None] if call == "step" else []))


def test_segments_are_taken_as_they_are(generator: torch.Generator) -> None:
    op, u = make(), draw(generator, 2, M, D)
    ids = torch.arange(M).div(5, rounding_mode="floor").expand(2, M)
    assert torch.equal(op(u, document_ids=Segments.from_document_ids(ids)), op(u, document_ids=ids))
