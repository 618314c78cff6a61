"""Pictures of the learned filters."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from torch import nn

from hyena.filters import ExplicitTaps, HyenaFilter, LongFilter
from hyena.plots import draw_filters
from hyena.plots.filters import taps


def test_each_filter_of_a_model_is_drawn(tmp_path: Path) -> None:
    one = nn.Sequential(HyenaFilter(6, 32), nn.Linear(3, 3))
    two = nn.Sequential(HyenaFilter(6, 32), HyenaFilter(1, 32, filters=2))
    heights = [
        matplotlib.image.imread(draw_filters(model, tmp_path / "f.png")).shape[0]
        for model in (one, two)
    ]
    assert heights[1] > 2.5 * heights[0]


def test_a_bidirectional_filter_is_drawn(tmp_path: Path) -> None:
    assert draw_filters(HyenaFilter(6, 32, bidirectional=True), tmp_path / "f.png").is_file()


def test_filters_of_any_taps_are_drawn(tmp_path: Path) -> None:
    filter = LongFilter(ExplicitTaps(6, 9, filters=2), 6, 32, filters=2)
    both = nn.Sequential(filter, HyenaFilter(6, 32))
    one, three = (
        matplotlib.image.imread(draw_filters(model, tmp_path / "f.png")).shape[0]
        for model in (HyenaFilter(6, 32), both)
    )
    assert three > 2.5 * one
    np.testing.assert_array_equal(taps(filter, 20), filter(20).detach().double().numpy())


def test_the_length_can_be_chosen(tmp_path: Path) -> None:
    assert draw_filters(HyenaFilter(6, 32), tmp_path / "f.png", length=1).is_file()


def test_taps_are_the_filters_output() -> None:
    module = HyenaFilter(6, 32)
    np.testing.assert_array_equal(taps(module, 20), module(20).detach().double().numpy())


def test_a_model_without_hyena_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model has no HyenaFilter"):
        draw_filters(nn.Linear(2, 2), tmp_path / "f.png")
