"""Tensors of a PyTorch file, without running anything that the file asks for.

`torch.save` writes a zip archive: a pickle that says what was saved, and one record, stored as it
is, for each storage. A pickle names functions and classes and has them called. Here a name is never
looked up: tensors become notes of where their numbers lie, dicts become dicts, and everything else,
be it of OmegaConf, Lightning or ``os``, an inert stand-in. Tensors are made of the notes when the
pickle has been read to its end, within the bounds of their records.

Records are mapped, not read: a file of 13 GB opens at once, and its pages come when they are used.
A file may be in parts, ``.pt.part0``, ``.pt.part1`` …; what lies across two of them is read.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import torch
from torch import Tensor

PICKLE_BYTES = 1 << 28
"""The longest pickle that is read: the numbers lie beside it."""

ALIGNED = 64
"""Bytes at whose multiples tensors start: a product of matrices rounds differently elsewhere."""

# What zipfile, pickle and pickletools raise on bytes that are none of theirs.
_DAMAGED = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RuntimeError,
)
_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.complex64, torch.complex128),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DEEPEST = 8  # dicts and lists in each other, of which a state dict is one


class StandIn:
    """What stands for any object of the file that is no tensor: it takes everything, keeps nothing
    and does nothing."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> StandIn:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> StandIn:
        return self

    def __setstate__(self, state: object = None) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    def add(self, item: object) -> None: ...


def read(paths: Sequence[Path]) -> Any:
    """What was saved in a file, or in one that lies in parts, in their order.

    Returns: dicts, lists, texts and numbers; tensors on the CPU, which need the file as it is for
        as long as they live; and a `StandIn` for everything else.

    Raises: FileNotFoundError or another OSError; ValueError, in one line, if it is damaged, none
        of PyTorch's files, or of the form before PyTorch 1.6.
    """
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} … {paths[-1].name}"
    with _Joined(paths) as file:
        if file.read(2) != b"PK":
            raise ValueError(
                f"{name} is no checkpoint, or a PyTorch file of the form before version 1.6, which "
                "cannot be read without running it; where you trust it, load it with torch.load, "
                "and save its state dict as safetensors"
            )
        try:
            archive = _Archive(file)
            return archive.made(archive.content(), {}, _DEEPEST)
        except _DAMAGED as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{name} is damaged or no checkpoint ({reason})") from error


class _Joined(io.RawIOBase):
    """Files one after the other as one that can be read anywhere."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._files: list[BinaryIO] = []
        for path in paths:
            self._files.append(path.open("rb"))
        self._paths = paths
        self._starts = [0, *accumulate(f.seek(0, io.SEEK_END) for f in self._files)]
        self._maps: dict[int, torch.UntypedStorage] = {}
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = (0, self._position, self._starts[-1])[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, across parts; fewer at the end of all."""
        left = max(0, self._starts[-1] - self._position)
        data = bytearray(left if size is None or size < 0 else min(size, left))
        self._fill(memoryview(data))
        return bytes(data)

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()

    def storage(self, start: int, size: int) -> torch.UntypedStorage:
        """These bytes: mapped, so that writing to them leaves the file alone, or a copy if they lie
        across two parts, or where no tensor should start."""
        if start < 0 or start + size > self._starts[-1]:
            raise EOFError("it ends too early")
        if size == 0:
            return torch.UntypedStorage(0)
        part = self._part(start)
        inside, end = start - self._starts[part], self._starts[part + 1]
        if start + size <= end and inside % ALIGNED == 0:
            if part not in self._maps:
                path, whole = str(self._paths[part]), end - self._starts[part]
                mapped = torch.UntypedStorage.from_file(path, False, whole)
                self._maps[part] = cast(torch.UntypedStorage, mapped)
            return cast(torch.UntypedStorage, self._maps[part][inside : inside + size])
        copy = torch.empty(size, dtype=torch.uint8)
        self._position = start
        self._fill(memoryview(cast(Any, copy.numpy())))
        return copy.untyped_storage()

    def _fill(self, rest: memoryview) -> None:
        """Reads as many bytes as there is room for."""
        while rest:
            part = self._part(self._position)
            file = self._files[part]
            file.seek(self._position - self._starts[part])
            some = file.read(min(len(rest), self._starts[part + 1] - self._position, 1 << 24))
            if not some:
                raise EOFError("it ends too early")
            rest[: len(some)] = some
            rest = rest[len(some) :]
            self._position += len(some)

    def _part(self, position: int) -> int:
        """The part that has the byte at a position before the end."""
        return bisect_right(self._starts, position) - 1


class _Archive:
    """The zip archive that a PyTorch file is."""

    def __init__(self, file: _Joined) -> None:
        self._file = file
        with zipfile.ZipFile(cast(BinaryIO, file)) as archive:
            self._records = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self._records if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no archive of torch.save")
        self._prefix = pickles[0].removesuffix("data.pkl")
        self._storages: dict[str, torch.UntypedStorage] = {}
        if self._prefix + "byteorder" in self._records:
            order = self._bytes("byteorder")
            if order.strip() != b"little":
                raise ValueError("its numbers are big-endian; save it again on another machine")

    def content(self) -> Any:
        """What the pickle says, with notes for tensors."""
        data = self._bytes("data.pkl")
        _check(data)
        return _Unpickler(io.BytesIO(data)).load()

    def made(self, content: Any, known: dict[int, Any], depth: int) -> Any:
        """The content with tensors for their notes. What lies deeper than ``depth`` or holds itself
        is left as a stand-in."""
        if isinstance(content, _View):
            return self._tensor(content)
        if not isinstance(content, dict | list | tuple):
            plain = content is None or isinstance(content, str | bytes | int | float)
            return content if plain else StandIn()
        if id(content) not in known:
            known[id(content)] = StandIn()
            if depth and isinstance(content, dict):
                items = [(key, self.made(x, known, depth - 1)) for key, x in content.items()]
                known[id(content)] = dict(items)
            elif depth:
                known[id(content)] = [self.made(x, known, depth - 1) for x in content]
        return known[id(content)]

    def _tensor(self, view: _View) -> Tensor:
        key = view.storage.key
        if key not in self._storages:
            self._storages[key] = self._file.storage(*self._place(f"data/{key}"))
        storage = self._storages[key]
        numbers = prod(view.shape)
        if numbers:  # and no view that repeats them, of which a copy may have any size
            last = sum((n - 1) * s for n, s in zip(view.shape, view.stride, strict=True))
            numbers = max(numbers, view.offset + last + 1)
        if numbers * view.dtype.itemsize > storage.nbytes():
            raise ValueError("a tensor is larger than its record")
        start = view.offset if numbers else 0
        return torch.empty(0, dtype=view.dtype).set_(storage, start, view.shape, view.stride)

    def _bytes(self, name: str) -> bytes:
        start, size = self._place(name)
        if size > PICKLE_BYTES:
            raise ValueError(f"its {name} is longer than any of torch.save")
        self._file.seek(start)
        return self._file.read(size)

    def _place(self, name: str) -> tuple[int, int]:
        """Where a record starts, and its length. PyTorch may leave checksums out, and they are not
        looked at."""
        info = self._records[self._prefix + name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its records are compressed, which those of torch.save are not")
        self._file.seek(info.header_offset)
        head = self._file.read(30)  # then its name and extras, and then its bytes
        if len(head) != 30 or not head.startswith(b"PK\x03\x04"):
            raise ValueError("a record is not where it should be")
        after = struct.unpack("<HH", head[26:30])
        return info.header_offset + 30 + sum(after), info.file_size


class _Storage(NamedTuple):
    """Where numbers lie."""

    key: str
    dtype: torch.dtype


class _View(NamedTuple):
    """A tensor: which of the numbers of a storage it has."""

    storage: _Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Kind(NamedTuple):
    """What kind of numbers a storage holds."""

    dtype: torch.dtype


class _Function:
    """What a pickle may call. No attribute of it can be set."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _ViewOf(_Function):
    """For torch._utils._rebuild_tensor_v2, and for v3, which has a dtype."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> _View:
        if not isinstance(storage, _Storage) or len(shape) != len(stride) or len(shape) > 64:
            raise pickle.UnpicklingError("a tensor without a storage or a shape")
        if any(type(x) is not int or x < 0 for x in (offset, *shape, *stride)):
            raise pickle.UnpicklingError("a tensor whose shape is none")
        if rest and isinstance(rest[-1], dict) and rest[-1]:
            raise pickle.UnpicklingError("a tensor that is a conjugate or the like of its numbers")
        dtype = next((x for x in rest if isinstance(x, torch.dtype)), storage.dtype)
        return _View(storage, dtype, offset, tuple(shape), tuple(stride))


class _DataOf(_Function):
    """For torch._utils._rebuild_parameter: its tensor."""

    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> Any:
        return data


class _Dict(dict[Any, Any]):
    """For OrderedDict, without the attributes that a pickle may set on one."""

    __slots__ = ()

    def __setstate__(self, state: object = None) -> None: ...


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor_v2"): _ViewOf(),
    ("torch._utils", "_rebuild_tensor_v3"): _ViewOf(),
    ("torch._utils", "_rebuild_parameter"): _DataOf(),
    **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _DTYPES},
    **{("torch", name): _Kind(dtype) for name, dtype in _STORAGES.items()},
    ("torch.storage", "UntypedStorage"): _Kind(torch.uint8),
}


class _Unpickler(pickle.Unpickler):
    """Looks no name up: what a pickle can call is ours and harmless."""

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name), StandIn)

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("it refers to something that is no storage")
        _, kind, key, _, _ = pid
        if not isinstance(kind, _Kind) or not isinstance(key, str):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return _Storage(key, kind.dtype)


def _check(data: bytes) -> None:
    """Refuses a pickle that would take memory far beyond its own length, or objects from the
    registry of extensions, for which `find_class` may not be asked."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name.startswith("EXT"):
            raise pickle.UnpicklingError("it uses an extension")
        if operation.name.endswith("PUT") and (not isinstance(argument, int) or argument > count):
            raise pickle.UnpicklingError("it numbers more objects than it has")
