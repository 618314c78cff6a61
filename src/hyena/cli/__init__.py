"""The command line: `hyena COMMAND`, where `hyena --help` lists the commands."""

from hyena.cli.program import main

__all__ = ["main"]
