"""`hyena score`: what it prints and writes, when it is interrupted, and of bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
from sequence_inputs import BAD_REGIONS, GENOME, REGIONS, TEXTS, write_genome, write_regions

import hyena
from hyena.cli import main
from hyena.data import Document, load_tokenizer
from hyena.model import LanguageModel
from hyena.scoring import score

Output = pytest.CaptureFixture[str]
BYTES = load_tokenizer("bytes")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def expected(saved_model: Path, **options: Any) -> list[dict[str, Any]]:
    found = score(hyena.load(saved_model), BYTES, TEXTS, **options)
    return [{**one.record(), "name": f"line {one.index + 1}"} for one in found]


def test_scores_are_printed_in_the_order_of_the_file(
    saved_model: Path, texts_file: Path, capsys: Output
) -> None:
    assert main(["score", str(saved_model), str(texts_file)]) == 0
    assert lines(capsys.readouterr().out) == expected(saved_model)


def test_every_option_arrives(saved_model: Path, tmp_path: Path, capsys: Output) -> None:
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
    assert main(["score", str(saved_model), str(file), "--field=sequence", *words]) == 0
    out, err = capsys.readouterr()
    assert lines(out) == expected(saved_model, **options)
    assert err == "note: skipped line 2: it has 1 token, of which none comes after another one\n"


def test_scores_go_to_a_file_that_is_whole(
    saved_model: Path, texts_file: Path, tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "new" / "scores.jsonl"
    words = ["score", str(saved_model), str(texts_file), f"--out={out}"]
    assert main(words) == 0
    assert lines(out.read_text()) == expected(saved_model)
    assert [path.name for path in out.parent.iterdir()] == ["scores.jsonl"]
    assert capsys.readouterr().out == f"{out}: scores of 5 sequences\n"
    assert main(words) == 1
    assert "is there already; remove it, or choose another file" in capsys.readouterr().err


def test_a_table_has_a_column_for_each_field(saved_model: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file, out = tmp_path / "a.txt", tmp_path / "scores.parquet"
    file.write_text("ACGT\nAAC\n")
    words = ["score", str(saved_model), str(file), f"--out={out}", "--positions=true"]
    assert main([*words, "--both_strands=true"]) == 0
    model = hyena.load(saved_model)
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
    saved_model: Path,
    tmp_path: Path,
    capsys: Output,
    interrupted: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyena.scoring.batches._WAITING", 2)
    file, out = tmp_path / "a.txt", tmp_path / "scores.jsonl"
    file.write_text("".join(f"{'x' * (i % 9 + 1)}\n" for i in range(20)))
    words = ["score", str(saved_model), str(file), f"--out={out}", "--batch=2"]
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
    entries = (partial / "entries.jsonl").read_text()
    assert entries.count('"score": -') == done
    last = entries.rindex('"score": -')
    (partial / "entries.jsonl").write_text(entries[:last] + entries[last:].replace(": -", ": -9"))
    assert main(words) == 0
    err = capsys.readouterr().err
    again_one = f"1 sequence in {partial} was half-written or changed since, and is done again"
    assert err.startswith(f"note: {again_one}\nnote: going on after {done - 1} sequences that ")
    again = out.read_text()
    assert not partial.exists()
    out.unlink()
    assert main(words) == 0
    whole = lines(out.read_text())
    assert [row["index"] for row in whole] == list(range(20))
    for row, one in zip(lines(again), whole, strict=True):
        assert row == {**one, "score": pytest.approx(one["score"], rel=1e-10)}


def test_what_cannot_be_scored_ends_the_command_or_is_listed(
    saved_model: Path, tmp_path: Path, capsys: Output
) -> None:
    file, out = tmp_path / "a.jsonl", tmp_path / "scores.jsonl"
    bad = [f'{{"text": {i}}}' for i in range(12)]
    file.write_text("\n".join(['{"text": "cat"}', *bad, '{"text": "dog"}']))
    words = ["score", str(saved_model), str(file), f"--out={out}", "--batch=1"]
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


def test_regions_are_scored_in_the_direction_of_their_strand(
    saved_model: Path, tmp_path: Path, capsys: Output
) -> None:
    genome, regions = write_genome(tmp_path), write_regions(tmp_path, *REGIONS)
    assert main(["score", str(saved_model), str(genome), f"--regions={regions}"]) == 0
    sequences = [Document(name, bases) for name, bases in REGIONS.values()]
    found = score(hyena.load(saved_model), BYTES, sequences)
    assert lines(capsys.readouterr().out) == [one.record() for one in found]


@pytest.mark.parametrize(("row", "message"), BAD_REGIONS.items())
def test_a_bad_region_is_one_line_with_its_place(
    row: str, message: str, saved_model: Path, tmp_path: Path, capsys: Output
) -> None:
    genome = write_genome(tmp_path)
    regions = write_regions(tmp_path, "chr1\t0\t8", row, "chr1\t0\t9")
    words = ["score", str(saved_model), str(genome), f"--regions={regions}"]
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: " + message.format(bed=regions, genome=genome))
    assert main([*words, "--on_error=skip"]) == 0
    out, err = capsys.readouterr()
    assert [x["name"] for x in lines(out) if "skipped" not in x] == ["chr1:0-8", "chr1:0-9"]
    (note,) = err.splitlines()
    assert note.startswith("note: skipped ")
    assert f"{regions} line 3: " in note


def test_regions_are_gone_on_with_where_they_were(
    saved_model: Path,
    tmp_path: Path,
    capsys: Output,
    interrupted: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyena.scoring.batches._WAITING", 1)
    genome, out = write_genome(tmp_path), tmp_path / "scores.jsonl"
    regions = write_regions(tmp_path, *(f"chr1\t{i}\t{i + 9}\tpeak{i}" for i in range(8)))
    others = tmp_path / "others.bed"
    others.write_text("chr1\t0\t9\n")
    words = ["score", str(saved_model), str(genome), f"--out={out}", "--batch=2"]
    interrupted[0] = 3
    assert main([*words, f"--regions={regions}"]) == 130
    assert "holds the results of 4 sequences" in capsys.readouterr().err
    interrupted[0] = 0
    assert main([*words, f"--regions={others}"]) == 1
    assert "holds the beginning of other results: regions was " in capsys.readouterr().err
    assert main([*words, f"--regions={regions}"]) == 0
    found = lines(out.read_text())
    assert [(x["index"], x["name"]) for x in found] == [(i, f"peak{i}") for i in range(8)]


def write_variants(folder: Path, *rows: str) -> tuple[Path, Path]:
    """A genome, and variants of it."""
    genome, variants = write_genome(folder), folder / "v.vcf"
    head = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    variants.write_text(head + "".join(f"{row}\t.\t.\t.\n" for row in rows))
    return genome, variants


def test_variants_have_a_row_for_each_allele(
    saved_model: Path, tmp_path: Path, capsys: Output
) -> None:
    ref = GENOME[19]
    one, two = ("ACGT".replace(ref, ""))[:2]
    genome, variants = write_variants(
        tmp_path, f"chr1\t20\trs1\t{ref}\t{one},<DEL>,{two}", f"chr1\t30\t.\t{GENOME[29:32]}\tA"
    )
    words = ["score", str(saved_model), "--variants", str(variants), "--fasta", str(genome)]
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
    scores = [x.score or 0 for x in score(hyena.load(saved_model), BYTES, texts)]
    assert rows[0]["score"] == pytest.approx(scores[1] - scores[0], rel=1e-8)
    assert rows[2]["score"] == pytest.approx(scores[2] - scores[0], rel=1e-8)
    assert [row.get("window") for row in rows] == [30, None, 30, 30]
    file = tmp_path / "scores.jsonl"
    assert main([*words, "--window=30", f"--out={file}"]) == 0
    assert lines(file.read_text()) == rows
    assert capsys.readouterr().out == f"{file}: scores of 2 variants\n"


def test_a_variant_of_another_genome_is_one_line(
    saved_model: Path, tmp_path: Path, capsys: Output
) -> None:
    wrong = "ACGT".replace(GENOME[19], "")[0]
    genome, variants = write_variants(
        tmp_path, f"chr1\t10\t.\t{GENOME[9]}\tN", f"chr1\t20\t.\t{wrong}\tN", "chr1\tx\t.\tA\tC"
    )
    words = ["score", str(saved_model), "--variants", str(variants), "--fasta", str(genome)]
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
        ("--variants v --fasta g --regions r", "regions is of sequences, but variants were given"),
        ("{texts} --regions r.bed", "texts.txt line 1 is no FASTA: a record begins with"),
        ("{genome} --regions absent.bed", "absent.bed was asked for, but there is no such file"),
        ("{genome} --regions {empty}", "empty.txt is empty; was it written to its end?"),
        ("{genome} --regions {empty_table}", "r.bed has no regions"),
        ("{texts} --out a.csv", "out: expected a file that ends in .jsonl, .parquet, got a.csv"),
        ("{texts} --window 49", "window: expected at most the model's max_length 48, got 49"),
        ("{texts} --both_strands true", "texts.txt: line 1: reverse_complement: "),
        ("absent.txt", "sequences were asked for in absent.txt, which does not exist"),
        ("{empty}", "empty.txt is empty: there are no sequences in it"),
        ("{texts} --batch 0", "batch: expected at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_line(
    words: str, message: str, saved_model: Path, texts_file: Path, tmp_path: Path, capsys: Output
) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    files = {
        "texts": texts_file,
        "empty": empty,
        "genome": write_genome(tmp_path),
        "empty_table": write_regions(tmp_path),
    }
    before = sorted(tmp_path.iterdir())
    given = words.format(**files).split()
    assert main(["score", str(saved_model), *given]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
