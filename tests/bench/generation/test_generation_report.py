"""The report of generation, and its drawing, of results that are easy to reckon with."""

from pathlib import Path
from typing import Any

import pytest
from fake_generation import result, results

from hyena.bench.generation.cases import KINDS, Case, Kind, cases, quick
from hyena.bench.generation.report import draw, report, time_rows

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
    heading, hyena, dot = time_rows([result(row)])
    assert heading[2:] == [
        *["context", "contender", "tokens", "tokens/s"],
        *["ms a token", "p99", "worst", "× exact", "state, MiB", "error"],
    ]
    assert hyena == [
        *["D=256, layers=1", "8", "2048", "Hyena, exact", "256", "8000"],
        *["1 (0.9–1.1)", "2", "3", "", "1", "1.0e-07"],
    ]
    assert dot[3:] == [
        *["Hyena, cached dot products", "256", "1000"],
        *["8 (7.2–8.8)", "16", "24", "8", "0.5", "1.0e-07"],
    ]


@pytest.mark.parametrize(("kind", "names"), [("growth", ("L=2", "L=4")), ("positions", ("t=9",))])
def test_lengths_and_positions_are_contenders_without_a_context(
    kind: Kind, names: tuple[str, ...]
) -> None:
    heading, *lines = time_rows([result(Case(kind, names, 1, 9))])
    assert "context" not in heading
    assert "× exact" not in heading
    assert [line[heading.index("contender")] for line in lines] == list(names)


def test_models_have_parameters_and_tokens_a_second_of_all_rows() -> None:
    row = Case("model", ("hyena", "attention"), 8, 100, layers=2)
    _, hyena, _ = time_rows([result(row, {"hyena": 2.0})])
    assert hyena[:8] == [
        *["D=256, layers=2", "8", "100", "Hyena, exact", "524288", "256", "4000"],
        "2 (1.8–2.2)",
    ]
    row = Case("weights", ("hyena", "read_sum"), 1, 100, preset="125M")
    _, hyena, read = time_rows([result(row)])
    assert (hyena[0], read[4], read[-1]) == ("125M", "", "")


def test_a_panel_for_each_setting_with_more_than_one_context(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    drawing = "hyena.bench.drawings.draw_lengths"
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
    assert draw(results(quick()), tmp_path) == []
    few = {k: v for k, v in found.items() if k.startswith("planned")}
    (file,) = draw(few, tmp_path)
    assert file.read_bytes().startswith(b"\x89PNG")
