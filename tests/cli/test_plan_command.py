"""`hyena plan`: a file of `hyena train`, and what its run will take."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyena.cli import main, plan
from hyena.training.speed import Speed

Output = pytest.CaptureFixture[str]
CONFIGS = sorted((Path(__file__).parent.parent.parent / "configs").glob("*.yaml"))
YAML = """
data: no/such/data
out: no/such/run
model: {vocab_size: 16, width: 8, layers: 2, max_length: 64, filter: {emb_dim: 5, width: 6}}
steps: 10
batch: 4
accumulate: 2
accelerator: cpu
evaluation: {every: 5, batches: 3}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(YAML)
    return str(path)


def said(capsys: Output, *words: str) -> str:
    """What the command prints; it prints no complaint."""
    assert main(["plan", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def cell(text: str, first: str) -> str:
    """What stands after ``first`` in the line that begins with it."""
    line = next(line for line in text.splitlines() if line.strip().startswith(first + "  "))
    return line.strip().removeprefix(first).strip()


def test_a_plan_says_what_a_run_takes(file: str, capsys: Output) -> None:
    out = said(capsys, file)
    assert [block.splitlines()[0].split()[0] for block in out.split("\n\n")] == [
        "run",
        "memory",
        "operations",
        "time",
    ]
    assert cell(out, "mixers") == "hyena"
    assert cell(out, "tokens in a step") == "256"
    assert cell(out, "tokens") == "2,560"
    assert cell(out, "rows × tokens at a time, on each") == "2 × 64"
    assert cell(out, "epochs") == "unknown: there is no no/such/data yet"
    assert len(cell(out, "this machine's cpu").split()) >= 9
    assert "Measured here: 2 × 64 random tokens at a time" in out
    assert "pairs in the future" not in out
    assert "not covered: what blocks keep for the backward pass without" in out


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_has_a_plan(config: Path, capsys: Output, tmp_path: Path) -> None:
    words = ["--data", str(tmp_path / "none"), "--measure=false", "--gpu=H200"]
    found = json.loads(said(capsys, str(config), *words, "--json=true"))
    assert found["plan"]["tokens"] % found["plan"]["steps"] == 0
    # Six operations a parameter and token, or some more; attention would add pairs of tokens.
    share = found["plan"]["operations"]["executed"] / found["plan"]["tokens"]
    assert 5 < share / found["plan"]["parameters"] < 7
    assert found["there"]["total"] > 0


def test_options_win_over_the_file(file: str, capsys: Output) -> None:
    out = said(capsys, file, "--measure=false", "--steps=20", "--model.mixers", "hyena,attention")
    assert cell(out, "steps") == "20"
    assert cell(out, "mixers") == "hyena,attention"
    assert len(cell(out, "training without the pairs in the future").split()) == 2
    assert "step, with activation_checkpointing" not in out
    assert out.endswith("time\n  Not measured here: measure is false.\n")


def test_an_accelerator_is_an_estimate_and_says_so(file: str, capsys: Output) -> None:
    words = ["--measure=false", "--gpu", "h100-sxm", "--precision", "bf16-mixed"]
    out = said(capsys, file, *words, "--devices", "2")
    rate = cell(out, "2 × H100-SXM").split()[0]
    assert cell(out, "H100-SXM") == "74.51 GiB"
    assert "H100-SXM: an estimate from its maker's figures, at 35% of its peak. This" in out
    assert "been measured on no GPU" in out
    assert "Figures: NVIDIA H100 Tensor Core GPU data sheet" in out
    assert "What the devices tell each other is not counted." in out
    half = said(capsys, file, *words, "--utilisation", "0.175", "--devices=2")
    slower = cell(half, "2 × H100-SXM").split()[0]
    assert float(slower.replace(",", "")) < float(rate.replace(",", ""))


def test_what_does_not_fit_is_said(file: str, capsys: Output) -> None:
    words = ["--measure=false", "--gpu=L4", "--model.width=8192", "--model.layers=8"]
    out = said(capsys, file, *words)
    assert "This run does not fit on L4." in out
    assert "does not fit" not in said(capsys, file, "--measure=false", "--gpu=L4")


def test_many_gpus_are_reckoned_for_each_way_to_share_a_run(file: str, capsys: Output) -> None:
    words = ["--measure=false", "--gpus=16", "--gpu", "h100", "--batch=32", "--accumulate=1"]
    words.append("--model.width=512")  # of a small one parts are mostly padding
    out = said(capsys, file, *words)
    block = out.split("\n\n")[-1]
    assert block.startswith("a step on 16 H100-SXM, by the way it is shared\n")
    cells = {name: cell(block, name).split() for name in ("data", "fsdp", "hybrid", "context")}
    assert {name: row[:4] for name, row in cells.items()} == {
        "data": ["1", "1", "2", "1"],
        "fsdp": ["16", "1", "2", "1"],
        "hybrid": ["8", "1", "2", "1"],
        "context": ["16", "8", "16", "1"],
    }
    assert "450 GB/s within a machine of 8, 50 to others." in block
    found = json.loads(said(capsys, file, *words, "--json=true"))["shared"]
    by_name = {way["name"]: way for way in found}
    kept = {name: way["plan"]["memory"]["state"] for name, way in by_name.items()}
    assert kept["fsdp"] < kept["hybrid"] < kept["data"]


def test_a_way_that_cannot_be_is_said(file: str, capsys: Output) -> None:
    words = ["--measure=false", "--gpus=64", "--gpu=h100", "--model.mixers=rwkv", "--batch=8"]
    block = said(capsys, file, *words, "--accumulate=1").split("\n\n")[-1]
    assert "data: the 8 rows of a step cannot be shared by 64; change batch." in block
    assert "context: blocks.0.mixer is a RWKV, along which rows cannot be cut" in block
    assert "shard" not in block


def test_json_has_all_of_it(file: str, capsys: Output) -> None:
    found = json.loads(said(capsys, file, "--json=true", "--gpu=A100-40GB"))
    assert found["plan"]["tokens"] == 2560
    assert found["plan"]["text"] is None
    assert found["speed"]["device"] == "cpu"
    assert found["why_not"] == ""
    assert found["here"]["total"] == found["here"]["training"] + found["here"]["evaluation"]
    assert found["hardware"]["bandwidth"] == 1.555e12
    assert found["utilisation"] == 0.35
    assert found["there"]["tokens_per_second"] > 0
    bare = json.loads(said(capsys, file, "--json=true", "--measure=false"))
    assert [bare[name] for name in ("speed", "here", "hardware", "there")] == [None] * 4


def test_what_was_measured_is_what_the_time_is_reckoned_from(
    file: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "measure_speed", lambda config: Speed("cpu", 1, 64, 3600.0))
    out = said(capsys, file, "--devices=2")
    # Two micro batches of a row in a step, on each of two devices; evaluation is a third of one.
    assert re.split(r" {2,}", cell(out, "2 × this machine's cpu")) == [
        "0",
        "2.0 h",
        "20.0 h",
        "2.0 h",
        "22.0 h",
    ]
    assert "A run takes" not in out
    assert "A run takes 2 rows at a time" in said(capsys, file)


def out_of_memory(config: object) -> Speed:
    raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    ("name", "replacement", "message"),
    [
        ("too_large", lambda size, device: "may need 9 GiB", "a step may need 9 GiB."),
        ("measure_speed", out_of_memory, "the memory of cpu does not suffice for a step."),
    ],
)
def test_too_little_memory_keeps_a_machine_from_being_measured_and_no_more(
    name: str,
    replacement: Callable[..., Any],
    message: str,
    file: str,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, name, replacement)
    assert f"Not measured here: {message}" in said(capsys, file)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--gpu", "H100-S"], 1, "did you mean H100-SXM?"),
        (["--gpu", "abacus"], 1, "choose from B200, H200,"),
        (["--utilisation", "2"], 1, "utilisation: expected a share, above 0 up to 1, got 2"),
        (["--precision=64", "--gpu=L4"], 1, "hardware L4 has no known peak of float64"),
        (["--precision=32", "--gpu=tpu-v5e"], 1, "TPU-v5e has no known peak of float32"),
        (["--batch=3"], 1, "batch is 3, but has to be cut into"),
        (["--gpuu=L4"], 2, 'unknown option "gpuu"; did you mean "gpu"'),
        (["--gpus=4"], 1, "gpus: 4 were asked for, but not of which kind; add --gpu, such as h100"),
        (["--gpus=0", "--gpu=L4"], 1, "gpus: expected at least 1, got 0"),
        (["--gpus=12", "--gpu=L4"], 1, "gpus: expected whole machines of 8, got 12"),
        (["--gpus=8", "--gpu=L4", "--network=0"], 1, "network: expected a positive number"),
        (["--json"], 2, "json: expected true or false after it"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], code: int, message: str, file: str, capsys: Output
) -> None:
    assert main(["plan", file, *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_without_token_files_is_a_mistake(
    file: str, tmp_path: Path, capsys: Output
) -> None:
    assert main(["plan", file, "--data", str(tmp_path)]) == 1
    assert "has no manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0123, "12.3 ms"),
        (1.5, "1.5 s"),
        (119.0, "119.0 s"),
        (120.0, "2.0 min"),
        (7200.0, "2.0 h"),
        (172800.0, "2.0 d"),
        (1e9, "11,574.1 d"),
    ],
)
def test_a_time_in_its_unit(seconds: float, expected: str) -> None:
    assert plan._span(seconds) == expected
