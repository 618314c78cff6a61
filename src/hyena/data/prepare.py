"""From text to token files: `prepare`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena.files import digests
from hyena.files.atomic import cannot_write, recover, staged, write_text, writing
from hyena.files.folder import what_is
from hyena.files.records import write_record

from .documents import SPLITS, WithoutText, encode_pieces
from .load_tokenizer import load_tokenizer
from .prepare_config import PrepareConfig
from .sources import Source
from .splits import LEFT_OUT, assign_splits, splits_by_hash, without_copies
from .tally import Tally
from .token_file import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    Manifest,
    SplitRecord,
    TokenizerRecord,
    open_tokens,
    read_manifest,
    shard_name,
    token_dtype,
)
from .token_writer import PartRecord, Parts, Shard, ShardRecord, Spool
from .tokenizer import DESCRIPTION_FILE, Tokenizer
from .verified import VERIFIED_FILE
from .workers import Progress, each

Report = Callable[[int, int, int | None], None]
"""Called after each document, and on the way through a long one, with the whole documents and text
bytes so far, and the size of the source in bytes if that is known; of several processes now and
then."""

_PARTS = "parts"  # folder of what is not dealt out yet
_MADE_FROM = "made_from.json"  # in it: of what


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


def prepare(config: PrepareConfig, *, progress: Report | None = None) -> Prepared:
    """Tokenises a source document by document and writes token files, split by document.

    The folder ``config.out`` then holds ``<split>.bin`` and ``<split>.documents.npy`` for each
    split (and ``<split>.masked.npy`` if something is masked), of a large source in shards, the
    tokenizer, and ``manifest.json``; `open_tokens` reads it. It is written beside its place and
    renamed when complete, so an interrupted run leaves nothing that looks whole. Run again on the
    same source with the same settings, it does nothing; after an interruption it goes on with the
    parts of the source that are not finished. Documents without text are left out and counted.

    Memory holds, for each process, a part of a document, and 16 bytes for each document and for
    each masked run of a part. For each document of all it holds 3 bytes, and for a while 8 more
    where documents are drawn; with ``split_by`` "hash" or ``deduplicate`` 16 bytes, and for a while
    60 more. A document of a row is whole in memory, and so is any with a
    tokenizer whose tokens could change if its text were cut: all but "bytes", "hyenadna", "evo" and
    those that tell words apart as GPT-2 does. The disk holds, for a while, twice the tokens.

    Raises: ValueError on a bad setting, a source without text, of no known kind or with bytes that
        are not UTF-8, a separator that occurs nowhere, a record to hold out that is not there,
        proteins for a genome model's tokenizer, too few documents, or if ``config.out`` holds
        something else; FileNotFoundError if the source or the tokenizer is not there;
        ImportError if a package is needed that is not installed; RuntimeError if another process
        is writing the same folder, or one of the workers dies; OSError if the source cannot be
        read or the folder not be written, or the disk is full: ``config.out`` is as before, and
        finished parts are kept, as after an interruption.
    """
    config.check()
    out = Path(config.out)
    tokenizer = load_tokenizer(config.tokenizer, end_of_text=config.end_of_text)
    source = config.find_source(tokenizer)
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
    source.check()
    made_from = json.dumps({"source": description, "settings": settings}, sort_keys=True) + "\n"

    def goes_on(folder: Path) -> bool:
        return _finished(folder / _PARTS, made_from)

    with staged(out, goes_on=goes_on) as folder:
        try:
            with writing(out):
                if not (folder / _PARTS / _MADE_FROM).exists():
                    (folder / _PARTS).mkdir()
                    tokenizer.save(folder / _PARTS)
                    write_text(folder / _PARTS / _MADE_FROM, made_from)
            work = _Tokenise(Parts(folder / _PARTS), out, source, config, tokenizer)
            records = _tokenise(work, config, progress)
            splits, copies = _deal_out(work, records, config)
            with writing(out):
                found = _write_shards(work, folder, splits, config)
                tokenizer.save(folder)
                manifest = Manifest(
                    tokenizer=TokenizerRecord(
                        tokenizer.name,
                        tokenizer.fingerprint,
                        tokenizer.vocab_size,
                        tokenizer.end_of_text,
                    ),
                    dtype="uint16" if work.dtype.itemsize == 2 else "uint32",
                    splits=found,
                    skipped=records.without.count,
                    source=description,
                    settings=settings,
                    duplicates=copies,
                )
                # Last: with it the folder counts as whole.
                write_record(folder / MANIFEST_FILE, manifest, FORMAT_VERSION)
                digests.complete(folder, *(record.sha256 for record in found.values()))
                shutil.rmtree(folder / _PARTS)
        except OSError as error:  # of a disk or a network, which may be well the next time
            if not goes_on(folder):
                raise
            raise OSError(
                f"{error}; the same command goes on with the parts that are finished, which are in "
                f"{folder}; remove that folder if you need its space"
            ) from error
        except ValueError:  # with this text there is nothing to go on with
            shutil.rmtree(folder / _PARTS, ignore_errors=True)
            raise
    notes = [*records.without.notes(), *source.notes, *records.tally.notes]
    if config.max_documents is not None and config.workers > 1:
        notes.append(
            f"max_documents counts documents part after part, so one process read them, not "
            f"{config.workers}"
        )
    return Prepared(out, manifest, fresh=True, notes=tuple(notes))


def _finished(parts: Path, made_from: str) -> bool:
    """Whether there is a finished part that was made from this."""
    file = parts / _MADE_FROM
    same = file.is_file() and file.read_text(encoding="utf-8") == made_from
    return same and any(parts.glob("[0-9]*.json"))


def _shown(value: object) -> str:
    return "none" if value is None else f"{value!r:.40}"


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
    there = manifest.settings
    differs = {
        name: f"{name} is {_shown(there.get(name))} there and {_shown(settings.get(name))} now"
        for name in {**settings, **there}
        if there.get(name) != settings.get(name)
    }
    if manifest.source != description:
        differs["source"] = "the source has changed or is another one"
    if not differs:
        for split in manifest.splits:
            open_tokens(out, split)  # raises if a file is damaged
        return manifest
    if not overwrite:
        raise ValueError(
            f"{out} was made in another way ({'; '.join(differs.values())}); choose another "
            "folder, or overwrite it with --overwrite true (overwrite=True)"
        )
    ours = {MANIFEST_FILE, DESCRIPTION_FILE, "tokenizer.json", digests.FILE, VERIFIED_FILE}
    ours.update(name for record in manifest.splits.values() for name in record.sha256)
    foreign = sorted(path.name for path in out.iterdir() if path.name not in ours)
    if foreign:
        raise ValueError(
            f"{out} holds other things too ({', '.join(foreign[:3])}), so it is not overwritten; "
            f"move them or choose another folder"
        )
    return None


class _Tokenise:
    """The work on a part: its documents as tokens, in files of its own."""

    def __init__(
        self, parts: Parts, out: Path, source: Source, config: PrepareConfig, tokenizer: Tokenizer
    ) -> None:
        self.parts, self.out, self.source = parts, out, source
        self.spans: list[Any] = list(source.parts(config.shard_bytes))
        self.masks, self.salt = config.soft_masked == "mask", config.salt
        self.left = config.max_documents
        self.dtype = token_dtype(tokenizer.vocab_size)
        self.end_of_text = np.asarray([tokenizer.end_of_text], dtype=self.dtype).tobytes()
        self._tokenizer: Tokenizer | None = tokenizer

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tokenizer": None}

    def __call__(self, part: int, progress: Progress) -> PartRecord:
        if self._tokenizer is None:  # in a process of its own, which loads what was saved
            self._tokenizer = load_tokenizer(self.parts.folder)
        tokenizer, out = self._tokenizer, self.out
        tally, without = Tally(), WithoutText(later=part > 0)
        pieces = self.source.pieces_of(self.spans[part], tally)
        with writing(out):
            spool = Spool(
                self.parts.tokens(part),
                tokenizer.vocab_size,
                tokenizer.end_of_text,
                masks=self.masks,
                hashes=self.salt is not None,
            )
        try:
            for piece in encode_pieces(pieces, tokenizer, without, mask=self.masks, salt=self.salt):
                try:  # for each of what may be millions, so by no context
                    spool.add(piece)
                except OSError as error:
                    raise cannot_write(out, error) from error
                progress(len(spool), spool.total_bytes)
                if len(spool) == self.left:
                    break
        finally:
            with writing(out):
                spool.close()
        with writing(out):
            return self.parts.finish(part, spool, tally, without)


@dataclass
class _Read:
    """What was read: the documents of each part, and what there is to say of all."""

    documents: list[int] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    without: WithoutText = field(default_factory=WithoutText)


class _Progress:
    """What is done of all parts together."""

    def __init__(
        self, records: dict[int, PartRecord], total: int | None, report: Report | None
    ) -> None:
        self._done = {part: (record.documents, record.bytes) for part, record in records.items()}
        self._documents = sum(documents for documents, _ in self._done.values())
        self._bytes = sum(n_bytes for _, n_bytes in self._done.values())
        self._total, self._report = total, report

    def __call__(self, part: int, documents: int, n_bytes: int) -> None:
        if self._report is not None:
            before = self._done.get(part, (0, 0))
            self._documents += documents - before[0]
            self._bytes += n_bytes - before[1]
            self._done[part] = documents, n_bytes
            self._report(self._documents, self._bytes, self._total)


def _tokenise(work: _Tokenise, config: PrepareConfig, progress: Report | None) -> _Read:
    """Tokenises all parts that are not finished yet."""
    stops = config.max_documents
    total = work.source.total_bytes if stops is None else None
    records: dict[int, PartRecord] = {}
    for part in range(len(work.spans)):
        record = work.parts.record(part)
        if record is not None:
            records[part] = record
    report = _Progress(records, total, progress)
    left = [part for part in range(len(work.spans)) if part not in records]
    if stops is None:
        for part, record in each(work, left, workers=config.workers, progress=report):
            records[part] = record
            if config.workers > 1:
                report(part, record.documents, record.bytes)
    else:  # one after the other, since each has to know how many documents come before it
        work.left = stops
        for part in range(len(work.spans)):
            if part not in records:
                records[part] = work(part, partial(report, part))
            work.left -= records[part].documents
            if work.left <= 0:
                break
    read = _Read()
    for _, record in sorted(records.items()):
        read.documents.append(record.documents)
        read.tally.merge(record.tally)
        read.without.merge(record.without)
    if stops is None:
        work.source.check_read(read.tally)
    read.without.check()
    return read


def _deal_out(
    work: _Tokenise, read: _Read, config: PrepareConfig
) -> tuple[list[NDArray[np.uint8]], int]:
    """The split of each document, part by part, and how many are left out as copies."""
    parts = range(len(read.documents))
    origins = np.concatenate([work.parts.of_documents(part, "origins") for part in parts])
    if work.salt is not None:
        found = np.concatenate([work.parts.of_documents(part, "digests") for part in parts])
    kept = np.ones(len(origins), dtype=bool)
    if config.deduplicate:
        kept = without_copies(found, origins)
    fractions: Any = {"validation": config.validation, "test": config.test}
    splits = np.full(len(origins), LEFT_OUT, dtype=np.uint8)
    if config.splits_come_with_documents:
        splits[kept] = origins[kept]
    elif config.split_by == "hash":
        splits[kept] = splits_by_hash(found[kept], **fractions)
    else:
        splits[kept] = assign_splits(int(kept.sum()), seed=config.seed, **fractions)
    ends = np.cumsum(read.documents)[:-1]
    return np.split(splits, ends), int(len(kept) - kept.sum())


class _Deal:
    """The work on a part that is tokenised: its documents in the shards of their splits."""

    def __init__(self, work: _Tokenise, folder: Path, splits: list[NDArray[np.uint8]]) -> None:
        self._parts, self._folder, self._end = work.parts, folder, work.end_of_text
        self.shards: list[dict[str, Shard]] = [{} for _ in splits]
        for index, split in enumerate(SPLITS):
            having = [part for part, found in enumerate(splits) if (found == index).any()]
            for number, part in enumerate(having):
                name = split if len(having) == 1 else shard_name(split, number)
                self.shards[part][split] = Shard(name, last=part == having[-1])

    def __call__(self, part: int, progress: Progress) -> dict[str, ShardRecord]:
        return self._parts.deal(part, self.shards[part], self._folder, self._end)


def _write_shards(
    work: _Tokenise, folder: Path, splits: list[NDArray[np.uint8]], config: PrepareConfig
) -> dict[str, SplitRecord]:
    """Writes the shards that are not finished yet; the record of each split that has documents."""
    deal = _Deal(work, folder, splits)
    records: dict[int, dict[str, ShardRecord]] = {}
    for part in range(len(splits)):
        dealt = work.parts.dealt(part)
        if dealt is not None:
            records[part] = dealt
    left = [part for part in range(len(splits)) if part not in records]
    for part in left:  # in files, so that a worker reads those of its parts alone
        work.parts.assign(part, splits[part])
    records |= each(deal, left, workers=config.workers, progress=lambda *_: None)
    ordered = [records[part] for part in range(len(splits))]
    return {
        split: _joined([shards[split] for shards in ordered if split in shards])
        for split in SPLITS
        if any(split in shards for shards in ordered)
    }


def _joined(shards: Iterable[ShardRecord]) -> SplitRecord:
    """The record of a split in these shards."""
    shards = list(shards)
    sha256 = {name: digest for shard in shards for name, digest in shard.sha256.items()}
    tokens = [shard.tokens for shard in shards]
    return SplitRecord(
        documents=sum(shard.documents for shard in shards),
        tokens=sum(tokens),
        bytes=sum(shard.bytes for shard in shards),
        sha256=sha256,
        shards=tokens if len(tokens) > 1 else [],
    )
