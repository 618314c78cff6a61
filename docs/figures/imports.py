"""Who imports whom: the table of docs/architecture.md, from the imports of src/hyena.

    python docs/figures/imports.py          # prints the table, and any circle of modules

Imports inside functions and for types count like all others.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "hyena"
Graph = dict[str, set[str]]


def module_of(path: Path) -> str:
    """hyena.ops.long of its file; a package is its ``__init__``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, modules: set[str], code: str) -> Iterator[str]:
    """The modules of ours that the code of a file imports."""
    package = path.parent.relative_to(PACKAGE.parent).parts
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                if name in modules or base in modules:
                    yield name if name in modules else base


def graph_of_modules() -> Graph:
    """The modules that each module imports, itself left out."""
    files = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    return {
        name: set(imported(path, set(files), path.read_text(encoding="utf-8"))) - {name}
        for name, path in files.items()
    }


def part_of(module: str) -> str:
    """The package below hyena that a module belongs to, or its own name there."""
    return module.split(".")[1] if "." in module else module


def graph_of_parts(modules: Graph) -> Graph:
    """The same of the packages of hyena, which is a part itself (its ``__init__``)."""
    parts: Graph = {part_of(name): set() for name in modules}
    for name, others in modules.items():
        parts[part_of(name)] |= {part_of(other) for other in others} - {part_of(name)}
    return parts


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


if __name__ == "__main__":
    modules = graph_of_modules()
    for circle in circles(modules):
        print("circle:", *circle)
    parts = graph_of_parts(modules)
    for circle in circles(parts):
        print("circle of parts:", *circle)
    for name, others in sorted(parts.items(), key=lambda item: len(item[1])):
        print(name, ":", *sorted(others))
