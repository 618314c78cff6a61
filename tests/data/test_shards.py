"""Tokens in several files behave as one array."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena.data import shards
from hyena.data.shards import ShardedTokens
from hyena.data.stores import Disk


def sharded(folder, sizes):
    whole = np.arange(sum(sizes), dtype="<u2")
    pieces = np.split(whole, np.cumsum(sizes)[:-1])
    for i, piece in enumerate(pieces):
        piece.tofile(folder / f"{i}.bin")
    named = [(f"{i}.bin", size) for i, size in enumerate(sizes)]
    return whole, ShardedTokens(Disk(folder), named, np.dtype("<u2"))


ends = st.none() | st.integers(-25, 25)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), ends, ends)
def test_slices_and_places_are_those_of_one_array(tmp_path_factory, sizes, start, stop):
    whole, tokens = sharded(tmp_path_factory.mktemp("shards"), sizes)
    assert len(tokens) == len(whole)
    found = tokens[start:stop]
    assert found.dtype == whole.dtype
    assert found.tolist() == whole[start:stop].tolist()
    for place in {start or 0, stop or 0}:
        if -len(whole) <= place < len(whole):
            assert tokens[place] == whole[place]
        else:
            with pytest.raises(IndexError):
                tokens[place]
    assert np.asarray(tokens).tolist() == whole.tolist()


def test_what_lies_in_one_shard_is_a_view_that_cannot_be_written(tmp_path):
    _, tokens = sharded(tmp_path, [4, 4])
    assert isinstance(tokens[5:8].base, np.memmap)
    assert not tokens[5:8].flags.writeable
    with pytest.raises(ValueError, match="with a step of 1, got 2"):
        tokens[::2]


def test_few_shards_are_open_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MOST_OPEN", 2)
    whole, tokens = sharded(tmp_path, [3] * 6)
    for _ in range(2):
        assert tokens[:].tolist() == whole.tolist()
    assert len(tokens._open) == 2


def test_another_process_maps_the_files_anew(tmp_path):
    whole, tokens = sharded(tmp_path, [3, 2])
    assert tokens[:].tolist() == whole.tolist()
    copy = pickle.loads(pickle.dumps(tokens))
    assert len(pickle.dumps(tokens)) < 2000
    assert copy[:].tolist() == whole.tolist()
