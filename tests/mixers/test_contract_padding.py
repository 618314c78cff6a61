"""Padding between real tokens: refused in one line, or looked past; never mixed in silently."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_all_close, with_module_gradients
from mixer_cases import BIDIRECTIONAL, CASES, D, build, draw, separately
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from hyena.mixers import CausalSelfAttention

LOOKS_PAST = ["attention", "attention, grouped queries", "linear-attention"]
COUNTS = [name for name in [*CASES, *BIDIRECTIONAL] if name not in LOOKS_PAST]


def whole() -> Tensor:
    """A mask of a row with padding at both ends, and one without."""
    return torch.tensor([[0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)


def parted() -> Tensor:
    """The same, with padding between the real tokens of the second row."""
    return torch.tensor([[0, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 1]], dtype=torch.bool)


def message(name: str) -> str:
    return (
        f"{type(build(name)).__name__}: expected padding at the ends of each row or packed "
        "document, got padding between real tokens; move the real tokens together"
    )


@pytest.mark.parametrize("name", COUNTS)
def test_padding_between_real_tokens_is_refused(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 2, 6, D)
    one = torch.zeros(2, 6, dtype=torch.int64)
    two = torch.tensor([[0] * 6, [0] * 2 + [1] * 4])
    for options in ({}, {"document_ids": one}, {"cu_seqlens": torch.tensor([0, 6, 12])}):
        with pytest.raises(ValueError, match=f"^{re.escape(message(name))}$"):
            mixer(u, mask=parted(), **options)
    mixer(u, mask=parted(), document_ids=two)  # there it is the end of a document
    mixer(u, mask=torch.zeros_like(parted()))
    with pytest.raises(ValueError, match=f"^{re.escape(message(name))}$"):
        mixer(u, mask=parted().roll(1, 1), document_ids=two)


@pytest.mark.parametrize("name", [*COUNTS, *LOOKS_PAST])
def test_packed_documents_may_have_padding_at_both_ends_each(
    name: str, generator: torch.Generator
) -> None:
    mixer, lengths = build(name), (4, 2, 6)
    tokens = draw(generator, sum(lengths), D)
    mask = torch.tensor([[0, 1, 1, 1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 0, 0, 0]]).bool()
    ids = torch.tensor([[5] * 6 + [6] * 3, [7] * 9])

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((2, 9, D), float("nan"), dtype=tokens.dtype)
        u = u.masked_scatter(mask[..., None], tokens)
        return mixer(u, mask=mask, document_ids=ids)[mask]

    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)


@pytest.mark.parametrize("name", ["linear-attention", "attention without positions"])
def test_without_positions_padding_between_real_tokens_is_as_if_it_were_not_there(
    name: str, generator: torch.Generator
) -> None:
    if name in CASES:
        mixer = build(name)
    else:
        mixer = CausalSelfAttention(D, head_dim=2, rotary=False, dtype=torch.float64)
    tokens = draw(generator, int(parted().sum()), D)

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((2, 6, D), float("nan"), dtype=tokens.dtype)
        return mixer(u.masked_scatter(parted()[..., None], tokens), mask=parted())[parted()]

    expected = with_module_gradients(mixer, separately(mixer, (3, 5)), tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)


def compiled(mixer: Any, u: Tensor) -> Callable[[Tensor], Tensor]:
    torch.compiler.reset()
    program = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    return lambda mask: program(u, mask=mask)


def exported(mixer: Any, u: Tensor) -> Callable[[Tensor], Tensor]:
    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("length", max=24)}
    program = torch.export.export(
        mixer, (u,), {"mask": whole()}, dynamic_shapes={"u": sizes, "mask": sizes}
    ).module()
    return lambda mask: program(u, mask=mask)


@pytest.mark.parametrize("record", [compiled, exported])
def test_a_recorded_program_refuses_it_when_it_runs(
    record: Callable[..., Any], generator: torch.Generator
) -> None:
    mixer, u = build("hyena"), draw(generator, 2, 6, D)
    run = record(mixer, u)
    torch.testing.assert_close(run(whole()), mixer(u, mask=whole()))
    with pytest.raises(RuntimeError, match=re.escape(message("hyena"))):
        run(parted())


def test_masks_without_values_are_taken(generator: torch.Generator) -> None:
    mixer, u = build("hyena"), draw(generator, 2, 6, D)
    run = torch.func.vmap(lambda u, mask: mixer(u[None], mask=mask[None])[0])
    torch.testing.assert_close(run(u, whole()), mixer(u, mask=whole()))
    on_meta = build("hyena", device="meta")
    for call in (on_meta, lambda u, mask: on_meta.prefill(u, mask=mask)[0]):
        assert call(u.to("meta"), mask=parted().to("meta")).shape == u.shape
    left = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]).bool()
    begin = torch.func.vmap(lambda u, mask: mixer.prefill(u[None], mask=mask[None])[0][0])
    torch.testing.assert_close(begin(u, left), mixer(u, mask=left))
    with FakeTensorMode():
        u = torch.empty(2, 6, D, dtype=torch.float64)
        assert build("hyena")(u, mask=torch.empty(2, 6, dtype=torch.bool)).shape == u.shape
