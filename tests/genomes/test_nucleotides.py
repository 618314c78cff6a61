import pytest

from hyena.genomes import reverse_complement
from hyena.genomes.nucleotides import NUCLEOTIDES

BASES = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT",
    "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
OTHER = {"A": "T", "C": "G", "G": "C", "T": "A"}


def test_codes_of_several_bases_give_the_code_of_their_complements():
    codes = {bases: code for code, bases in BASES.items()}
    for code, bases in BASES.items():
        expected = codes["".join(sorted(OTHER[base] for base in bases))]
        assert reverse_complement(code.encode()) == expected.encode()
        assert reverse_complement(code.lower().encode()) == expected.lower().encode()


def test_the_other_strand_is_read_backwards_and_twice_is_the_same():
    assert reverse_complement(b"") == b""
    assert reverse_complement(b"AACgtNx") == b"xNacGTT"
    assert reverse_complement(b"ACU") == b"AGT"
    dna = NUCLEOTIDES.replace(b"U", b"").replace(b"u", b"")
    assert reverse_complement(reverse_complement(dna)) == dna


def test_what_has_no_complement():
    with pytest.raises(ValueError, match="'E' is no nucleotide"):
        reverse_complement(b"ACE")
    with pytest.raises(ValueError, match="byte 0xe9 is no nucleotide"):
        reverse_complement(b"\xe9")
    with pytest.raises(TypeError, match="expected bytes, got 'AC'"):
        reverse_complement("AC")
