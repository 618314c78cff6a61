"""`benchmarks/huggingface_generation.py`: what it runs, checks and says."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import huggingface_generation as bench
from transformers import Lfm2ForCausalLM, Mamba2ForCausalLM

import hyena

TINY = [replace(case, prompt=9, tokens=3) for case in bench.QUICK]


@pytest.fixture(autouse=True)
def short_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CHECKED_TOKENS", 3)
    monkeypatch.setattr(bench, "QUICK", tuple(TINY))


def test_a_run_measures_all_contenders_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--quick", "--threads", "1", "--out", str(tmp_path)]
    assert bench.main(words) == 0
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["setting"]["threads"] == 1
    assert found["setting"]["transformers"]
    rows = found["rows"]
    assert [list(rows[case.key]["parameters"]) for case in TINY] == [
        ["direct", "hyena"],
        ["hyena", "mamba2", "lfm2"],
    ]
    for case in TINY:
        row = rows[case.key]
        assert row["skipped"] == {}
        assert set(row["times"]) == {
            f"{name}, {part}" for name in case.contenders for part in ("prefill", "decode")
        }
        assert all(0 < t["lower"] <= t["median"] <= t["upper"] for t in row["times"].values())
        assert all(len(seconds) == case.repeats for seconds in row["seconds"].values())
    assert [goal["measured"]["value"] > 0 for goal in found["goals"]] == [True] * 4
    assert "| Mamba-2, by transformers |" in table
    assert bench.main(words) == 0
    out = capsys.readouterr().out
    assert "2 of 2 cases are there already" in out
    assert table in out
    with pytest.raises(SystemExit, match=r"threads is 2 now and was 1 there; .* with --fresh$"):
        bench.main(["--quick", "--threads", "2", "--out", str(tmp_path)])


def test_rivals_have_as_many_parameters() -> None:
    first, second = bench.FULL
    config = second.config()
    size = hyena.LanguageModel(config, device="meta").parameter_count()
    for name, kind in (("mamba2", Mamba2ForCausalLM), ("lfm2", Lfm2ForCausalLM)):
        found = bench.parameters(kind, bench.RIVALS[name](config, size))
        assert found == pytest.approx(size, rel=0.015), name
    assert first.config().width == config.width == 768


def test_both_ways_give_the_same_tokens_and_time_each_part() -> None:
    model = bench.ours(TINY[0])
    prompt = torch.tensor([[1, 2, 3]])
    ours, theirs = bench.directly(model.model, prompt, 5), bench.by_transformers(model, prompt, 5)
    assert ours.tokens == theirs.tokens
    assert len(ours.tokens) == 5
    assert min(*ours[:2], *theirs[:2]) > 0


def test_the_mean_of_a_token_is_of_those_after_the_first() -> None:
    assert bench._run(10.0, [13.0, 14.0, 17.0], []) == (3.0, 2.0, [])


def test_rivals_whose_steps_are_wrong_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {Mamba2ForCausalLM: 1e-3, Lfm2ForCausalLM: float("nan")}
    monkeypatch.setattr(bench, "step_error", lambda model, _: wrong.get(type(model), 0.0))
    case = TINY[1]
    found = bench.measure(case)
    assert list(found["skipped"]) == ["mamba2", "lfm2"]
    assert list(found["times"]) == ["hyena, prefill", "hyena, decode"]
    text = bench.report({case.key: found}, {}, bench.goals(TINY))
    assert f"- Mamba-2, by transformers, {case.key}: steps differ from one pass by 1.0e-03" in text
    assert "not measured" in text


def test_wrong_steps_of_ours_and_other_tokens_are_not_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def other(*arguments: Any) -> bench.Run:
        return bench.Run(1.0, 1.0, [0])

    with monkeypatch.context() as patch:
        patch.setattr(bench, "directly", other)
        assert bench.measure(TINY[0])["failed"] == (
            "the tokens of hyena.generation and transformers differ"
        )
    monkeypatch.setattr(bench, "TOLERANCE", 0.0)
    assert "nothing of this case was timed" in bench.measure(TINY[0])["failed"]


def test_goals_are_read_off_the_results() -> None:
    found = {
        "direct": [bench.Run(1.0, 0.018, [])],
        "hyena": [bench.Run(1.0, 0.02, [])],
    }
    rivals = {
        "hyena": [bench.Run(2.0, 0.02, [])] * 3,
        "mamba2": [bench.Run(x, 0.03, []) for x in (1.0, 9.0, 5.0)],
        "lfm2": [bench.Run(3.0, 0.01, [])],
    }
    first, second = bench.FULL
    results = {first.key: bench.timings(found), second.key: bench.timings(rivals)}
    goals = [goal.record(results) for goal in bench.goals()]
    values = [goal["measured"]["value"] for goal in goals]
    assert values == pytest.approx([0.9, 2.5, 1.5, 1.5])
    assert [goal["met"] for goal in goals[1:]] == [True, False, True]
