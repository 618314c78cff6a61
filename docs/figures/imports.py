"""Who imports whom: the table of docs/architecture.md, from the imports of src/hyena.

    python docs/figures/imports.py

writes the imports into the table, its rows in an order in which each package imports only packages
above it, and prints any circle of modules. Imports inside functions and for types count like all
others.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "hyena"
PAGE = ROOT / "docs" / "architecture.md"
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


def graph_of_packages() -> Graph:
    """The packages that each package of hyena imports."""
    parts = graph_of_parts(graph_of_modules())
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return {name: parts[name] & packages for name in packages}


def table(page: str) -> dict[str, tuple[str, set[str]]]:
    """The rows of the page's table: what each package is, and what it imports."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| ([^|]*)\|$", page, flags=re.MULTILINE)
    return {name: (what, set(re.findall(r"`(\w+)`", others))) for name, what, others in rows}


def rewritten(page: str, graph: Graph) -> str:
    """The page with the rows of its table in order, and their imports those of the graph."""
    old = table(page)
    names = [name for name in old if name in graph] + sorted(set(graph) - set(old))
    rows: dict[str, str] = {}
    while left := [name for name in names if name not in rows]:
        name = next((name for name in left if graph[name] <= set(rows)), left[0])
        what = old.get(name, ("", set()))[0]
        others = ", ".join(f"`{other}`" for other in sorted(graph[name]))
        rows[name] = re.sub(r"\|\s+(?=\|)", "| ", f"| `{name}` | {what} | {others} |")
    lines = "".join(f"{row}\n" for row in rows.values())
    return re.sub(r"(?:^\| `\w+` \| .+\|\n)+", lines, page, count=1, flags=re.MULTILINE)


if __name__ == "__main__":
    for circle in circles(graph_of_modules()):
        print("circle:", *circle)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(rewritten(page, graph_of_packages()), encoding="utf-8")
