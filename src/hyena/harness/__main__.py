"""`python -m hyena.harness` is the program `lm_eval`, which knows the model "hyena" then."""

import sys

from lm_eval.__main__ import cli_evaluate


def main() -> None:
    """Runs it. What it was given wrong is one line, and exit code 1."""
    try:
        cli_evaluate()
    except (ValueError, OSError) as error:
        sys.exit("error: " + (" ".join(str(error).split()) or type(error).__name__))


if __name__ == "__main__":
    main()
