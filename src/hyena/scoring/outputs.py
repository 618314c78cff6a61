"""Files of scores and of vectors, written from a journal in bounded memory."""

from __future__ import annotations

import itertools
import json
import struct
import zipfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena.data.packages import require
from hyena.files.atomic import write_file, writing

from .journal import Journal

ROWS = (".jsonl", ".parquet")
VECTORS = (".safetensors", ".npz", ".parquet")
"""The endings of files of rows, and of vectors."""

Column = Literal["int64", "float64", "string", "list"]
"""A kind of column, where "list" is of float64."""

_BLOCK = 1 << 24  # bytes copied, or made a group of rows, at a time
_ROWS = 1 << 10  # rows of scores in a group
_SAFETENSORS = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8"}


def check_output(out: Path, endings: tuple[str, ...]) -> None:
    """Refuses an output before the work for it is done.

    Raises: ValueError if it has another ending; ImportError if a package for it is missing.
    """
    ending = out.suffix.lower()
    if ending not in endings:
        raise ValueError(f"out: expected a file that ends in {', '.join(endings)}, got {out}")
    if ending == ".parquet":
        require("pyarrow", "a Parquet file", "hyena[data]")


def write_rows(out: Path, kept: Journal, columns: Mapping[str, Column]) -> None:
    """Writes the rows of a journal as JSON Lines, or as Parquet with these columns, which not each
    row need have. Raises: OSError."""
    with writing(out):
        if out.suffix.lower() == ".parquet":
            write_file(out, lambda path: _parquet_of_rows(path, kept.rows(), columns))
        else:
            write_file(out, lambda path: _json_lines(path, kept.rows()))


def write_vectors(
    out: Path, kept: Journal, *, dtype: np.dtype[Any], width: int, pooled: bool
) -> None:
    """Writes the vectors of a journal, whose rows have ``index``, ``name`` and ``tokens``, or
    ``skipped`` where there are none.

    Args:
        out: ends in .safetensors, .npz or .parquet.
        dtype: of the vectors in the journal.
        width: of each.
        pooled: there is one a sequence, else one a token.

    Raises: OSError.
    """
    found = _found(kept, dtype, width, pooled)
    writers = {".safetensors": _safetensors, ".npz": _npz, ".parquet": _parquet_of_vectors}
    write = writers[out.suffix.lower()]
    with writing(out):
        write_file(out, lambda path: write(path, found))


class _Array(NamedTuple):
    """An array of a file, from memory or as the content of another file."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    content: NDArray[Any] | Path

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def copy(self, target: IO[bytes]) -> None:
        """Writes its numbers, in C order."""
        if not self.nbytes:
            return
        if isinstance(self.content, Path):
            with self.content.open("rb") as source:
                while block := source.read(_BLOCK):
                    target.write(block)
        else:
            target.write(np.ascontiguousarray(self.content).data)


@dataclass(frozen=True, eq=False)
class _Found:
    """The vectors in a journal, (n, D), and of which sequences they are."""

    file: Path
    dtype: np.dtype[Any]
    width: int
    pooled: bool
    index: NDArray[np.int64]
    """The place of each sequence that was not skipped among all of them."""
    names: list[str]
    offsets: NDArray[np.int64]
    """Where the vectors of each of these begin, and where the last one's end."""

    def arrays(self) -> list[_Array]:
        """What a file of arrays holds. Wide numbers come first, so that all are aligned."""
        names = np.frombuffer("\n".join(self.names).encode(), dtype=np.uint8)
        shape = int(self.offsets[-1]), self.width
        arrays = [_Array("index", self.index.dtype, self.index.shape, self.index)]
        if not self.pooled:
            arrays.append(_Array("offsets", self.offsets.dtype, self.offsets.shape, self.offsets))
        arrays.append(_Array("embeddings", self.dtype, shape, self.file))
        return [*arrays, _Array("names", names.dtype, names.shape, names)]

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]]:
        """The vectors some at a time: the places in ``index`` of their sequences, their positions
        in these, and their numbers."""
        most, total = max(1, _BLOCK // (self.width * self.dtype.itemsize)), int(self.offsets[-1])
        if not total:
            return
        with self.file.open("rb") as stream:
            for start in range(0, total, most):
                at = np.arange(start, min(start + most, total))
                places = np.searchsorted(self.offsets, at, side="right") - 1
                numbers = np.fromfile(stream, dtype=self.dtype, count=len(at) * self.width)
                yield places, at - self.offsets[places], numbers


def _found(kept: Journal, dtype: np.dtype[Any], width: int, pooled: bool) -> _Found:
    index, ends, names = array("q"), array("q", [0]), list[str]()
    for row in kept.rows():
        if "skipped" not in row:
            index.append(row["index"])
            ends.append(ends[-1] + (1 if pooled else row["tokens"]))
            names.append(row["name"])
    of = np.array(index, dtype=np.int64), np.array(ends, dtype=np.int64)
    return _Found(kept.vectors, dtype, width, pooled, of[0], names, of[1])


def _json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def _safetensors(path: Path, found: _Found) -> None:
    """By hand, since the library wants all numbers in memory: the header's length in 8 bytes, the
    header, a multiple of 8 bytes long, and the numbers."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for x in found.arrays():
        kind = _SAFETENSORS[x.dtype.name]
        offsets = [at, at + x.nbytes]
        header[x.name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": offsets}
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for x in found.arrays():
            x.copy(file)


def _npz(path: Path, found: _Found) -> None:
    """By hand, since NumPy wants all numbers in memory. No time stands in the file."""
    with zipfile.ZipFile(path, "w") as archive:
        for x in found.arrays():
            entry = zipfile.ZipInfo(f"{x.name}.npy")
            with archive.open(entry, "w", force_zip64=True) as file:
                described = np.lib.format.dtype_to_descr(x.dtype)
                header = {"descr": described, "fortran_order": False, "shape": x.shape}
                np.lib.format.write_array_header_1_0(file, header)
                x.copy(file)


def _parquet_of_rows(
    path: Path, rows: Iterator[dict[str, Any]], columns: Mapping[str, Column]
) -> None:
    import pyarrow as pa  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-not-found, import-untyped, unused-ignore]

    kinds = {
        "int64": pa.int64(),
        "float64": pa.float64(),
        "string": pa.string(),
        "list": pa.list_(pa.float64()),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    with pq.ParquetWriter(path, schema) as writer:
        while some := list(itertools.islice(rows, _ROWS)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def _parquet_of_vectors(path: Path, found: _Found) -> None:
    import pyarrow as pa  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-not-found, import-untyped, unused-ignore]

    numbers = pa.list_(pa.from_numpy_dtype(found.dtype), found.width)
    position = [] if found.pooled else [("position", pa.int64())]
    columns = [("index", pa.int64()), ("name", pa.string()), *position, ("embedding", numbers)]
    schema = pa.schema(columns)
    with pq.ParquetWriter(path, schema) as writer:
        for places, positions, block in found.blocks():
            arrays = [
                pa.array(found.index[places]),
                pa.array([found.names[i] for i in places.tolist()], pa.string()),
                *([] if found.pooled else [pa.array(positions)]),
                pa.FixedSizeListArray.from_arrays(pa.array(block), found.width),
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
