"""`python -m hyena.harness` is the program `lm_eval`, which knows the model "hyena" then."""

from lm_eval.__main__ import cli_evaluate

if __name__ == "__main__":
    cli_evaluate()
