"""The report of generation, and its drawing, of results that are easy to reckon with."""

from pathlib import Path
from typing import Any

import pytest
from fake_generation import result, results

from hyena.bench.generation.cases import KINDS, Case, cases, quick
from hyena.bench.generation.drawings import draw
from hyena.bench.generation.report import (
    growth_rows,
    mixer_rows,
    model_rows,
    position_rows,
    report,
)

SETTING = {"processor": "a processor", "threads": 2, "allocator": "the system's default"}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return results(cases(large=True))


def test_the_report_has_the_setting_the_goals_and_every_kind(found: dict[str, Any]) -> None:
    text = report(found, SETTING)
    assert "- processor: a processor\n- threads: 2\n- allocator: the system's default" in text
    assert "## Goals" in text
    assert "| 3 | mixer, exact, tokens after one, against cached dot products in O(L) |" in text
    assert "**missed**" in text
    for kind, meaning in KINDS.items():
        assert f"## {kind.capitalize()}: {meaning}" in text.splitlines()
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")
    assert "## Not measured" not in text
    assert "## Goals" not in report(results(quick()), SETTING)


def test_what_was_left_out_or_failed_is_told(found: dict[str, Any]) -> None:
    row = Case("model", ("hyena",), 8, 65536)
    first = {**result(row), "skipped": {"attention": "may need 9 GiB"}}
    second = {"row": first["row"], "skipped": {}, "failed": "why"}
    text = report({"a": first, "b": second}, SETTING)
    assert "## Not measured\n\n- attention, a: may need 9 GiB\n- b: why" in text


def test_a_line_for_each_mixer() -> None:
    row = Case("planned", ("hyena", "dot"), 8, 2048)
    heading, hyena, dot = mixer_rows([result(row)])
    assert hyena == [
        *["8", "2048", "Hyena, exact", "256", "1 (0.9–1.1)", "2", "3"],
        *["", "1", "1.0e-07"],
    ]
    assert dot[2:] == [
        *["Hyena, cached dot products", "256", "8 (7.2–8.8)", "16", "24"],
        *["8", "0.5", "1.0e-07"],
    ]
    assert {len(heading), len(hyena), len(dot)} == {10}


def test_growth_compares_whole_times() -> None:
    row = Case("growth", ("L=100", "L=200"), 1, 200)
    _, first, second = growth_rows([result(row, {"L=200": 1.5})])
    assert first == ["100", "0.1", "1 (0.9–1.1)", "2", "3", "", "1.0e-07"]
    assert second == ["200", "0.3", "1.5 (1.35–1.65)", "3", "4.5", "3", "1.0e-07"]


def test_positions() -> None:
    row = Case("positions", ("t=1", "t=9"), 1, 9)
    assert position_rows([result(row)])[2] == ["9", "1 (0.9–1.1)", "2", "3", "524288", "1.0e-07"]


def test_models_have_tokens_a_second_of_all_rows_and_their_share_of_the_limit() -> None:
    row = Case("model", ("hyena", "attention"), 8, 100, layers=2)
    _, hyena, _ = model_rows([result(row, {"hyena": 2.0})])
    assert hyena[:8] == [
        *["D=256, 2 layers", "8", "100", "Hyena, exact", "524288", "256", "4000"],
        "2 (1.8–2.2)",
    ]
    assert hyena[11] == ""
    row = Case("weights", ("hyena", "read_sum"), 1, 100, preset="125M")
    _, hyena, read = model_rows([result(row)])
    assert (hyena[0], hyena[11], read[4], read[11]) == ("125M", "80%", "", "")


def test_a_panel_for_each_setting_with_more_than_one_context(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    drawing = "hyena.bench.generation.drawings.draw_lengths"
    with monkeypatch.context() as patched:
        patched.setattr(drawing, lambda panels, path, ylabel: asked.update(panels))
        draw(found, tmp_path)
    assert set(asked) == {
        "after a prefill, batch 1",
        "after a prefill, batch 8",
        "token by token, batch 1",
        "token by token, batch 8",
        "whole model, batch 1",
        "whole model, batch 8",
        "whole model, 125M, batch 1",
        "whole model, 125M, batch 8",
    }
    curve = asked["after a prefill, batch 8"]["attention, KV cache"]
    assert sorted(curve) == [(8192.0, 30.0), (65536.0, 30.0)]
    assert draw(results(quick()), tmp_path) is None
    few = {k: v for k, v in found.items() if k.startswith("planned")}
    file = draw(few, tmp_path)
    assert file is not None
    assert file.read_bytes().startswith(b"\x89PNG")
