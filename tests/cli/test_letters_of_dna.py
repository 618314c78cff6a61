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
