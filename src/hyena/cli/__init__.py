"""The command line: `hyena prepare | train | evaluate | generate | info | plot | bench | tasks`."""

from hyena.cli.program import main

__all__ = ["main"]
