"""Lower case, and letters that a tokenizer of DNA lacks: no command reads them in silence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyena.cli import main
from hyena.data import load_tokenizer
from hyena.model import LanguageModel, ModelConfig
from hyena.model.label_head import LabelHead, Labels

Output = pytest.CaptureFixture[str]
SEQUENCES = ["ACGTTGCATT", "GGCATTACGN"]
KINDS = ["txt", "tsv", "csv", "jsonl", "fa", "fq"]


@pytest.fixture(scope="module", params=["hyenadna", "evo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of DNA, of the tokenizer's vocabulary, with a head for labels."""
    folder, tokenizer = tmp_path_factory.mktemp(request.param), load_tokenizer(request.param)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, width=8, layers=1, max_length=24)
    generator = torch.Generator().manual_seed(1)
    made = LanguageModel(config, generator=generator)
    made.label_head = LabelHead(8, Labels("classification", ("a", "b")), generator=generator)
    made.save(folder)
    tokenizer.save(folder)
    return folder


def write(file: Path, sequences: list[str]) -> Path:
    """A file of the kind that its name says."""
    rows = {
        ".txt": "".join(f"{x}\n" for x in sequences),
        ".tsv": "text\tlabel\n" + "".join(f"{x}\ta\n" for x in sequences),
        ".csv": "text,label\n" + "".join(f"{x},a\n" for x in sequences),
        ".jsonl": "".join(json.dumps({"text": x}) + "\n" for x in sequences),
        ".fa": "".join(f">r\n{x}\n" for x in sequences),
        ".fq": "".join(f"@r\n{x}\n+\n{'I' * len(x)}\n" for x in sequences),
    }
    file.write_text(rows[file.suffix])
    return file


def results(command: str, model: Path, file: Path, *words: str) -> Any:
    """The numbers that a command gives of a file."""
    out = file.with_suffix(".npz" if command == "embed" else ".out.jsonl")
    out.unlink(missing_ok=True)
    if command == "predict":
        words = ("--field=text", *words)
    assert main([command, str(model), str(file), f"--out={out}", *words]) == 0
    if command == "embed":
        with np.load(out) as found:
            return found["embeddings"].tolist()
    key = "score" if command == "score" else "probability_a"
    return [json.loads(line)[key] for line in out.read_text().splitlines()]


@pytest.mark.parametrize("command", ["score", "embed", "predict"])
def test_lower_case_is_that_of_a_repeat_in_every_kind_of_file(
    command: str, model: Path, tmp_path: Path, capsys: Output
) -> None:
    masked = [x[:4] + x[4:].lower() for x in SEQUENCES]
    expected = results(command, model, write(tmp_path / "upper.txt", SEQUENCES))
    for kind in KINDS:
        assert results(command, model, write(tmp_path / f"a.{kind}", masked)) == expected, kind
    assert capsys.readouterr().err == ""
    for kind in KINDS:
        file = write(tmp_path / f"a.{kind}", masked)
        assert results(command, model, file, "--soft_masked=keep") != expected, kind
    notes = "unknown letters, the first 't' in " if "hyenadna" in model.name else ""
    assert capsys.readouterr().err.count(notes or "\n") == (len(KINDS) if notes else 0)


@pytest.mark.parametrize("command", ["score", "embed", "predict"])
def test_letters_that_the_tokenizer_lacks_are_counted_in_one_note(
    command: str, model: Path, tmp_path: Path, capsys: Output
) -> None:
    file = write(tmp_path / "a.tsv", ["ACGT", "ACrYT", "ACGK"])
    results(command, model, file)
    said = "note: 3 of 13 tokens are the one for unknown letters, the first 'R' in line 3\n"
    assert capsys.readouterr().err == (said if "hyenadna" in model.name else "")


def test_so_they_are_in_variants(model: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "g.fa").write_text(">c\nACGTACrTAC\n")
    head = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\n"
    (tmp_path / "v.vcf").write_text(f"{head}c\t3\t.\tG\tT\n")
    words = [f"--variants={tmp_path}/v.vcf", f"--fasta={tmp_path}/g.fa"]
    assert main(["score", str(model), *words]) == 0
    said = "note: 2 of 20 tokens are the one for unknown letters, the first 'R' in c:3 in line 3\n"
    assert capsys.readouterr().err == (said if "hyenadna" in model.name else "")


def test_rows_with_labels_are_folded_and_counted(
    model: Path, tmp_path: Path, capsys: Output
) -> None:
    def table(name: str, *rows: str) -> Path:
        file = tmp_path / name
        file.write_text("sequence\tlabel\n" + "".join(f"{row}\n" for row in rows))
        return file

    upper = table("upper.tsv", *["ACGT\ta", "ACGRT\tb"] * 3)
    lower = table("lower.tsv", *["ACgt\ta", "acGrt\tb"] * 3)
    said = "3 of 27 tokens are the one for unknown letters, the first 'R' in {} line 3"
    for file in (upper, lower):
        words = [f"--init={model}", "--task=classification", f"--data={file}", "--steps=2"]
        words += ["--batch=2", "--accelerator=cpu", "--labels.fraction=0", "--evaluation.every=0"]
        assert main(["train", *words, f"--out={file.with_suffix('')}"]) == 0
        told = said.format(file) in capsys.readouterr().err
        assert told == ("hyenadna" in model.name)
        assert main(["evaluate", str(model), f"--data={file}"]) == 0
        assert (said.format(file) in capsys.readouterr().err) == told
    end = "checkpoints/step-00000002/model.safetensors"
    assert (tmp_path / "upper" / end).read_bytes() == (tmp_path / "lower" / end).read_bytes()


@pytest.mark.parametrize("words", [["--max_new_tokens=1"], [], ["--beam_width=2"]])
def test_prompts_are_read_as_they_are_and_their_unknown_letters_counted(
    words: list[str], model: Path, capsys: Output
) -> None:
    given = ["generate", str(model), "--prompt=ACgt", "--prompt=AC", "--output=jsonl", *words]
    assert main(given) == 0
    out, err = capsys.readouterr()
    assert {json.loads(line)["prompt"] for line in out.splitlines()} == {"ACgt", "AC"}
    said = "note: 2 of 6 tokens are the one for unknown letters, the first 'g' in 'ACgt'\n"
    assert err == (said if "hyenadna" in model.name else "")


@pytest.mark.parametrize("command", ["score", "embed", "predict"])
def test_letters_that_were_read_before_an_early_end_are_counted(
    command: str, model: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that goes on does not read them again."""
    monkeypatch.setattr("hyena.scoring.batches._WAITING", 1)
    left, through = [2], LanguageModel._enter

    def failing(self: LanguageModel, *inputs: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return through(self, *inputs, **options)

    monkeypatch.setattr(LanguageModel, "_enter", failing)
    file = write(tmp_path / "a.txt", ["ACRT", "ACYT", "A" * 30])
    out = tmp_path / ("a.npz" if command == "embed" else "a.jsonl")
    words = [command, str(model), str(file), f"--out={out}", "--batch=1"]
    said = "note: {} tokens are the one for unknown letters, the first {}"
    for code, last, counted in (
        (130, "interrupted", said.format("2 of 8", "'R' in line 1")),
        (1, f"error: {file}: line 3: it has 30 tokens", said.format("1 of 4", "'Y' in line 2")),
    ):
        assert main(words) == code
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith(last)
        told = [line for line in lines if "unknown letters" in line]
        assert told == ([counted] if "hyenadna" in model.name else [])


def test_a_text_is_evaluated_in_the_case_that_it_is_prepared_in(
    model: Path, tmp_path: Path, capsys: Output
) -> None:
    said = {}
    for name, sequence in {"upper": "ACGTTGCA", "lower": "ACGTtgca"}.items():
        file = write(tmp_path / f"{name}.fa", [sequence])
        assert main(["evaluate", str(model), f"--data={file}"]) == 0
        said[name] = capsys.readouterr().out.splitlines()[1:]
    assert (said["upper"] == said["lower"]) == ("hyenadna" in model.name)
