"""The encoding is kept while the length stays, once for all filters alike, and never saved."""

import copy
import gc
import io
import threading
import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from hyena.filters import HyenaFilter
from hyena.filters.encoding import Grid, KeptEncoding, encode, positions

GRID = Grid(300, 1.0, False, 4096, 5, torch.float32, torch.device("cpu"))
PARAMETER = torch.nn.Parameter(torch.ones(1))


def test_one_for_all_and_freed_with_the_last() -> None:
    a, b = KeptEncoding(), KeptEncoding()
    first = a.get(GRID, PARAMETER)
    assert b.get(GRID, PARAMETER) is first
    assert torch.equal(first, encode(positions(GRID), GRID))
    a.get(GRID._replace(length=7), PARAMETER)
    assert a.get(GRID, PARAMETER) is first  # b has it still
    left = weakref.ref(first)
    del a, b, first
    gc.collect()
    assert left() is None


def test_every_setting_counts() -> None:
    kept = KeptEncoding()
    changes = {
        "length": 7,
        "scale": 0.5,
        "bidirectional": True,
        "max_length": 5000,
        "emb_dim": 7,
        "dtype": torch.float64,
    }
    for name, value in changes.items():
        kept.get(GRID, PARAMETER)
        changed = GRID._replace(**{name: value})
        got, expected = kept.get(changed, PARAMETER), encode(positions(changed), changed)
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)


@pytest.mark.cpu
def test_not_part_of_the_filter() -> None:
    filter = HyenaFilter(2, 4096)
    names, before = set(filter.state_dict()), io.BytesIO()
    torch.save(filter, before)
    filter(4096)
    assert set(filter.state_dict()) == names
    after = io.BytesIO()
    torch.save(filter, after)
    assert len(after.getvalue()) == len(before.getvalue())
    after.seek(0)
    for other in (torch.load(after, weights_only=False), copy.deepcopy(filter)):
        assert torch.equal(other(4096), filter(4096))


def test_first_asked_for_in_inference_mode() -> None:
    filter = HyenaFilter(2, 64)
    with torch.inference_mode():
        expected = filter(64)
    h = filter(64)
    h.sum().backward()
    assert torch.equal(h, expected)


def test_a_tracers_stand_ins_are_not_kept() -> None:
    filter = HyenaFilter(2, 64)
    expected = filter(50)
    torch.func.functionalize(lambda: filter(40))()
    with FakeTensorMode():
        assert HyenaFilter(2, 64)(50).shape == (1, 2, 50)
    filter.double().float()
    for length in (40, 50):
        assert torch.equal(filter(length), copy.deepcopy(filter)(length))
    assert torch.equal(filter(50), expected)


@pytest.mark.cpu
def test_threads() -> None:
    filter = HyenaFilter(2, 64)
    lengths = [10, 20, 30, 10] * 5
    expected = {length: filter(length) for length in lengths}
    wrong: list[int] = []

    def work() -> None:
        for length in lengths:
            if not torch.equal(filter(length), expected[length]):
                wrong.append(length)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
