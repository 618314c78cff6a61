"""A source that is prepared part by part: on several processes, in shards, after a kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from hyena.data import (
    PrepareConfig,
    WindowSampler,
    find_source,
    load_tokenizer,
    open_tokens,
    prepare,
    sources,
    verify,
    workers,
)
from hyena.data.documents import SPLITS
from hyena.files import digests


@pytest.fixture
def source(tmp_path):
    draws = random.Random(0)
    rows = [{"text": "".join(draws.choices("abc é", k=draws.randint(0, 40)))} for _ in range(200)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "rows.jsonl"


def made(source, name, **changes):
    settings = {"validation": 0.2, "test": 0.1, "shard_bytes": 500, **changes}
    return prepare(PrepareConfig(source, source.parent / name, **settings))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts(folder, split):
    decode = load_tokenizer(folder).decode
    return [decode(document.tokens) for document in open_tokens(folder, split).documents()]


def test_the_files_are_the_same_with_any_number_of_workers(source):
    one = made(source, "one").directory
    two = made(source, "two", workers=2).directory
    assert contents(one) == contents(two)
    assert len(list(one.glob("train-*.bin"))) > 10
    assert sorted(path.name for path in source.parent.iterdir()) == ["one", "rows.jsonl", "two"]


def test_shards_hold_what_one_file_would(source):
    whole = made(source, "whole", shard_bytes=1 << 20).directory
    shards = made(source, "shards")
    for split in SPLITS:
        one, several = open_tokens(whole, split), open_tokens(shards.directory, split)
        assert several.tokens[:].tolist() == one.tokens.tolist()
        assert several.document_starts.tolist() == one.document_starts.tolist()
        assert several.document_bytes.tolist() == one.document_bytes.tolist()
        assert len(several) == len(one) == sum(shards.manifest.splits[split].shards)
        files = sorted(shards.directory.glob(f"{split}-*.bin"))
        joined = b"".join(file.read_bytes() for file in files)
        assert joined == (whole / f"{split}.bin").read_bytes()
        windows = [WindowSampler(file, 16, 4, seed=1).batch(3) for file in (one, several)]
        assert all(a.equal(b) for a, b in zip(*windows, strict=True))
    assert made(source, "shards", shard_bytes=500).fresh is False


def test_masked_runs_in_shards_are_those_of_one_file(tmp_path):
    draws = random.Random(0)
    for i in range(5):
        runs = ["".join(draws.choices("ACGTacgt", k=9)) for _ in range(4)]
        fasta = "".join(f">r{i}{j}\n{run}\n" for j, run in enumerate(runs))
        (tmp_path / f"{i}.fa").write_text(fasta)
    files = [tmp_path / f"{i}.fa" for i in range(5)]

    def masked(name, **changes):
        config = PrepareConfig(
            list(map(str, files)), tmp_path / name, soft_masked="mask", validation=0.3, **changes
        )
        folder = prepare(config).directory
        return {split: open_tokens(folder, split).masked.tolist() for split in SPLITS}

    assert masked("shards", shard_bytes=1) == masked("whole")


def test_a_run_that_was_killed_goes_on_with_what_is_not_finished(source, tmp_path):
    expected = contents(made(source, "whole").directory)
    program = (
        "import os, signal, sys\n"
        "from hyena.data import PrepareConfig, prepare, token_writer\n"
        "finish, left = token_writer.Parts.finish, [3]\n"
        "def stop(*arguments):\n"
        "    done = finish(*arguments)\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return done\n"
        "token_writer.Parts.finish = stop\n"
        "prepare(PrepareConfig(sys.argv[1], sys.argv[2], validation=0.2, test=0.1,\n"
        "    shard_bytes=500))\n"
    )
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    parts = tmp_path / ".out.partial" / "parts"
    before = {file.name: file.stat().st_mtime_ns for file in parts.glob("*.tokens")}
    assert len(before) == 3
    finished = sum(json.loads(file.read_text())["documents"] for file in parts.glob("0*.json"))
    seen = []
    config = PrepareConfig(source, tmp_path / "out", validation=0.2, test=0.1, shard_bytes=500)
    assert prepare(config, progress=lambda *counts: seen.append(counts)).fresh
    assert seen[0][0] == finished + 1  # those of the finished parts are not read again
    assert contents(tmp_path / "out") == expected
    assert not parts.exists()


def stopped(source, monkeypatch, error, after, match=None):
    """Prepares, but fails while the part that comes ``after`` so many is written."""
    from hyena.data import token_writer

    finish, left = token_writer.Parts.finish, [after]

    def stop(*arguments):
        if not left[0]:
            raise error
        left[0] -= 1
        return finish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(token_writer.Parts, "finish", stop)
        with pytest.raises(type(error), match=match):
            made(source, "out")
    return source.parent / ".out.partial"


def test_what_is_kept_after_an_error(source, monkeypatch):
    expected = contents(made(source, "whole").directory)
    assert not stopped(source, monkeypatch, ValueError("bad text"), 3).exists()
    assert not stopped(source, monkeypatch, KeyboardInterrupt(), 0).exists()
    left = stopped(source, monkeypatch, KeyboardInterrupt(), 3)
    assert len(list(left.rglob("*.tokens"))) == 4  # the last one not finished
    other = made(source, "out", seed=1).directory  # of which nothing that is left is a part
    assert contents(other) == contents(made(source, "other", seed=1).directory)
    assert not left.exists()
    made(source, "out", overwrite=True)
    assert contents(source.parent / "out") == expected


def test_a_run_goes_on_after_a_disk_or_a_network_failed(source, monkeypatch):
    expected = contents(made(source, "whole").directory)
    full = r"No space left .* the same command goes on with the parts .* in \S*\.out\.partial; rem"
    left = stopped(source, monkeypatch, OSError(28, "No space left on device"), 3, full)
    before = {file: file.stat().st_mtime_ns for file in left.rglob("0*.json")}
    assert len(before) == 3
    gone = r"timed out.*; the same command goes on with the parts that are finished"
    with monkeypatch.context() as patch:
        patch.setattr(sources.Files, "pieces_of", fails(TimeoutError("timed out")))
        with pytest.raises(OSError, match=gone):
            made(source, "out")
    assert before == {file: file.stat().st_mtime_ns for file in left.rglob("0*.json")}
    assert contents(made(source, "out").directory) == expected
    assert not left.exists()


def fails(error):
    def fail(*_):
        raise error

    return fail


def test_a_disk_that_is_full_at_the_end_costs_no_part(source, monkeypatch):
    expected = contents(made(source, "whole").directory)
    with monkeypatch.context() as patch:
        patch.setattr(digests, "complete", fails(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="the same command goes on"):
            made(source, "out")
    monkeypatch.setattr(sources.Files, "pieces_of", fails(AssertionError("was read again")))
    assert contents(made(source, "out").directory) == expected


@pytest.mark.parametrize("split_by", ["documents", "hash"])
def test_what_is_known_of_documents_is_read_part_by_part(source, monkeypatch, split_by):
    from hyena.data import token_writer

    events = []
    for name in ("documents", "deal"):
        method = getattr(token_writer.Parts, name)

        def note(self, part, *arguments, name=name, method=method):
            events.append((name, part))
            return method(self, part, *arguments)

        monkeypatch.setattr(token_writer.Parts, name, note)
    made(source, "out", split_by=split_by)
    assert len(events) > 20
    assert events == [(name, part) for _, part in events[::2] for name in ("deal", "documents")]


def test_a_run_that_is_interrupted_while_it_deals_out_goes_on(source, monkeypatch):
    from hyena.data import token_writer

    expected = contents(made(source, "whole").directory)
    deal, dealt = token_writer.Parts.deal, []

    def stop(parts, part, *arguments):
        if len(dealt) == 4:
            raise KeyboardInterrupt
        dealt.append(part)
        return deal(parts, part, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(token_writer.Parts, "deal", stop)
        with pytest.raises(KeyboardInterrupt):
            made(source, "out")
    assert len(list((source.parent / ".out.partial").rglob("*.shards.json"))) == 4
    again = []

    def note(parts, part, *arguments):
        again.append(part)
        return deal(parts, part, *arguments)

    monkeypatch.setattr(token_writer.Parts, "deal", note)
    made(source, "out")
    assert set(again).isdisjoint(dealt)
    assert contents(source.parent / "out") == expected


SLOW = (
    "import os, time\n"
    "from hyena.data import workers\n"
    "from hyena.data.sources import Files\n"
    "pieces_of = Files.pieces_of\n"
    "def slow(self, part, tally):\n"
    "    if part[0].start > 1500:\n"
    "        WHAT\n"
    "    return pieces_of(self, part, tally)\n"
    "Files.pieces_of = slow\n"
    "workers.serve()\n"
)


def test_a_worker_that_dies_is_told_and_the_rest_is_kept(source, monkeypatch):
    monkeypatch.setattr(workers, "PROGRAM", SLOW.replace("WHAT", "os.kill(os.getpid(), 9)"))
    expected = r"^a worker process was killed by signal 9, perhaps for want of memory; the same "
    with pytest.raises(RuntimeError, match=expected):
        made(source, "out", workers=2)
    finished = list((source.parent / ".out.partial" / "parts").glob("0*.json"))
    assert 1 <= len(finished) < len(find_source(source).parts(500))
    monkeypatch.undo()
    assert contents(made(source, "out").directory) == contents(made(source, "whole").directory)


def test_workers_end_with_the_process_that_began_them(source, tmp_path):
    program = (
        "import sys\n"
        "from hyena.data import PrepareConfig, prepare, workers\n"
        "workers.PROGRAM = sys.argv[3]\n"
        "prepare(PrepareConfig(sys.argv[1], sys.argv[2], shard_bytes=2000, workers=2))\n"
    )
    waits = SLOW.replace("WHAT", "os.write(2, b'%d\\n' % os.getpid()); time.sleep(600)")
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "out"), waits]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        worker = int(process.stderr.readline())
        assert os.path.exists(f"/proc/{worker}")
        process.kill()
    end = time.monotonic() + 60
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < end:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{worker}")


def test_an_error_of_a_worker_is_that_of_one_process(source):
    source.write_bytes(source.read_bytes() + b'\n{"text": 3\n')
    messages = []
    for number in (1, 2):
        with pytest.raises(ValueError, match=r"rows\.jsonl from byte \d+ line \d+") as caught:
            made(source, "out", workers=number)
        messages.append(str(caught.value))
        assert [path.name for path in source.parent.iterdir()] == ["rows.jsonl"]
    assert messages[0] == messages[1]


def test_notes_and_counts_are_those_of_one_part(source):
    rows = source.read_text().split("\n")
    rows[150] = '{"body": "x"}'
    rows[20] = '{"text": " "}'
    source.write_text("\n".join(rows))
    whole, parts = made(source, "whole", shard_bytes=1 << 20), made(source, "parts")
    assert parts.manifest.skipped == whole.manifest.skipped > 1
    assert [n.split(", the first")[0] for n in parts.notes] == [
        n.split(", the first")[0] for n in whole.notes
    ]
    assert parts.manifest.splits["train"].documents == whole.manifest.splits["train"].documents


def test_reading_stops_within_a_part(source):
    found = [made(source, f"{size}", max_documents=77, shard_bytes=size) for size in (500, 1 << 20)]
    for split in SPLITS:
        assert texts(found[0].directory, split) == texts(found[1].directory, split)
    assert sum(record.documents for record in found[0].manifest.splits.values()) == 77
    assert found[0].notes == made(source, "again", max_documents=77).notes
    two = made(source, "two", max_documents=77, workers=2)
    assert two.notes[-1] == (
        "max_documents counts documents part after part, so one process read them, not 2"
    )
    assert contents(two.directory) == contents(found[0].directory)


def test_a_hundred_shards_of_which_one_is_damaged(tmp_path):
    rows = "".join(f'{{"text": "row {i:05d}"}}\n' for i in range(1000))
    (tmp_path / "rows.jsonl").write_text(rows)
    config = PrepareConfig(
        tmp_path / "rows.jsonl", tmp_path / "out", validation=0, test=0, shard_bytes=220
    )
    folder = prepare(config).directory
    assert len(list(folder.glob("train-*.bin"))) >= 100
    assert verify(folder).damaged == {}
    file = folder / "train-00057.bin"
    data = bytearray(file.read_bytes())
    data[9] ^= 4
    file.write_bytes(data)
    assert list(verify(folder).damaged) == ["train-00057.bin"]
    with pytest.raises(ValueError, match=r"train-00057\.bin is damaged: its SHA-256"):
        open_tokens(folder, "train")
    file.unlink()
    assert verify(folder).damaged == {"train-00057.bin": "it is missing"}
    with pytest.raises(FileNotFoundError, match=r"train-00057\.bin is missing"):
        open_tokens(folder, "train")


def test_an_empty_part_leaves_no_shard(tmp_path):
    for name, text in (("a.txt", "one"), ("b.txt", " \n"), ("c.txt", "two")):
        (tmp_path / name).write_text(text)
    config = PrepareConfig(
        [str(tmp_path / f"{x}.txt") for x in "abc"],
        tmp_path / "out",
        validation=0,
        test=0,
        shard_bytes=1,
    )
    done = prepare(config)
    assert done.manifest.splits["train"].shards == [4, 5]
    assert done.manifest.skipped == 1
    tokens = open_tokens(done.directory, "train").tokens
    assert tokens[:].tolist() == [256, *b"one", 256, *b"two", 256]
