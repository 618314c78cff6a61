"""A mistake on the command line: one line, the exit code of its kind, and no file written."""

import re
from pathlib import Path

import pytest

from hyena.cli import main

Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("prepre", 2, 'unknown command "prepre"; did you mean "prepare"?'),
        ("xyzzy", 2, 'unknown command "xyzzy"; choose from prepare, data, plan, train,'),
        ("--config x.yaml train", 2, 'unknown command "--config"'),
        ("prepare", 2, "required and not given: --source"),
        ("prepare s --out d --tokeniser gpt2", 2, 'did you mean "tokenizer"?'),
        ("prepare s --out d --seed x", 2, 'seed: expected a whole number, got "x"'),
        ("prepare absent.txt --out d", 1, "absent.txt"),
        ("prepare s --out d --validation 2", 1, "validation"),
        ("prepare sotu --out d --tokenizer gpt3", 1, "tokenizer 'gpt3' was asked for"),
        ("train --data absent --out r", 1, "absent"),
        ("train --data d --out r --model.wdith 3", 2, 'did you mean "model.width"?'),
        ("train --data d --out r --optimizer.Lr 3", 2, 'did you mean "optimizer.lr"?'),
        ("train --data d --out r --precision 16", 2, "precision: expected one of '32', '64',"),
        ("train --data d --out r --steps 0", 1, "steps: expected at least 1, got 0"),
        ("train --config absent.yaml", 2, "config: absent.yaml: No such file"),
        ("evaluate absent --data d", 1, "a model was asked for in absent, which does not exist"),
        ("evaluate . --data d", 1, "which holds neither a saved model nor checkpoints"),
        ("evaluate m --data d --split trian", 2, "expected one of 'train', 'validation', 'test'"),
        ("plot absent", 1, "a model was asked for in absent, which does not exist"),
        ("train --data d --out= --steps 1", 2, 'out: expected a path, got ""; "." is the working'),
        ("evaluate m --data d --length x", 2, 'length: expected a whole number or null, got "x"'),
        (
            "generate m --length_policy cut",
            2,
            "expected one of 'error', 'extrapolate', 'interpolate' or null, got \"cut\"",
        ),
        ("plot absent --length 0", 1, "length: expected at least 1, got 0"),
        ("tasks sweep", 2, "expected a file of options first"),
        ("tasks rnu", 2, 'unknown command "rnu"; did you mean "run"?'),
        ("tasks run --task.lenght 3", 2, 'did you mean "task.length"?'),
        ("info caf\udce9", 2, "model: expected UTF-8, got 'caf\\udce9'; write or rename it so"),
        ("plot absent extra", 2, 'unexpected argument "extra"'),
        (
            "info absent",
            1,
            "a model was asked for in absent, which is neither a folder nor a preset",
        ),
        (
            "info 154M",
            1,
            "a model was asked for in 154M, which is neither a folder nor a preset; did you mean "
            "153M or ",
        ),
        ("info 153M --order 1", 1, "model.order: expected at least 2, got 1"),
        ("info 153M --length 0", 1, "length: expected at least 1, got 0"),
        ("info 153M --length 99999999999", 1, "length: expected at most 2,147,483,648, got 99,9"),
        ("info 153M --batch 9999999999", 1, "batch: expected at most 2,147,483,648, got 9,9"),
        (
            "tasks run --out x --training.batch 100000000000",
            1,
            "training.batch: expected at most 2,147,483,648, got 100000000000",
        ),
        ("info 153M --batch -1", 1, "batch: expected at least 1, got -1"),
        (
            "info --length 5",
            1,
            "order, length and batch are of a model; name one: hyena info MODEL",
        ),
        ("tasks show recal", 1, "task.name: expected one of recall, recall-plain"),
        ("tasks show recall --count 0", 1, "count: expected at least 1, got 0"),
        ("tasks show recall --seed -1", 1, "seed: expected at least 0 and below 2^64, got -1"),
        ("tasks show addition --task.length 8", 1, "task.length=8 has no effect on addition"),
        ("tasks run recall", 2, "required and not given: --out"),
        ("tasks run recall --out x --training.step 3", 2, 'did you mean "training.steps"?'),
        ("tasks run recall --out x --task.length 7", 1, "recall: length: expected an even number"),
        (
            'tasks run recall --out x --training.stages [{"length":4,"steps":0}]',
            1,
            "training.stages.steps: expected at least 1, got 0",
        ),
        ("tasks run recall --out s", 1, "s is a file; give a folder to --out"),
        ("tasks run recall --out s/x", 1, "s is a file; give a folder to --out"),
        ("bench quick --out s", 1, "s is a file; give a folder to --out"),
        ("train --data d --out r --resume", 2, "resume: expected true or false after it"),
        ("train --data d --out r --stop_after", 2, "stop_after: expected a whole number after it"),
        ("train --data d --config", 2, "config: expected a file after it"),
        ("train --data --out r", 2, "data: expected a path after it"),
        ("train --out r --precision", 2, "precision: expected one of '32', '64', 'bf16-mixed' aft"),
        ("bench sweep --widths", 2, "widths: expected a list in brackets after it"),
        ("generate m --stop_tokens", 2, "stop_tokens: expected a whole number after it"),
        ("generate m --prompt --seed 3", 2, "prompt: expected text after it"),
        ("tasks sweep absent.yaml", 2, "config: absent.yaml: No such file"),
        ("tasks sweep --out x --training.steps 3", 2, 'did you mean "base.training.steps"?'),
        ("tasks sweep --out x --steps 3", 2, 'did you mean "base.training.steps"?'),
        ("tasks sweep --out x", 1, "rows is empty; a sweep needs at least one"),
        (
            'tasks sweep --out x --rows [{"name":4096}]',
            2,
            'rows: name: expected text, got "4096"; write it in quotes',
        ),
        ("tasks table absent", 1, "absent holds no sweep: it has no sweep.json"),
        (
            "bench goals --lengths [3] --out out",
            1,
            "no row of the suite goals has lengths [3]; leave some of them out",
        ),
        ("bench quick --threads 0 --out out", 1, "threads: expected at least 1, got 0"),
        ("bench quick --seconds=-1 --out out", 1, "seconds: expected more than 0, got -1.0"),
        (
            "bench sweep --widths [] --out out",
            1,
            "widths: expected a list of numbers above 0, got []",
        ),
        (
            "bench sweep --lengths [0] --out out",
            1,
            "lengths: expected a list of numbers above 0, got [0]",
        ),
        ("bench sweep --widths [96] --out out", 1, "attention has heads of 64, but width is 96"),
        ("bench goals --device tpu --out out", 2, "device: expected one of 'cpu', 'cuda', got"),
        ("bench generate --device cuda --out out", 1, "the suite generate is measured on the CPU"),
        ("bench slow --out out", 2, "expected one of 'goals', 'sweep', 'all', 'quick'"),
        (
            "bench generate --widths [64] --out out",
            1,
            "the suite generate has no widths; leave --widths out",
        ),
        (
            "bench generate --lengths [3] --out out",
            1,
            "no row of the suite generate has lengths [3]; leave them out",
        ),
        (
            "bench goals --large true --out out",
            1,
            "the suite goals has no large; leave --large out",
        ),
        ("bench --quick true --out out", 1, "the suite goals has no quick; leave --quick out"),
        ("bench generate --repeats 0 --out out", 1, "repeats: expected at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_line(
    words: str,
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").write_text("Some text.")
    assert main(words.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not re.search(r"\w=[\"']", err)  # Python's way to write an option
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
