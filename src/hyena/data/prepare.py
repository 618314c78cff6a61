"""From text to token files: `prepare`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena.files import digests
from hyena.files.kinds import what_is
from hyena.files.staging import recover, staged, writing

from .documents import WithoutText, with_tokens
from .load_tokenizer import load_tokenizer
from .manifest import MANIFEST_FILE, Manifest, TokenizerRecord, read_manifest, write_manifest
from .prepare_config import PrepareConfig
from .sources import Source, find_source
from .splits import SPLITS, assign_splits
from .token_file import check_files
from .token_writer import Spool, write_splits
from .tokenizer import DESCRIPTION_FILE, Tokenizer

Progress = Callable[[int, int, "int | None"], None]
"""Called after each document with the documents and text bytes so far, and the size of the source
in bytes if that is known."""


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Attributes:
        directory: the folder of token files.
        manifest: what is in it.
        fresh: whether this run wrote it; False if it was there already, made the same way.
        notes: what this run had to say of the source.
    """

    directory: Path
    manifest: Manifest
    fresh: bool
    notes: tuple[str, ...] = ()


def prepare(config: PrepareConfig, *, progress: Progress | None = None) -> Prepared:
    """Tokenises a source document by document and writes token files, split by document.

    The folder ``config.out`` then holds ``<split>.bin`` and ``<split>.documents.npy`` for each
    split, the tokenizer, and ``manifest.json``; `open_tokens` reads it. It is written beside its
    place and renamed when complete, so an interrupted run leaves nothing that looks whole. Run
    again on the same source with the same settings, it does nothing. Documents without text are
    left out and counted.

    Memory holds the largest document and 16 bytes for each; the disk, for a while, twice the
    tokens.

    Raises: ValueError on a bad setting, a source without text, of no known kind or with bytes that
        are not UTF-8, a separator that occurs nowhere, too few documents, or if ``config.out``
        holds something else; FileNotFoundError if the source or the tokenizer is not there;
        ImportError if a package is needed that is not installed; RuntimeError if another process
        is writing the same folder; OSError if the folder cannot be written, or the disk is full:
        ``config.out`` is as before.
    """
    config.check()
    out = Path(config.out)
    tokenizer = load_tokenizer(config.tokenizer, end_of_text=config.end_of_text)
    source = find_source(config.source, config.text_fields())
    description = source.describe()
    settings = config.identity(tokenizer)
    recover(out)
    existing = _existing(out, settings, description, overwrite=config.overwrite)
    if existing is not None:
        return Prepared(out, existing, fresh=False)
    if out.is_mount():  # known before the text is read; nothing can be renamed to it
        raise ValueError(
            f"{out} is a mount point, whose place no folder can take; give a folder in it, such as "
            f"{out / 'tokens'}"
        )
    with staged(out) as folder:
        with writing(out):
            spool = Spool(folder / "spool", tokenizer.vocab_size)
        try:
            origins, without = _fill(spool, source, tokenizer, config, progress)
        finally:
            with writing(out):
                spool.close()
        splits = origins
        if config.split_by == "documents":
            splits = assign_splits(
                len(spool), validation=config.validation, test=config.test, seed=config.seed
            )
        with writing(out):
            records = write_splits(folder, spool, splits, end_of_text=tokenizer.end_of_text)
            tokenizer.save(folder)
            manifest = Manifest(
                tokenizer=_record(tokenizer),
                dtype="uint16" if spool.dtype.itemsize == 2 else "uint32",
                splits=records,
                skipped=without.count,
                source=description,
                settings=settings,
            )
            write_manifest(folder, manifest)  # last: with it the folder counts as whole
            digests.complete(folder, *(record.sha256 for record in records.values()))
    return Prepared(out, manifest, fresh=True, notes=(*without.notes(), *source.notes))


def _record(tokenizer: Tokenizer) -> TokenizerRecord:
    return TokenizerRecord(
        tokenizer.name, tokenizer.fingerprint, tokenizer.vocab_size, tokenizer.end_of_text
    )


def _existing(
    out: Path, settings: dict[str, Any], description: dict[str, Any], *, overwrite: bool
) -> Manifest | None:
    """The manifest of ``out`` if it is what was asked for; None if it is to be written."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST_FILE).is_file():
        raise ValueError(
            f"{out} is {what_is(out) or 'no folder of token files'}; choose another one with --out"
        )
    manifest = read_manifest(out)
    differs = {
        name: f"{name} is {manifest.settings.get(name)!r:.40} there and {value!r:.40} now"
        for name, value in settings.items()
        if manifest.settings.get(name) != value
    }
    if manifest.source != description:
        differs["source"] = "the source has changed or is another one"
    if not differs:
        check_files(out, manifest)
        return manifest
    if not overwrite:
        raise ValueError(
            f"{out} was made in another way ({'; '.join(differs.values())}); choose another "
            f"folder, or overwrite it with overwrite=true"
        )
    ours = {MANIFEST_FILE, DESCRIPTION_FILE, "tokenizer.json", digests.FILE}
    ours.update(name for record in manifest.splits.values() for name in record.sha256)
    foreign = sorted(path.name for path in out.iterdir() if path.name not in ours)
    if foreign:
        raise ValueError(
            f"{out} holds other things too ({', '.join(foreign[:3])}), so it is not overwritten; "
            f"move them or choose another folder"
        )
    return None


def _fill(
    spool: Spool,
    source: Source,
    tokenizer: Tokenizer,
    config: PrepareConfig,
    progress: Progress | None,
) -> tuple[NDArray[np.uint8], WithoutText]:
    """Tokenises the source into ``spool``; the split each document came from, and those skipped."""
    origins, without = bytearray(), WithoutText()
    total = source.total_bytes if config.max_documents is None else None
    for document, encoded in with_tokens(source.documents(), tokenizer, without):
        with writing(Path(config.out)):
            spool.add(encoded)
        origins.append(SPLITS.index(document.split) if document.split in SPLITS else 0)
        if progress is not None:
            progress(len(spool), spool.total_bytes, total)
        if len(spool) == config.max_documents:
            break
    return np.frombuffer(origins, dtype=np.uint8), without
