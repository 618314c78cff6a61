"""Spectra are computed once, and again as soon as anything that they come from changes."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from hyena.filters import HyenaFilter
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


def test_generation_records_no_gradients_and_its_filters_are_kept(filter: HyenaFilter) -> None:
    filter.train()
    assert filter.online(16) is filter.online(16)
    assert not filter.online(16).near(0, 16).requires_grad


def test_used_with_gradients_of_the_input_when_frozen(filter: HyenaFilter) -> None:
    filter.requires_grad_(False)
    first = filter.spectra(16)
    assert first is not None
    assert filter.spectra(16) is first


def an_optimizer_step(filter: HyenaFilter, **options: bool) -> None:
    optimizer = torch.optim.AdamW(filter.parameters(), lr=0.1, **options)
    (filter(16).pow(2).sum() + filter.skip.sum()).backward()
    optimizer.step()


def a_step_of_a_fused_optimizer(filter: HyenaFilter) -> None:
    """It moves no version counter."""
    an_optimizer_step(filter, fused=True)


def a_step_of_an_optimizer_of_many(filter: HyenaFilter) -> None:
    an_optimizer_step(filter, foreach=True)


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


def writing_through_data(filter: HyenaFilter) -> None:
    filter.skip.data.mul_(2)


def writing_a_last_bit_through_data(filter: HyenaFilter) -> None:
    weight = filter.layers[1].weight.data
    weight[3, 2] = torch.nextafter(weight[3, 2], torch.tensor(9.0))


def writing_to_a_view_of_the_data(filter: HyenaFilter) -> None:
    filter.layers[0].weight.data.t()[1].zero_()


def copying_into_it(filter: HyenaFilter) -> None:
    with torch.no_grad():
        filter.sine_freq.copy_(filter.sine_freq + 1)


def one_vector_for_all(filter: HyenaFilter) -> None:
    vector = torch.nn.utils.parameters_to_vector(filter.parameters())
    torch.nn.utils.vector_to_parameters(2 * vector.detach(), filter.parameters())


def swapping_tensors(filter: HyenaFilter) -> None:
    torch.utils.swap_tensors(filter.skip, nn.Parameter(filter.skip.detach() + 1))


def memory_of_another(filter: HyenaFilter) -> None:
    """As weights shared between processes change."""
    memory = filter.skip.detach().numpy()
    memory += 1


def transposing_in_memory(filter: HyenaFilter) -> None:
    weight = filter.layers[1].weight
    weight.data = (weight.data + 1).t().contiguous().t()


def narrowing_and_widening(filter: HyenaFilter) -> None:
    filter.bfloat16().float()


def to_float64(filter: HyenaFilter) -> None:
    filter.double()


CHANGES = [
    an_optimizer_step,
    a_step_of_a_fused_optimizer,
    a_step_of_an_optimizer_of_many,
    writing_through_data,
    writing_a_last_bit_through_data,
    writing_to_a_view_of_the_data,
    copying_into_it,
    one_vector_for_all,
    swapping_tensors,
    memory_of_another,
    transposing_in_memory,
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


def test_forgotten_when_training(filter: HyenaFilter) -> None:
    first = spectra(filter)
    filter.train().eval()
    assert spectra(filter) is not first


def test_forgotten_when_cleared(filter: HyenaFilter) -> None:
    first = spectra(filter)
    filter.clear_cache()
    assert spectra(filter) is not first
    assert is_fresh(filter)


def test_kept_where_memory_is_not_in_order(filter: HyenaFilter) -> None:
    transposing_in_memory(filter)
    assert spectra(filter) is spectra(filter)


def test_weights_that_are_no_numbers_are_compared_too(filter: HyenaFilter) -> None:
    filter.skip.data.fill_(torch.nan)
    assert spectra(filter) is spectra(filter)
    filter.skip.data.fill_(1)
    assert is_fresh(filter)


def test_not_kept_with_hooks(filter: HyenaFilter) -> None:
    spectra(filter)
    handle = filter.layers[1].register_forward_hook(lambda *_: None)
    with torch.no_grad():
        assert filter.spectra(16) is None
        assert filter.online(16) is not filter.online(16)
    handle.remove()
    assert spectra(filter) is spectra(filter)


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


def test_online_filters_of_sizes_that_are_none_are_refused() -> None:
    filter = HyenaFilter(3, 9, emb_dim=5, width=4).eval()
    for arguments in ({"room": -1}, {"room": 2.5}, {"room": 4, "block": 0}, {"room": 4, "block": 3},
                      {"room": 4, "block": "x"}, {"room": 4, "block": 2**40}):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=r"^online: expected "):
            filter.online(**arguments)
    with pytest.raises(ValueError, match="backend"):
        filter.online(4, backend=torch.zeros(2))
    assert filter.online(10**9).taps is not None  # no longer than the filter
