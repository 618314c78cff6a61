"""Writes token files: all documents into one spool first, then each into its split.

The number of documents is known only at the end of the source, and the splits depend on it; so
the tokens go to the disk twice.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import plural, shown
from hyena.files.digests import sha256_of

from .documents import SPLITS, TokenPiece
from .token_file import SplitRecord, documents_file, masked_file, token_dtype, tokens_file

_BLOCK = 1 << 22  # bytes copied at a time


class Spool:
    """Collects tokenised documents in a new file, in order.

    Attributes: ``lengths`` and ``n_bytes`` of each document, as written and as text;
    ``total_bytes`` of text so far, the document that is not whole yet included; ``masked``, the
    tokens that are no targets: where each run of them begins and ends; None if nothing is masked.

    Args: masks: whether there is to be such a list.
    """

    def __init__(
        self, file: Path, vocab_size: int, end_of_text: int, *, masks: bool = False
    ) -> None:
        self.file = file
        self.dtype = token_dtype(vocab_size)
        self.end = np.asarray([end_of_text], dtype=self.dtype).tobytes()
        self._stream = file.open("wb")
        self.lengths, self.n_bytes = array("q"), array("q")
        self.masked = array("q") if masks else None
        self.total_bytes = 0
        self._written = 0  # tokens
        self._length = self._n_bytes = 0  # of the document that is not whole yet

    def __len__(self) -> int:
        """Number of whole documents."""
        return len(self.lengths)

    def add(self, piece: TokenPiece) -> None:
        """Appends a part of a document, the first one after its end_of_text."""
        if not self._length:
            self._stream.write(self.end)
            self._length = 1
            self._written += 1
        if self.masked is not None and piece.masked is not None:
            _add_runs(self.masked, piece.masked, self._written)
        self._stream.write(np.ascontiguousarray(piece.tokens, dtype=self.dtype).data)
        self._length += len(piece.tokens)
        self._written += len(piece.tokens)
        self._n_bytes += piece.n_bytes
        self.total_bytes += piece.n_bytes
        if not piece.more:
            self.lengths.append(self._length)
            self.n_bytes.append(self._n_bytes)
            self._length = self._n_bytes = 0

    def close(self) -> None:
        """Writes what is buffered. Safe to call twice."""
        self._stream.close()


def write_splits(folder: Path, spool: Spool, splits: NDArray[np.uint8]) -> dict[str, SplitRecord]:
    """Deals the documents of a closed spool out to ``<split>.bin``; removes the spool.

    Args: splits (documents,): index into `SPLITS` of each document.
    Returns: the record of each split that has documents.
    """
    lengths, n_bytes = (np.asarray(x, np.int64) for x in (spool.lengths, spool.n_bytes))
    ends = np.cumsum(lengths)
    records = {}
    for index, split in enumerate(SPLITS):
        chosen = np.flatnonzero(splits == index)
        if not chosen.size:
            continue
        # Neighbours that go to the same split are copied as one piece.
        breaks = np.flatnonzero(np.diff(chosen) != 1) + 1
        first = chosen[np.concatenate([[0], breaks])]
        last = chosen[np.concatenate([breaks - 1, [len(chosen) - 1]])]
        width = spool.dtype.itemsize
        with spool.file.open("rb") as tokens, tokens_file(folder, split).open("wb") as stream:
            for start, end in zip(ends[first] - lengths[first], ends[last], strict=True):
                _copy(tokens, int(start) * width, int(end) * width, stream)
            stream.write(spool.end)
        table = np.empty((len(chosen), 2), dtype="<i8")
        table[:, 0] = np.cumsum(lengths[chosen]) - lengths[chosen]
        table[:, 1] = n_bytes[chosen]
        with documents_file(folder, split).open("wb") as stream:
            np.save(stream, table, allow_pickle=False)
        files = [tokens_file(folder, split), documents_file(folder, split)]
        if spool.masked is not None:
            moved = np.zeros(len(ends), np.int64)
            moved[chosen] = table[:, 0] - (ends - lengths)[chosen]
            files.append(masked_file(folder, split))
            with files[-1].open("wb") as stream:
                np.save(stream, _moved_runs(spool.masked, ends, splits == index, moved))
        records[split] = SplitRecord(
            documents=len(chosen),
            tokens=int(lengths[chosen].sum()) + 1,
            bytes=int(n_bytes[chosen].sum()),
            sha256={file.name: sha256_of(file) for file in files},
        )
    spool.file.unlink()
    return records


def _add_runs(runs: array[int], masked: NDArray[np.bool_], before: int) -> None:
    """Adds the runs of what comes ``before`` tokens after the beginning; one that ended there goes
    on."""
    inside = np.flatnonzero(masked[1:] != masked[:-1]) + 1
    first, last = [0] if masked[:1].any() else [], [len(masked)] if masked[-1:].any() else []
    changes = np.concatenate([first, inside, last]).astype(np.int64) + before
    if runs and changes.size and runs[-1] == changes[0]:
        runs.pop()
        changes = changes[1:]
    runs.frombytes(changes.tobytes())


def _moved_runs(
    runs: array[int], ends: NDArray[np.int64], chosen: NDArray[np.bool_], moved: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The runs in the chosen documents, by as many tokens further on as each of these was moved.

    Args: ends (documents,): where each document ends; it holds its runs up to there.
    Returns: first token of each run and the one behind its last, (runs, 2).
    """
    places = np.asarray(runs, dtype="<i8")
    documents = np.searchsorted(ends, places)
    here = chosen[documents]
    return (places[here] + moved[documents[here]]).reshape(-1, 2)


def _copy(source: IO[bytes], start: int, end: int, target: IO[bytes]) -> None:
    # Not through a memory map: its pages would count as memory of the process.
    source.seek(start)
    for at in range(start, end, _BLOCK):
        target.write(source.read(min(_BLOCK, end - at)))


def check_fractions(validation: float, test: float) -> None:
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
