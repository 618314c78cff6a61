"""What is scored and embedded: texts with names, and the tokens that a model reads of them."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import plural, shown
from hyena.data.documents import Document
from hyena.data.nucleotide_tokenizers import folded, of_nucleotides
from hyena.data.tokenizer import Lossy, Tokenizer
from hyena.data.unknown_tokens import UnknownTokens
from hyena.generation.model import check_model
from hyena.generation.prompts import check_tokenizer
from hyena.genomes import reverse_complement
from hyena.model import LanguageModel, ModelConfig

OnError = Literal["stop", "skip"]
SoftMasked = Literal["fold", "keep"]
Tokens = NDArray[np.int64]
"""Of one sequence, (n,)."""

Sequences = str | Iterable[Any]
"""A text, or several: texts, `hyena.data.Document`, or records with ``name`` and ``sequence``."""


@dataclass(frozen=True, eq=False)
class Read:
    """A sequence as it was read.

    Attributes:
        index: its place among the sequences, from 0.
        name: its own, or its place.
        strands: its tokens, and those of the other strand if they are asked for; none if it is
            skipped.
        skipped: why, or None.
    """

    index: int
    name: str
    strands: list[Tokens]
    skipped: str | None

    @property
    def size(self) -> int:
        """All its tokens."""
        return sum(map(len, self.strands))


class Reader:
    """Turns sequences into tokens, and says of each that cannot be why.

    Args:
        model, tokenizer: the tokens have to be of the model's vocabulary.
        both_strands: read the reverse complement as well.
        on_error: what a sequence does that cannot be read: "stop" raises, "skip" gives its reason.
        soft_masked: "fold" makes lower-case letters upper case if the tokenizer is one of DNA.
        least: fewest tokens of a sequence.
        most: most tokens of a sequence; None is no limit.
        begins: whether one place of the model is taken by the end of text before a sequence.
        shorter: what is done about a sequence with too many tokens, for the message.

    Attributes:
        unknown: the tokens of letters that the tokenizer does not know, so far.

    Raises: TypeError if it is no model; ValueError on something else that does not fit.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        both_strands: bool,
        on_error: OnError,
        soft_masked: SoftMasked = "fold",
        least: int = 1,
        most: int | None = None,
        begins: bool = False,
        shorter: str = "cut it",
    ) -> None:
        check_model("model", model, LanguageModel)
        require_tokenizer(tokenizer)
        check_choice("on_error", on_error, ("stop", "skip"))
        check_choice("soft_masked", soft_masked, ("fold", "keep"))
        self.unknown = UnknownTokens()
        self._folds = soft_masked == "fold" and of_nucleotides(tokenizer)
        self._tokenizer, self._vocab_size = tokenizer, model.config.vocab_size
        # Asked once: to ask takes longer than to encode a short sequence.
        self._lost = tokenizer.lost if isinstance(tokenizer, Lossy) else None
        self._unknown: int | None = getattr(tokenizer, "unknown", None)
        self._both, self._stops = both_strands, on_error == "stop"
        self._least, self._most = least, most
        self._after = " after the end of text that begins it" if begins else ""
        self._advice = f"{shorter}, or {longer(model.config)}"

    def read(self, sequences: Sequences) -> Generator[Read, None, None]:
        """Each of the sequences; at the end, or when it is closed, it warns as `warn` does.

        Raises: ValueError that names one, unless they are skipped.
        """
        try:
            for index, document in enumerate(named(sequences)):
                strands: list[Tokens] = []
                skipped = None
                try:
                    if document.lacks is not None:
                        raise ValueError(document.lacks)
                    strands = self.strands(document.name, document.text)
                except ValueError as error:
                    skipped = self.reason(document.name, error)
                yield Read(index, document.name, strands, skipped)
        finally:
            self.warn()

    def warn(self) -> None:
        """Warns of the tokens of unknown letters, if there were any."""
        for note in self.unknown.notes():
            warnings.warn(note, UserWarning, stacklevel=2)

    def reason(self, name: str, error: ValueError) -> str:
        """Why something of this name is skipped. Raises: ValueError, with the name, unless it
        is."""
        if self._stops:
            raise ValueError(f"{name}: {error}") from error
        return str(error)

    def strands(self, name: str, text: str) -> list[Tokens]:
        """The tokens of a text, and those of its other strand if they are asked for.

        Raises: ValueError, in a few words, if it cannot be read.
        """
        if self._folds:
            text = folded(text)
        texts = [text, other_strand(text)] if self._both else [text]
        strands = [self._tokens(one) for one in texts]
        if self._unknown is not None:
            self.unknown.add(name, text, strands[0], self._unknown)
        return strands

    def _tokens(self, text: str) -> Tokens:
        if not text:
            raise ValueError("it is empty")
        if self._lost is not None and (lost := self._lost(text)):
            raise ValueError(f"it has {min(lost)!r}, for which the tokenizer has no token")
        tokens = np.asarray(self._tokenizer.encode(text), dtype=np.int64)
        count = len(tokens)
        if count < self._least:
            raise ValueError(
                f"it has {count} {plural(count, 'token')}, of which none comes after another one"
                if count
                else "it has no tokens"
            )
        if self._most is not None and count > self._most:
            raise ValueError(
                f"it has {count:,} tokens, but the model has room for {self._most:,}{self._after}; "
                f"{self._advice}"
            )
        if self._unknown is not None and bool((tokens == self._unknown).all()):
            advice = "; are they in lower case?" if text.islower() else ""
            raise ValueError(f"none of its letters has a token{advice}")
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self._vocab_size:
            raise ValueError(
                f"token id {low if low < 0 else high} is outside the model's vocabulary of "
                f"{self._vocab_size}; give the tokenizer that it was trained with"
            )
        return tokens


def named(sequences: Sequences) -> Iterator[Document]:
    """Each sequence with a name, by default its place.

    Raises: ValueError if they are none.
    """
    if isinstance(sequences, str):
        sequences = [sequences]
    try:
        each = iter(sequences)
    except TypeError as error:
        raise _no_sequences(sequences) from error
    for index, one in enumerate(each):
        if isinstance(one, Document):
            yield one
        elif isinstance(one, str):
            yield Document(str(index), one)
        else:
            yield _of_record(one)


def other_strand(text: str) -> str:
    """The reverse complement of DNA, in its own case.

    Raises: ValueError if it has something else.
    """
    return reverse_complement(text.encode()).decode()


def require_tokenizer(tokenizer: Any) -> None:
    """Raises ValueError if it is something else, or none."""
    check_tokenizer(tokenizer)
    if tokenizer is None:
        raise ValueError(
            "tokenizer: expected one such as hyena.data.load_tokenizer gives, got None"
        )


def room(config: ModelConfig) -> int | None:
    """The longest input that a model takes at once; None if there is no limit."""
    if config.length_policy == "interpolate":  # which stretches a trained encoding too
        return None
    limited = config.length_policy == "error" or config.has_table
    return config.max_length if limited else None


def longer(config: ModelConfig) -> str:
    """What lets a model take longer inputs, as the end of a message."""
    if config.positions == "learned":
        return "take a model with more room: its positions are a table"
    policy = "interpolate" if config.has_table else "extrapolate"
    return f'load the model with length_policy "{policy}" (--length_policy {policy})'


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless it is one of them."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {shown(value)}")


def _of_record(record: Any) -> Document:
    """A record of `hyena.genomes`, or one like it."""
    name, sequence = getattr(record, "name", None), getattr(record, "sequence", None)
    if not isinstance(name, str) or not isinstance(sequence, bytes):
        raise _no_sequences(record)
    try:
        return Document(name, sequence.decode("ascii"))
    except UnicodeDecodeError as error:
        byte = sequence[error.start]
        return Document(name, "", lacks=f"it has the byte 0x{byte:02x}, which is no letter")


def _no_sequences(found: object) -> ValueError:
    return ValueError(
        "sequences: expected texts, Documents of hyena.data or records of hyena.genomes, got "
        f"{shown(found)}"
    )
