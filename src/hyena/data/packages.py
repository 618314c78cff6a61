"""Optional packages: whether they are there, and where."""

import importlib.util
from pathlib import Path


def require(package: str, purpose: str, install: str) -> Path:
    """The folder of a package, which is not loaded (its imports may be slow).

    Raises: ImportError in one line, with the purpose and what to install, if it is not there.
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
    return Path(spec.origin or "").parent
