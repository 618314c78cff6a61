"""The hash that keeps training and test prompts apart."""

import pytest
import torch

from hyena.tasks.splits import draw_split, in_test


def mix(x: int) -> int:
    """SplitMix64's output function on Python's whole numbers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def expected(row: list[int]) -> bool:
    total = sum(value * (mix(place) | 1) for place, value in enumerate(row, start=1)) % 2**64
    return mix(total) % 2**53 < 0.1 * 2**53


@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_the_hash_is_the_one_of_its_definition(width: int, generator) -> None:
    rows = torch.randint(-(2**31), 2**31, (500, width), generator=generator)
    assert in_test(rows).tolist() == [expected(row) for row in rows.tolist()]


def test_the_hash_never_changes() -> None:
    """A finished experiment's test prompts must stay unseen when its training goes on."""
    problems = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    held_out = " ".join(f"{a}+{b}" for a, b in problems[in_test(problems)].tolist())
    assert held_out == "0+0 0+1 0+3 1+2 3+0 5+5 5+8 6+0 6+8 8+3 8+4 9+5 9+8"


@pytest.mark.parametrize(("width", "tokens"), [(6, 10), (8, 4), (64, 2), (64, 30)])
def test_a_tenth_of_the_prompts_is_for_the_test_whatever_they_begin_with(
    width: int, tokens: int, generator
) -> None:
    rows = torch.randint(tokens, (40_000, width), generator=generator)
    test = in_test(rows)
    for place in (0, width // 2, width - 1):
        for token in (0, tokens - 1):
            share = test[rows[:, place] == token].double()
            # Five standard deviations of a fair draw.
            assert abs(share.mean() - 0.1) < 5 * 0.3 / len(share) ** 0.5


def test_rows_stay_together(generator) -> None:
    def candidates(rows: int) -> tuple[torch.Tensor, ...]:
        deciding = torch.randint(1000, (rows, 3), generator=generator)
        return deciding, deciding.sum(1, keepdim=True), deciding.prod(1), deciding

    for split in ("train", "test"):
        total, product, deciding = draw_split(candidates, 300, split, "x")
        assert len(total) == len(product) == len(deciding) == 300
        assert torch.equal(total[:, 0], deciding.sum(1))
        assert torch.equal(product, deciding.prod(1))
        assert bool((in_test(deciding) == (split == "test")).all())


def test_no_accepted_row_is_left_out_or_repeated_between_rounds() -> None:
    start = 0

    def candidates(rows: int) -> tuple[torch.Tensor, ...]:
        nonlocal start
        numbers = torch.arange(start, start + rows)[:, None]
        start += rows
        return numbers, numbers

    (numbers,) = draw_split(candidates, 500, "test", "x")
    everything = torch.arange(start)[:, None]
    assert torch.equal(numbers, everything[in_test(everything)][:500])


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_prompts_is_an_error(split) -> None:
    number = next(n for n in range(100) if expected([n]) == (split == "train"))

    def candidates(rows: int) -> tuple[torch.Tensor, ...]:
        return (torch.full((rows, 1), number),)

    message = rf"^x: there are too few .*: \d+ were drawn and 0 of them are for the {split} split;"
    with pytest.raises(ValueError, match=message):
        draw_split(candidates, 10, split, "x")
