"""Hidden values of a layer, whole and in pieces."""

import pytest
import torch
from small_models import PATTERNS, VOCABULARY, small_model
from torch import Tensor, nn

from hyena.model.hidden import hidden, mixer_input


@pytest.mark.parametrize("mixers", PATTERNS)
def test_the_head_of_the_last_hidden_values_gives_the_logits(
    mixers: str, generator: torch.Generator
) -> None:
    model = small_model(mixers)
    ids = torch.randint(VOCABULARY, (2, 17), generator=generator)
    found = hidden(model, ids)
    assert not found.requires_grad
    weight = model.embedding.weight[:VOCABULARY]
    torch.testing.assert_close(found @ weight.T, model(ids), rtol=1e-12, atol=1e-12)


def test_after_a_norm_without_weights_values_are_what_the_head_reads() -> None:
    model = small_model(tied=False)
    model.norm = nn.LayerNorm(12, elementwise_affine=False)
    assert model.head is not None
    model.head.to(torch.bfloat16)
    ids = torch.arange(9)[None]
    found = hidden(model, ids)
    assert found.dtype == torch.bfloat16
    weight = model.head.weight[:VOCABULARY]
    torch.testing.assert_close(found @ weight.T, model(ids).to(found.dtype))


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("memory", [0, 1 << 27])
def test_values_after_a_block_are_those_of_the_blocks_one_after_the_other(
    memory: int, block: int, generator: torch.Generator
) -> None:
    model = small_model("hyena", max_length=1 << 15)
    model.working_memory = memory
    ids = torch.randint(VOCABULARY, (1, 17_000), generator=generator)
    if memory:
        ids = ids[:, :33]
    found = hidden(model, ids, block)
    with torch.no_grad():
        x = model.embedding(ids)
        for each in list(model.blocks)[: block + 1]:
            x = each(x, None, None)
    # The stream grows to millions: what differs is rounding of its largest values.
    torch.testing.assert_close(found, x, rtol=0, atol=1e-11 * float(x.abs().max()))


@pytest.mark.parametrize("block", [3, -1])
def test_a_block_that_is_not_there_is_refused(block: int) -> None:
    with pytest.raises(ValueError, match=r"^hidden: block: expected at "):
        hidden(small_model(), torch.zeros(1, 2, dtype=torch.int64), block)


def test_a_length_beyond_max_length_is_refused() -> None:
    with pytest.raises(ValueError, match="the input is 25 tokens long but the model's max_length"):
        hidden(small_model(), torch.zeros(1, 25, dtype=torch.int64))


@pytest.mark.parametrize("block", [0, 1, 2])
def test_the_input_of_a_mixer_is_the_one_that_the_model_gives_it(
    block: int, generator: torch.Generator
) -> None:
    model = small_model("hyena,hyena,attention", positions="learned")
    ids = torch.randint(VOCABULARY, (2, 17), generator=generator)
    seen: list[Tensor] = []
    hook = model.blocks[block].mixer.register_forward_pre_hook(lambda _, given: seen.append(*given))
    model(ids)
    hook.remove()
    found = mixer_input(model, ids, block)
    assert not found.requires_grad
    assert torch.equal(found, seen[0])


@pytest.mark.parametrize("block", [3, -1])
def test_the_input_of_a_block_that_is_not_there_is_refused(block: int) -> None:
    with pytest.raises(ValueError, match=r"^mixer_input: block: expected at "):
        mixer_input(small_model(), torch.zeros(1, 2, dtype=torch.int64), block)
