"""How documents are found inside a source: `TextFields`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from hyena.arguments import shown

from .cuts import Cuts
from .documents import Document
from .nucleotide_tokenizers import folded
from .pieces import split_blocks, with_more
from .readers import SUFFIXES, Kind
from .sequence_files import HeldOut

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
        plain = _plain(self.separator)
        pattern = re.compile("\r?\n".join(map(re.escape, plain.split("\n"))))
        return split_blocks(blocks, pattern, len(plain) + plain.count("\n"))

    def cuts(self) -> Cuts | None:
        """Where the separator cuts the bytes of a text; None without one."""
        return None if self.separator is None else Cuts(_plain(self.separator))


def _plain(separator: str) -> str:
    """A separator whose signs that were written out are what they stand for."""
    return re.sub(r"\\([nrt\\])", lambda escape: _ESCAPES[escape[1]], separator)
