"""Finds a tokenizer by name: `load_tokenizer`."""

from collections.abc import Callable
from pathlib import Path

from hyena.files import digests
from hyena.files.records import read_record

from .hugging_face_tokenizer import HuggingFaceTokenizer, gpt2_tokenizer
from .nucleotide_tokenizers import EvoTokenizer, HyenaDNATokenizer
from .tokenizer import DESCRIPTION_FILE, FORMAT_VERSION, BytesTokenizer, Description, Tokenizer
from .utf8 import read_text

BUILT_IN: dict[str, Callable[[], Tokenizer]] = {
    "bytes": BytesTokenizer,
    "gpt2": gpt2_tokenizer,
    "hyenadna": HyenaDNATokenizer,
    "evo": EvoTokenizer,
}
"""The tokenizers that have a name."""


def load_tokenizer(spec: str | Path, *, end_of_text: str | None = None) -> Tokenizer:
    """The tokenizer that ``spec`` names.

    Args:
        spec: ``bytes``; ``gpt2``; ``hyenadna`` or ``evo``, of the genome models; a Hugging Face
            ``tokenizer.json``; or a folder with such a file or one that ``Tokenizer.save`` (so
            also ``prepare``) wrote.
        end_of_text: for a ``tokenizer.json``, the token that separates documents; without it the
            usual names are looked up.

    Raises: FileNotFoundError if ``spec`` is no known name and no file or folder; ValueError if the
        file is no tokenizer, has no end-of-text token, was written by a newer version, or differs
        from what was saved; ImportError if a package is needed that is not installed.
    """
    if isinstance(spec, str) and spec in BUILT_IN:
        if end_of_text is not None:
            raise ValueError(f"end_of_text applies to a tokenizer.json; {spec!r} has its own")
        return BUILT_IN[spec]()
    path = Path(spec)
    if (path / DESCRIPTION_FILE).is_file():
        return _load_saved(path, end_of_text)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        names = " nor ".join(map(repr, BUILT_IN))
        raise FileNotFoundError(
            f"tokenizer {str(spec)!r} was asked for, but it is neither {names} "
            f"nor an existing file, nor a folder with {DESCRIPTION_FILE} or tokenizer.json"
        )
    name = file.parent.name if file.name == "tokenizer.json" else file.stem
    return HuggingFaceTokenizer(
        read_text(file), name=name or "tokenizer.json", end_of_text=end_of_text, origin=str(file)
    )


def _load_saved(directory: Path, end_of_text: str | None) -> Tokenizer:
    file = directory / DESCRIPTION_FILE
    advice = "restore it from a copy"
    description = read_record(file, Description, FORMAT_VERSION, advice=advice)
    # A tokenizer may have been put beside a model afterwards.
    names = {DESCRIPTION_FILE, "tokenizer.json"} & set(digests.listed(directory))
    digests.check(directory, names, advice=advice)
    if description.kind in ("bytes", "hyenadna", "evo"):
        tokenizer = BUILT_IN[description.kind]()
    elif description.kind == "hugging_face":
        source = directory / "tokenizer.json"
        if not source.is_file():
            raise FileNotFoundError(f"{source} is missing, though {file} asks for it")
        tokenizer = HuggingFaceTokenizer(
            read_text(source),
            name=description.name,
            end_of_text=end_of_text or description.end_of_text,
            origin=str(source),
        )
    else:
        raise ValueError(
            f"{file} describes a tokenizer of kind {description.kind!r}; upgrade hyena"
        )
    if end_of_text is None and tokenizer.fingerprint != description.fingerprint:
        raise ValueError(
            f"the tokenizer in {directory} is not the one that was saved there (its fingerprint "
            f"differs); restore the folder or write it again"
        )
    return tokenizer
