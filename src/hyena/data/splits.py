"""Which split each document goes to, and which are left out as copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import plural, shown

from .documents import SPLITS

LEFT_OUT = 255
"""In place of a split's index: the document is in none."""


def without_copies(digests: NDArray[np.uint64], origins: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which documents are kept, (documents,): of those with one text the first that is held out by
    the source, or the first of all. Takes some 60 bytes a document.

    Args: digests (documents, 2); origins (documents,), indices into `SPLITS`.
    """
    order = np.lexsort((-origins.astype(np.int8), digests[:, 1], digests[:, 0]))
    found = digests[order]
    kept = np.ones(len(digests), dtype=bool)
    kept[order[1:][(found[1:] == found[:-1]).all(axis=1)]] = False
    return kept


def splits_by_hash(
    digests: NDArray[np.uint64], *, validation: float, test: float
) -> NDArray[np.uint8]:
    """The split of each document by its digest alone, as an index into `SPLITS`, (documents,).

    Args: digests (documents, 2), of which the first number decides.
    Raises: ValueError if a split with a fraction above zero gets none, or on bad fractions.
    """
    check_fractions(validation, test)
    place = digests[:, 0].astype(np.float64) / 2.0**64
    splits = np.zeros(len(digests), dtype=np.uint8)
    splits[place < validation + test] = SPLITS.index("test")
    splits[place < validation] = SPLITS.index("validation")
    for name, fraction in (("train", 1.0), ("validation", validation), ("test", test)):
        if fraction > 0 and not (splits == SPLITS.index(name)).any():
            raise ValueError(
                f"none of {len(digests):,} {plural(len(digests), 'document')} falls into {name} by "
                "its hash; give more documents, other fractions or another seed, or use split_by "
                "documents"
            )
    return splits


def check_fractions(validation: Any, test: Any) -> None:
    """Raises ValueError unless both lie in [0, 1) and leave something to train on."""
    for name, fraction in (("validation", validation), ("test", test)):
        if not 0 <= fraction < 1:
            raise ValueError(
                f"{name} is a fraction of the documents, 0 <= {name} < 1; got {shown(fraction)}"
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
        raise ValueError(
            f"{documents} {plural(documents, 'document')} cannot fill {needed} splits; give more "
            "documents, cut text at a separator or sequences at their runs of N "
            r"(hyena prepare --separator '\n\n', --n_runs split), or set validation and test to 0"
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
