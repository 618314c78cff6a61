"""Lower case that is masked: its letters are tokens, but no targets."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_kinds import KINDS

from hyena.arguments import IGNORE
from hyena.data import PrepareConfig, WindowSampler, load_tokenizer, open_tokens, pieces, prepare


def genome(records=5, seed=0):
    draws = random.Random(seed)
    runs = ["".join(draws.choices("ACGT", k=draws.randint(1, 9))) for _ in range(8 * records)]
    runs = [run.lower() if draws.random() < 0.5 else run for run in runs]
    sequences = ["".join(runs[at::records]) for at in range(records)]
    return {f"r{i}": sequence for i, sequence in enumerate(sequences)}


GENOME = {**genome(), "lower": "acgt", "upper": "ACGT", "both": "acGTac"}


def prepared(tmp_path, records=GENOME, out="out", **settings):
    fasta = "".join(f">{name}\n{sequence}\n" for name, sequence in records.items())
    (tmp_path / "g.fa").write_text(fasta)
    settings = {"soft_masked": "mask", "validation": 0.3, "test": 0.1, **settings}
    return prepare(PrepareConfig(tmp_path / "g.fa", tmp_path / out, **settings)).directory


def is_masked(file):
    """Of each token, from the runs one by one."""
    found = np.zeros(len(file), dtype=bool)
    for start, end in file.masked.tolist():
        assert not found[max(start - 1, 0) : end].any()  # the runs before it ended before that
        found[start:end] = True
    return found


@pytest.mark.parametrize("tokenizer", ["hyenadna", "bytes", "evo"])
def test_the_case_of_every_letter_comes_back(tmp_path, tokenizer):
    out = prepared(tmp_path, tokenizer=tokenizer)
    decode = load_tokenizer(out).decode
    found = []
    for split in ("train", "validation", "test"):
        file = open_tokens(out, split)
        masked = is_masked(file)
        for start, document in zip(file.document_starts, file.documents(), strict=True):
            text = decode(document.tokens)
            flags = masked[start : start + len(text) + 2]
            assert not flags[[0, -1]].any()  # the ends of texts are targets
            found.append(
                "".join(c.lower() if m else c for c, m in zip(text, flags[1:-1], strict=True))
            )
    assert sorted(found) == sorted(GENOME.values())


def test_token_files_do_not_depend_on_the_blocks(tmp_path, monkeypatch):
    def files(out):
        return {p.name: p.read_bytes() for p in prepared(tmp_path, out=out).iterdir()}

    whole = files("whole")
    assert "train.masked.npy" in whole
    for size in (1, 2, 7):
        monkeypatch.setattr(pieces, "BLOCK", size)
        assert files(f"out {size}") == whole


def test_without_masks_there_is_no_such_file(tmp_path):
    out = prepared(tmp_path, soft_masked="fold")
    assert not list(out.glob("*.masked.npy"))
    assert open_tokens(out, "train").masked.shape == (0, 2)
    upper = {"a": "ACGT", "b": "AC", "c": "GT", "d": "A"}
    out = prepared(tmp_path, upper, out="upper")
    assert open_tokens(out, "train").masked.shape == (0, 2)
    assert (out / "train.masked.npy").is_file()


def test_targets_in_lower_case_are_ignored(tmp_path):
    file = open_tokens(prepared(tmp_path, tokenizer="hyenadna", validation=0, test=0), "train")
    masked = is_masked(file)
    for length in (1, 2, 7, 40):
        sampler = WindowSampler(file, length, 4, seed=0)
        plain = WindowSampler(
            SimpleNamespace(tokens=file.tokens, document_starts=file.document_starts), length, 4, 0
        )
        for step in range(30):
            found, expected = sampler.batch(step), plain.batch(step)
            assert sampler.targets(step) == int((found.targets != IGNORE).sum())
            assert sampler.targets(step) == sum(sampler.targets(step, i, 2) for i in range(2))
            assert plain.targets(step) == 4 * length
            assert found.inputs.equal(expected.inputs)
            assert found.document_ids.equal(expected.document_ids)
            places = [step * 4 + row for row in range(4)]
            for row, place in enumerate(places):
                epoch, index = divmod(place, sampler.windows_per_epoch)
                start = int(sampler._epoch(epoch)[index])
                flags = masked[start + 1 : start + 1 + length].copy()
                flags[-1] &= not flags.all()
                targets = expected.targets[row].numpy().copy()
                targets[flags] = IGNORE
                assert found.targets[row].tolist() == targets.tolist()


@given(st.lists(st.booleans(), min_size=4, max_size=40), st.integers(1, 6))
def test_a_window_has_the_flags_of_its_targets(flags, length):
    flags[0] = False
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    stream = SimpleNamespace(
        tokens=np.arange(len(flags)),
        document_starts=np.array([0]),
        masked=changes.reshape(-1, 2),
    )
    length = min(length, len(flags) - 1)
    batch = WindowSampler(stream, length, 2, seed=0).batch(0)
    for row, inputs in zip(batch.targets.tolist(), batch.inputs.tolist(), strict=True):
        expected = [IGNORE if flags[token + 1] else token + 1 for token in inputs]
        if set(expected) == {IGNORE}:
            expected[-1] = inputs[-1] + 1
        assert row == expected


def test_a_tokenizer_of_several_letters_a_token_is_refused(tmp_path):
    KINDS["k_mers"].save(tmp_path / "k_mers")
    with pytest.raises(ValueError, match=r"g\.fa r0: soft_masked 'mask' needs a token for each"):
        prepared(tmp_path, {"r0": "ACGTTT"}, tokenizer=tmp_path / "k_mers", validation=0, test=0)
    assert not (tmp_path / "out").exists()


def test_masks_and_text_do_not_go_together(tmp_path):
    (tmp_path / "x.txt").write_text("text")
    (tmp_path / "g.fa").write_text(">a\nACGT\n")
    sources = [str(tmp_path / name) for name in ("g.fa", "x.txt")]
    with pytest.raises(ValueError, match=r"is about FASTA and FASTQ, but .*x\.txt is of another"):
        prepare(PrepareConfig(sources, tmp_path / "out", soft_masked="mask"))


def test_a_damaged_file_of_masks_is_refused(tmp_path):
    out = prepared(tmp_path, validation=0, test=0)
    file = out / "train.masked.npy"
    good = np.load(file)
    np.save(file, good[:-1])
    with pytest.raises(ValueError, match=r"train\.masked\.npy is damaged: its SHA-256"):
        open_tokens(out, "train")
    for bad, message in (
        (good.astype("<i4"), r"int32 .* instead of int64"),
        (good.ravel(), "instead of int64"),
        (good[::-1].copy(), "the runs do not follow one another|lies outside"),
        (good + 10_000, "a run lies outside the tokens"),
    ):
        np.save(file, bad)
        with pytest.raises(ValueError, match=rf"train\.masked\.npy is damaged: .*({message})"):
            open_tokens(out, "train", verify=False)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.masked\.npy is missing, though the man"):
        open_tokens(out, "train")


def test_masked_folders_are_prepared_once_and_overwritten(tmp_path):
    out = prepared(tmp_path)
    assert json.loads((out / "manifest.json").read_text())["settings"]["soft_masked"] == "mask"
    config = PrepareConfig(tmp_path / "g.fa", out, soft_masked="mask", validation=0.3, test=0.1)
    assert not prepare(config).fresh
    config.soft_masked, config.overwrite = "keep", True
    assert prepare(config).fresh
    assert not list(out.glob("*.masked.npy"))
