"""Sphinx configuration. `make docs` builds with warnings as errors and needs no network."""

import re

from sphinx.application import Sphinx

import hyena

project = "hyena"
author = "The Hyena authors"
project_copyright = "The Hyena authors"
release = hyena.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"hyena {release}"
html_copy_source = False

myst_enable_extensions = ["amsmath", "dollarmath", "deflist"]
myst_heading_anchors = 3

# `name` in a docstring is a link where the name is documented, and code where it is not.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True


def as_fields(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]):
    """Makes fields of sections that begin on the line of their heading: ``Returns: the output``.

    Napoleon reads a section only where the heading stands alone.
    """
    text = []
    in_field = False
    for line in lines:
        if match := re.match(r"(\s*)(Returns|Raises|Yields|Warns): (\S.*)", line):
            in_field = True
            text += ["", f"{match[1]}:{match[2]}: {match[3]}"]
        elif in_field and line.strip() and not re.match(r"\s*\w+:$", line):
            text.append(f"    {line}")
        else:
            in_field = False
            text.append(line)
    lines[:] = text


def records(app: Sphinx, page: str, source: list[str]):
    """Makes downloads of links to Markdown files beside the documentation: the records of results.

    MyST takes any other file for a download, but looks for a Markdown file among the pages.
    """
    source[0] = re.sub(r"\[([^]]+)\]\((\.\./[^)]+\.md)\)", r"{download}`\1 <\2>`", source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx. 400: before Napoleon, which runs at 500."""
    app.connect("source-read", records)
    app.connect("autodoc-process-docstring", as_fields, priority=400)
