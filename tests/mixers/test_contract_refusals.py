"""What no mixer takes, and the line that says so."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mixer_cases import BIDIRECTIONAL, CASES, D, M, build, each_mixer
from torch import Tensor

from hyena.mixers import (
    SPECS,
)
from hyena.ops import Segments


@pytest.mark.parametrize("name", [*CASES, *BIDIRECTIONAL])
def test_empty_inputs_have_empty_outputs_and_gradients_of_zero(name: str) -> None:
    shapes = (0, 5, D), (2, 0, D), (0, 0, D)
    for dtype in (torch.float32, torch.float64):  # which the kernel takes, and which it does not
        mixer = build(name, dtype=dtype)
        for shape in shapes:
            u = torch.zeros(shape, dtype=dtype)
            mask = torch.ones(shape[:2], dtype=torch.bool)
            ids = torch.zeros(shape[:2], dtype=torch.int64)
            for options in ({}, {"mask": mask}, {"document_ids": ids}):
                mixer.zero_grad(set_to_none=True)
                y = mixer(u, **options)
                assert y.shape == shape
                y.sum().backward()
                for weight, parameter in mixer.named_parameters():
                    if parameter.requires_grad:
                        # A missing one would keep other processes waiting for it.
                        assert parameter.grad is not None, weight
                        assert torch.equal(parameter.grad, torch.zeros_like(parameter))
                with torch.no_grad():
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
                f"({rows}, 0, {D}); "
            )
            none, more = torch.zeros(rows, 0, D, dtype=torch.float64), "with one token or more"
            with pytest.raises(ValueError, match=f"^{re.escape(message)}begin {more}$"):
                mixer.prefill(none, future=future)
            _, state = mixer.prefill(torch.zeros(rows, 5, D, dtype=torch.float64), future=future)
            with pytest.raises(ValueError, match=f"^{re.escape(message)}go on {more}$"):
                mixer.prefill(none, future=future, state=state)


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
    for future in (-1, 1.5, "3", True):
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
    cls = rf"^{type(mixer).__name__}\.step: "
    own = SPECS[name.split(",")[0]].state
    strangers = [build(other) for other in CASES if SPECS[other.split(",")[0]].state is not own]
    others = [stranger.prefill(u[..., :D])[1] for stranger in strangers]
    state = mixer.prefill(u[..., :D])[1]
    for other in (*others, None, "state", {}):
        message = f"{cls}expected {own.__name__}, got {type(other).__name__}; pass what prefill"
        with pytest.raises(TypeError, match=message):
            mixer.step(u[:, 0, :D], other)
    if isinstance(state, tuple):  # of another size; those of other kinds have tests of their own
        message = rf"{cls}the state, a {own.__name__}, is that of a mixer of another kind or size"
        with pytest.raises(ValueError, match=message):
            mixer.step(u[:, 0, :D], type(state)(*(x[..., None] for x in state)))


SIZES: dict[str, list[str]] = {
    "hyena": ["width", "max_length", "order", "short_width"],
    "attention": ["width", "head_dim", "kv_heads"],
    "linear-attention": ["width", "head_dim"],
    "aft-conv": ["width", "taps"],
    "h3": ["width", "head_dim", "state"],
    "s4d": ["width", "state"],
    "gss": ["width", "state"],
}


@pytest.mark.parametrize("name", SPECS)
def test_sizes_that_cannot_be(name: str) -> None:
    spec = SPECS[name]
    required = {"max_length": M} if spec.long_filter else {}
    for argument in SIZES.get(name, ["width"]):
        for size in (0, -4, 2**40, 10**19, 2**64 + 8, 1.5, "8"):
            options: dict[str, Any] = {"width": D, **required, argument: size}
            message = rf"expected .*\b{argument}\b.*, got '?{size}'?$"
            with pytest.raises(ValueError, match=message):
                spec.type(**options, device="meta")


@each_mixer
def test_the_size_of_a_state_of_no_length(name: str) -> None:
    mixer = build(name)
    for size in ("3", 1.5, -1, 10**19):
        for arguments in ((size, None), (3, size)):
            with pytest.raises((TypeError, ValueError), match=r"state_size: expected .*(leng|fut)"):
                mixer.state_size(*arguments)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("linear-attention", {"head_dim": 3}, "a head_dim that divides width"),
        ("linear-attention", {"head_dim": 16}, "a head_dim that divides width"),
        ("h3", {"head_dim": 5}, "a head_dim that divides width"),
        ("h3", {"head_dim": 16}, "a head_dim that divides width"),
        ("mamba2", {"head_dim": 5}, "a head_dim that divides 2 · width"),
        ("gss", {"width": 6}, "a width that 4 divides, got 6"),
        ("gss", {"width": 13}, "a width that 4 divides, got 13"),
    ],
)
def test_sizes_that_do_not_divide(name: str, options: dict[str, int], message: str) -> None:
    kind = SPECS[name].type
    if "head_dim" in options:
        message += f", got width={D}, head_dim={options['head_dim']}"
    with pytest.raises(ValueError, match=f"^{kind.__name__}: expected {message}$"):
        kind(**{"width": D, **options})


@each_mixer
def test_devices_and_dtypes_that_cannot_be(name: str) -> None:
    for wrong, expected in (
        ({"device": "é\ud800"}, "a device such as"),
        ({"device": 2**64}, "a device such as"),
        ({"dtype": torch.int64}, "a dtype"),
        ({"dtype": "float32"}, "a dtype"),
    ):
        with pytest.raises(ValueError, match=rf"^\w+: expected {expected} [^\n]*, got [^\n]*$"):
            CASES[name](**wrong)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_sizes_may_be_of_numpy(name: str) -> None:
    spec = SPECS[name]
    kind, more = spec.type, {"max_length": 20} if spec.long_filter else {}
    if name == "aft-conv":
        more = {"taps": 3}
    found = kind(np.int8(64), **{k: np.int8(v) for k, v in more.items()})
    expected = kind(64, **more)
    assert repr(found) == repr(expected)
    assert found.flops(np.int64(9)) == expected.flops(9)


@pytest.mark.parametrize("kind", [np.int8, torch.tensor])
@each_mixer
@torch.no_grad()
def test_numbers_of_tokens_may_be_of_any_kind(name: str, kind: Any) -> None:
    mixer, u = build(name), torch.ones(2, 6, D, dtype=torch.float64)
    _, state = mixer.prefill(u, future=kind(3))
    _, expected = mixer.prefill(u, future=3)
    for _ in range(3):
        y, state = mixer.step(u[:, 0], state)
        wanted, expected = mixer.step(u[:, 0], expected)
        assert torch.equal(y, wanted)
    size = mixer.state_size(kind(100), kind(100))
    assert (size, type(size)) == (mixer.state_size(100, 100), int)
    assert mixer.flops(kind(100), kind(2)) == mixer.flops(100, 2)


@pytest.mark.parametrize("name", [*CASES, *BIDIRECTIONAL])
def test_documents_on_another_device_are_told(name: str) -> None:
    mixer, u = build(name), torch.zeros(1, 4, D, dtype=torch.float64)
    there = Segments(torch.tensor([[0, 0, 1, 1]], device="meta"))
    line = rf"^{type(mixer).__name__}: the tokens are on cpu but their documents on meta; move one"
    with pytest.raises(ValueError, match=line):
        mixer(u, document_ids=there)


@each_mixer
@torch.no_grad()
def test_a_device_that_cannot_be_is_refused_by_a_state(name: str) -> None:
    _, state = build(name).prefill(torch.zeros(1, 4, D, dtype=torch.float64))
    line = rf"^{type(state).__name__}\.to: expected a device such as "
    with pytest.raises(ValueError, match=line):
        state.to("nodev")
