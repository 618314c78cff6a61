"""FASTA and FASTQ as documents, and the token files of genomes."""

import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena.data import (
    Document,
    PrepareConfig,
    TextFields,
    find_source,
    load_tokenizer,
    open_tokens,
    pieces,
    prepare,
)
from hyena.data.documents import Piece
from hyena.data.pieces import whole
from hyena.data.sequence_files import HeldOut, cut_runs
from hyena.data.tally import Tally

GENOME = ">chr1 a\nACgt\nNNNNNNN\nnnnnAC\n>chr2\nRYACGT\n>chr3\nTTTT\n>chrM\n\n"


def texts(spec, **fields):
    return [d.text for d in find_source(spec, TextFields(**fields)).documents()]


def prepared(tmp_path, content=GENOME, name="g.fa", out="out", **settings):
    """The decoded documents of each split."""
    (tmp_path / name).write_text(content)
    config = PrepareConfig(tmp_path / name, tmp_path / out, **settings)
    manifest = prepare(config).manifest
    tokenizer = load_tokenizer(tmp_path / out)
    return {
        split: [tokenizer.decode(d.tokens) for d in open_tokens(tmp_path / out, split).documents()]
        for split in manifest.splits
    }


def slow_cut(text, split):
    """The sequences between runs of ten N or more, but for empty ones; at least one."""
    found = re.split("[Nn]{10,}", text)
    return [part for part in found if part] or [""] if split else ["".join(found)]


@given(
    st.lists(st.lists(st.sampled_from(["A", "n", "N" * 4, "N" * 9, "NnNn" * 9, ""]), max_size=8)),
    st.booleans(),
)
def test_runs_are_cut_wherever_a_piece_ends(sequences, split):
    read = [
        Piece(Document(str(number), part), index < len(sequence))
        for number, sequence in enumerate(sequences)
        for index, part in enumerate([*sequence, "" if sequence else "C"])
    ]
    expected = [
        Document(document.name, text)
        for document in whole(read)
        for text in slow_cut(document.text, split)
    ]
    assert list(whole(cut_runs(read, split=split))) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_sequences_are_read_as_asked_for_any_blocks(tmp_path, monkeypatch, size):
    monkeypatch.setattr(pieces, "BLOCK", size)
    file = tmp_path / "g.fa.bgz"
    file.write_bytes(gzip.compress(GENOME.encode()))
    assert texts(file) == ["ACgtNNNNNNNnnnnAC", "RYACGT", "TTTT", ""]
    assert texts(file, soft_masked="fold") == ["ACGTNNNNNNNNNNNAC", "RYACGT", "TTTT", ""]
    assert texts(file, n_runs="skip") == ["ACgtAC", "RYACGT", "TTTT", ""]
    assert texts(file, n_runs="split") == ["ACgt", "AC", "RYACGT", "TTTT", ""]
    assert texts(file, n_runs="split", soft_masked="fold")[:2] == ["ACGT", "AC"]
    held = find_source(file, TextFields(held_out="record:chr2+chrM,chr3"))
    assert [d.split for d in held.documents()] == ["train", "validation", "test", "validation"]


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_fastq_is_read(tmp_path, monkeypatch, size):
    monkeypatch.setattr(pieces, "BLOCK", size)
    data = b"@r1 x\r\nACgt\r\n+\r\n!!!!\r\n@r2\nA\nC\n+\n@\n@"
    for name, content in (("x.fastq", data), ("x.fq.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(content)
        source = find_source(tmp_path / name)
        assert [(d.name, d.text) for d in source.documents()] == [
            (f"{tmp_path / name} r1", "ACgt"),
            (f"{tmp_path / name} r2", "AC"),
        ]
    assert texts(tmp_path / "x.fastq", soft_masked="fold", held_out="record:r1") == ["ACGT", "AC"]
    (tmp_path / "y.fq").write_bytes(b"ACGT\n")
    with pytest.raises(ValueError, match=r"y\.fq line 1 is no FASTQ"):
        texts(tmp_path / "y.fq")


def test_a_genome_is_split_by_record_in_the_ids_of_hyenadna(tmp_path):
    found = prepared(tmp_path, tokenizer="hyenadna", split_by="record:chr2,chr3")
    unknown = "\ufffd" * 2
    assert found == {
        "train": ["ACGTNNNNNNNNNNNAC"],
        "validation": [f"{unknown}ACGT"],
        "test": ["TTTT"],
    }
    file = open_tokens(tmp_path / "out", "test")
    assert file.tokens.tolist() == [1, 10, 10, 10, 10, 1]
    assert file.tokenizer.name == "hyenadna"
    kept = prepared(
        tmp_path, out="kept", tokenizer="hyenadna", soft_masked="keep", split_by="record:chr2"
    )
    assert kept["train"][0] == "AC" + unknown + "N" * 7 + "\ufffd" * 4 + "AC"


def test_bytes_and_evo_keep_the_case(tmp_path):
    for tokenizer in ("bytes", "evo"):
        found = prepared(
            tmp_path, out=tokenizer, tokenizer=tokenizer, n_runs="split", validation=0, test=0
        )
        assert found == {"train": ["ACgt", "AC", "RYACGT", "TTTT"]}
    assert open_tokens(tmp_path / "evo", "train").tokens[:3].tolist() == [0, ord("A"), ord("C")]


def test_names_may_hold_the_signs_that_stand_between_names():
    held = HeldOut(r"record:a\,b+c\+,d\\+\\e+f")
    names, tally = ("a,b", "c+", "d\\", "\\e", "f", "a", "c"), Tally()
    splits = {name: held.split_of(name, tally) for name in names}
    held.check(tally)
    assert splits == {
        **dict.fromkeys(("a,b", "c+"), "validation"),
        **dict.fromkeys(("d\\", "\\e", "f"), "test"),
        **dict.fromkeys(("a", "c"), "train"),
    }
    of_another_sign = HeldOut(r"record:C:\x").split_of(r"C:\x", Tally())
    assert of_another_sign == "validation"  # it is one


def test_a_record_is_held_out_whose_name_has_such_a_sign(tmp_path):
    content = ">NODE_1+\nAC\n>NODE_1\nGT\n"
    found = prepared(tmp_path, content, split_by=r"record:NODE_1\+")
    assert found == {"train": ["GT"], "validation": ["AC"]}


def test_proteins_are_refused_where_nucleotides_are_meant(tmp_path):
    proteins = ">sp|P1\nMKV\n\nMEL\n"
    assert prepared(tmp_path, proteins, validation=0, test=0) == {"train": ["MKVMEL"]}
    for tokenizer in ("hyenadna", "evo"):
        for name in ("g.fa", "g.fq"):
            content = proteins if name == "g.fa" else "@p\nMEL\n+\n!!!\n"
            line = {"g.fa": 4, "g.fq": 2}[name]
            with pytest.raises(ValueError, match=rf"{name} line {line}: 'E' in the sequence of '"):
                prepared(tmp_path, content, name, out="no", tokenizer=tokenizer)
            assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split_by": "record:"}, "expected the names of records to hold out as record:VALIDATION"),
        ({"split_by": "record:a,b,c"}, "expected the names of records to hold out as record:VALI"),
        ({"split_by": "record:a+b,b"}, "split_by names the record 'b' twice"),
        ({"split_by": "record:a+a"}, "split_by names the record 'a' twice"),
        (
            {"split_by": "record:chr2,8"},
            "names the record '8', but the source has none .* are 'chr1', 'chr3', 'chrM'",
        ),
        ({"split_by": "record:chr2", "max_documents": 1}, "max_documents would stop before the"),
        ({"n_runs": "cut"}, "n_runs: expected one of keep, skip, split, got 'cut'"),
        ({"soft_masked": "lower"}, "soft_masked: expected one of keep, fold, mask, got 'lower'"),
        ({"source": "hf:x", "n_runs": "skip"}, "n_runs 'skip' is about FASTA and FASTQ, which sou"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    (tmp_path / "g.fa").write_text(GENOME)
    config = PrepareConfig(**{"source": tmp_path / "g.fa", "out": tmp_path / "out", **settings})
    with pytest.raises(ValueError, match=message) as error:
        prepare(config)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"soft_masked": "fold"},
        {"soft_masked": "mask", "tokenizer": "hyenadna"},
        {"n_runs": "split"},
        {"split_by": "record:chr1"},
    ],
)
def test_settings_of_sequences_need_some(tmp_path, settings):
    (tmp_path / "x.txt").write_text("text")
    config = PrepareConfig(tmp_path / "x.txt", tmp_path / "out", **settings)
    with pytest.raises(ValueError, match="is about FASTA and FASTQ, but no file of the source is"):
        prepare(config)
    assert not (tmp_path / "out").exists()


def test_text_may_be_prepared_for_a_genome_model(tmp_path):
    found = prepared(tmp_path, "ACGT", "x.txt", tokenizer="hyenadna", validation=0, test=0)
    assert found == {"train": ["ACGT"]}


def test_settings_of_sequences_make_other_token_files_and_their_defaults_are_not_written(tmp_path):
    prepared(tmp_path, validation=0, test=0)
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert not {"n_runs", "soft_masked"} & set(settings)
    with pytest.raises(ValueError, match="n_runs is none there and 'split' now"):
        prepared(tmp_path, validation=0, test=0, n_runs="split")
    prepared(tmp_path, validation=0, test=0, n_runs="split", overwrite=True)
    with pytest.raises(ValueError, match="n_runs is 'split' there and none now"):
        prepared(tmp_path, validation=0, test=0)


def test_records_to_hold_out():
    held = HeldOut("record:,chr20")
    tally = Tally()
    splits = [held.split_of(name, tally) for name in ("chr20", "chr8", "chr8")]
    assert splits == ["test", "train", "train"]
    held.check(tally)
    with pytest.raises(ValueError, match=r"names the record 'a', but the source has none .* none$"):
        HeldOut("record:a").check(Tally())


@pytest.mark.parametrize("name", ["x.fa", "x.fa.gz", "x.fq"])
@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_a_file_of_sequences_without_a_record_is_named(tmp_path, name, content):
    sign = "@" if name == "x.fq" else ">"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(ValueError, match=rf"{name} has no record: expected lines .* '{sign}'"):
        texts(tmp_path / name)


def test_letters_that_the_tokenizer_does_not_know_are_told(tmp_path):
    for name, text, unknown in (("x.txt", "acgtyAR", "2 Y"), ("g.fa", ">a\nacgtRACGTAC\n", "1 R")):
        file, out = tmp_path / name, tmp_path / f"{name}.out"
        file.write_text(text)
        config = PrepareConfig(file, out, tokenizer="hyenadna", validation=0, test=0)
        (note,) = prepare(config).notes
        count = len(text.removeprefix(">a\n").strip())
        where = f"{file} a" if name == "g.fa" else str(file)
        number, letter = unknown.split()
        assert note == (
            f"{number} of {count} tokens are the one for unknown letters, the first {letter!r} in "
            f"{where}"
        )


@pytest.mark.parametrize(
    ("tokenizer", "settings", "folds"),
    [
        ("hyenadna", {}, True),
        ("hyenadna", {"soft_masked": "keep"}, False),
        ("evo", {}, False),
        ("evo", {"soft_masked": "fold"}, True),
        ("bytes", {}, False),
    ],
)
@pytest.mark.parametrize("name", ["x.txt", "x.tsv", "x.jsonl"])
def test_dna_in_text_and_rows_is_folded_as_that_of_fasta(
    tmp_path, name, tokenizer, settings, folds
):
    content = {
        "x.txt": "acgtACGT",
        "x.tsv": "text\nacgtACGT\n",
        "x.jsonl": '{"text": "acgtACGT"}\n',
    }[name]
    settings = {"tokenizer": tokenizer, "validation": 0, "test": 0, **settings}
    found = prepared(tmp_path, content, name, **settings)
    lower = "\ufffd" * 4 if tokenizer == "hyenadna" else "acgt"
    assert found == {"train": [("ACGT" if folds else lower) + "ACGT"]}
