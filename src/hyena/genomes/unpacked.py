"""The bytes of a file, plain or packed, from any place on."""

import gzip
import os
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from hyena.arguments import readable

BLOCK = 1 << 16
"""Bytes that are read at a time of a plain file, and most that are unpacked at a time."""

NEAR, FAR = 1 << 15, 1 << 22
"""Least bytes from one mark to the next: between two members of a gzip file, and within one."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_PACKED = 1 << 14  # bytes that are read at a time of a packed file; a mark may hold as many
_MANY_PACKED = 1 << 18  # the same where there are no marks
_MAGIC = b"\x1f\x8b"
_GZIP = 31  # zlib's name for a member of gzip with any window, whose checksum it compares
_BLOCK_MARK = b"BC\x02\x00"  # in the header of a member that is a block of bgzip
_TAIL = 1 << 16  # bytes at the end of a file in which its last block is looked for
_LAST_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class _Mark(NamedTuple):
    """Where unpacking can go on.

    Attributes:
        place: bytes of the unpacked file before it.
        packed: bytes of the packed file before it.
        inflater: zlib's state there, of some 50 KB; None between two members.
    """

    place: int
    packed: int
    inflater: Any


class Unpacked:
    """A file, unpacked if it is gzip or bgzip, which may be read again from any place on.

    A packed file is read from the last mark before that place. Reading it for the first time sets
    marks: bgzip, whose members are short, has one for each, which is no more than three
    numbers; other gzip one every 4 MiB, each with 50 KB of zlib's state. No file stays open.

    Raises: FileNotFoundError if it is not there; ValueError if it is empty, no file, or bgzip that
        was cut off.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.shown = readable(self.path)
        if not self.path.exists():
            raise FileNotFoundError(f"{self.shown} was asked for, but there is no such file")
        if not self.path.is_file():
            raise ValueError(
                f"{self.shown} is a folder, a pipe or a device, which cannot be read twice; give "
                "a file"
            )
        self._state = self._now()
        with self.path.open("rb") as stream:
            head = stream.read(len(_MAGIC))
            if not head:
                raise ValueError(f"{self.shown} is empty; was it written to its end?")
            try:
                check_last_block(stream)
            except EOFError as error:
                raise ValueError(f"{self.shown} is damaged: {error}") from error
        self._is_packed = head == _MAGIC or self.path.suffix.lower() in (".gz", ".bgz")
        self._marks = [_Mark(0, 0, None)]

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from place ``start`` of the unpacked file on, in blocks.

        Raises: ValueError if it is not gzip though its name says so, if it is damaged or cut off,
            or if it has been written since it was first looked at.
        """
        self._check_unchanged()
        with self.path.open("rb") as stream:
            if self._is_packed:
                try:
                    yield from self._inflated(stream, start)
                except (EOFError, zlib.error) as error:
                    raise ValueError(f"{self.shown} is not gzip, or damaged: {error}") from error
            else:
                stream.seek(start)
                while block := stream.read(BLOCK):
                    yield block
        self._check_unchanged()

    def _inflated(self, stream: IO[bytes], start: int) -> Iterator[bytes]:
        mark = self._marks[bisect_right(self._marks, start, key=lambda mark: mark.place) - 1]
        place, at = mark.place, mark.packed
        inflater = mark.inflater and mark.inflater.copy()
        stream.seek(at)
        packed = b""
        while packed := packed or stream.read(_PACKED):
            if inflater is None and at:  # zeros may fill up the file behind a member
                left = packed.lstrip(b"\0")
                at += len(packed) - len(left)
                packed = left
                if not packed:
                    continue
            if place >= self._marks[-1].place + (FAR if inflater else NEAR):
                self._marks.append(_Mark(place, at, inflater and inflater.copy()))
            inflater = inflater or zlib.decompressobj(_GZIP)
            data = inflater.decompress(packed, BLOCK)
            left = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            at += len(packed) - len(left)
            packed = left
            if inflater.eof:
                inflater = None
            if wanted := data[max(start - place, 0) :]:
                yield wanted
            place += len(data)
        if inflater is not None:
            raise EOFError("it ends before its end was marked")

    def _check_unchanged(self) -> None:
        if self._now() != self._state:
            raise ValueError(
                f"{self.shown} was changed while it was read; start again when it is whole"
            )

    def _now(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns


def check_last_block(stream: IO[bytes]) -> None:
    """Refuses a file of bgzip without the empty block that ends one (SAM specification, section
    4.1.2): cut off between two blocks it is sound gzip, of less than there was.

    Args: stream: of any file; it is at its beginning afterwards.
    Raises: EOFError.
    """
    stream.seek(0)
    head = stream.read(16)
    if head[:2] == _MAGIC and head[12:] == _BLOCK_MARK:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL))
        # Zeros may fill up the file behind it, as behind any member.
        if not stream.read().rstrip(b"\0").endswith(_LAST_BLOCK.rstrip(b"\0")):
            raise EOFError(
                "it is bgzip, but ends without the empty block that ends such a file, so it was "
                "cut off; copy it again, or if it is whole pack it again: gzip -dc FILE | bgzip"
            )
    stream.seek(0)


def inflated(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """What is in a file of gzip or bgzip, in blocks of ``size`` bytes, the last one shorter.

    Most of a block is unpacked in one call, in which other threads run. Errors are those of `gzip`.

    Raises: gzip.BadGzipFile, EOFError, zlib.error if it is no such file, cut off or damaged.
    """
    inflater = None
    begun = False
    found: list[bytes] = []
    lacking = size
    packed = b""
    while packed := packed or stream.read(_MANY_PACKED):
        if inflater is None:
            if begun:  # zeros may fill up the file behind a member
                packed = packed.lstrip(b"\0")
                if not packed:
                    continue
            if not packed.startswith(_MAGIC[: len(packed)]):
                raise gzip.BadGzipFile(f"Not a gzipped file ({packed[:2]!r})")
            inflater, begun = zlib.decompressobj(_GZIP), True
        data = inflater.decompress(packed, lacking)
        packed = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        if inflater.eof:
            inflater = None
        found.append(data)
        lacking -= len(data)
        if not lacking:
            yield b"".join(found)
            found, lacking = [], size
    if inflater is not None:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")
    if last := b"".join(found):
        yield last


def lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a text in blocks, without their ends (line feeds, carriage returns, or both)
    and without a byte order mark."""
    held: list[bytes] = []  # what has not been told apart: the last line, whose end may go on
    for number, block in enumerate(blocks):
        held.append(block if number else block.removeprefix(BYTE_ORDER_MARK))
        if b"\n" in block or b"\r" in block:
            found = b"".join(held).splitlines(keepends=True)
            held = [found.pop()]
            for line in found:
                yield line.rstrip(b"\r\n")
    yield from b"".join(held).splitlines()
