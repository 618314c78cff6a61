"""What filters keep between calls stays within the bytes that a model is given for it."""

import copy
import gc
import io
import itertools
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from comparison import assert_close
from torch import nn

from hyena import HyenaOperator, LanguageModel, ModelConfig, replace_attention
from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    Filter,
    HyenaFilter,
    LongFilter,
    TransferFunctionTaps,
)
from hyena.filters import filter as module
from hyena.filters.budget import KEPT_MEMORY
from hyena.filters.cache import ParameterCache, bytes_of
from hyena.ops import filter_spectrum

D, L, LAYERS = 4, 200, 4


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(ModelConfig(width=D, layers=LAYERS, max_length=L, vocab_size=8)).eval()


def filters(model: nn.Module) -> list[Filter]:
    return [part for part in model.modules() if isinstance(part, Filter)]


def of_a_layer(model: LanguageModel, length: int = L) -> int:
    """Bytes that one layer keeps after a forward pass."""
    return filters(model)[0].kept_bytes(length)


@contextmanager
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The lengths of the spectra that are made inside to be kept."""
    lengths: list[int] = []

    def counted(k: torch.Tensor, length: int, *args: object, **options: object) -> object:
        lengths.append(length)
        return filter_spectrum(k, length, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "filter_spectrum", counted)
        yield lengths


@torch.no_grad()
def run(model: LanguageModel, length: int = L) -> torch.Tensor:
    return model(torch.arange(length)[None] % 8)


@pytest.mark.parametrize("layers", [0, 1, 2, LAYERS])
def test_as_many_layers_are_kept_as_there_is_room_for(
    layers: int, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(model)
    model.kept_memory = layers * of_a_layer(model)
    with made(monkeypatch) as lengths:
        assert_close(run(model), expected, 1e-6)
        assert len(lengths) == layers
        for _ in range(3):  # and stay, those of no layer for those of another
            assert_close(run(model), expected, 1e-6)
        assert len(lengths) == layers
    kept = sum(filter.kept.nbytes for filter in filters(model))
    assert kept == layers * of_a_layer(model)


def test_a_byte_less_is_too_few(model: LanguageModel) -> None:
    model.kept_memory = of_a_layer(model) - 1
    run(model)
    assert not any(filter.kept.nbytes for filter in filters(model))


def test_another_length_takes_the_place_of_the_layers_own(model: LanguageModel) -> None:
    lengths = L, L // 2, L, 1, L - 1
    model.kept_memory = LAYERS * max(of_a_layer(model, length) for length in lengths)
    for length in lengths:
        run(model, length)
        assert {filter.kept.nbytes for filter in filters(model)} == {of_a_layer(model, length)}


def test_room_that_is_freed_is_used(model: LanguageModel) -> None:
    model.kept_memory = of_a_layer(model)
    run(model)
    first, second, *_ = filters(model)
    assert (first.kept.nbytes, second.kept.nbytes) == (model.kept_memory, 0)
    first.clear_cache()
    with torch.no_grad():
        assert second.spectra(L) is not None
    del model.blocks[1]
    run(model)
    assert second.kept.nbytes > 0
    assert first.kept.nbytes == 0  # the second lives
    del second
    gc.collect()
    run(model)
    assert first.kept.nbytes > 0


def test_weights_that_change_give_way_to_their_successors(model: LanguageModel) -> None:
    model.kept_memory = of_a_layer(model)
    run(model)
    (first, *_) = filters(model)
    first.skip.data.mul_(2)
    expected = copy.deepcopy(model)
    assert torch.equal(run(model), run(expected))
    assert first.kept.nbytes == model.kept_memory


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, L])
def test_the_bytes_that_are_told_are_those_that_are_kept(
    bidirectional: bool, dtype: torch.dtype, backend: str, length: int
) -> None:
    filter = HyenaFilter(D, L, filters=2, bidirectional=bidirectional, dtype=dtype).eval()
    told = filter.kept_bytes(length, backend=backend)  # type: ignore[arg-type]
    with torch.no_grad():
        found = filter.spectra(length, backend=backend)  # type: ignore[arg-type]
    assert found is not None
    assert filter.kept.nbytes == told
    assert told > sum(spectrum.values.nbytes for spectrum in found)
    assert copy.deepcopy(filter).to("meta").kept_bytes(length, backend=backend) == told  # type: ignore[arg-type]


@pytest.mark.cpu
def test_one_budget_for_a_model_its_copies_have_others(model: LanguageModel) -> None:
    assert model.kept_memory == KEPT_MEMORY
    memory = model.kept_memory = 2 * of_a_layer(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ]
    for one in (model, *copies):
        assert one.kept_memory == memory
        assert len({id(filter.kept.budget) for filter in filters(one)}) == 1
        assert one.blocks[0].mixer.kept_memory == one.kept_memory
        run(one)
        assert sum(filter.kept.nbytes > 0 for filter in filters(one)) == 2
        one.kept_memory = 0
    for one, other in itertools.combinations((model, *copies), 2):
        assert filters(one)[0].kept.budget is not filters(other)[0].kept.budget


def test_training_and_clearing_leave_the_budget(model: LanguageModel) -> None:
    model.kept_memory = of_a_layer(model)
    for forget in (lambda: model.train().eval(), model.clear_cache):
        run(model)
        forget()
        assert not any(filter.kept.nbytes for filter in filters(model))
    run(model)
    assert sum(filter.kept.nbytes > 0 for filter in filters(model)) == 1


def test_what_is_set_frees_what_is_kept(model: LanguageModel) -> None:
    run(model)
    caches = [filter.kept for filter in filters(model)]
    assert all(cache.nbytes for cache in caches)
    model.kept_memory = 0
    assert not any(cache.nbytes for cache in caches)
    assert run(model).isfinite().all()
    assert not any(filter.kept.nbytes for filter in filters(model))


def test_an_operator_alone_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    operator, other = HyenaOperator(D, L).eval(), HyenaOperator(D, L).eval()
    assert operator.kept_memory == KEPT_MEMORY
    operator.kept_memory = 0
    assert other.kept_memory == KEPT_MEMORY
    u = torch.randn(1, L, D)
    with torch.no_grad(), made(monkeypatch) as lengths:
        operator(u)
        assert not lengths
        other(u)
        assert lengths == [L]
    two_sided = HyenaOperator(D, L, bidirectional=True)
    two_sided.kept_memory = 5
    assert two_sided.two_sided_filter.kept_memory == 5


def test_operators_in_place_of_attention_share_one() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, batch_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    replace_attention(model, L, causal=True)
    assert len(filters(model)) == 3
    assert len({id(filter.kept.budget) for filter in filters(model)}) == 1


@pytest.mark.parametrize("value", [-1, 0.5, "1 GiB", None, True, torch.ones(2)])
def test_bytes_that_are_none_are_refused(value: object, model: LanguageModel) -> None:
    for one in (model, HyenaOperator(D, L), HyenaFilter(D, L)):
        with pytest.raises(ValueError, match=r"^kept_memory: expected "):
            one.kept_memory = value  # type: ignore[assignment]
        assert one.kept_memory == KEPT_MEMORY


def test_what_a_state_reads_stays_as_long_as_the_state(model: LanguageModel) -> None:
    model.kept_memory = 0
    (first, *_) = filters(model)
    ids = torch.arange(100)[None] % 8
    with torch.no_grad():
        expected = model(torch.cat([ids, ids[:, :80]], 1))[:, 100:]
        _, state = model.prefill(ids, future=80)
        read = None
        for t in range(80):  # beyond the 64 steps after which it is looked for anew
            logits, state = model.step(ids[:, t], state)
            assert_close(logits, expected[:, t], 1e-4)
            read = read or state.layers[0].long.filter
            assert state.layers[0].long.filter is read
    assert first.online(80) is read
    assert first.kept.nbytes == bytes_of([*first.parameters(), *first.buffers()])
    del state, read
    gc.collect()
    assert first.kept.nbytes == 0
    assert not first.kept._entries


def test_what_a_state_reads_is_kept_within_the_budget(model: LanguageModel) -> None:
    (first, *_) = filters(model)
    with torch.no_grad():
        small = first.online(10)
        before = first.kept.nbytes
        assert before >= small.nbytes > 0
        assert first.online(L) is small  # it has grown
    assert first.kept.nbytes > before
    online = first.kept.nbytes
    model.kept_memory = online + of_a_layer(model) - 1
    with torch.no_grad():
        first.online(L)
        assert first.spectra(L) is None
        assert first.spectra(1) is not None


@pytest.mark.parametrize("taps", [DiagonalSSM(D, state=4), TransferFunctionTaps(D, 4)])
def test_recurrences_are_kept_whatever_the_budget(taps: nn.Module) -> None:
    filter = LongFilter(taps, D, L).eval()
    filter.kept_memory = 0
    assert filter.recurrence() is filter.recurrence()
    assert filter.kept.nbytes > 0


def test_the_numbers_to_compare_with_count() -> None:
    """Of explicit taps they are as many as the taps."""
    filter = LongFilter(ExplicitTaps(D, L), D, L).eval()
    with torch.no_grad():
        found = filter.spectra(L)
    assert found is not None
    of_taps = filter.taps.weight.nbytes + filter.skip.nbytes
    assert filter.kept.nbytes == bytes_of(found) + of_taps


def test_a_cache_without_a_budget_has_one() -> None:
    assert ParameterCache().budget.limit == KEPT_MEMORY
