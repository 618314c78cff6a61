"""Optional packages: whether they are there, and the files they carry."""

from __future__ import annotations

import importlib.resources
import importlib.util
import sys
from importlib.machinery import ModuleSpec

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable
else:
    from importlib.abc import Traversable

__all__ = ["Traversable", "package_files", "require"]


def require(package: str, purpose: str, install: str) -> ModuleSpec:
    """How to load ``package``, without loading it (its imports may be slow).

    Args:
        package: name of the module.
        purpose: what needs it, for the message.
        install: what to give to ``pip install``.

    Raises: ImportError in one line if it is not installed.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise ImportError(
            f"{purpose} needs the package {package!r}, which is not installed; pip install "
            f"{install!r}"
        )
    return spec


def package_files(package: str, purpose: str, install: str) -> Traversable:
    """The files of a package, without loading it. Arguments and errors as those of `require`."""
    spec = require(package, purpose, install)
    return importlib.resources.files(importlib.util.module_from_spec(spec))
