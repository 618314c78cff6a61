"""Options of the commands that run a model over sequences."""

import re
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from types import ModuleType

import pytest

from hyena.cli import embed, evaluate, generate, main, score
from hyena.cli import eval as eval_command
from hyena.cli.saved_model import ModelOptions, open_model
from hyena.cli.sequence_options import SequenceOptions, work_of


@dataclass
class Config(SequenceOptions):
    """Of a command with options of its own."""

    model: Path
    out: Path | None = None
    size: int = 3


@pytest.mark.parametrize("command", [score, embed, evaluate, eval_command, generate])
def test_help_has_the_options_of_a_command_before_those_of_all(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [*signature(command.Config).parameters]
    assert names[0] == "model"
    assert names[1] in ("input", "data", "prompt", "tasks")
    of_all = [field.name for field in fields(ModelOptions)]
    at = names.index(of_all[0])
    assert names[at : at + len(of_all)] == of_all
    assert at > len(of_all)
    assert main([command.__name__.rpartition(".")[2], "--help"]) == 0
    shown = re.findall(r"^ +--(\w+)", capsys.readouterr().out, flags=re.MULTILINE)
    alone = [name for name in names if name != "labels"]  # which is a group, at the end
    assert [name for name in shown if name in alone] == alone


def test_the_work_is_what_results_depend_on(tmp_path: Path) -> None:
    model, table = tmp_path / "model", tmp_path / "r.bed"
    model.mkdir()
    table.write_text("chr1\t0\t9\n")
    config = Config(model=model, out=tmp_path / "a", batch=2, working_memory=1, regions=table)
    work = work_of("predict", config, "model", "size")
    assert work == {
        "command": "predict",
        "model": work["model"],
        "size": 3,
        "regions": work["regions"],
        "both_strands": False,
        "field": None,
        "soft_masked": "fold",
        "length_policy": None,
        "tokenizer": None,
    }
    others = Config(model=model, batch=3, regions=table)
    assert work_of("predict", others, "model", "size") == work
    table.write_text("chr1\t0\t9\nchr1\t1\t9\n")
    changed = work_of("predict", others, "model", "size")
    assert {name for name in work if changed[name] != work[name]} == {"regions"}


def test_a_model_is_opened_as_it_is_asked_for(saved_model: Path) -> None:
    asked = {"length_policy": "extrapolate", "working_memory": 5, "kept_memory": 0}
    model, tokenizer = open_model(saved_model, Config(model=saved_model, **asked))
    assert model.config.length_policy == "extrapolate"
    assert (model.working_memory, model.kept_memory) == (5, 0)
    assert tokenizer.name == "bytes"
    assert not model.training
