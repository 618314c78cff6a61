"""What S4D, H3 and GSS have in common: their definitions, and what every mixer promises."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from state_space_definitions import by_rows
from torch import Tensor

from hyena.mixers import GSS, H3, S4D, CausalSelfAttention, GSSState, H3State, S4DState
from hyena.ops import Segments

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


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def tensors(state: Any) -> list[Tensor]:
    assert isinstance(state, S4DState | H3State | GSSState)
    return list(state)


def generate(mixer: Any, u: Tensor, known: int, mask: Tensor | None = None) -> tuple[Tensor, Any]:
    """The outputs of a prefill of ``known`` tokens and of steps for the others."""
    y, state = mixer.prefill(u[:, :known], mask=None if mask is None else mask[:, :known])
    outputs = [y]
    for t in range(known, u.shape[1]):
        y, state = mixer.step(u[:, t], state)
        outputs.append(y[:, None])
    return torch.cat(outputs, dim=1), state


@pytest.mark.parametrize("L", [1, 2, 7, 20])
def test_equals_the_definition_with_every_gradient(
    make: Make, L: int, generator: torch.Generator
) -> None:
    mixer, u = make(), draw(generator, 2, L, D)
    expected = with_module_gradients(mixer, lambda u: by_rows(mixer, u), u)
    assert_all_close(with_module_gradients(mixer, mixer, u), expected, 1e-10)


def test_causal_up_to_rounding(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 2, 20, D)
    for t in (1, 7, 19):
        moved = u.clone()
        moved[:, t] += 1
        change = (mixer(moved) - mixer(u)).detach().abs()
        assert float(change[:, :t].max()) < 1e-13
        assert bool((change[:, t:].amax(-1) > 1e-7).all())


@pytest.mark.parametrize("known", [1, 2, 5, 6, 9, 24])
def test_prefill_and_steps_equal_forward(
    make: Make, known: int, generator: torch.Generator
) -> None:
    mixer, u = make().eval(), draw(generator, 2, 24, D)
    with torch.no_grad():
        assert_close(generate(mixer, u, known)[0], mixer(u), 1e-10)


def test_a_long_prompt_goes_on(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 1, 1500, D)
    with torch.no_grad():
        y, _ = generate(mixer, u, 1490)
        assert_close(y[:, 1490:], mixer(u)[:, 1490:], 1e-10)


@pytest.mark.parametrize("known", [5, 8])
def test_padding_on_the_left_of_prompts(make: Make, known: int, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 3, 16, D)
    mask = torch.ones(3, 16, dtype=torch.bool)
    for row, padding in enumerate((4, 0, 3)):
        mask[row, :padding] = False
        u[row, :padding] = float("nan")
    with torch.no_grad():
        y, _ = generate(mixer, u, known, mask)
        for row, padding in enumerate((4, 0, 3)):
            assert_close(y[row, padding:], mixer(u[row : row + 1, padding:])[0], 1e-10)


def test_gradients_flow_through_the_state(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 2, 9, D)
    expected = with_module_gradients(mixer, mixer, u)
    got = with_module_gradients(mixer, lambda u: generate(mixer, u, 4)[0], u)
    assert_all_close(got, expected, 1e-10)


@torch.no_grad()
def test_a_state_is_a_value_of_the_stated_size(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 3, 9, D)
    _, state = mixer.prefill(u[:, :6])
    before = [x.clone() for x in tensors(state)]
    first, after = mixer.step(u[:, 6], state)
    mixer.step(u[:, 7], after)
    again, _ = mixer.step(u[:, 6], state)
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors(state), strict=True))
    for one in (state, after):
        assert sum(x.numel() for x in tensors(one)) == 3 * mixer.state_size(6)
        assert not any(x.is_complex() for x in tensors(one))
    assert mixer.state_size(1) == mixer.state_size(10**6)


def separately(mixer: Any, lengths: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Tokens (T, D) of documents end to end, each mixed on its own."""

    def run(tokens: Tensor) -> Tensor:
        return torch.cat([mixer(x[None])[0] for x in tokens.split(list(lengths))])

    return run


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("how", ["document_ids", "cu_seqlens", "Segments"])
def test_packed_equals_separate(
    make: Make, batch: int, how: str, generator: torch.Generator
) -> None:
    mixer, lengths = make(), (5, 1, 3, 9)
    tokens, L = draw(generator, 18, D), 18 // batch
    ids = torch.arange(4).repeat_interleave(torch.tensor(lengths)).view(batch, L)
    options = {
        "document_ids": {"document_ids": ids},
        "cu_seqlens": {"cu_seqlens": torch.tensor([0, *lengths]).cumsum(0).int()},
        "Segments": {"document_ids": Segments.from_document_ids(ids)},
    }[how]
    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    got = with_module_gradients(
        mixer, lambda u: mixer(u.view(batch, L, D), **options).flatten(0, 1), tokens
    )
    assert_all_close(got, expected, 1e-10)


@pytest.mark.parametrize("fill", [1e3, float("nan"), float("inf")])
@pytest.mark.parametrize("left", [(0, 0, 0), (6, 2, 12), (3, 1, 0)], ids=["right", "left", "both"])
def test_padded_equals_unpadded(
    make: Make, left: tuple[int, ...], fill: float, generator: torch.Generator
) -> None:
    mixer, lengths = make(), (7, 11, 1)
    tokens = draw(generator, sum(lengths), D)
    mask = torch.zeros(3, 13, dtype=torch.bool)
    for row, (length, start) in enumerate(zip(lengths, left, strict=True)):
        mask[row, start : start + length] = True

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((3, 13, D), fill, dtype=tokens.dtype)
        return mixer(u.masked_scatter(mask[..., None], tokens), mask=mask)[mask]

    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)


def test_packed_and_padded_at_once(make: Make, generator: torch.Generator) -> None:
    mixer, lengths = make(), (4, 6, 3)
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


def test_narrower_dtypes(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 2, 40, D)
    expected = mixer(u)
    single = copy.deepcopy(mixer).float()
    assert_close(single(u.float()), expected, 1e-5, dtype=torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        narrow = copy.deepcopy(mixer).to(dtype)
        rounded = copy.deepcopy(narrow).double()(u.to(dtype).double())
        tolerance = 5e-3 if dtype == torch.float16 else 4e-2
        assert_close(narrow(u.to(dtype)), rounded, tolerance, dtype=dtype)
        with torch.no_grad():
            y, state = generate(narrow, u.to(dtype), 30)
        assert_close(y, rounded, 2 * tolerance, dtype=dtype)
        assert state.x.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(make: Make, dtype: torch.dtype, generator: torch.Generator) -> None:
    mixer, u = make(dtype=torch.float32), draw(generator, 2, 40, D).float()
    expected = mixer(u)
    with torch.autocast("cpu", dtype):
        y = mixer(u)
        y.float().square().sum().backward()
        with torch.no_grad():
            steps, state = generate(mixer, u, 30)
    assert_close(y, expected, 4e-2, dtype=dtype)
    assert_close(steps, expected, 4e-2, dtype=dtype)
    assert state.x.dtype == torch.float32
    assert {p.grad.dtype for p in mixer.parameters() if p.grad is not None} == {torch.float32}


def test_meta_device(make: Make) -> None:
    mixer, u = make(device="meta"), torch.zeros(2, 5, D, device="meta", dtype=torch.float64)
    assert mixer(u).shape == (2, 5, D)
    y, state = mixer.prefill(u)
    y, state = mixer.step(u[:, 0], state)
    assert y.shape == (2, D)
    assert {x.device.type for x in tensors(state)} == {"meta"}


@pytest.mark.parametrize("shape", [(0, 5, D), (2, 0, D)])
def test_empty_inputs(make: Make, shape: tuple[int, ...]) -> None:
    mixer, u = make(), torch.zeros(shape, dtype=torch.float64)
    mask = torch.ones(shape[:2], dtype=torch.bool)
    ids = torch.zeros(shape[:2], dtype=torch.int64)
    for options in ({}, {"mask": mask}, {"document_ids": ids}):
        assert mixer(u, **options).shape == shape


def test_drawn_from_the_generator_alone(make: Make) -> None:
    a, b = make(), make()

    def drawn(mixer: Any) -> list[Tensor]:
        generator, found = torch.Generator().manual_seed(3), []
        for name, module in mixer.named_modules():
            if name and hasattr(module, "draw"):
                before = [p.detach().clone() for p in module.parameters(recurse=False)]
                module.draw(generator)
                after = [p.detach() for p in module.parameters(recurse=False)]
                changed = [not torch.equal(x, y) for x, y in zip(before, after, strict=True)]
                assert any(changed)
                found += after
        return found

    first, second = drawn(a), drawn(b)
    assert len(first) >= 5
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_arguments_that_do_not_fit(make: Make) -> None:
    mixer, u = make(), torch.zeros(2, 6, D, dtype=torch.float64)
    name = type(mixer).__name__
    ids = torch.zeros(2, 6, dtype=torch.int64)
    mask = torch.ones(2, 6, dtype=torch.bool)
    for message, bad, options in (
        (f"{name}: expected u (B, L, 12), got (2, 6, 3)", u[..., :3], {}),
        (f"{name}: expected u (B, L, 12), got (6, 12)", u[0], {}),
        (f"{name}: expected mask of bool (B, L) = (2, 6), True", u, {"mask": mask[:, :5]}),
        (
            f"{name}: give document_ids or cu_seqlens, not both",
            u,
            {"document_ids": ids, "cu_seqlens": torch.tensor([0, 12])},
        ),
        (
            f"{name}: expected document_ids (B, L) = (2, 6), got (1, 6)",
            u,
            {"document_ids": ids[:1]},
        ),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            mixer(bad, **options)
    right = mask.clone()
    right[1, 5] = False
    with pytest.raises(ValueError, match=rf"^{name}.prefill: expected padding on the left only"):
        mixer.prefill(u, mask=right)
    _, state = mixer.prefill(u)
    for bad in (u, u[:1, 0], u[:, 0, :3]):
        with pytest.raises(
            ValueError, match=re.escape(f"{name}.step: expected u (B, D) = (2, 12), got")
        ):
            mixer.step(bad, state)


def test_the_state_of_another_mixer_is_refused(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 2, 6, D)
    name = type(mixer).__name__
    others = [
        S4D(2 * D, state=6),
        S4D(D, state=4),
        H3(D, state=4),
        H3(D, head_dim=2, state=6),
        GSS(D, state=4),
        CausalSelfAttention(D, head_dim=2),
    ]
    for other in others:
        width = other.width
        _, state = other.prefill(torch.zeros(2, 6, width))
        with pytest.raises(
            ValueError, match=rf"^{name}.step: the state, a \w+, is that of a mixer"
        ):
            mixer.step(u[:, 0], state)
