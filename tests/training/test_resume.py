"""A resumed run is the uninterrupted one, bit by bit."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny_runs import MakeConfig, differing
from two_at_once import resume_twice

from hyena.training import (
    CheckpointConfig,
    ParameterRule,
    list_checkpoints,
    read_metrics,
    read_training_state,
    train,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {"dropout": 0.3}},
        {"model": {"dropout": 0.3}, "accumulate": 2, "activation_checkpointing": True},
        {"precision": "64"},
        {"precision": "bf16-mixed"},
    ],
    ids=["plain", "dropout", "accumulate", "float64", "bfloat16"],
)
def test_resume_is_bitwise(make: MakeConfig, changes: dict[str, Any]) -> None:
    whole = train(make("whole", **changes))
    first = train(make("parts", stop_after=3, **changes))
    assert (first.step, first.checkpoint.name) == (3, "step-00000003")
    second = train(make("parts", stop_after=1, resume=True, **changes))
    assert second.step == 4
    last = train(make("parts", resume=True, **changes))
    assert last.step == 6
    assert differing(whole.checkpoint, last.checkpoint) == []
    assert read_training_state(whole.checkpoint).best == read_training_state(last.checkpoint).best


RESUME = """
import sys
from pathlib import Path
from tiny_runs import tiny_config
from hyena.training import train

data, out = map(Path, sys.argv[1:])


def resume():
    train(tiny_config(data, out, resume=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_of_two_processes_that_resume_one_goes_on(make: MakeConfig, data: Path) -> None:
    whole = train(make("whole"))
    out = train(make("parts", stop_after=3)).checkpoint.parents[1]
    said = resume_twice(RESUME, data, out)
    assert said == f"another run is using {out}; wait for it or stop it first"
    assert differing(whole.checkpoint, list_checkpoints(out / "checkpoints")[-1]) == []
    assert [r["step"] for r in read_metrics(out / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_metrics_after_resume_are_those_of_one_run(make: MakeConfig) -> None:
    whole, parts = make("whole"), make("parts", stop_after=3)
    train(whole)
    checkpoint = train(parts).checkpoint
    # As if the process had gone on and been killed in the middle of a line.
    with open(parts.out / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "loss": 99.0}\n{"step": 5, "lo')
    assert checkpoint.name == "step-00000003"
    train(make("parts", resume=True))

    def records(out: Path) -> list[dict[str, float]]:
        lines = (out / "metrics.jsonl").read_text().splitlines()
        return [{**json.loads(line), "tokens_per_s": 0} for line in lines]

    assert [record["step"] for record in records(parts.out)] == [1, 2, 3, 4, 5, 6]
    assert records(whole.out) == records(parts.out)


def test_a_record_that_is_none_ends_the_metrics(tmp_path: Path) -> None:
    good = '{"step": 1, "loss": 2.0}\n'
    for bad in ('{"step": "2"}\n', '{"step": 2, "loss": "x"}\n', "[]\n", '{"loss": 1}\n', "x\n"):
        (tmp_path / "metrics.jsonl").write_text(good + bad + good)
        assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}]


def test_resume_without_a_checkpoint_starts_anew(make: MakeConfig) -> None:
    config = make(resume=True)
    config.out.mkdir()
    (config.out / "metrics.jsonl").write_text('{"step": 1, "loss": 99.0}\n')
    train(config)
    assert [r["step"] for r in read_metrics(config.out / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert read_metrics(config.out / "metrics.jsonl")[0]["loss"] != 99.0


def test_resume_of_a_finished_run_does_nothing_and_says_so(
    make: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make(stop_after=3))
    first = train(make(resume=True))
    assert "steps are done" not in capsys.readouterr().err
    written = first.checkpoint.stat().st_mtime_ns
    again = train(make(resume=True))
    assert again == first
    assert (
        f"resuming from {first.checkpoint}, where all 6 steps are done" in capsys.readouterr().err
    )
    assert again.checkpoint.stat().st_mtime_ns == written


def test_leftovers_of_an_interrupted_run_are_removed(make: MakeConfig) -> None:
    train(make(stop_after=2))
    folder = make().out / "checkpoints"
    half = folder / "step-00000004.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    (folder / "best.json.tmp").write_text("{")
    train(make(resume=True))
    assert not list(folder.glob("*.tmp"))
    assert list_checkpoints(folder)[-1].name == "step-00000006"


def test_what_does_not_change_the_weights_may_change(make: MakeConfig, tmp_path: Path) -> None:
    whole = train(make("whole"))
    train(make("old", stop_after=2))
    (tmp_path / "old").rename(tmp_path / "new")
    changed = make("new", resume=True, log_every=2, checkpoint=CheckpointConfig(every=3, keep=1))
    assert differing(whole.checkpoint, train(changed).checkpoint) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"width": 16}}, r"model\.width was 8, is 16"),
        ({"batch": 8, "seed": 3}, r"batch was 4, is 8; seed was 0, is 3"),
        ({"steps": 9}, r"steps was 6, is 9"),
        ({"precision": "64"}, r"precision was '32', is '64'"),
    ],
)
def test_another_configuration_is_refused(
    make: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    train(make(stop_after=1))
    with pytest.raises(ValueError, match=f"cannot resume from .*step-00000001.*: {message}. Use"):
        train(make(resume=True, **changes))


def test_another_parameter_rule_is_refused(make: MakeConfig) -> None:
    train(make(stop_after=1))
    config = make(resume=True)
    config.optimizer.rules = [ParameterRule("norm", lr=1e-4)]
    with pytest.raises(ValueError, match=r"optimizer\.rules was \[\], is \[\{'pattern': 'norm'"):
        train(config)


def test_other_data_are_refused(make: MakeConfig, tmp_path: Path) -> None:
    from hyena.data import PrepareConfig, prepare

    train(make(stop_after=1))
    (tmp_path / "texts").mkdir()
    for i in range(8):
        (tmp_path / "texts" / f"{i}.txt").write_text("quite another text " * 9)
    prepare(PrepareConfig(source=str(tmp_path / "texts"), out=tmp_path / "other"))
    with pytest.raises(ValueError, match=r"other are not those it was trained on \(different: tr"):
        train(make(resume=True, data=tmp_path / "other"))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("training.json", lambda text: text.replace('n": 1', 'n": 2'), "has format version 2, but"),
        ("training.json", lambda text: text[:50], "training.json is damaged: .*; remove this che"),
        ("training.json", lambda text: "[]", r"is damaged: expected an object, got \[\]; remove"),
        ("training.json", lambda text: "{}", "is damaged: it has no format_version; remove"),
        ("training.json", lambda text: "[" * 99999, "is damaged: it is nested too deeply; rem"),
        ("training.json", lambda text: text.replace("tokens", "x"), "has no field 'x'; it has st"),
        (
            "training.json",
            lambda text: text.replace('"step": 2,', '"step": "2",', 1),
            "training.json is damaged: step: expected int, got '2'; remove this checkpoint",
        ),
        ("training.json", None, "is no checkpoint of `hyena train`: it has no training.json"),
        ("optimizer.safetensors", None, "has no optimizer.safetensors; remove this checkpoint"),
        ("config.json", None, "config.json is missing, though SHA256SUMS lists it; remove"),
        ("SHA256SUMS", lambda text: "x" + text, "SHA256SUMS is damaged: 'x"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    make: MakeConfig, file: str, damage: Any, message: str
) -> None:
    path = train(make(stop_after=2, checkpoint=CheckpointConfig(every=1))).checkpoint / file
    if file == "optimizer.safetensors":
        (path.parent / "SHA256SUMS").unlink()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage(path.read_text(errors="ignore")))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        train(make(resume=True))
    assert "\n" not in str(caught.value)


def test_a_changed_bit_in_any_file_is_found(make: MakeConfig) -> None:
    checkpoint = train(make(stop_after=2)).checkpoint
    files = [path for path in checkpoint.iterdir() if path.name != "SHA256SUMS"]
    assert len(files) == 6
    for path in files:
        whole = path.read_bytes()
        at = whole.rindex(b"0") if path.suffix != ".safetensors" else len(whole) - 1
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])  # a digit, a weight
        with pytest.raises(ValueError, match=r"damaged: |cannot resume|another conf|not those it"):
            train(make(resume=True))
        path.write_bytes(whole)
    assert train(make(resume=True)).step == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 3}, "damaged: step 3 and best step 3 in a folder that is called step-00000002"),
        ({"tokens": 129}, "damaged: 129 tokens after 2 steps of 4 windows of 16"),
        ({"best": {"step": 9, "validation_loss": 1.0}}, "step 2 and best step 9 in a folder"),
    ],
)
def test_without_digests_what_can_be_compared_is(
    make: MakeConfig, change: dict[str, Any], message: str
) -> None:
    checkpoint = train(make(stop_after=2)).checkpoint
    (checkpoint / "SHA256SUMS").unlink()  # as in a folder that an older version wrote
    path = checkpoint / "training.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        train(make(resume=True))


def test_without_digests_the_model_and_the_moments_are_compared(make: MakeConfig) -> None:
    checkpoint = train(make(stop_after=2)).checkpoint
    (checkpoint / "SHA256SUMS").unlink()
    config = checkpoint / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"dropout": 0.0', '"dropout": 0.5'))
    with pytest.raises(
        ValueError, match=r"the model of .*config.json is not that of training.json"
    ):
        train(make(resume=True))
    config.write_text(text)
    moments = load_file(checkpoint / "optimizer.safetensors")
    name = "norm.weight.exp_avg"
    for wrong, shown in ((moments[name].double(), "float64 .8,."), (moments[name][:7], "32 .7,.")):
        save_file({**moments, name: wrong}, checkpoint / "optimizer.safetensors")
        message = rf"norm.weight.exp_avg is torch.*{shown}, expected torch.float32 .8,.; there is"
        with pytest.raises(ValueError, match=message):
            train(make(resume=True))
    (checkpoint / "optimizer.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(ValueError, match=r"optimizer.safetensors is damaged: .*; there is none"):
        train(make(resume=True))
