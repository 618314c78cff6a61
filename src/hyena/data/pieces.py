"""Long documents in pieces, so that memory need not hold them whole."""

import re
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from .documents import Document, Piece

BLOCK = 1 << 20
"""Bytes that are read at a time, and most characters of a piece."""


def read_blocks(stream: IO[bytes], most: int | None = None) -> Generator[bytes, None, None]:
    """What is left of a file, or of it so many bytes at most."""
    while most != 0 and (block := stream.read(BLOCK if most is None else min(BLOCK, most))):
        most = None if most is None else most - len(block)
        yield block


def ahead(blocks: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Each block, while a thread has the next one made, such as unpacked, during which other
    threads run."""
    iterator = iter(blocks)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, iterator, None)
        while (block := following.result()) is not None:
            following = thread.submit(next, iterator, None)
            yield block


def in_pieces(document: Document, *, more: bool = False) -> Iterator[Piece]:
    """The pieces of a document, or of its beginning if there is ``more`` of it to come."""
    text = document.text
    if len(text) <= BLOCK:
        yield Piece(document, more)
        return
    for at in range(0, len(text), BLOCK):
        end = at + BLOCK
        yield Piece(document._replace(text=text[at:end]), more or end < len(text))


def whole(pieces: Iterable[Piece]) -> Iterator[Document]:
    """The documents whose pieces these are."""
    begun: list[str] = []
    for document, more in pieces:
        if more or begun:
            begun.append(document.text)
        if more:
            continue
        yield document._replace(text="".join(begun)) if begun else document
        begun.clear()


def with_more(blocks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Each block, and whether another one follows it; an empty one if there are none."""
    iterator = iter(blocks)
    block = next(iterator, "")
    for following in iterator:
        yield block, True
        block = following
    yield block, False


def split_blocks(
    blocks: Iterable[str], separator: re.Pattern[str], longest: int
) -> Iterator[tuple[str, bool]]:
    """What `re.Pattern.split` makes of a text that comes in blocks, in pieces.

    Args:
        blocks: the text.
        separator: matches at least a character. What it matches at a place does not depend on
            what comes after the match.
        longest: most characters of a match.

    Returns: pieces, and whether the next one belongs to the same part of the text.
    """
    text = ""
    for block, goes_on in with_more(blocks):
        text += block
        # A match that begins in the last characters may need some of the next block.
        decided = len(text) - longest + 1 if goes_on else len(text)
        at = 0
        for match in separator.finditer(text):
            if match.start() >= decided:
                break
            yield text[at : match.start()], False
            at = match.end()
        end = max(at, decided)
        if end > at or not goes_on:
            yield text[at:end], goes_on
        text = text[end:]
