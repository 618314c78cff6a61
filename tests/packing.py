"""Files as bgzip writes them."""

import struct
import zlib


def bgzip(data: bytes, size: int = 0xFF00) -> bytes:
    """Blocks of ``size`` bytes, each a member of gzip that says how long it is, and an empty one
    at the end (SAM specification, section 4.1)."""
    starts = [*range(0, len(data), size), len(data)]
    return b"".join(_member(data[at : at + size]) for at in starts)


def _member(data: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", 6)
    extra = b"BC" + struct.pack("<HH", 2, len(body) + 25)
    return head + extra + body + struct.pack("<II", zlib.crc32(data), len(data))
