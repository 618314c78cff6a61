"""The letters of nucleic acids: bases and IUPAC's codes for several of them, in both cases."""

import re

from hyena.arguments import shown

_LETTERS = b"ACGTUNRYSWKMBDHVX"
_PAIRS = b"TGCAANYRSWMKVHDBX"

NUCLEOTIDES = _LETTERS + _LETTERS.lower()
"""Bases, uracil, IUPAC's codes, and X, which some programs write where others write N."""

SPACE = b" \t\n\v\f\r\x1c\x1d\x1e\x1f"
"""White space among ASCII's characters."""

OTHER = re.compile(b"[^" + NUCLEOTIDES + SPACE + b"]")
"""A byte that is neither a nucleotide nor white space."""

_COMPLEMENT = bytes.maketrans(NUCLEOTIDES, _PAIRS + _PAIRS.lower())


def reverse_complement(sequence: bytes) -> bytes:
    """The other strand, read in its own direction. Case is kept; U gives A, and A gives T.

    IUPAC's codes give the codes of the complements: R (A or G) gives Y (T or C).

    Raises: TypeError if it is not bytes; ValueError on a byte that is no nucleotide.
    """
    if not isinstance(sequence, bytes):
        raise TypeError(f"reverse_complement: expected bytes, got {shown(sequence)}")
    if other := sequence.translate(None, NUCLEOTIDES):
        raise ValueError(
            f"reverse_complement: {shown_byte(other[0])} is no nucleotide; expected A, C, G, T, "
            "U, N and IUPAC's other codes"
        )
    return sequence.translate(_COMPLEMENT)[::-1]


def shown_byte(byte: int) -> str:
    """A byte in a message: the character, or its number where ASCII has none to show."""
    return repr(chr(byte)) if 32 < byte < 127 else f"byte 0x{byte:02x}"
