"""YAML under bounds: what a file of options needs, and nothing that takes minutes or gigabytes."""

import re
from typing import Any

import yaml  # comes with jsonargparse

BYTES, VALUES, DEPTH = 1 << 18, 50_000, 32
"""Bounds of a file, of its values with every alias written out, and of how deeply they nest."""

_TAG = "tag:yaml.org,2002:"


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
        loader = _Loader(text)
        value = loader.get_data()
        if loader.check_data():
            raise ValueError("has a second document after ---; leave it out")
        return value
    except yaml.YAMLError as error:
        problem = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ValueError(f"is not YAML: {problem}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's, with bounds that end it as nodes come, before any value is made of them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth, self.values, self.height = 0, 0, 0
        self.measured: dict[yaml.Node | None, tuple[int, int]] = {}
        """Of how many values a node is made, and how deeply they nest."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        values, height = 1, 0
        if isinstance(event, yaml.AliasEvent):
            node = self.anchors.get(event.anchor)
            if node not in self.measured:  # nor within itself
                raise ValueError(f"has the alias *{event.anchor}, which nothing before it names")
            values, height = self.measured[node]
        elif event.tag not in (None, "!"):
            raise ValueError(f"has the tag {event.tag}; options need none")
        before, beside = self.values, self.height
        self.depth, self.values, self.height = self.depth + 1, before + values, height
        if self.depth + height > DEPTH:
            raise ValueError(f"nests more than {DEPTH} deep; write it flatter")
        if self.values > VALUES:
            raise ValueError(f"has more than {VALUES:,} values with its aliases written out")
        node = super().compose_node(parent, index)
        self.measured[node] = self.values - before, self.height
        self.depth, self.height = self.depth - 1, max(beside, self.height + 1)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            merge = key.tag == f"{_TAG}merge"  # <<: *others
            name = key.value if merge else self.construct_object(key, deep=True)
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"has the key {name!r:.40}; expected a name")
            if name in keys:
                raise ValueError(f"has {name!r:.40} twice; leave one of them out")
            keys.add(name)
        return node


def _whole(loader: _Loader, node: yaml.ScalarNode) -> Any:
    try:
        return loader.construct_yaml_int(node)
    except ValueError as error:  # 0x_ for one; and Python reads no int of thousands of digits
        raise ValueError(f"has {node.value:.40}, which is no whole number to be read") from error


_Loader.yaml_implicit_resolvers = {  # but dates and a lone =, which are texts here
    first: [(tag, found) for tag, found in pairs if not tag.endswith(("timestamp", "value"))]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(  # 1e3, which YAML 1.1 takes for a text
    f"{_TAG}float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789")
)
_Loader.add_constructor(f"{_TAG}int", _whole)
