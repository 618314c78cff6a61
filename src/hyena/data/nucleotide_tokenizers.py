"""Tokenizers of the genome models: HyenaDNA's letters, and the bytes of Evo."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import token_ids

from .tokenizer import write_description
from .utf8 import utf8

_LETTERS = "ACGTN"
_UPPER = str.maketrans(ascii_lowercase, ascii_uppercase)


class HyenaDNATokenizer:
    """The ids of the released HyenaDNA models: a token for each of A, C, G, T and N.

    Any other character is the unknown one, lower-case letters too: the models have been trained on
    upper case. What reads sequences folds the case first, see `of_nucleotides`. The ids 0 ... 6 are
    [CLS], [SEP], [BOS], [MASK], [PAD], a reserved one and [UNK].

    Nguyen et al. 2023 (arXiv:2306.15794).

    Attributes:
        end_of_text: 1, [SEP], which ends each sequence there.
        padding: 4. The models have been trained with padding on the left.
    """

    name = "hyenadna"
    vocab_size = 12
    end_of_text = 1
    padding = 4
    unknown = 6
    fingerprint = hashlib.sha256(b"HyenaDNA: ACGTN 7 to 11, unknown 6, end of text 1").hexdigest()

    _IDS = bytes(7 + _LETTERS.index(chr(i)) if chr(i) in _LETTERS else 6 for i in range(256))
    _TEXTS = ("", "", "", "", "", "", "\ufffd", *_LETTERS)

    def encode(self, text: str) -> NDArray[np.int64]:
        utf8(text)  # raises for what is no text
        ids = text.encode("ascii", errors="replace").translate(self._IDS)
        return np.frombuffer(ids, dtype=np.uint8).astype(np.int64)

    def last_cut(self, text: str) -> int:
        return len(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Letters of ``ids``, U+FFFD for unknown ones, nothing for the other special ones."""
        return "".join(self._TEXTS[i] for i in token_ids("decode", ids, self.vocab_size))

    def save(self, directory: str | Path) -> None:
        write_description(directory, self, kind=self.name)


class EvoTokenizer:
    """The ids of Evo and Evo 2: UTF-8 bytes, in a vocabulary of 512.

    Nguyen et al. 2024 (doi:10.1126/science.ado9336); Brixi et al. 2025 (bioRxiv 2025.02.18.638918).

    Attributes:
        end_of_text: 0.
        padding: 1.
    """

    name = "evo"
    vocab_size = 512
    end_of_text = 0
    padding = 1
    fingerprint = hashlib.sha256(b"UTF-8 bytes, end of text 0, vocabulary 512").hexdigest()

    def encode(self, text: str) -> NDArray[np.int64]:
        data = utf8(text)
        if 0 in data:
            raise ValueError(
                f"tokenizer {self.name} has byte 0 for the end of a text, but the text has it at "
                f"offset {data.index(0)}; remove it first"
            )
        return np.frombuffer(data, dtype=np.uint8).astype(np.int64)

    def last_cut(self, text: str) -> int:
        return len(text)

    def decode(self, ids: Iterable[int]) -> str:
        values = token_ids("decode", ids, self.vocab_size)
        data = bytes(value for value in values if 0 < value < 256 and value != self.padding)
        return data.decode("utf-8", errors="replace")

    def save(self, directory: str | Path) -> None:
        write_description(directory, self, kind=self.name)


def of_nucleotides(tokenizer: object) -> bool:
    """Whether a tokenizer is one of DNA, where lower case marks repeats of the same letters."""
    return isinstance(tokenizer, HyenaDNATokenizer | EvoTokenizer)


def folded(text: str) -> str:
    """A text with a ... z in upper case, and all else as it is, so that it stays as long."""
    return text.translate(_UPPER)
