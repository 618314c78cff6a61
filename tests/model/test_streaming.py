"""Blocks that run in pieces in the memory of the residual stream give what they give whole."""

from typing import Any, get_args

import pytest
import torch
from comparison import assert_close
from small_models import STRIPES, small_model, tokens
from taken_whole import ALLOWED, CASES, PADDING, POSITION, L, whole
from torch import Tensor, nn

from hyena.mixers import SPECS
from hyena.mixers.hyena import groups
from hyena.model import FilterConfig
from hyena.model.config import FilterKind

pytestmark = pytest.mark.usefixtures("pieces")


@pytest.mark.parametrize("mixer", SPECS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_are_those_of_the_whole(mixer: str, case: str) -> None:
    model, ids = small_model(mixer), tokens(2, L)
    expected = whole(model, ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    for memory in (0, 8 * POSITION, 2 * L * POSITION - 1):
        model.working_memory = memory
        y = model(ids, **CASES[case])
        assert_close(y[real], expected[real], 1e-12)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("filter", get_args(FilterKind))
@torch.no_grad()
def test_of_any_order_and_filter_and_in_any_groups(
    order: int, case: str, filter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = FilterConfig(kind=filter, emb_dim=5, width=6, sine_freq=3.0, modes=9)
    model, ids = small_model(order=order, filter=kind), tokens(2, L)
    expected = whole(model, ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    model.working_memory = 0
    for most in (1, 5):  # groups, of 12 channels
        monkeypatch.setattr(groups, "MOST_GROUPS", most)
        y = model(ids, **CASES[case])
        assert_close(y[real], expected[real], 1e-12)


@pytest.mark.parametrize("backend", ["auto", "torch", "naive"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", [2, 3])
@torch.no_grad()
def test_in_narrow_numbers(dtype: torch.dtype, case: str, order: int, backend: str) -> None:
    model, ids = small_model(dtype=dtype, order=order), tokens(2, L)
    for block in model.blocks:
        block.mixer.backend = backend  # type: ignore[union-attr]
    expected = whole(model, ids, **CASES[case])
    model.working_memory = 0
    y = model(ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    assert_close(y[real], expected[real], 1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("mixer", SPECS)
@pytest.mark.parametrize("future", [None, 0, 4])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("mask", [None, PADDING])
@torch.no_grad()
def test_a_prefill_leaves_the_state_of_the_whole(
    mixer: str, future: int | None, keep: bool, mask: Tensor | None
) -> None:
    model, ids = small_model(mixer, max_length=40), tokens(2, L)
    options = {"future": future, "keep_inputs": keep, "mask": mask}
    wanted, expected = whole(model.prefill, ids, **options)
    model.working_memory = 0
    y, state = model.prefill(ids, **options)
    real = torch.ones(2, L, dtype=torch.bool) if mask is None else mask
    assert_close(y[real], wanted[real], 1e-12)
    for token in tokens(4, 2)[: 4 if future != 0 or keep else 0]:
        y, state = model.step(token, state)
        wanted, expected = model.step(token, expected)
        assert_close(y, wanted, 1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("short_width", [1, 2, 5, 30])
@torch.no_grad()
def test_a_state_of_any_order_and_short_convolution(order: int, short_width: int) -> None:
    model = small_model(order=order, short_width=short_width, max_length=40)
    ids = tokens(1, L)
    wanted, expected = whole(model.prefill, ids, future=3, last_only=True)
    model.working_memory = 0
    y, state = model.prefill(ids, future=3, last_only=True)
    assert_close(y, wanted, 1e-12)
    for token in tokens(3, 1):
        y, state = model.step(token, state)
        wanted, expected = model.step(token, expected)
        assert_close(y, wanted, 1e-12)


@pytest.mark.parametrize("mixer", SPECS)
@torch.no_grad()
def test_a_prefill_goes_on_from_a_state(mixer: str) -> None:
    model, ids = small_model(mixer, max_length=40), tokens(2, L)
    wanted = whole(model, ids)
    model.working_memory = 0
    first, state = model.prefill(ids[:, :9])
    ALLOWED[0] = True  # where there is a state before, mixers take their input whole
    second, _ = model.prefill(ids[:, 9:], state=state)
    assert_close(torch.cat([first, second], 1), wanted, 1e-12)


@torch.no_grad()
def test_losses_are_those_of_the_whole() -> None:
    model, ids = small_model(), tokens(2, L)
    logits, targets = whole(model, ids), ids.roll(-1, 1)
    expected = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    model.working_memory = 8 * POSITION
    assert_close(model.token_losses(ids, targets), expected, 1e-12)
    assert_close(model(ids, targets=targets), expected.mean(), 1e-12)


OTHERS: dict[str, dict[str, Any]] = {
    "striped": STRIPES,
    "norms": {"norm": "rms"},
    "gated": {"mlp": "gated", "activation": "silu"},
    "exact": {"activation": "gelu"},
}


@pytest.mark.parametrize("options", OTHERS)
@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention"])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_of_other_norms_and_mlps(mixers: str, options: str, case: str) -> None:
    model, ids = small_model(mixers, **OTHERS[options]), tokens(2, L)
    expected = whole(model, ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    for memory in (0, 8 * POSITION):
        model.working_memory = memory
        y = model(ids, **CASES[case])
        assert_close(y[real], expected[real], 1e-12)


@pytest.mark.parametrize("mask", [None, PADDING])
@torch.no_grad()
def test_a_prefill_of_other_norms_and_mlps(mask: Tensor | None) -> None:
    model, ids = small_model("hyena,attention", max_length=40, **STRIPES), tokens(2, L)
    wanted, expected = whole(model.prefill, ids, mask=mask)
    model.working_memory = 0
    y, state = model.prefill(ids, mask=mask)
    real = torch.ones(2, L, dtype=torch.bool) if mask is None else mask
    assert_close(y[real], wanted[real], 1e-12)
    for token in tokens(4, 2):
        y, state = model.step(token, state)
        wanted, expected = model.step(token, expected)
        assert_close(y, wanted, 1e-12)


@torch.no_grad()
def test_losses_of_a_head_of_its_own() -> None:
    model, ids = small_model(**STRIPES), tokens(2, L)
    logits, targets = whole(model, ids), ids.roll(-1, 1)
    expected = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    model.working_memory = 8 * POSITION
    assert_close(model.token_losses(ids, targets), expected, 1e-12)


REFUSED = {
    "one row for two": torch.ones(1, L, dtype=torch.bool),
    "numbers": torch.ones(2, L, dtype=torch.int64),
    "a hole": torch.arange(L).ne(3).expand(2, L),
    "no tensor": [True],
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("call", ["__call__", "prefill"])
@torch.no_grad()
def test_masks_are_refused_as_of_the_whole(case: str, call: str) -> None:
    model, ids = small_model(), tokens(2, L)
    with pytest.raises((TypeError, ValueError)) as expected:
        whole(getattr(model, call), ids, mask=REFUSED[case])
    model.working_memory = 0
    with pytest.raises((TypeError, ValueError)) as found:
        getattr(model, call)(ids, mask=REFUSED[case])
    assert (found.type, str(found.value)) == (expected.type, str(expected.value))
