"""The commands one after the other, on a tiny text and a tiny model."""

import io
import re
import shlex
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from finished_run import finished_run

import hyena
from hyena.cli import main
from hyena.data import find_source, load_tokenizer
from hyena.model.saved import find_model
from hyena.training import TrainConfig
from hyena.training.device import find_device

Output = pytest.CaptureFixture[str]
TINY = ["--model.width=8", "--model.layers=1", "--model.max_length=32", "--batch=2"]
SHORT = ["--steps=4", "--evaluation.every=2", "--evaluation.batches=1", "--checkpoint.every=2"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("work"), *TINY, *SHORT)


def test_prepare_says_what_it_wrote_and_that_it_was_there(work: Path, capsys: Output) -> None:
    words = ["prepare", f"{work}/texts", "--out", f"{work}/data"]
    assert main([*words, "--validation=0.2", "--test=0.2"]) == 0
    out = capsys.readouterr().out
    assert "nothing to do" in out
    assert re.search(r"train +4 documents", out)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_of_prepare_gives_the_terminal_back(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for source, code in ((f"{work}/texts", 0), (f"{work}/run/metrics.jsonl", 1)):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        assert main(["prepare", source, "--out", str(tmp_path / "data")]) == code
        hide, show = "\x1b[?25l", "\x1b[?25h"
        assert terminal.getvalue().count(hide) == terminal.getvalue().count(show) == 1


def test_train_prints_the_newest_checkpoint_and_resumes_from_its_configuration(
    work: Path, capsys: Output, tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "run")]
    words = ["train", "--data", f"{work}/data", *out, *TINY, *SHORT, "--stop_after=2"]
    assert main(words) == 0
    checkpoint, stopped = capsys.readouterr().out.splitlines()
    assert Path(checkpoint) == tmp_path / "run/checkpoints/step-00000002"
    said, _, again = stopped.partition("; go on with: hyena ")
    assert said == "stopped after step 2 of 4"
    assert main(shlex.split(again)) == 0
    assert capsys.readouterr().out.strip().endswith("step-00000004")


def test_a_stopped_run_has_the_exit_code_of_its_signal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(config: TrainConfig, progress: object) -> SimpleNamespace:
        number = int(signal.SIGTERM)
        return SimpleNamespace(checkpoint=config.out, step=1, steps=2, signal=number, rank=0)

    monkeypatch.setattr("hyena.cli.train.train", stopped)
    assert main(["train", "--data", "d", "--out", str(tmp_path)]) == 128 + signal.SIGTERM


def test_the_saved_configuration_is_what_print_config_prints(work: Path, capsys: Output) -> None:
    saved = work / "run/checkpoints/step-00000004/train.yaml"
    assert main(["train", "--config", str(saved), "--print_config"]) == 0
    of_one_call = {"resume": False, "stop_after": None}
    expected = {**yaml.safe_load(saved.read_text()), **of_one_call}
    assert yaml.safe_load(capsys.readouterr().out) == expected


@pytest.mark.parametrize("data", ["data", "texts", "texts/0.txt"])
def test_evaluate_reads_token_files_and_plain_text(data: str, work: Path, capsys: Output) -> None:
    assert main(["evaluate", f"{work}/run", "--data", f"{work}/{data}", "--stride=32"]) == 0
    match = re.search(r"bits per byte +([\d.]+)", capsys.readouterr().out)
    assert match
    assert 5 < float(match[1]) < 9  # an untrained model of 257 bytes: about log2(257)


def test_evaluate_of_a_text_is_evaluate_of_its_tokens(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "all").mkdir()
    for i in range(3):
        (tmp_path / "all" / f"{i}.txt").write_text((work / f"texts/{i}.txt").read_text())
    split = ["--validation=0.34", "--test=0.34"]
    assert main(["prepare", f"{tmp_path}/all", "--out", f"{tmp_path}/data", *split]) == 0
    names = ("train", "validation", "test")
    figures = []
    capsys.readouterr()
    for name in names:
        assert main(["evaluate", f"{work}/run", "--data", f"{tmp_path}/data", "--split", name]) == 0
        figures.append(capsys.readouterr().out.splitlines()[1:])
    texts = []
    for i in range(3):
        assert main(["evaluate", f"{work}/run", "--data", f"{tmp_path}/all/{i}.txt"]) == 0
        texts.append(capsys.readouterr().out.splitlines()[1:])
    assert sorted(figures) == sorted(texts)


def test_evaluate_takes_the_sources_of_prepare(
    work: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def find(spec: object, fields: object) -> object:
        asked.append(spec)
        return find_source(str(work / "texts/0.txt"))

    monkeypatch.setattr("hyena.cli.held_out.find_source", find)
    assert main(["evaluate", f"{work}/run", "--data", "sotu"]) == 0
    assert asked == ["sotu"]
    assert capsys.readouterr().out.startswith("sotu: 1 document, ")


def test_text_is_evaluated_in_the_column_that_is_named(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    table, plain = tmp_path / "a.tsv", tmp_path / "a.jsonl"
    table.write_text("id\tsequence\n1\tThe state\n")
    plain.write_text('{"text": "The state"}\n')
    words = ["evaluate", f"{work}/run", "--data"]
    assert main([*words, str(table)]) == 1
    assert "no column 'text'; it has 'id', 'sequence': name the one" in capsys.readouterr().err
    assert main([*words, str(table), "--field=sequence"]) == 0
    found = capsys.readouterr().out
    assert main([*words, str(plain)]) == 0
    assert found == capsys.readouterr().out.replace(str(plain), str(table))
    assert main([*words, f"{work}/data", "--field=sequence"]) == 1
    why = f"field is of rows of text, but {work}/data holds tokens; leave it out"
    assert why in capsys.readouterr().err
    distill = ["distill", f"{work}/run", f"--out={tmp_path}/d", "--state=2", f"--data={table}"]
    assert main(distill) == 1
    assert "no column 'text'" in capsys.readouterr().err
    assert main([*distill, "--field=sequence"]) == 0


def test_dna_is_evaluated_in_upper_case_as_it_is_prepared(tmp_path: Path, capsys: Output) -> None:
    config = hyena.ModelConfig(vocab_size=12, width=8, layers=1, max_length=16)
    hyena.LanguageModel(config).save(tmp_path / "model")
    load_tokenizer("hyenadna").save(tmp_path / "model")
    figures = []
    texts = {"u.fa": ">a\nACGTTGCA\n", "l.fa": ">a\nACGttgca\n", "l.txt": "acgttgca"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert main(["evaluate", f"{tmp_path}/model", f"--data={tmp_path}/{name}"]) == 0
        figures.append(capsys.readouterr().out.splitlines()[1:])
    assert figures[0] == figures[1] == figures[2]
    assert len(figures[0]) == 3  # no note


def test_evaluate_says_which_rows_hold_no_text(work: Path, capsys: Output, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "The state"}\n{"text": null}\n')
    assert main(["evaluate", f"{work}/run", "--data", str(file)]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{file}: 1 document, 10 tokens, 9 bytes")
    assert last == (
        f"  note: 1 row holds no text where some was expected, the first {file} line 2: field "
        "'text' should hold text, but holds NoneType"
    )


@pytest.mark.parametrize(
    "words",
    [
        "train --data {data} --out {new} " + " ".join([*TINY, *SHORT]),
        "evaluate {run} --data {data}",
        "generate {run} --prompt a --max_new_tokens 1",
    ],
)
def test_memory_is_an_option(
    words: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def watch(name: str) -> None:
        method = getattr(hyena.LanguageModel, name)

        def watched(self: hyena.LanguageModel, *inputs: Any, **options: Any) -> Any:
            seen.add((self.working_memory, self.kept_memory))
            return method(self, *inputs, **options)

        monkeypatch.setattr(hyena.LanguageModel, name, watched)

    watch("_through_blocks")
    watch("prefill")
    given = words.format(run=work / "run", data=work / "data", new=tmp_path / "new").split()
    assert main([*given, "--working_memory=4096", "--kept_memory=0"]) == 0
    assert seen == {(4096, 0)}
    assert main([*given, "--working_memory=-1"]) == 1


def test_generate_prints_the_prompt_and_its_continuation(work: Path, capsys: Output) -> None:
    words = ["generate", f"{work}/run", "--prompt", "The state", "--max_new_tokens=8"]
    assert main([*words, "--seed=1"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("The state")
    assert len(first) > len("The state\n")
    assert main([*words, "--seed=1"]) == 0
    assert capsys.readouterr().out == first
    assert main([*words, "--seed=2"]) == 0
    assert capsys.readouterr().out != first


def test_generate_takes_a_file_of_prompts(work: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "prompts.txt").write_text("The\nA longer prompt\n")
    words = ["generate", f"{work}/run", "--max_new_tokens=5", "--temperature=0"]
    assert main([*words, f"--prompts={tmp_path}/prompts.txt"]) == 0
    several = capsys.readouterr().out
    assert several.startswith("[1] The")
    assert "\n[2] A longer prompt" in several
    assert main([*words, "--prompt=The"]) == 0
    assert several.startswith("[1] " + capsys.readouterr().out)


def test_a_prompt_is_taken_as_it_is_and_the_default_length_fits(work: Path, capsys: Output) -> None:
    for prompt in ("- the cat", "[a, b]", "1"):
        assert main(["generate", f"{work}/run", "--prompt", prompt, "--temperature=0"]) == 0
        assert capsys.readouterr().out.startswith(prompt)


def test_plot_draws_what_the_folder_holds(work: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["plot", f"{work}/run", "--out", str(tmp_path / "a")]) == 0
    drawn = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert drawn == ["loss.png", "filters.png"]
    model = work / "run/checkpoints/step-00000004"
    assert main(["plot", str(model), "--out", str(tmp_path / "b"), "--length=5"]) == 0
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["filters.png"]


def test_plot_of_a_model_without_hyena_says_so(tmp_path: Path, capsys: Output) -> None:
    config = hyena.ModelConfig(width=8, layers=1, mixers="attention", max_length=16)
    hyena.LanguageModel(config).save(tmp_path)
    assert main(["plot", str(tmp_path)]) == 0
    assert "no Hyena layer" in capsys.readouterr().out


def test_a_run_stands_for_its_best_checkpoint(work: Path, tmp_path: Path) -> None:
    checkpoints = work / "run/checkpoints"
    assert find_model(work / "run").parent == checkpoints
    assert find_model(checkpoints / "step-00000002") == checkpoints / "step-00000002"
    copy = tmp_path / "checkpoints"
    for name in ("step-00000002", "step-00000004"):
        (copy / name).mkdir(parents=True)
        (copy / name / "config.json").touch()
    assert find_model(tmp_path) == copy / "step-00000004"
    (copy / "best.json").write_text('{"checkpoint": "step-00000002"}')
    assert find_model(tmp_path) == copy / "step-00000002"
    (copy / "best.json").write_text("{")
    with pytest.raises(ValueError, match=r"is damaged: .*; remove it"):
        find_model(tmp_path)


def test_an_absent_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="cuda was asked for, but is not there; this machine has"):
        find_device("cuda")
    assert find_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("generate {run} --prompt x --max_new_tokens 99", "do not fit max_length 32"),
        ("generate {run} --tokenizer gpt2", "is saved with it; leave --tokenizer out"),
        ("generate {bare} --tokenizer gpt2", "gpt2 has 50257 ids, but the model in"),
        ("generate {run} --tokenizer absent", "tokenizer 'absent' was asked for"),
        ("generate {run} --temperature -1", "temperature: expected at least 0, got -1"),
        ("generate {run} --prompt x --prompts {latin}", "both given; give one of them"),
        ("generate {run} --prompts {latin}", "is not UTF-8 text"),
        ("generate {run} --max_new_tokens 0", "max_new_tokens: expected at least 1, got 0"),
        ("generate {run} --tokenizer {small}", "was trained with tokenizer bytes, which is saved"),
        ("generate {begun}", "holds neither a saved model nor checkpoints"),
        ("plot {run} --out {latin}", "latin.txt is a file; give a folder to --out"),
        ("plot {run} --out loss.svg", "out: expected a folder for both drawings, got the file"),
        ("generate {bare}", "no tokenizer is saved with the model"),
        ("generate {damaged}", "damaged"),
        ("generate {pickled}", "holds neither a saved model nor checkpoints"),
        ("generate {pickled}/pytorch_model.bin", "which is a file; give the folder of a run"),
        ("evaluate {run} --data {other}", "other was made with tokenizer 'other'"),
        ("evaluate {run} --data {empty}", "there is no text in the source"),
        ("evaluate {run} --data {latin}", "is not UTF-8 text"),
        ("evaluate {run} --data {data} --stride 99", "stride: expected 1 to length"),
        (
            "evaluate {run} --data {data} --length 64",
            "length is 64, but the model's max_length is 32; lower --length, or give --length_pol",
        ),
        ("plot {run} --length 64", "length is 64, but the model's max_length is 32; lower --len"),
        (
            "train --data {data} --out {run} --length 9",
            "already holds a run; continue it with --resume true",
        ),
        ("train --data {data} --out {new} --model.vocab_size 9", "vocab_size=9"),
        (
            "train --data {data} --out {new} --kept_memory -1",
            "kept_memory: expected at least 0, got -1",
        ),
        ("generate {run} --working_memory -1", "working_memory: expected at least 0, got -1"),
    ],
)
def test_a_mistake_is_one_line(
    words: str, message: str, work: Path, tmp_path: Path, capsys: Output
) -> None:
    capsys.readouterr()
    names = ("bare", "damaged", "pickled", "other", "small", "begun", "empty", "latin", "new")
    paths = {name: tmp_path / name for name in names}
    paths |= {"run": work / "run", "data": work / "data"}
    model = hyena.LanguageModel(hyena.ModelConfig(width=8, layers=1, max_length=8))
    model.save(paths["bare"])
    model.save(paths["damaged"])
    (paths["damaged"] / "model.safetensors").write_bytes(b"not tensors")
    paths["pickled"].mkdir()
    (paths["pickled"] / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    paths["empty"] = tmp_path / "empty.txt"
    paths["empty"].write_text(" \n")
    (paths["begun"] / "checkpoints").mkdir(parents=True)
    if "{small}" in words:
        _small_tokenizer(paths["small"])
    paths["latin"] = tmp_path / "latin.txt"
    paths["latin"].write_bytes("déjà vu".encode("latin-1"))
    if "{other}" in words:
        _prepare_with_another_tokenizer(work / "texts", paths["other"])
    capsys.readouterr()
    assert main(words.format(**paths).split()) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not re.search(r"\w=[\"']", err)  # Python's way to write an option


def _small_tokenizer(file: Path) -> Path:
    from tokenizers import Tokenizer, models

    words = {"<|endoftext|>": 0, "the": 1, "[UNK]": 2}
    Tokenizer(models.WordLevel(words, unk_token="[UNK]")).save(str(file))
    assert load_tokenizer(file).vocab_size == 3
    return file


def _prepare_with_another_tokenizer(texts: Path, out: Path) -> None:
    file = _small_tokenizer(out.parent / "other.json")
    assert main(["prepare", str(texts), "--out", str(out), "--tokenizer", str(file)]) == 0
