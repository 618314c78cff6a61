"""The README's Python runs as it stands, and its tree is the tree."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_snippets_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 4
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["y"].shape == (2, 1000, 64)  # type: ignore[attr-defined]


def test_the_tree_names_every_package() -> None:
    named = set(re.findall(r"^  (\w+)/ ", README, flags=re.MULTILINE))
    packages = {path.parent.name for path in (ROOT / "src" / "hyena").glob("*/__init__.py")}
    assert named == packages


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
