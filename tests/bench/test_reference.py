"""The truth that timed calls are compared with."""

import math

import pytest
import torch
from comparison import assert_close
from torch.nn import functional as F

from hyena.bench import reference


def test_attention_at_some_positions(generator: torch.Generator) -> None:
    q, k, v = (torch.randn(2, 3, 40, 8, generator=generator).double() for _ in range(3))
    rows = reference.compared_rows(40)
    assert rows[0] == 0
    assert rows[-1] == 39
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert_close(reference.attention(q, k, v, rows), whole[:, :, rows], 1e-12)


def test_an_error_is_relative_and_a_nan_is_no_small_one() -> None:
    truth = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert reference.relative_error(truth.float(), truth) == 0
    assert reference.relative_error(truth * 1.5, truth) == pytest.approx(0.5)
    assert math.isnan(reference.relative_error(truth * math.nan, truth))
