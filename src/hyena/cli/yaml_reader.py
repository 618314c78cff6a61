"""YAML under bounds: what a file of options needs, and nothing that takes minutes or gigabytes."""

import re
from typing import Any

import yaml  # comes with jsonargparse

BYTES, VALUES, DEPTH = 1 << 18, 50_000, 32
"""Bounds of a file, of its values with every alias written out, and of how deeply they nest."""

_TOO_MANY = f"has more than {VALUES:,} values with its aliases written out"
_FLOAT = re.compile(r"[-+]?\d+[eE][-+]?\d+")  # which YAML 1.1 takes for a text


def read_file(path: str) -> Any:
    """The value in a file. Raises: ValueError, one line, if there is none within the bounds."""
    try:
        with open(path, "rb") as file:  # bounded before it is read: a device has no end
            data = file.read(BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    if len(data) > BYTES:
        raise ValueError(f"{path} has more than {BYTES >> 10} KiB, which is no file of options")
    try:
        return read_text(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def read_text(text: str) -> Any:
    """The value of a text. Raises: ValueError, one line, if it is no YAML within the bounds."""
    try:
        return _Reader(text).document()
    except yaml.YAMLError as error:
        problem = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ValueError(f"is not YAML: {problem}") from error


class _Reader:
    """Builds the value from the parser's events, so that a bound ends it before it has grown."""

    def __init__(self, text: str) -> None:
        self.loader = yaml.SafeLoader(text)
        self.anchors: dict[str, tuple[Any, int, int]] = {}

    def document(self) -> Any:
        loader = self.loader
        loader.get_event()  # the stream's start
        if loader.check_event(yaml.StreamEndEvent):
            return None
        loader.get_event()  # the document's
        value, _, _ = self.value(1)
        loader.get_event()
        if not loader.check_event(yaml.StreamEndEvent):
            raise ValueError("has a second document after ---; leave it out")
        return value

    def value(self, depth: int) -> tuple[Any, int, int]:
        """The next value, how many values it is made of, and how deeply it nests."""
        event = self.loader.get_event()
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise ValueError(f"has the alias *{event.anchor}, which nothing before it names")
            found = self.anchors[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            found = (self.scalar(event), 1, 0)
        else:
            found = self.collection(event, depth)
        _, size, height = found
        if depth + height > DEPTH:
            raise ValueError(f"nests more than {DEPTH} deep; write it flatter")
        if size > VALUES:
            raise ValueError(_TOO_MANY)
        if getattr(event, "anchor", None) and not isinstance(event, yaml.AliasEvent):
            self.anchors[event.anchor] = found
        return found

    def collection(self, event: yaml.Event, depth: int) -> tuple[Any, int, int]:
        if depth > DEPTH:
            raise ValueError(f"nests more than {DEPTH} deep; write it flatter")
        pairs = isinstance(event, yaml.MappingStartEvent)
        items: list[Any] = []
        mapping: dict[Any, Any] = {}
        size, height = 1, 0
        while not self.loader.check_event(yaml.MappingEndEvent, yaml.SequenceEndEvent):
            for _ in range(1 + pairs):
                item, values, inner = self.value(depth + 1)
                items.append(item)
                size, height = size + values, max(height, inner + 1)
                if size > VALUES:
                    raise ValueError(_TOO_MANY)
            if pairs:
                value, key = items.pop(), items.pop()
                if isinstance(key, dict | list):
                    raise ValueError(f"has the key {key!r:.40}; expected a name")
                if key in mapping:
                    raise ValueError(f"has {key!r:.40} twice; leave one of them out")
                mapping[key] = value
        self.loader.get_event()
        merged = mapping.pop("<<", {})  # <<: *others has what the others have, and less weight
        for other in merged if isinstance(merged, list) else [merged]:
            if not isinstance(other, dict):
                raise ValueError(f"merges {other!r:.40}; expected options, {{name: value}}")
            mapping = {**other, **mapping}
        return (mapping if pairs else items), size, height

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        if event.tag is not None and event.tag != "!":
            raise ValueError(f"has the tag {event.tag}; options need none")
        if event.implicit[0] and _FLOAT.fullmatch(event.value):
            return float(event.value)
        tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag.rpartition(":")[2] not in ("null", "bool", "int", "float"):
            return event.value
        return self.loader.construct_object(yaml.ScalarNode(tag, event.value))
