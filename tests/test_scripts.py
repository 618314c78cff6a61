"""The scripts beside the package name what is there."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "docs/figures", "examples")
    for path in ROOT.glob(f"{folder}/*.py")
)


@pytest.fixture
def beside_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As Python does for a script, whose folder comes first; its neighbours are forgotten after."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent in {
            path.parent for path in SCRIPTS
        }:
            del sys.modules[name]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_imports_what_there_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, beside_scripts: None
) -> None:
    monkeypatch.syspath_prepend(str(path.parent))
    runpy.run_path(str(path), run_name="imported")


def test_the_language_models_are_trained_as_the_demo_is(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "language_model.py"), run_name="imported")
    config = script["config"](tmp_path / "data", tmp_path / "runs")
    assert (config.model.width, config.model.layers, config.model.max_length) == (128, 4, 512)
    models = {mixer: script["matched"](config.model, mixer) for mixer in ("hyena", "attention")}
    counts = {mixer: script["parameters"](model) for mixer, model in models.items()}
    assert counts["hyena"] == pytest.approx(counts["attention"], rel=0.02)
