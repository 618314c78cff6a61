"""`hyena score`: what it prints and writes, when it is interrupted, and of bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import hyena
from hyena.cli import main
from hyena.data import load_tokenizer
from hyena.model import LanguageModel
from hyena.scoring import score

Output = pytest.CaptureFixture[str]
BYTES = load_tokenizer("bytes")
TEXTS = ["the cat", "a", "the cat sat on the mat", "dog", "x" * 40]
GENOME = "ACGTTGCATTACGGATCCATGCATCAGTCAGTTTACGACTAGCATCAGCATCGAC"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model in float64 with its tokenizer."""
    config = hyena.ModelConfig(width=16, layers=1, mlp_width=16, max_length=48)
    generator = torch.Generator().manual_seed(1)
    model = LanguageModel(config, generator=generator, dtype=torch.float64)
    model.embedding.weight.data.mul_(20)
    path = tmp_path_factory.mktemp("model")
    model.save(path)
    BYTES.save(path)
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    return file


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def expected(folder: Path, **options: Any) -> list[dict[str, Any]]:
    found = score(hyena.load(folder), BYTES, TEXTS, **options)
    return [{**one.record(), "name": f"line {one.index + 1}"} for one in found]


def test_scores_are_printed_in_the_order_of_the_file(
    folder: Path, texts: Path, capsys: Output
) -> None:
    assert main(["score", str(folder), str(texts)]) == 0
    assert lines(capsys.readouterr().out) == expected(folder)


def test_every_option_arrives(folder: Path, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "a.jsonl"
    rows = [{"sequence": text, "id": f"line {i}"} for i, text in enumerate(TEXTS, start=1)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options: dict[str, Any] = {
        "reduce": "mean",
        "positions": True,
        "begin": False,
        "window": 16,
        "stride": 4,
        "batch": 2,
        "on_error": "skip",
    }
    words = [f"--{name}={json.dumps(x).strip(chr(34))}" for name, x in options.items()]
    assert main(["score", str(folder), str(file), "--field=sequence", *words]) == 0
    out, err = capsys.readouterr()
    assert lines(out) == expected(folder, **options)
    assert err == "note: skipped line 2: it has 1 token, of which none comes after another one\n"


def test_scores_go_to_a_file_that_is_whole(
    folder: Path, texts: Path, tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "new" / "scores.jsonl"
    words = ["score", str(folder), str(texts), f"--out={out}"]
    assert main(words) == 0
    assert lines(out.read_text()) == expected(folder)
    assert [path.name for path in out.parent.iterdir()] == ["scores.jsonl"]
    assert capsys.readouterr().out == f"{out}: scores of 5 sequences\n"
    assert main(words) == 1
    assert "is there already; remove it, or choose another file" in capsys.readouterr().err


def test_a_table_has_a_column_for_each_field(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file, out = tmp_path / "a.txt", tmp_path / "scores.parquet"
    file.write_text("ACGT\nAAC\n")
    words = ["score", str(folder), str(file), f"--out={out}", "--positions=true"]
    assert main([*words, "--both_strands=true"]) == 0
    model = hyena.load(folder)
    found = score(model, BYTES, ["ACGT", "AAC"], positions=True, both_strands=True)
    rows = [{**one.record(), "name": f"line {one.index + 1}", "skipped": None} for one in found]
    assert parquet.read_table(out).to_pylist() == rows


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ctrl-C comes in the batch of which the number is in the list, counted down to 0."""
    left, losses = [0], LanguageModel.token_losses

    def failing(self: LanguageModel, *inputs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return losses(self, *inputs)

    monkeypatch.setattr(LanguageModel, "token_losses", failing)
    return left


def test_an_interrupted_command_goes_on_where_it_was(
    folder: Path,
    tmp_path: Path,
    capsys: Output,
    interrupted: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyena.scoring.batches._WAITING", 2)
    file, out = tmp_path / "a.txt", tmp_path / "scores.jsonl"
    file.write_text("".join(f"{'x' * (i % 9 + 1)}\n" for i in range(20)))
    words = ["score", str(folder), str(file), f"--out={out}", "--batch=2"]
    interrupted[0] = 6
    assert main(words) == 130
    err = capsys.readouterr().err
    assert not out.exists()
    partial = tmp_path / "scores.jsonl.partial"
    done = len((partial / "entries.jsonl").read_text().splitlines())
    assert 0 < done < 20
    held = f"{partial} holds the results of {done} sequences; the same command goes on from there"
    assert err == f"note: {held}\ninterrupted\n"
    interrupted[0] = 0
    assert main([*words, "--reduce=mean"]) == 1
    assert "other results: reduce was 'sum', is 'mean'; remove" in capsys.readouterr().err
    assert main(words) == 0
    assert f"note: going on after {done} sequences that {partial}" in capsys.readouterr().err
    again = out.read_text()
    assert not partial.exists()
    out.unlink()
    assert main(words) == 0
    whole = lines(out.read_text())
    assert [row["index"] for row in whole] == list(range(20))
    for row, one in zip(lines(again), whole, strict=True):
        assert row == {**one, "score": pytest.approx(one["score"], rel=1e-10)}


def test_what_cannot_be_scored_ends_the_command_or_is_listed(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    file, out = tmp_path / "a.jsonl", tmp_path / "scores.jsonl"
    bad = [f'{{"text": {i}}}' for i in range(12)]
    file.write_text("\n".join(['{"text": "cat"}', *bad, '{"text": "dog"}']))
    words = ["score", str(folder), str(file), f"--out={out}", "--batch=1"]
    assert main(words) == 1
    why = "field 'text' should hold text, but holds int"
    assert capsys.readouterr().err == f"error: {file}: line 2: {why}\n"
    assert not out.exists()
    assert main([*words, "--on_error=skip"]) == 0
    rows = lines(out.read_text())
    assert [row["index"] for row in rows] == list(range(14))
    assert [row.get("skipped") for row in rows] == [None, *[why] * 12, None]
    err = capsys.readouterr().err.splitlines()
    assert err[0] == f"note: skipped line 2: {why}"
    assert (len(err), err[-1]) == (11, "note: skipped 2 more")


def write_variants(folder: Path, *rows: str) -> tuple[Path, Path]:
    """A genome, and variants of it."""
    genome, variants = folder / "g.fa", folder / "v.vcf"
    genome.write_text(f">chr1\n{GENOME}\n")
    head = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    variants.write_text(head + "".join(f"{row}\t.\t.\t.\n" for row in rows))
    return genome, variants


def test_variants_have_a_row_for_each_allele(folder: Path, tmp_path: Path, capsys: Output) -> None:
    ref = GENOME[19]
    one, two = ("ACGT".replace(ref, ""))[:2]
    genome, variants = write_variants(
        tmp_path, f"chr1\t20\trs1\t{ref}\t{one},<DEL>,{two}", f"chr1\t30\t.\t{GENOME[29:32]}\tA"
    )
    words = ["score", str(folder), "--variants", str(variants), "--fasta", str(genome)]
    assert main([*words, "--window=30"]) == 0
    out, err = capsys.readouterr()
    rows = lines(out)
    assert [(row["index"], row["position"], row["id"], row["alt"]) for row in rows] == [
        (0, 20, "rs1", one),
        (0, 20, "rs1", "<DEL>"),
        (0, 20, "rs1", two),
        (1, 30, "", "A"),
    ]
    assert err == f"note: skipped chr1:20 {ref}><DEL>: the allele is symbolic: it has no sequence\n"
    before, after = GENOME[5:19], GENOME[20:35]
    texts = [before + base + after for base in (ref, one, two)]
    scores = [x.score or 0 for x in score(hyena.load(folder), BYTES, texts)]
    assert rows[0]["score"] == pytest.approx(scores[1] - scores[0], rel=1e-8)
    assert rows[2]["score"] == pytest.approx(scores[2] - scores[0], rel=1e-8)
    file = tmp_path / "scores.jsonl"
    assert main([*words, "--window=30", f"--out={file}"]) == 0
    assert lines(file.read_text()) == rows
    assert capsys.readouterr().out == f"{file}: scores of 2 variants\n"


def test_a_variant_of_another_genome_is_one_line(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    wrong = "ACGT".replace(GENOME[19], "")[0]
    genome, variants = write_variants(
        tmp_path, f"chr1\t10\t.\t{GENOME[9]}\tN", f"chr1\t20\t.\t{wrong}\tN", "chr1\tx\t.\tA\tC"
    )
    words = ["score", str(folder), "--variants", str(variants), "--fasta", str(genome)]
    assert main([*words, "--batch=1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(variants) in line
    assert main([*words, "--on_error=skip"]) == 0
    out, err = capsys.readouterr()
    assert ["skipped" in row for row in lines(out)] == [False, True]
    said = sorted(err.splitlines())
    assert said[0].startswith(f"note: skipped a line: {variants} line 5")
    assert said[1].startswith(f"note: skipped chr1:20 {wrong}>N: its reference allele is {wrong}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "expected a file of sequences after the model, or --variants with --fasta, got none"),
        ("{texts} --variants v.vcf --fasta g.fa", "or --variants with --fasta, got both"),
        ("--variants v.vcf", "variants and fasta belong together; give --fasta too"),
        ("{texts} --fasta g.fa", "variants and fasta belong together; give --variants too"),
        ("--variants v --fasta g --stride 3", "stride is of sequences, but variants were given"),
        ("--variants v --fasta g --field x", "field is of sequences, but variants were given"),
        ("{texts} --out a.csv", "out: expected a file that ends in .jsonl, .parquet, got a.csv"),
        ("{texts} --window 49", "window: expected at most the model's max_length 48, got 49"),
        ("{texts} --both_strands true", "texts.txt: line 1: reverse_complement: "),
        ("absent.txt", "sequences were asked for in absent.txt, which does not exist"),
        ("{empty}", "empty.txt is empty: there are no sequences in it"),
        ("{texts} --batch 0", "batch: expected at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_line(
    words: str, message: str, folder: Path, texts: Path, tmp_path: Path, capsys: Output
) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    before = sorted(tmp_path.iterdir())
    given = words.format(texts=texts, empty=empty).split()
    assert main(["score", str(folder), *given]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
