"""What is drawn has the distribution that is defined, row by row."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena.generation import Sampling, distribution, sample

LOGITS = torch.tensor([0.0, 2.0, 1.0, -1.0, 1.0])


def frequencies(sampling: Sampling, draws: int = 4000) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(i) for i in range(draws)]
    tokens = sample(LOGITS.expand(draws, -1), sampling, generators)
    return torch.bincount(tokens, minlength=5) / draws


def defined(logits: list[float], sampling: Sampling, seen: set[int]) -> list[float]:
    """The distribution, token by token."""
    x = [float(v) for v in logits]
    penalty = sampling.repetition_penalty
    x = [(v / penalty if v > 0 else v * penalty) if i in seen else v for i, v in enumerate(x)]
    order = sorted(range(len(x)), key=lambda i: (-x[i], i))
    if sampling.temperature == 0:
        return [float(i == order[0]) for i in range(len(x))]
    p = [math.exp((v - x[order[0]]) / sampling.temperature) for v in x]
    kept = order[: sampling.top_k]
    total = sum(p[i] for i in kept)
    if sampling.top_p is not None:
        reached, count = 0.0, 0
        while count < len(kept) and reached < sampling.top_p:
            reached += p[kept[count]] / total
            count += 1
        kept = kept[:count]
    if sampling.min_p is not None:
        kept = [i for i in kept if p[i] >= sampling.min_p * p[order[0]]]
    total = sum(p[i] for i in kept)
    return [p[i] / total if i in kept else 0.0 for i in range(len(x))]


@given(
    st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=8),
    st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.5]),
            "top_k": st.none() | st.integers(1, 9),
            "top_p": st.none() | st.sampled_from([0.101, 0.503, 0.907]),
            "min_p": st.none() | st.sampled_from([0.0503, 0.307]),
            "repetition_penalty": st.sampled_from([1.0, 1.3, 0.7]),
        }
    ),
    st.sets(st.integers(0, 7)),
)
def test_the_distribution_is_that_of_the_definition(
    logits: list[float], options: dict[str, Any], seen: set[int]
) -> None:
    sampling = Sampling(**options)
    table = torch.tensor([[i in seen for i in range(len(logits))]])
    found = distribution(torch.tensor([logits], dtype=torch.float64), sampling, table)[0]
    expected = torch.tensor(defined(logits, sampling, seen), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature(temperature: float) -> None:
    expected = (LOGITS / temperature).softmax(0)
    found = frequencies(Sampling(temperature))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)


def test_top_k_keeps_the_likeliest() -> None:
    expected = torch.tensor([-torch.inf, 2.0, 1.0, -torch.inf, 1.0])
    found = frequencies(Sampling(top_k=3))
    torch.testing.assert_close(found, expected.softmax(0), rtol=0, atol=0.03)


def test_top_p_keeps_the_fewest_that_reach_p() -> None:
    p = LOGITS.softmax(0)
    found = frequencies(Sampling(top_p=float(p[1]) + 0.01))
    expected = torch.tensor([0.0, float(p[1]), float(p[2]), 0.0, 0.0])
    torch.testing.assert_close(found, expected / expected.sum(), rtol=0, atol=0.03)


def test_min_p_measures_against_the_likeliest() -> None:
    p = LOGITS.softmax(0)
    found = frequencies(Sampling(min_p=0.3))  # e⁻¹ = 0.37 is kept, e⁻² = 0.14 is not
    expected = torch.tensor([0.0, float(p[1]), float(p[2]), 0.0, float(p[4])])
    torch.testing.assert_close(found, expected / expected.sum(), rtol=0, atol=0.03)


def test_a_penalty_makes_a_token_less_likely_whatever_the_sign_of_its_logit() -> None:
    seen = torch.tensor([[False, True, False, True, False]])
    free = distribution(LOGITS[None], Sampling())[0]
    found = distribution(LOGITS[None], Sampling(repetition_penalty=2.0), seen)[0]
    assert found[1] < free[1]
    assert found[3] < free[3]
    expected = torch.tensor([0.0, 1.0, 1.0, -2.0, 1.0]).double().softmax(0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-300, 1e-40, 1e-6])
@pytest.mark.parametrize("scale", [1, 1e30])
def test_zero_temperature_and_its_neighbours_are_the_likeliest(
    temperature: float, scale: float
) -> None:
    assert sample(LOGITS[None] * scale, Sampling(temperature), [torch.Generator()]).tolist() == [1]


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(0.7, top_k=20, top_p=0.9, min_p=0.01, repetition_penalty=1.2)],
)
def test_no_row_has_a_say_in_another(sampling: Sampling, generator: torch.Generator) -> None:
    logits = torch.randn(7, 50, generator=generator)
    seen = torch.rand(7, 50, generator=generator) < 0.3

    def seeded(i: int) -> torch.Generator:
        return torch.Generator().manual_seed(i)

    together = sample(logits, sampling, [seeded(i) for i in range(7)], seen)
    alone = [sample(logits[[i]], sampling, [seeded(i)], seen[[i]]) for i in range(7)]
    assert together.tolist() == [int(token) for token in alone]
    backwards = sample(logits.flip(0), sampling, [seeded(6 - i) for i in range(7)], seen.flip(0))
    assert together.tolist() == backwards.flip(0).tolist()


@pytest.mark.parametrize(("number", "token"), [(0.0, 1), (1 - 2**-53, 4)])
def test_the_ends_of_the_interval_reach_no_impossible_token(
    number: float, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.tensor([[-1e4, 2.0, 1.0, -1e4, 1.0, -1e4]])

    def rand(*shape: int, **_: Any) -> torch.Tensor:
        return torch.full(shape, number, dtype=torch.float64)

    monkeypatch.setattr(torch, "rand", rand)
    assert sample(logits, Sampling(), [torch.Generator()]).tolist() == [token]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_logits_are_drawn_from_in_float64(dtype: torch.dtype) -> None:
    found = distribution(LOGITS[None].to(dtype), Sampling())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[0], LOGITS.double().softmax(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature: expected at least 0, got -1"),
        ({"temperature": float("nan")}, "temperature: expected at least 0"),
        ({"top_k": 0}, "top_k: expected at least 1, got 0"),
        ({"top_p": 0.0}, "top_p: expected 0 < top_p"),
        ({"min_p": 1.5}, "min_p: expected 0 < min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: expected more than 0, got 0"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty: expected more than 0"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**options)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int64, torch.complex64])
def test_logits_of_a_dtype_that_holds_none(dtype: torch.dtype) -> None:
    logits = torch.zeros(2, 5).to(dtype)
    with pytest.raises(ValueError, match=r"^distribution: expected logits \(B, V\) of floating po"):
        sample(logits, Sampling(), [torch.Generator(), torch.Generator()])


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 5e-324},
        {"repetition_penalty": 1.7e308},
        {"logit_bias": dict.fromkeys(range(8), 1.7e308)},
        {"logit_bias": {2: 1.7e308, 3: -1.7e308}, "repetition_penalty": 5e-324, "min_p": 5e-324},
        {"temperature": 5e-324, "top_p": 5e-324, "logit_bias": {1: -1.7e308}},
        {"allowed_tokens": (1, 2), "logit_bias": {1: -1.7e308, 2: -1.7e308}},
    ],
)
def test_what_is_drawn_with_is_a_distribution_whatever_it_is_changed_by(
    options: dict[str, Any],
) -> None:
    logits = torch.tensor([[3.0, -2.0, 0.0, 1e30, -1e30, 5.0, 5.0, 0.1]])
    for seen in (torch.ones(1, 8, dtype=torch.bool), torch.zeros(1, 8, dtype=torch.bool)):
        p = distribution(logits, Sampling(**options), seen)
        assert bool((p >= 0).all())
        assert float(p.sum()) == pytest.approx(1)
        for token in sample(logits, Sampling(**options), [torch.Generator().manual_seed(1)], seen):
            assert p[0, token] > 0
