"""What the parts of a source, each read on its own, say of it together."""

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of what was read.

    Attributes:
        texts: files of text, each counted where it begins.
        cuts: places at which a separator cut one of them.
        rows: rows that a document may begin with.
        starts: of them those that do.
        held_out: names of the records of FASTA and FASTQ that are held out, and were there.
        others: the first names of others.
        notes: what there is to say beside the documents.
    """

    texts: int = 0
    cuts: int = 0
    rows: int = 0
    starts: int = 0
    held_out: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def merge(self, later: "Tally") -> None:
        """Adds what a later part says."""
        self.texts, self.cuts = self.texts + later.texts, self.cuts + later.cuts
        self.rows, self.starts = self.rows + later.rows, self.starts + later.starts
        self.held_out += later.held_out
        self.others += later.others
        self.notes += later.notes
