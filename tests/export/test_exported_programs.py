"""Models as programs of torch.export."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comparison import assert_close
from small_exports import TOLERANCE, model_of, tokens
from torch.export import ExportedProgram

from hyena.export import to_program
from hyena.model import LanguageModel
from hyena.model.label_head import Labels
from hyena.model.label_outputs import label_outputs

LENGTHS = 1, 2, 3, 63, 64, 65, 96, 97, 128, 199, 200
ELSEWHERE = """
import sys

sys.modules["hyena"] = None  # importing it is an error, as where it is not installed

import torch

program = torch.export.load("plain.pt2").module()
with torch.no_grad():
    torch.save([program(ids) for ids in torch.load("given.pt")], "found.pt")
assert not [name for name in sys.modules if name.startswith("hyena.")]
try:
    torch.export.load("kernel.pt2")
except RuntimeError:
    print("the other one is refused")
"""


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return model_of("hyena,attention")


def ops_of(program: ExportedProgram) -> set[str]:
    """The namespaces of the ops of a program."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    return {getattr(node.target, "namespace", "python") for node in nodes}


def saved(program: ExportedProgram, folder: Path) -> torch.nn.Module:
    """As another process opens it."""
    torch.export.save(program, folder / "model.pt2")
    return torch.export.load(folder / "model.pt2").module()


@pytest.fixture(scope="module")
def files(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both kinds of program of the model, plain.pt2 and kernel.pt2."""
    folder = tmp_path_factory.mktemp("programs")
    for name, kernel in (("plain", False), ("kernel", True)):
        program = to_program(model, kernel=kernel)
        assert ("hyena" in ops_of(program)) == kernel
        assert kernel or ops_of(program) == {"aten", "python"}
        torch.export.save(program, folder / f"{name}.pt2")
    return folder


@pytest.mark.parametrize("name", ["plain", "kernel"])
def test_a_program_takes_any_batch_and_length(name: str, model: LanguageModel, files: Path) -> None:
    run = torch.export.load(files / f"{name}.pt2").module()
    with torch.no_grad():
        for i, length in enumerate(LENGTHS):
            ids = tokens(1 + i % 3, length, seed=i)
            assert_close(run(ids), model(ids), TOLERANCE)
    with pytest.raises((AssertionError, RuntimeError), match="input_ids"):
        run(tokens(1, 201))


def test_a_plain_program_runs_where_hyena_is_not(model: LanguageModel, files: Path) -> None:
    given = [tokens(2, length, seed=length) for length in LENGTHS]
    torch.save(given, files / "given.pt")
    words = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(words, cwd=files, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the other one is refused\n"
    with torch.no_grad():
        for ids, found in zip(given, torch.load(files / "found.pt"), strict=True):
            assert_close(found, model(ids), TOLERANCE)


def test_a_program_of_stripes_and_labels(tmp_path: Path) -> None:
    labels = Labels("classification", ("a", "b", "c"), begin=True)
    model = model_of("hyena-se,hyena-mr,hyena-li", layers=3, labels=labels)
    run = saved(to_program(model), tmp_path)
    with torch.no_grad():
        for length in (2, 64, 131):
            ids, lengths = tokens(2, length), torch.tensor([length // 2 + 1, length])
            assert_close(run(ids, lengths), label_outputs(model, ids, lengths), TOLERANCE)


def test_a_program_of_one_length_has_loops_too() -> None:
    model = model_of("rwkv", layers=1, max_length=4, length_policy="extrapolate")
    run = to_program(model, length=6).module()
    ids = tokens(3, 6)
    with torch.no_grad():
        assert_close(run(ids), model(ids), TOLERANCE)


def test_what_cannot_be_a_program_is_told_in_a_line(model: LanguageModel) -> None:
    exact = model_of("hyena,rwkv,mamba2", layers=3, block_causal=True)
    with pytest.raises(ValueError, match=r"^to_program: rwkv, mamba2, block_causal run loops that"):
        to_program(exact)
    with pytest.raises(ValueError, match="block_causal keeps rounding errors of later tokens out"):
        to_program(exact, length=20)
    with pytest.raises(ValueError, match="a length up to the model's max_length 200, got 201"):
        to_program(model, length=201)
    with pytest.raises(ValueError, match="length: expected at least 1, got 0"):
        to_program(model, length=0)
    with pytest.raises(ValueError, match=r"to_program: the model has no head for labels"):
        to_program(model, output="labels")
    with pytest.raises(ValueError, match='expected output "logits" or "labels", got \'loss\''):
        to_program(model, output="loss")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="to_program: expected a LanguageModel"):
        to_program(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
