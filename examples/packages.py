"""Packages of Debian and npm as files: fetched by their own programs, and checked."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from hyena.files.digests import sha256_of


def fetched_package(words: list[str], file: Path, digest: str, advice: str) -> Path:
    """A package's file, which the command of these words leaves in the folder where it is run,
    under the same name. It is fetched if it is not there.

    Args: the SHA-256 that it must have; what to do else, if it cannot be fetched.
    Raises: RuntimeError if it cannot; ValueError if it is another one; OSError.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        with TemporaryDirectory(dir=file.parent) as place:  # what is left when interrupted is gone
            run(words, place, advice)
            Path(place, file.name).rename(file)
    if (found := sha256_of(file)) != digest:
        raise ValueError(f"{file} has the SHA-256 {found}, expected {digest}; remove it")
    return file


def run(words: list[str], folder: str | Path, advice: str) -> None:
    """Runs a command in a folder. Raises: RuntimeError in one line, which ends with the advice."""
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(f"{words[0]} is not here; {advice}") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise RuntimeError(f"{' '.join(words)} failed: {said}; {advice}")
