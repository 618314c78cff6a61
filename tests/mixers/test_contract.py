"""What every mixer promises, whatever its formula; a mixer is a row in CASES."""

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from states import numbers_held
from torch import Tensor, nn

from hyena.filters import DiagonalSSM, HyenaFilter, LongFilter
from hyena.mixers import (
    GSS,
    H3,
    RWKV,
    S4D,
    SPECS,
    AFTConv,
    CausalSelfAttention,
    HyenaOperator,
    LinearAttention,
)
from hyena.mixers.rivals.mamba2 import Mamba2
from hyena.ops import Segments

D, M = 8, 24
Make = Callable[..., Any]


def hyena(order: int, **options: Any) -> Make:
    return lambda **place: HyenaOperator(D, M, order, **options, **place)


def recurrent(**place: Any) -> HyenaOperator:
    taps = DiagonalSSM(D, filters=2, state=6, **place)
    return HyenaOperator(D, M, 3, filter=LongFilter(taps, D, M, filters=2, **place), **place)


def trained_table(**place: Any) -> HyenaOperator:
    filter = HyenaFilter(D, M, train_encoding=True, **place)
    return HyenaOperator(D, M, filter=filter, **place)


def aft_conv(taps: int) -> Make:
    def make(**place: Any) -> AFTConv:
        mixer = AFTConv(D, taps=taps, **place)
        with torch.no_grad():  # which begin at zero
            mixer.gain.normal_()
            mixer.offset.normal_()
        # To all in the window it is the same: where nothing is outside, its gradient is rounding.
        mixer.offset.requires_grad_(False)
        return mixer

    return make


# By name in a model's configuration, and what is special about the case.
CASES: dict[str, Make] = {
    "hyena": hyena(2),
    "hyena, order 3": hyena(3, short_width=5),
    "hyena, naive": hyena(2, backend="naive"),
    "hyena, recurrences": recurrent,
    "hyena, trained table": trained_table,
    "attention": lambda **place: CausalSelfAttention(D, head_dim=2, **place),
    "linear-attention": lambda **place: LinearAttention(D, head_dim=2, **place),
    "rwkv": lambda **place: RWKV(D, **place),
    "aft-conv": aft_conv(4),
    "aft-conv, long window": aft_conv(32),
    "mamba2": lambda **place: Mamba2(D, head_dim=4, state=6, **place),
    "s4d": lambda **place: S4D(D, state=6, **place),
    "h3": lambda **place: H3(D, state=6, **place),
    "h3, heads": lambda **place: H3(D, head_dim=2, state=6, **place),
    "gss": lambda **place: GSS(D, state=6, **place),
}
each_mixer = pytest.mark.parametrize("name", CASES)


def build(name: str, **place: Any) -> Any:
    return CASES[name](**{"dtype": torch.float64, **place})


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def generate(
    mixer: Any,
    u: Tensor,
    prompt: int,
    mask: Tensor | None = None,
    future: int | None = None,
    keep_inputs: bool = False,
) -> tuple[Tensor, Any]:
    """The outputs of a prefill of ``prompt`` tokens and of steps for the others, (B, L, D)."""
    y, state = mixer.prefill(
        u[:, :prompt],
        mask=None if mask is None else mask[:, :prompt],
        future=future,
        keep_inputs=keep_inputs,
    )
    outputs = [y]
    for t in range(prompt, u.shape[1]):
        y, state = mixer.step(u[:, t], state)
        assert y.shape == (u.shape[0], D)
        outputs.append(y[:, None])
    return torch.cat(outputs, dim=1), state


def test_every_mixer_has_a_case() -> None:
    assert {name.split(",")[0] for name in CASES} == set(SPECS)
    for name in CASES:
        spec = SPECS[name.split(",")[0]]
        assert type(build(name)) is spec.type
        _, state = build(name).prefill(torch.zeros(1, 2, D, dtype=torch.float64))
        assert type(state) is spec.state


def test_the_page_describes_every_mixer() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mixers.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^mixers = \{\n(.*?)^\}", page, re.M | re.S)
    assert set(re.findall(r'"(\S+)":', block)) == set(SPECS)
    classes = {spec.type.__name__ for spec in SPECS.values()}
    assert {name for name in classes if f"`{name}`" not in page} == set()
    table = page[page.index("| mixer | state |") :].split("\n\n")[0]
    assert len(table.splitlines()) == 2 + len(SPECS)


@each_mixer
def test_causal(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 2, 20, D)
    for t in (1, 7, 19):
        moved = u.clone()
        moved[:, t] += 1
        change = (mixer(moved) - mixer(u)).detach().abs()
        assert float(change[:, :t].max()) < 1e-13
        assert bool((change[:, t:].amax(-1) > 1e-9).all())


# Prefill and steps


@each_mixer
@pytest.mark.parametrize("training", [True, False])
def test_prefill_and_steps_equal_forward(
    name: str, training: bool, generator: torch.Generator
) -> None:
    mixer, u = build(name).train(training), draw(generator, 2, M, D)
    with torch.no_grad():
        for prompt in (1, 2, 9, M):
            assert_close(generate(mixer, u, prompt)[0], mixer(u), 1e-11)


@each_mixer
def test_prompts_with_padding_on_the_left(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 3, M, D)
    mask = torch.ones(3, M, dtype=torch.bool)
    for row, padding in enumerate((4, 0, 3)):
        mask[row, :padding] = False
        u[row, :padding] = float("nan")
    with torch.no_grad():
        for prompt in (5, 8):
            y, _ = generate(mixer, u, prompt, mask)
            for row, padding in enumerate((4, 0, 3)):
                assert_close(y[row, padding:], mixer(u[row : row + 1, padding:])[0], 1e-11)


@each_mixer
def test_planned_for_the_tokens_to_come(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, M, D)
    with torch.no_grad():
        for prompt in (1, 5, 9):
            y, _ = generate(mixer, u, prompt, future=M - prompt)
            assert_close(y, mixer(u), 1e-11)
            kept, _ = generate(mixer, u, prompt, future=2, keep_inputs=True)
            assert_close(kept, mixer(u), 1e-11)


@each_mixer
def test_gradients_flow_through_a_state_or_are_refused(
    name: str, generator: torch.Generator
) -> None:
    mixer, u = build(name), draw(generator, 2, 9, D)
    if issubclass(SPECS[name.split(",")[0]].state, tuple):  # a step makes a new one
        expected = with_module_gradients(mixer, mixer, u)
        got = with_module_gradients(mixer, lambda u: generate(mixer, u, 4)[0], u)
        assert_all_close(got, expected, 1e-10)
        return
    message = f"{type(mixer).__name__}.step: generation records no gradients; call it under torch."
    for frozen in (False, True):
        y, state = mixer.requires_grad_(not frozen).prefill(u.requires_grad_(), future=3)
        assert y.requires_grad  # of the prompt it is there
        assert not any(x.requires_grad for x in state.tensors().values())
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            mixer.step(u[:, 0], state)
    assert not mixer.step(u[:, 0].detach(), state)[0].requires_grad


@pytest.mark.parametrize("future", [None, 4])
@each_mixer
def test_a_copy_goes_on_by_itself(
    name: str, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :5], future=future)
        _, state = mixer.step(u[:, 5], state)
        other = state.copy()
        before = {key: x.clone() for key, x in other.tensors().items()}
        first, state = mixer.step(u[:, 6], state)
        mixer.step(u[:, 7], state)
        assert all(torch.equal(x, before[key]) for key, x in other.tensors().items())
        again, _ = mixer.step(u[:, 6], other.copy())
        fork, other = mixer.step(u[:, 8], other)
        assert torch.equal(first, again)
        assert_close(fork, mixer(torch.cat([u[:, :6], u[:, 8:]], dim=1))[:, -1], 1e-11)


@pytest.mark.parametrize("future", [None, 6])
@each_mixer
def test_rows_are_chosen_and_joined(
    name: str, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 3, 9, D)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, :2] = False
    with torch.no_grad():
        expected, _ = generate(mixer, u, 4, mask, future)
        _, state = mixer.prefill(u[:, :4], mask=mask[:, :4], future=future)
        _, state = mixer.step(u[:, 4], state)
        for rows in ([2, 0, 0], torch.tensor([1]), [1, 2], []):
            y, _ = mixer.step(u[rows, 5], state.select(rows))
            assert_close(y, expected[rows, 5], 1e-11)
        joined = type(state).join([state.select([2]), state.select([0, 1])])
        order = [2, 0, 1]
        for t in range(5, 9):
            y, joined = mixer.step(u[order, t], joined)
            assert_close(y, expected[order, t], 1e-11)
        y, state = mixer.step(u[:, 5], state)  # which none of this touched
        assert_close(y, expected[:, 5], 1e-11)


@each_mixer
def test_states_that_cannot_be_joined(name: str, generator: torch.Generator) -> None:
    mixer = build(name).eval()
    kind = SPECS[name.split(",")[0]].state
    with pytest.raises(ValueError, match=f"^{kind.__name__}.join: expected at least one state"):
        kind.join([])
    if not issubclass(kind, tuple):
        states = [mixer.prefill(draw(generator, 1, n, D))[1] for n in (4, 5)]
        with pytest.raises(ValueError, match=rf"^{kind.__name__}\.join: "):
            kind.join(states)


@pytest.mark.parametrize("future", [None, 5])
@each_mixer
def test_stored_and_taken_up_again(
    name: str, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :4], future=future)
        for t in range(4, 9):
            tensors = {key: x.clone() for key, x in state.tensors().items()}
            assert not any(x.is_complex() for x in tensors.values())  # which files do not hold
            again = type(state).from_tensors(tensors, dict(state.settings()))
            expected, state = mixer.step(u[:, t], state)
            assert torch.equal(mixer.step(u[:, t], again)[0], expected)


@each_mixer
def test_in_inference_mode_and_outside(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 9, D)
    expected = mixer(u).detach()
    for future in (None, 5):
        with torch.inference_mode():
            _, state = mixer.prefill(u[:, :4], future=future)
            _, state = mixer.step(u[:, 4], state)
        with torch.no_grad():
            y, state = mixer.step(u[:, 5], state)
            assert_close(y, expected[:, 5], 1e-11)
        with torch.inference_mode():
            state = type(state).join([state.select([0]), state.copy().select([1])])
            y, state = mixer.step(u[:, 6], state)
        with torch.no_grad():
            y, state = mixer.step(u[:, 7], state)
            assert_close(y, expected[:, 7], 1e-11)


@each_mixer
def test_a_state_that_is_there_is_not_moved(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 1, 3, D)
    with torch.no_grad():
        _, state = mixer.prefill(u, future=2)
        there = state.to("cpu")
        expected = mixer(torch.cat([u, u[:, :1]], 1))[:, -1]
        assert_close(mixer.step(u[:, 0], there)[0], expected, 1e-11)
    assert {x.device.type for x in state.to("meta").tensors().values()} == {"meta"}


@each_mixer
def test_the_size_of_the_state(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 3, 9, D)
    with torch.no_grad():
        for prompt in (1, 2, 7):
            for future in (None, 0, 1, 5):
                _, state = mixer.prefill(u[:, :prompt], future=future)
                assert numbers_held(state) == 3 * mixer.state_size(prompt, future)


# Padding and packed documents


def separately(mixer: nn.Module, lengths: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Tokens (T, D) of documents end to end, each mixed on its own."""

    def run(tokens: Tensor) -> Tensor:
        return torch.cat([mixer(x[None])[0] for x in tokens.split(list(lengths))])

    return run


def padded(
    mixer: nn.Module, lengths: Sequence[int], left: Sequence[int], L: int, fill: float
) -> Callable[[Tensor], Tensor]:
    """The same, as rows of L with so much padding on the left and the rest on the right."""
    mask = torch.zeros(len(lengths), L, dtype=torch.bool)
    for row, (length, start) in enumerate(zip(lengths, left, strict=True)):
        mask[row, start : start + length] = True

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((len(lengths), L, D), fill, dtype=tokens.dtype)
        return mixer(u.masked_scatter(mask[..., None], tokens), mask=mask)[mask]

    return run


@pytest.mark.parametrize("fill", [1e3, float("nan"), float("inf")])
@pytest.mark.parametrize("left", [(0, 0, 0), (6, 2, 12), (3, 1, 0)], ids=["right", "left", "both"])
@each_mixer
def test_padded_equals_unpadded(
    name: str, left: tuple[int, ...], fill: float, generator: torch.Generator
) -> None:
    mixer, lengths = build(name), (7, 11, 1)
    tokens = draw(generator, sum(lengths), D)
    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    run = padded(mixer, lengths, left, 13, fill)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)
    with torch.no_grad():
        mixer.eval()
        assert_close(run(tokens), expected[0], 1e-11)


@each_mixer
def test_a_row_of_padding_changes_nothing(name: str, generator: torch.Generator) -> None:
    mixer, tokens = build(name), draw(generator, 5, D)
    run = padded(mixer, (5, 0), (0, 0), 5, float("nan"))
    expected = with_module_gradients(mixer, lambda u: mixer(u[None])[0], tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)


@pytest.mark.parametrize("how", ["document_ids", "cu_seqlens", "Segments"])
@pytest.mark.parametrize("lengths", [(5, 1, 3, 9), (18,), (2, 2, 2, 3, 2, 2, 2, 3)], ids=str)
@each_mixer
def test_packed_equals_separate(
    name: str, lengths: tuple[int, ...], how: str, generator: torch.Generator
) -> None:
    mixer = build(name)
    tokens = draw(generator, sum(lengths), D)
    edges = torch.tensor([0, *lengths]).cumsum(0)
    for batch in (1, 2):
        L = sum(lengths) // batch
        ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).view(batch, L)
        segments = Segments.from_document_ids(ids)
        options = {
            "document_ids": {"document_ids": ids},
            "cu_seqlens": {"cu_seqlens": edges.int()},
            "Segments": {"document_ids": segments},
        }[how]
        pieces = [stop - start for _, start, stop in segments.spans]  # a row's end ends a document
        expected = with_module_gradients(mixer, separately(mixer, pieces), tokens)

        def packed(u: Tensor, shape: Any = (batch, L, D), options: Any = options) -> Tensor:
            y: Tensor = mixer(u.view(shape), **options)
            return y.flatten(0, 1)

        assert_all_close(with_module_gradients(mixer, packed, tokens), expected, 1e-10)
        with torch.no_grad():
            assert_close(mixer.eval() and packed(tokens), expected[0], 1e-11)
        mixer.train()


@each_mixer
def test_packed_and_padded_at_once(name: str, generator: torch.Generator) -> None:
    mixer, lengths = build(name), (4, 6, 3)
    tokens = draw(generator, sum(lengths), D)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, 3:] = False
    ids = torch.tensor([[0] * 4 + [1] * 6, [2] * 3 + [9] * 7])

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((2, 10, D), float("nan"), dtype=tokens.dtype)
        u = u.masked_scatter(mask[..., None], tokens)
        return mixer(u, mask=mask, document_ids=ids)[mask]

    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)


@each_mixer
def test_documents_do_not_see_one_another(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 1, 12, D)
    ids = torch.tensor([[0] * 4 + [1] * 5 + [2] * 3])
    moved = u.clone()
    moved[:, 4:9] += 1e3
    change = (mixer(moved, document_ids=ids) - mixer(u, document_ids=ids)).detach()[0]
    others = torch.cat([change[:4], change[9:]])
    assert torch.equal(others, torch.zeros_like(others))
    assert bool(change[4:9].any(-1).all())


# Dtypes, devices and randomness


@each_mixer
def test_narrower_dtypes(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 2, M, D)
    tolerances = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}
    for dtype, tolerance in tolerances.items():
        narrow = copy.deepcopy(mixer).to(dtype)
        rounded = copy.deepcopy(narrow).double()(u.to(dtype).double())
        assert_close(narrow(u.to(dtype)), rounded, tolerance, dtype=dtype)
        with torch.no_grad():
            y, state = generate(narrow, u.to(dtype), M - 5)
        assert_close(y, rounded, 2 * tolerance, dtype=dtype)
        assert not isinstance(state, tuple) or state.dtype == torch.float32  # sums over the past


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@each_mixer
def test_under_autocast(name: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    mixer, u = build(name, dtype=torch.float32), draw(generator, 2, M, D).float()
    expected = mixer(u)
    with torch.autocast("cpu", dtype):
        y = mixer(u)
        y.float().square().sum().backward()
        with torch.no_grad():
            steps, state = generate(mixer, u, M - 5)
    assert_close(y, expected, 5e-2, dtype=dtype)
    assert_close(steps, expected, 5e-2, dtype=dtype)
    assert not isinstance(state, tuple) or state.dtype == torch.float32
    assert {p.grad.dtype for p in mixer.parameters() if p.grad is not None} == {torch.float32}


@each_mixer
@torch.no_grad()
def test_a_state_that_would_round_what_follows_is_refused(
    name: str, generator: torch.Generator
) -> None:
    mixer, u = build(name).float(), draw(generator, 2, 6, D)
    _, state = mixer.prefill(u[:, :5].float())
    message = (
        f"{type(mixer).__name__}.step: u is torch.float64 but the state is torch.float32, which "
        "would round what follows; read the prompt anew in torch.float64, or go on in torch.float32"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        mixer.double().step(u[:, 5], state)
    expected = mixer(u)[:, -1]
    assert_close(mixer.float().step(u[:, 5].float(), state)[0].double(), expected, 1e-5)


@each_mixer
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # of PyTorch's kernel
def test_gradients_of_each_row_by_vmap(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 3, 7, D)
    parameters = {key: p.detach() for key, p in mixer.named_parameters() if p.requires_grad}

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, parameters, (row[None],)).square().sum()

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, u)
    apart = [torch.func.grad(loss)(parameters, row) for row in u]
    for key, found in together.items():
        assert_close(found, torch.stack([one[key] for one in apart]), 1e-11)


@each_mixer
@torch.no_grad()
def test_meta_device(name: str) -> None:
    mixer, u = build(name, device="meta"), torch.zeros(2, 5, D, device="meta").double()
    assert mixer(u).shape == (2, 5, D)
    y, state = mixer.prefill(u)
    assert y.shape == (2, 5, D)
    assert {x.device.type for x in state.tensors().values()} == {"meta"}
    if isinstance(state, tuple):
        assert mixer.step(u[:, 0], state)[0].shape == (2, D)


@each_mixer
def test_drawn_from_the_generator_alone(name: str) -> None:
    found = []
    for ambient in (1, 2):
        torch.manual_seed(ambient)
        mixer, generator = build(name), torch.Generator().manual_seed(3)
        for module in mixer.modules():
            if hasattr(module, "draw"):
                module.draw(generator)
                found += [p.detach().clone() for p in module.parameters(recurse=False)]
    half = len(found) // 2
    assert all(torch.equal(a, b) for a, b in zip(found[:half], found[half:], strict=True))


# What does not fit


@pytest.mark.parametrize("shape", [(0, 5, D), (2, 0, D), (0, 0, D)])
@each_mixer
def test_empty_inputs_have_empty_outputs(name: str, shape: tuple[int, ...]) -> None:
    mixer, u = build(name), torch.zeros(shape, dtype=torch.float64)
    mask = torch.ones(shape[:2], dtype=torch.bool)
    ids = torch.zeros(shape[:2], dtype=torch.int64)
    for options in ({}, {"mask": mask}, {"document_ids": ids}):
        assert mixer(u, **options).shape == shape


@each_mixer
@torch.no_grad()
def test_a_prefill_of_no_rows_gives_a_state_of_none_and_one_of_no_token_is_refused(
    name: str,
) -> None:
    mixer = build(name)
    for future in (None, 3):
        y, state = mixer.prefill(torch.zeros(0, 5, D, dtype=torch.float64), future=future)
        assert y.shape == (0, 5, D)
        y, state = mixer.step(torch.zeros(0, D, dtype=torch.float64), state)
        assert y.shape == (0, D)
        for rows in (0, 2):
            message = (
                f"{type(mixer).__name__}.prefill: expected u (B, L, {D}) with L ≥ 1, got "
                f"({rows}, 0, {D}); begin with the first token"
            )
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                mixer.prefill(torch.zeros(rows, 0, D, dtype=torch.float64), future=future)


@each_mixer
def test_arguments_that_do_not_fit(name: str) -> None:
    mixer = build(name)
    cls = type(mixer).__name__
    u = torch.zeros(2, 6, D, dtype=torch.float64)
    ids = torch.zeros(2, 6, dtype=torch.int64)
    edges = torch.tensor([0, 12])
    mask = torch.ones(2, 6, dtype=torch.bool)
    wrong: list[tuple[str, Tensor, dict[str, Any]]] = [
        (f"{cls}: expected u (B, L, {D}), got (2, 6, 3)", u[..., :3], {}),
        (f"{cls}: expected u (B, L, {D}), got (6, {D})", u[0], {}),
        (
            f"{cls}: u is torch.float32 but the weights are torch.float64; convert one",
            u.float(),
            {},
        ),
        (
            f"{cls}: expected mask of bool (B, L) = (2, 6), True at real tokens; "
            "got (2, 6) of torch.float32",
            u,
            {"mask": mask.float()},
        ),
        (f"{cls}: expected mask of bool (B, L) = (2, 6), True", u, {"mask": mask[:, :5]}),
        (f"{cls}: expected mask of bool (B, L) = (2, 6), True", u, {"mask": mask[None]}),
        (
            f"{cls}: give document_ids or cu_seqlens, not both",
            u,
            {"document_ids": ids, "cu_seqlens": edges},
        ),
        (f"{cls}: expected document_ids (B, L) = (2, 6), got (1, 6)", u, {"document_ids": ids[:1]}),
        (
            f"{cls}: expected document_ids (B, L) = (2, 6), got (2, 5)",
            u,
            {"document_ids": Segments.from_document_ids(ids[:, :5])},
        ),
        ("document_ids: expected an integer tensor (B, L)", u, {"document_ids": ids.float()}),
        ("cu_seqlens: expected increasing values from 0 to B·L = 12", u, {"cu_seqlens": edges - 1}),
    ]
    for message, bad, options in wrong:
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            mixer(bad, **options)
    mask[1, 5] = False
    with pytest.raises(ValueError, match=rf"^{cls}\.prefill: expected padding on the left only, "):
        mixer.prefill(u, mask=mask)
    for future in (-1, 1.5, "3"):
        with pytest.raises(ValueError, match=rf"^{cls}\.prefill: expected future ≥ 0 tokens"):
            mixer.prefill(u, future=future)
    _, state = mixer.prefill(u)
    for bad in (u, u[:1, 0], u[:, 0, :3]):
        message = f"{cls}.step: expected u (B, D) = (2, {D}), got {tuple(bad.shape)}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            mixer.step(bad, state)


@each_mixer
def test_what_is_no_tensor_is_a_type_error(name: str) -> None:
    mixer, u = build(name), torch.zeros(2, 6, D, dtype=torch.float64)
    cls = type(mixer).__name__
    ids = [[0] * 6] * 2
    _, state = mixer.prefill(u)
    calls: dict[str, Callable[[], Any]] = {
        f"{cls}: expected a tensor as u, got list": lambda: mixer(u.tolist()),
        f"{cls}: expected a tensor as u, got None": lambda: mixer.prefill(None),
        f"{cls}: expected a tensor or None as mask, got list": lambda: mixer(u, mask=ids),
        f"{cls}: expected a tensor or None as mask, got bool": lambda: mixer.prefill(u, mask=True),
        f"{cls}: expected a tensor or None as document_ids, got list": (
            lambda: mixer(u, document_ids=ids)
        ),
        f"{cls}: expected a tensor or None as cu_seqlens, got list": (
            lambda: mixer(u, cu_seqlens=[0, 12])
        ),
        f"{cls}.step: expected a tensor as u, got list": lambda: mixer.step(
            u[:, 0].tolist(), state
        ),
    }
    for message, call in calls.items():
        with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
            call()


@each_mixer
def test_the_state_of_another_mixer_is_refused(name: str) -> None:
    mixer, u = build(name), torch.zeros(2, 3, 2 * D, dtype=torch.float64)
    message = rf"^{type(mixer).__name__}\.step: the state, a \w+, is that of a mixer of another"
    own = SPECS[name.split(",")[0]].state
    strangers = [build(other) for other in CASES if SPECS[other.split(",")[0]].state is not own]
    others = [stranger.prefill(u[..., :D])[1] for stranger in strangers]
    state = mixer.prefill(u[..., :D])[1]
    if isinstance(state, tuple):  # of another size; those of other kinds have tests of their own
        others.append(type(state)(*(x[..., None] for x in state)))
    for other in (*others, None, "state", {}):
        with pytest.raises(ValueError, match=message):
            mixer.step(u[:, 0, :D], other)


SIZES: dict[str, list[str]] = {
    "hyena": ["width", "max_length", "order", "short_width"],
    "attention": ["width", "head_dim"],
    "linear-attention": ["width", "head_dim"],
    "aft-conv": ["width", "taps"],
    "h3": ["width", "head_dim", "state"],
    "s4d": ["width", "state"],
    "gss": ["width", "state"],
}


@pytest.mark.parametrize("size", [0, -4, 2**40, 10**19, 2**64 + 8, 1.5, "8"])
@pytest.mark.parametrize("name", SPECS)
def test_sizes_that_cannot_be(name: str, size: Any) -> None:
    spec = SPECS[name]
    required = {"max_length": M} if name == "hyena" else {}
    for argument in SIZES.get(name, ["width"]):
        options = {"width": D, **required, argument: size}
        with pytest.raises(ValueError, match=rf"expected .*\b{argument}\b.*, got '?{size}'?$"):
            spec.type(**options, device="meta")


@pytest.mark.parametrize("name", SPECS)
def test_sizes_whose_operations_cannot_be_counted(name: str) -> None:
    mixer = build(name, device="meta")
    assert mixer.flops(2**48, 2**48).total > mixer.flops(7).total > 0
    called = f"{type(mixer).__name__}.flops: expected "
    for size in (0, -1, 2**64, 10**400):
        message = f"^{re.escape(called)}length from 1 to 2\\^48, got {size}$"
        with pytest.raises(ValueError, match=message):
            mixer.flops(size)
    for size in (1.5, "é", None):
        message = f"^{re.escape(called)}an integer as batch, got {type(size).__name__}$"
        with pytest.raises(TypeError, match=message):
            mixer.flops(7, size)
