"""Which document goes into which split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")


def check_fractions(validation: float, test: float) -> None:
    """Raises ValueError unless both lie in [0, 1) and leave something to train on."""
    for name, fraction in (("validation", validation), ("test", test)):
        if not 0 <= fraction < 1:
            raise ValueError(
                f"{name} is a fraction of the documents, 0 <= {name} < 1; got {fraction}"
            )
    if validation + test >= 1:
        raise ValueError(
            f"validation ({validation}) and test ({test}) leave no documents to train on; "
            f"their sum must be below 1"
        )


def assign_splits(
    documents: int, *, validation: float, test: float, seed: int
) -> NDArray[np.uint8]:
    """The split of each document, as an index into `SPLITS`, (documents,).

    The documents are shuffled, and the first ones held out. Every split with a fraction above
    zero gets a document at least; beyond that the fractions are rounded to whole documents.
    A pure function of its arguments.

    Raises: ValueError if there are fewer documents than splits to fill, or for bad fractions.
    """
    check_fractions(validation, test)
    needed = 1 + (validation > 0) + (test > 0)
    if documents < needed:
        some = "1 document" if documents == 1 else f"{documents} documents"
        raise ValueError(
            f"{some} cannot fill {needed} splits; give more documents, cut the text at a "
            f"separator, or set validation and test to 0"
        )
    n_validation = _count(validation, documents, documents - 1 - (test > 0))
    n_test = _count(test, documents, documents - 1 - n_validation)
    order = np.random.default_rng(np.random.SeedSequence([seed])).permutation(documents)
    splits = np.zeros(documents, dtype=np.uint8)
    splits[order[:n_validation]] = SPLITS.index("validation")
    splits[order[n_validation : n_validation + n_test]] = SPLITS.index("test")
    return splits


def _count(fraction: float, documents: int, most: int) -> int:
    return min(max(round(fraction * documents), 1), most) if fraction > 0 else 0
