"""Hostile values and damage, each drawn from a seeded generator."""

import json
import math
import random
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

HUGE = 10**19
NUMBERS = (
    *(-1, 0, 1, 2, 3, 7, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, HUGE, -HUGE, True, 1.5, 1e308),
)
NOT_FINITE = (math.nan, math.inf, -math.inf)
OTHERS = (
    None,
    "",
    "x",
    "3",
    b"x",
    [],
    [3],
    {},
    (),
    object(),
    3 + 1j,
    "\0",
    "é\ud800",
    "x" * 10_000,
)

JSON_VALUES = (
    *(None, True, False, -1, 0, 1, 2, 7, 2**31, 2**32, 2**63, 2**64, HUGE, -HUGE, 1.5, 1e308),
    *(math.nan, math.inf, "", "x", "../x", "x" * 5000, [], {}, [1, [2, [3]]], {"x": {"y": 1}}),
)


def number_for(rng: random.Random, value: int | float, bounded: bool) -> Any:
    """In the place of a number; ``bounded`` leaves out what would be a lot of honest work."""
    kind = rng.random()
    if kind < 0.5:
        found = rng.choice(NUMBERS if isinstance(value, int) else (*NUMBERS, *NOT_FINITE))
        return rng.choice((-1, HUGE, 0)) if bounded and isinstance(found, int) else found
    if kind < 0.7:
        return rng.choice((*NOT_FINITE, 0.5, numpy.int64(3), numpy.float32(0.5), torch.tensor(2)))
    if kind < 0.8 and not bounded:
        return value + rng.choice((-1, 1)) if not isinstance(value, bool) else 2
    return rng.choice(OTHERS)


def tensor_for(rng: random.Random, x: Tensor) -> Any:
    """In the place of a tensor: another shape, dtype, layout, device or type."""
    changes: tuple[Callable[[], Any], ...] = (
        lambda: x.to(rng.choice(_DTYPES)),
        lambda: x.to(rng.choice(_DTYPES)),
        lambda: x[..., :0],
        lambda: x[:0],
        lambda: x.narrow(rng.randrange(x.dim()), 0, 0) if x.dim() else x,
        lambda: x[None],
        lambda: x[0] if x.dim() and len(x) else x,
        lambda: x.flatten(),
        lambda: x.mT if x.dim() > 1 else x[None].mT,
        lambda: torch.cat([x, x], rng.randrange(x.dim())) if x.dim() else x,
        lambda: x.narrow(d := rng.randrange(x.dim()), 0, max(0, x.shape[d] - 1)) if x.dim() else x,
        lambda: (
            torch.full_like(x, rng.choice((math.nan, math.inf)))
            if x.is_floating_point()
            else torch.full_like(x, rng.choice((-1, 1)) * 2**40)
        ),
        lambda: x.to("meta"),
        lambda: x.to_sparse(),
        lambda: x.numpy() if not x.requires_grad else x.detach().numpy(),
        lambda: x.tolist(),
        lambda: x[:1].expand(2**33, *x.shape[1:]) if x.dim() and len(x) else x,
        lambda: x[..., :1].expand(*x.shape[:-1], 2**40) if x.dim() and x.shape[-1] else x,
        lambda: torch.nn.Parameter(x) if x.is_floating_point() else x,
        lambda: torch.tensor(1.0),
        lambda: rng.choice(OTHERS),
        lambda: rng.choice((3, 1.5, True)),
    )
    return rng.choice(changes)()


_DTYPES = (
    *(torch.int64, torch.int8, torch.bool, torch.complex64, torch.float16, torch.bfloat16),
    *(torch.float64, torch.float32, torch.uint8, torch.float8_e4m3fn),
)


def value_for(rng: random.Random, value: Any, bounded: bool = False) -> Any:
    """Something hostile in the place of a good value, often of nearly the right type."""
    if isinstance(value, Tensor):
        return tensor_for(rng, value)
    if isinstance(value, int | float):
        return number_for(rng, value, bounded)
    if isinstance(value, list | tuple) and value and rng.random() < 0.6:
        items = list(value)
        items[rng.randrange(len(items))] = value_for(rng, rng.choice(items), bounded)
        return items
    if rng.random() < 0.3:
        return rng.choice((3, -1, 0.5, True, math.nan, HUGE, torch.zeros(2), numpy.zeros(2)))
    return rng.choice(OTHERS)


def damage(rng: random.Random, file: Path, others: list[Path]) -> str:
    """Damages a file in place and says how."""
    data = file.read_bytes()
    looks = data[:1] in (b"{", b"[") or file.suffix in (".json", ".jsonl")
    if file.suffix == ".safetensors" and rng.random() < 0.6:
        return _in_header(rng, file, data)
    if looks and rng.random() < 0.6:
        return _in_json(rng, file, data)
    how = rng.choice(tuple(_BYTES))
    if how == "of another file":
        file.write_bytes(rng.choice(others).read_bytes())
    elif how == "of a namesake":
        namesakes = [f for f in others if f.name == file.name and f.read_bytes() != data]
        file.write_bytes(rng.choice(namesakes or others).read_bytes())
    elif how == "exchanged":
        other = rng.choice(sorted(f for f in file.parent.iterdir() if f.is_file()))
        file.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif how == "absent":
        file.unlink()
    elif how == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(_BYTES[how](rng, data))
    return how


def options_file(rng: random.Random, names: Sequence[str], values: Sequence[str]) -> bytes:
    """A file of options with a hostile value, or of a hostile form.

    Nesting and aliases go a little beyond what hyena itself refuses, and no further: other readers
    are asked nothing that could hurt them.
    """
    name = rng.choice(names)
    value = rng.choice(values)
    if rng.random() < 0.4:
        value = rng.choice(_FORMS)(rng)
    lines = [f"{rng.choice(names)}: {rng.choice(values)}" for _ in range(rng.choice((0, 0, 1)))]
    lines.append(f"{name}: {value}")
    if "." in name and rng.random() < 0.7:
        *outer, last = name.split(".")
        lines[-1] = "".join(f"{'  ' * i}{part}:\n" for i, part in enumerate(outer))
        lines[-1] += f"{'  ' * len(outer)}{last}: {value}"
    text = "\n".join(lines) + "\n"
    kind = rng.random()
    if kind < 0.1:
        return text.encode("utf-16", "surrogatepass")
    if kind < 0.2:
        return _flipped(rng, text.encode("utf-8", "surrogatepass"))
    if kind < 0.25:
        return (text + rng.choice(("---\n", "...\nx", "\t", lines[-1], "\0", "? "))).encode()
    return text.encode("utf-8", "surrogatepass")


def _aliases(rng: random.Random) -> str:
    depth, width = rng.choice(((1, 10), (5, 10), (6, 10), (18, 2), (40, 1), (20, 2)))
    first = "&a0 [" + ",".join("1" * width) + "]"
    others = [f"&a{i} [{','.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth + 1)]
    return "[" + ", ".join([first, *others]) + "]"


_FORMS: tuple[Callable[[random.Random], str], ...] = (
    _aliases,
    _aliases,
    lambda rng: "[" * (n := rng.choice((2, 33, 200, 600))) + "]" * n,
    lambda rng: "{a: " * (n := rng.choice((2, 33, 200, 600))) + "1" + "}" * n,
    lambda rng: "[" * rng.choice((1, 33, 600)),
    lambda rng: rng.choice(("&a [*a]", "&a {b: *a}", "&a {<<: *a}", "{<<: [1]}", "{[1]: 2}")),
    lambda rng: "{" + ", ".join(f"k{i}: {i}" for i in range(rng.choice((3, 20_000)))) + "}",
    lambda rng: "9" * rng.choice((19, 400, 5000)),
    lambda rng: f"1e{rng.choice((30, 309, 5000))}",
    lambda rng: ":".join(["59"] * rng.choice((2, 400))),  # a number to the base of 60
    lambda rng: rng.choice(
        ("!!timestamp x", "!!set {a, b}", "!x y", "!!int x", "!!float nan", "=")
    ),
    lambda rng: rng.choice(("2024-13-45", "2024-01-01 99:99:99", "0b2", "0o9", "0x", "1__2", "+.")),
)


def _flipped(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 1, 3, 30))):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _digit(rng: random.Random, data: bytes) -> bytes:
    places = [match.start() for match in re.finditer(rb"[0-9]", data)]
    if not places:
        return _flipped(rng, data)
    found = bytearray(data)
    found[rng.choice(places)] = ord("0") + rng.randrange(10)
    return bytes(found)


def _swapped(rng: random.Random, data: bytes) -> bytes:
    size = rng.choice((1, 4, 64))
    a, b = (rng.randrange(max(1, len(data))) for _ in range(2))
    a, b = min(a, b), max(a, b)
    return (
        data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]
    )


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(max(1, len(data)))]


def _inserted(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 8, 300))) + data[at:]


def _removed(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 8, 64)) :]


def _hole(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    size = min(rng.choice((8, 100, 4096)), len(data) - at)
    return data[:at] + bytes(size) + data[at + size :]


_BYTES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "bits flipped": _flipped,
    "bits flipped twice": lambda rng, data: _flipped(rng, _flipped(rng, data)),
    "a digit": _digit,
    "swapped": _swapped,
    "cut": _cut,
    "inserted": _inserted,
    "removed": _removed,
    "empty": lambda rng, data: b"",
    "zeros": lambda rng, data: bytes(len(data)),
    "noise": lambda rng, data: rng.randbytes(len(data)),
    "byte order mark": lambda rng, data: b"\xef\xbb\xbf" + data,
    "doubled": lambda rng, data: data + data,
    "a hole": _hole,
    "nested": lambda rng, data: b"[" * (n := rng.choice((40, 3000))) + b"]" * n,
    "of another file": _flipped,
    "of a namesake": _flipped,
    "exchanged": _flipped,
    "absent": _flipped,
    "a folder": _flipped,
}


def _in_header(rng: random.Random, file: Path, data: bytes) -> str:
    """A value of a safetensors file's header."""
    try:
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        names = header.keys() - {"__metadata__"}
        how = _of_a_tensor(rng, header) if names and rng.random() < 0.5 else _change(rng, header)
    except (ValueError, RecursionError, struct.error, AttributeError):  # damaged before
        file.write_bytes(_flipped(rng, data))
        return "bits flipped"
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    return f"header: {how}"


def _of_a_tensor(rng: random.Random, header: dict[str, Any]) -> str:
    """Another shape, type, name or place of a tensor, of as many bytes."""
    names = sorted(name for name in header if name != "__metadata__")
    name, other = rng.choice(names), rng.choice(names)
    entry, kind = header[name], rng.randrange(6)
    if kind == 0:
        entry["shape"] = entry["shape"][::-1]
    elif kind == 1:
        entry["shape"] = rng.choice(([1, *entry["shape"]], [math.prod(entry["shape"])]))
    elif kind == 2:
        entry["dtype"] = {"F32": "I32", "I64": "F64", "F64": "I64"}.get(entry["dtype"], "F32")
    elif kind == 3:
        header[name], header[other] = header[other], header[name]
    elif kind == 4:
        alike = [n for n in names if header[n]["shape"] == entry["shape"]]
        header[name], header[alike[0]] = header[alike[0]], header[name]
    else:
        entry["shape"] = [0, *entry["shape"][1:]]
    return f"{name[:60]}, change {kind}"


def _in_json(rng: random.Random, file: Path, data: bytes) -> str:
    """A value, or a key, of a JSON file or of one of the lines of a JSON Lines file."""
    lines = data.decode("utf-8", "replace").splitlines()
    by_line = file.suffix == ".jsonl" and lines
    at = rng.randrange(len(lines)) if by_line else 0
    try:
        value = json.loads(lines[at] if by_line else data)
    except (ValueError, RecursionError):  # it has been damaged before
        file.write_bytes(_flipped(rng, data))
        return "bits flipped"
    if rng.random() < 0.05 or not isinstance(value, dict | list) or not value:
        how, value = "another value", rng.choice(JSON_VALUES)
    else:
        how = _change(rng, value)
    text = json.dumps(value, indent=None if by_line or rng.random() < 0.5 else 2)
    if by_line:
        lines[at] = text
        text = "\n".join(lines) + "\n"
    file.write_text(text)
    return f"json: {how}"


def _places(value: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key, f"{path}/{key}"
        if isinstance(inner, dict | list):
            yield from _places(inner, f"{path}/{key}")


def _change(rng: random.Random, value: Any) -> str:
    places = list(_places(value))
    holder, key, path = rng.choice(places)
    kind = rng.random()
    if kind < 0.12:
        del holder[key]
        return f"{path[:60]} removed"
    if kind < 0.2 and isinstance(holder, dict):
        holder["x" if rng.random() < 0.5 else str(key) + "x"] = holder.pop(key)
        return f"{path[:60]} renamed"
    old = holder[key]
    if isinstance(old, int | float) and rng.random() < 0.4:
        holder[key] = old + rng.choice((-1, 1, 8, 0.5))
    elif isinstance(old, str) and old and rng.random() < 0.4:
        at = rng.randrange(len(old))
        holder[key] = old[:at] + rng.choice("0123456789abcdefx,/") + old[at + 1 :]
    else:
        holder[key] = rng.choice((*JSON_VALUES, rng.choice(places)[0]))
        if _circular(holder[key], holder):
            holder[key] = None
    return f"{path[:60]} = {str(holder[key])[:40]!r}"


def _circular(value: Any, holder: Any) -> bool:
    if value is holder:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_circular(item, holder) for item in inner)
