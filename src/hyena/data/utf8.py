"""UTF-8 in and out, with messages that say where it went wrong."""

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from hyena.arguments import shown

_BYTE_ORDER_MARK = "\ufeff"


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, newlines untouched. Raises ValueError as `decode_utf8`."""
    return decode_utf8(file.read_bytes(), str(file))


def decode_utf8(data: bytes, name: str, offset: int = 0) -> str:
    """``data`` as text. Raises ValueError naming ``name`` and the offset of the first bad byte.

    ``offset`` is where ``data`` starts in the thing that ``name`` names, in bytes. A byte order
    mark at its beginning is no part of the text.
    """
    text, _ = _decode(data, name, offset, final=True)
    return text.removeprefix("" if offset else _BYTE_ORDER_MARK)


def decode_blocks(blocks: Iterable[bytes], name: str, offset: int = 0) -> Iterator[str]:
    """The text of what comes in blocks, any of which may end within a character.

    ``offset`` is as in `decode_utf8`. Raises ValueError as that does of the whole.
    """
    data, begins = b"", not offset
    for block in blocks:
        data += block
        text, used = _decode(data, name, offset, final=False)
        data, offset = data[used:], offset + used
        if text:
            yield text.removeprefix(_BYTE_ORDER_MARK) if begins else text
            begins = False
    _decode(data, name, offset, final=True)


def _decode(data: bytes, name: str, offset: int, *, final: bool) -> tuple[str, int]:
    """The text, and the bytes that it took: unless ``final``, all but a character cut in two."""
    try:
        return codecs.utf_8_decode(data, "strict", final)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 text: byte 0x{data[error.start]:02x} at offset "
            f"{offset + error.start} ({error.reason}); convert it to UTF-8 first"
        ) from error


def utf8(text: str) -> bytes:
    """``text`` as UTF-8.

    Raises: TypeError if it is no text; ValueError on a lone surrogate, which UTF-8 cannot hold.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected a str, got {shown(text)}")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text is not valid Unicode: lone surrogate U+{ord(text[error.start]):04X} at "
            f"character {error.start}; replace it first"
        ) from error
