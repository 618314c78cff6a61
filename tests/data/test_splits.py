import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hyena.data.splits import assign_splits

fractions = st.floats(0, 0.99)


@given(st.integers(3, 300), fractions, fractions, st.integers(0, 5))
def test_every_split_with_a_fraction_gets_documents(documents, validation, test, seed):
    assume(validation + test < 1)
    splits = assign_splits(documents, validation=validation, test=test, seed=seed)
    counts = np.bincount(splits, minlength=3)
    assert counts.sum() == documents
    assert counts[0] >= 1
    for count, fraction in ((counts[1], validation), (counts[2], test)):
        assert (count >= 1) == (fraction > 0)
    again = assign_splits(documents, validation=validation, test=test, seed=seed)
    assert np.array_equal(splits, again)


def test_the_fractions_are_kept_and_the_seed_matters():
    one = assign_splits(1000, validation=0.1, test=0.05, seed=0)
    assert np.bincount(one).tolist() == [850, 100, 50]
    assert not np.array_equal(one, assign_splits(1000, validation=0.1, test=0.05, seed=1))
    # Held-out documents come from the whole source, not from one end of it.
    assert np.ptp(np.flatnonzero(one == 1)) > 800


@pytest.mark.parametrize(
    ("documents", "validation", "test", "needed"), [(1, 0.1, 0, 2), (2, 0.1, 0.1, 3), (0, 0, 0, 1)]
)
def test_too_few_documents(documents, validation, test, needed):
    with pytest.raises(ValueError, match=f"^{documents} documents? cannot fill {needed} splits"):
        assign_splits(documents, validation=validation, test=test, seed=0)


def test_one_document_fills_one_split():
    assert assign_splits(1, validation=0, test=0, seed=0).tolist() == [0]


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0), (0, 1), (0.5, 0.5), (float("nan"), 0)])
def test_bad_fractions(validation, test):
    with pytest.raises(ValueError, match=r"is a fraction of|leave no documents to train on"):
        assign_splits(10, validation=validation, test=test, seed=0)
