"""Spectra are computed once, and again as soon as anything that they come from changes."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from hyena.filters import HyenaFilter
from hyena.filters.cache import ParameterCache
from hyena.ops import Backend, FilterSpectrum, filter_spectrum


@pytest.fixture
def filter() -> HyenaFilter:
    return HyenaFilter(3, 16, filters=2, emb_dim=5, width=6, train_decay=True).eval()


def spectra(
    filter: HyenaFilter, length: int = 16, backend: Backend = "auto"
) -> tuple[FilterSpectrum, ...]:
    with torch.no_grad():
        found = filter.spectra(length, backend=backend)
    assert found is not None
    return found


def is_fresh(filter: HyenaFilter) -> bool:
    """Whether the kept spectra are what the filter's parameters say now."""
    kept, expected = spectra(filter), spectra(copy.deepcopy(filter))
    return all(torch.equal(a.values, b.values) for a, b in zip(kept, expected, strict=True))


def test_kept_between_calls(filter: HyenaFilter) -> None:
    first = spectra(filter)
    assert spectra(filter) is first
    assert spectra(filter, 9) is not first
    with torch.no_grad():
        online = filter.online(5, block=2)
        assert filter.online(16, block=2) is online
        assert filter.online(5, block=4) is not online


def test_kept_in_inference_mode_and_good_outside(filter: HyenaFilter) -> None:
    with torch.inference_mode():
        first = filter.spectra(16)
        assert filter.spectra(16) is first
    assert spectra(filter) is first
    assert not first[0].values.is_inference()


def test_not_used_while_training_or_with_gradients(filter: HyenaFilter) -> None:
    assert filter.spectra(16) is None  # gradients are on
    with torch.no_grad():
        assert filter.train().spectra(16) is None
        assert filter.online(16) is not filter.online(16)
    assert filter.eval().online(16) is not filter.online(16)
    assert not filter.online(16).near(0, 16).requires_grad


def test_used_with_gradients_of_the_input_when_frozen(filter: HyenaFilter) -> None:
    filter.requires_grad_(False)
    first = filter.spectra(16)
    assert first is not None
    assert filter.spectra(16) is first


def an_optimizer_step(filter: HyenaFilter) -> None:
    optimizer = torch.optim.AdamW(filter.parameters(), lr=0.1)
    (filter(16).pow(2).sum() + filter.skip.sum()).backward()
    optimizer.step()


def loading_a_state(filter: HyenaFilter) -> None:
    filter.load_state_dict({n: x + 1 for n, x in filter.state_dict().items()})


def assigning_a_state(filter: HyenaFilter) -> None:
    filter.load_state_dict({n: x + 1 for n, x in filter.state_dict().items()}, assign=True)


def assigning_a_parameter(filter: HyenaFilter) -> None:
    filter.skip = nn.Parameter(filter.skip.detach() + 1)


def writing_in_place(filter: HyenaFilter) -> None:
    with torch.no_grad():
        filter.layers[1].bias[2] += 1


def writing_to_a_decay(filter: HyenaFilter) -> None:
    with torch.no_grad():
        filter.decay.mul_(2)


def replacing_data(filter: HyenaFilter) -> None:
    filter.skip.data = filter.skip.data + 1


def narrowing_and_widening(filter: HyenaFilter) -> None:
    filter.bfloat16().float()


def to_float64(filter: HyenaFilter) -> None:
    filter.double()


CHANGES = [
    an_optimizer_step,
    loading_a_state,
    assigning_a_state,
    assigning_a_parameter,
    writing_in_place,
    writing_to_a_decay,
    replacing_data,
    narrowing_and_widening,
    to_float64,
]


@pytest.mark.parametrize(
    "setting", [("shift", 0.5), ("window", False), ("normalized", True), ("max_length", 20)]
)
def test_computed_again_after_a_setting_changes(
    setting: tuple[str, object], filter: HyenaFilter
) -> None:
    first = spectra(filter)
    with torch.no_grad():
        taps = filter.online(16).near(0, 16)
    setattr(filter, *setting)
    assert spectra(filter) is not first
    assert is_fresh(filter)
    with torch.no_grad():
        assert not torch.equal(filter.online(16).near(0, 16), taps)


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_computed_again_after(change: Callable[[HyenaFilter], None], filter: HyenaFilter) -> None:
    first = spectra(filter)
    change(filter)
    assert spectra(filter) is not first
    assert is_fresh(filter)
    assert spectra(filter)[0].values.dtype.to_real() == (
        torch.float64 if filter.skip.dtype == torch.float64 else torch.float32
    )


def test_a_buffer_counts_as_well() -> None:
    filter = HyenaFilter(3, 16).eval()
    first = spectra(filter)
    filter.decay.mul_(2)
    assert spectra(filter) is not first
    assert is_fresh(filter)


def test_new_data_at_an_old_address_is_seen() -> None:
    """While an entry lives, no new storage can be taken for the one that it was made from."""
    cache = ParameterCache()
    source = nn.Parameter(torch.zeros(1000))
    for value in range(50):
        source.data = torch.zeros(0)  # the old storage is free before the new one is taken
        source.data = torch.full((1000,), float(value))
        assert cache.get("sum", 0, [source], lambda: float(source.sum())) == 1000 * value


def test_forgotten_when_training(filter: HyenaFilter) -> None:
    first = spectra(filter)
    filter.train().eval()
    assert spectra(filter) is not first


def test_clear_after_writing_through_data(filter: HyenaFilter) -> None:
    first = spectra(filter)
    filter.skip.data.add_(1)  # unseen, as documented
    assert spectra(filter) is first
    filter.clear_cache()
    assert spectra(filter) is not first
    assert is_fresh(filter)


def test_a_copy_starts_empty(filter: HyenaFilter) -> None:
    first = spectra(filter)
    other = copy.deepcopy(filter)
    assert spectra(other) is not first
    with torch.no_grad():
        other.skip.add_(1)
    assert spectra(filter) is first
    assert is_fresh(other)


def test_the_state_holds_parameters_only(filter: HyenaFilter) -> None:
    before = set(filter.state_dict())
    spectra(filter)
    assert set(filter.state_dict()) == before
    other = HyenaFilter(3, 16, filters=2, emb_dim=5, width=6, train_decay=True).eval()
    other.load_state_dict(filter.state_dict())
    assert torch.equal(other(16), filter(16))


def test_functional_calls_see_their_own_parameters(filter: HyenaFilter) -> None:
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter = filter

        def forward(self) -> torch.Tensor:
            with torch.no_grad():
                found = self.filter.spectra(16, backend="torch")
                if found is None:  # under vmap
                    taps, skip = self.filter(16), self.filter.skip
                    found = [
                        filter_spectrum(taps[i], 16, skip[i], backend="torch") for i in range(2)
                    ]
                return torch.stack([s.values for s in found])

    module = Spectrum().eval()
    first = module()
    doubled = {n: 2 * p for n, p in module.named_parameters()}
    mixed = torch.func.functional_call(module, doubled, ())
    assert not torch.allclose(mixed, first)
    assert torch.equal(module(), first)
    stacked = {n: torch.stack([p, 2 * p]) for n, p in module.named_parameters()}
    with torch.no_grad():
        both = torch.func.vmap(lambda p: torch.func.functional_call(module, p, ()))(stacked)
    torch.testing.assert_close(both, torch.stack([first, mixed]), rtol=1e-3, atol=1e-4)
    assert torch.equal(module(), first)
