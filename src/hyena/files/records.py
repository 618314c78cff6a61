"""JSON files as dataclasses: `read_record` checks every field, `to_plain` is what is written.

A damaged file becomes one line that names the file, the field and what to do. `write_listed` and
`read_listed` see to it by a digest too that what is read is what was written.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from hyena.arguments import is_truth

from . import atomic, digests

Kind = TypeVar("Kind")


def read_json(path: Path, *, advice: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises: OSError if it cannot be read; ValueError, in one line that ends with ``advice``, if it
        holds no JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: it is nested too deeply; {advice}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}; {advice}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected an object, got {content!r:.40}; {advice}")
    return content


def read_versioned(path: Path, version: int, *, advice: str) -> dict[str, Any]:
    """The object in a JSON file without its ``format_version``, which has to be ``version``.

    Raises: as `read_json`; ValueError on another version.
    """
    content = read_json(path, advice=advice)
    found = content.pop("format_version", None)
    if type(found) is not int:
        raise ValueError(f"{path} is damaged: it has no format_version; {advice}")
    if found != version:
        raise ValueError(
            f"{path} has format version {found}, but this hyena reads {version}; install the "
            "version of hyena that wrote it, or a newer one"
        )
    return content


def read_record(path: Path, kind: type[Kind], version: int, *, advice: str) -> Kind:
    """The dataclass in a JSON file. Raises: as `read_versioned`; ValueError on a wrong field."""
    content = read_versioned(path, version, advice=advice)
    try:
        return from_plain(kind, content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {advice}") from error


def write_record(path: Path, record: object, version: int) -> None:
    """Replaces a JSON file by a dataclass or a dict and its format version. Raises: OSError."""
    content = {"format_version": version, **to_plain(record)}
    atomic.write_text(path, json.dumps(content, indent=1) + "\n")


def read_listed(path: Path, kind: type[Kind], version: int, *, advice: str) -> Kind:
    """What `write_listed` wrote.

    Raises: as `read_record`; ValueError, in one line, if the file is not what was written. Without
        a list beside it, as older versions left it, that is not compared.
    """
    found = read_record(path, kind, version, advice=advice)
    digests.check(path.parent, (path.name,), advice=advice)
    return found


def write_listed(path: Path, record: object, version: int) -> None:
    """`write_record`, and the file's digest as the list of its folder. Raises: OSError."""
    write = {path.name: lambda file: write_record(file, record, version)}
    digests.write_files(path.parent, write)


def to_plain(value: object) -> Any:
    """A dataclass as dicts, lists, strings and numbers: what JSON and YAML can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if is_truth(value):
        return bool(value)  # of NumPy, which JSON does not know, as all below
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: type[Kind], plain: Any, name: str = "it") -> Kind:
    """The inverse of `to_plain` for the type ``kind``.

    Raises: ValueError that names the field, if one is unknown, missing or of another type.
    """
    return typing.cast(Kind, _built(kind, plain, name))


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def differences(before: Any, now: Any, default: object, free: frozenset[str]) -> list[str]:
    """What tells two plain dataclasses apart, apart from ``free`` fields; one string a field.

    A field that is missing, since a later version added it, is as in ``default``.
    """
    defaults = flatten(to_plain(default))
    old, new = {**defaults, **flatten(before)}, {**defaults, **flatten(now)}
    return [
        f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if name not in free and old.get(name) != new.get(name)
    ]


def _built(kind: Any, plain: Any, name: str) -> Any:
    if kind is Any:
        return plain
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, plain, name)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        if plain in inner:
            return plain
    elif origin in (typing.Union, types.UnionType):
        return _one_of(inner, plain, name)
    elif origin is tuple and isinstance(plain, list | tuple):
        kinds = inner[:1] * len(plain) if inner[-1] is ... else inner
        if len(kinds) == len(plain):
            return tuple(_built(k, x, name) for k, x in zip(kinds, plain, strict=True))
    elif origin is list and isinstance(plain, list):
        return [_built(inner[0], item, name) for item in plain]
    elif origin is dict and isinstance(plain, dict):
        return {key: _built(inner[1], item, f"{name}.{key}") for key, item in plain.items()}
    elif kind is Path and isinstance(plain, str):
        return Path(plain)
    elif (kind is float and type(plain) in (int, float)) or type(plain) is kind:
        return plain
    raise ValueError(f"{name}: expected {_shown(kind)}, got {plain!r:.40}")


def _dataclass(kind: type, plain: Any, name: str) -> Any:
    if not isinstance(plain, dict):
        raise ValueError(f"{name}: expected the fields of {kind.__name__}, got {plain!r:.40}")
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    for key in plain:
        if key not in hints:
            raise ValueError(f"{kind.__name__} has no field {key!r}; it has {', '.join(hints)}")
    for field in fields:
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and field.name not in plain:
            raise ValueError(f"{field.name} is missing in {kind.__name__}")
    return kind(**{key: _built(hints[key], value, key) for key, value in plain.items()})


def _one_of(kinds: tuple[Any, ...], plain: Any, name: str) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _built(kind, plain, name)
        except ValueError as error:
            problems.append(error)
    raise problems[0]


def _shown(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
