"""Sampled frequencies are the distribution's."""

import pytest
import torch

from hyena.generation import Sampling, sample

LOGITS = torch.tensor([0.0, 2.0, 1.0, -1.0, 1.0])


def frequencies(sampling: Sampling, draws: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.tensor([sample(LOGITS, sampling, generator) for _ in range(draws)])
    return torch.bincount(tokens, minlength=5) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature(temperature):
    expected = (LOGITS / temperature).softmax(0)
    found = frequencies(Sampling(temperature))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)


def test_top_k_keeps_the_likeliest():
    expected = torch.tensor([0.0, 2.0, 1.0, -torch.inf, 1.0])
    expected[0] = -torch.inf
    found = frequencies(Sampling(top_k=3))
    torch.testing.assert_close(found, expected.softmax(0), rtol=0, atol=0.03)


def test_top_p_keeps_the_fewest_that_reach_p():
    p = LOGITS.softmax(0)
    found = frequencies(Sampling(top_p=float(p[1]) + 0.01))
    expected = torch.tensor([0.0, float(p[1]), float(p[2]), 0.0, 0.0])
    torch.testing.assert_close(found, expected / expected.sum(), rtol=0, atol=0.03)


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-300, 1e-40, 1e-6])
@pytest.mark.parametrize("scale", [1, 1e30])
def test_zero_temperature_and_its_neighbours_are_the_likeliest(temperature, scale):
    assert sample(LOGITS * scale, Sampling(temperature), torch.Generator()) == 1
