"""The modules of the example on bacteria."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MODULES = (
    "bacteria",
    *(f"bacteria_{part}" for part in ("genes", "genomes", "kmers", "models", "report", "windows")),
)


@pytest.fixture(scope="package")
def example() -> Iterator[SimpleNamespace]:
    """The modules of the example, imported as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        found = {name: importlib.import_module(name) for name in MODULES}
        parts = {name.partition("_")[2]: module for name, module in found.items()}
        yield SimpleNamespace(main=parts.pop(""), **parts)
    for name in (*MODULES, "packages"):
        sys.modules.pop(name, None)  # the tests of another example may have done so


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(0)
