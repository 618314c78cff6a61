"""Inputs longer than the filter was built for: what each policy does."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from formula import filter_at, taps_at

from hyena.filters import HyenaFilter

M = 9  # max_length


def make(policy: str, **options: Any) -> HyenaFilter:
    options = {"emb_dim": 5, "width": 6, "filters": 2, "length_policy": policy, **options}
    return HyenaFilter(3, M, dtype=torch.float64, **options)


def test_by_default_a_longer_input_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"^the input is 10 long but max_length is 9; shorten it, or choose "
            r'length_policy "extrapolate" or "interpolate"$'
        ),
    ):
        HyenaFilter(3, M)(M + 1)


@pytest.mark.parametrize("policy", ["error", "extrapolate", "interpolate"])
def test_a_length_below_one_is_refused(policy: str) -> None:
    with pytest.raises(ValueError, match=r"^HyenaFilter: expected length from 1 to 2\^48, got 0$"):
        make(policy)(0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_extrapolation_continues_the_formula(bidirectional: bool) -> None:
    filter = make("extrapolate", bidirectional=bidirectional)
    L = 3 * M + 2
    start = 1 - L if bidirectional else 0
    assert_close(filter(L), filter_at(filter, [float(n) for n in range(start, L)]), 1e-12)


def test_extrapolated_filters_agree_where_they_overlap() -> None:
    filter = make("extrapolate")
    assert_close(filter(3 * M)[..., :M], filter(M), 1e-12)


def test_extrapolated_sines_nearly_repeat() -> None:
    filter = HyenaFilter(3, 64, length_policy="extrapolate", window=False, dtype=torch.float64)
    with torch.no_grad():  # take time itself out of the encoding: what is left are the sines
        filter.layers[0].weight[:, 0] = 0
    h = filter(128)
    assert_close(h[..., 64:], h[..., :64], 0.1)
    assert not torch.allclose(h[..., 64:], h[..., :64], rtol=1e-9)
    assert not torch.allclose(h[..., 32:64], h[..., :32], rtol=0.1)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("L", [M + 1, 2 * M, 31])
def test_interpolation_spans_the_same_time(L: int, bidirectional: bool) -> None:
    filter = make("interpolate", bidirectional=bidirectional)
    start = 1 - L if bidirectional else 0
    positions = [n * (M - 1) / (L - 1) for n in range(start, L)]
    assert max(positions) == pytest.approx(M - 1)
    h = filter(L)
    assert_close(h, filter_at(filter, positions), 1e-12)
    middle = L - 1 if bidirectional else 0
    assert_close(h[..., middle], filter(M)[..., M - 1 if bidirectional else 0], 1e-12)
    assert_close(h[..., -1], filter(M)[..., -1], 1e-12)


def test_interpolation_leaves_shorter_inputs_alone() -> None:
    filter = make("interpolate")
    assert_close(filter(M), filter_at(filter, [float(n) for n in range(M)]), 1e-12)
    assert_close(filter(4), filter(M)[..., :4], 1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_trained_table_is_interpolated_linearly(bidirectional: bool) -> None:
    filter = make("interpolate", train_encoding=True, bidirectional=bidirectional)
    middle = M - 1 if bidirectional else 0
    with torch.no_grad():
        filter.encoding.normal_(generator=torch.Generator().manual_seed(0))
    L = 14
    columns = []
    for n in range(1 - L if bidirectional else 0, L):
        place = n * (M - 1) / (L - 1) + middle
        low = min(int(place), filter.encoding.shape[0] - 2)
        weight = place - low
        x = (1 - weight) * filter.encoding[low] + weight * filter.encoding[low + 1]
        t = (place - middle) / (M - 1)
        columns.append(taps_at(filter, x.tolist(), t))
    expected = torch.tensor(columns, dtype=torch.float64).permute(1, 2, 0)
    assert_close(filter(L), expected, 1e-12)


def test_interpolating_a_table_trains_it() -> None:
    filter = make("interpolate", train_encoding=True)
    filter(14).pow(2).sum().backward()
    assert bool(filter.encoding.grad.any(1).all())


def test_interpolating_a_table_has_a_deterministic_gradient() -> None:
    """On CUDA too, where the backward of PyTorch's interpolation adds in another order each time
    and is refused by `torch.use_deterministic_algorithms`."""
    filter = make("interpolate", train_encoding=True)
    nodes, seen = [filter(14).grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
    assert not [node for node in seen if node.name().startswith("Upsample")]


def test_a_trained_table_cannot_be_extrapolated() -> None:
    filter = make("extrapolate", train_encoding=True)
    assert filter(M).shape == (2, 3, M)
    for ask in (filter, filter.check_growth):
        with pytest.raises(
            ValueError,
            match=(
                r"^the input is 10 long but the trained encoding is a table of 9 positions, which "
                r'cannot be extrapolated; shorten the input or choose length_policy "interpolate"$'
            ),
        ):
            ask(M + 1)


@pytest.mark.parametrize("policy", ["error", "extrapolate", "interpolate"])
def test_a_filter_of_one_position(policy: str) -> None:
    filter = HyenaFilter(2, 1, length_policy=policy, train_encoding=policy == "interpolate")
    assert filter(1).shape == (1, 2, 1)
    if policy != "error":
        assert bool(filter(4).isfinite().all())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", ["error", "extrapolate", "interpolate"])
def test_what_generation_reads(policy: str, training: bool) -> None:
    filter = make(policy).train(training)
    assert filter.limit == (None if policy == "extrapolate" else M)
    with torch.no_grad():
        online, h = filter.online(M, block=2), filter(M)
        first = h[..., :2].clone()
        first[..., 0] += filter.skip
        for part in range(2):
            assert_close(online.near(part, 2)[:, 0].t(), first[part], 1e-12)
        for size in (2, 4, 8):
            one = torch.zeros(1, 6, size, dtype=torch.float64)
            one[..., -1] = 1  # the last input before the outputs
            assert_close(online.tile(one).view(2, 3, size), filter(size + 1)[..., 1:], 1e-12)


def test_a_trained_table_is_the_limit_of_generation() -> None:
    assert make("extrapolate", train_encoding=True).limit == M


def test_growth_follows_the_policy() -> None:
    with pytest.raises(ValueError, match=r"^the input is 10 long but max_length is 9; "):
        make("error").check_growth(M + 1)
    with pytest.raises(
        ValueError,
        match=(
            r'^length 10 exceeds max_length 9: with length_policy "interpolate" the filter changes '
            r"with the length, so a sequence cannot grow past max_length; "
        ),
    ):
        make("interpolate").check_growth(M + 1)
    for policy in ("error", "interpolate"):
        make(policy).check_growth(M)
    make("extrapolate").check_growth(100 * M)
