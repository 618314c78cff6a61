"""The example that tells species of bacteria apart: all of it on made-up genomes, and its parts."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_up_dna import random_dna, write
from torch.nn import functional as F

import hyena
from hyena.data import load_tokenizer


def test_it_runs_and_says_what_it_shows(
    example: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example.main.main(["--quick", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert re.search(r"\| alpha \| alpha1, alpha2, alpha3 \| alpha4 \| [78]\d\.\d% \|", out)
    assert "| bases | windows | GC content | 4-mers | hyena | attention |" in out
    assert re.search(r"\| 1,024 \| 18 \|( [\d.]+% \|){4}", out)
    assert "What this shows:" in out
    assert "What it does not show:" in out
    assert (tmp_path / "bacteria.md").read_text() in out
    assert (tmp_path / "bacteria.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "bacteria.json").read_text())
    assert {m: result["told"][m]["steps"] for m in ("hyena", "attention")} == {
        "hyena": {"1024": 10},
        "attention": {"1024": 10},
    }
    assert {n: len(labels) for n, labels in result["labels"].items()} == {"256": 72, "1024": 18}
    assert np.mean(example.report.right_of(result, "4-mers", "1024")) >= 0.9
    for of_kinds in result["scores"].values():
        for kind in ("between genes", "same protein", "other protein"):
            assert {by: len(scores) for by, scores in of_kinds[kind].items()} == dict.fromkeys(
                ("6-mers", "hyena", "attention"), 12
            )
    for mixer in ("hyena", "attention"):
        model, tokenizer = hyena.load(tmp_path / mixer), load_tokenizer(tmp_path / mixer)
        (found,) = hyena.score(model, tokenizer, "ACGT" * 8, begin=False)
        assert found.score is not None

    def never(*_: object) -> None:
        raise AssertionError("it was done already")

    for name in ("train", "kmer_regression", "score_variants"):
        monkeypatch.setattr(example.main, name, never)
    example.main.main(["--quick", "--out", str(tmp_path)])
    assert capsys.readouterr().out.endswith(out[out.index("Windows whose species") :])
    with pytest.raises(SystemExit, match="has a run of other genomes or settings; give another"):
        example.main.main(["--genomes", str(tmp_path / "genomes"), "--out", str(tmp_path)])


def task_of(example: SimpleNamespace, folder: Path, **sizes: int) -> Any:
    """The task with made-up genomes."""
    example.genomes.make_up(folder)
    strains = example.genomes.split(example.genomes.find_strains(folder))
    return example.main.new_task(*strains, replace(example.main.QUICK, **sizes))


@pytest.mark.parametrize("mixer", ["hyena", "attention"])
def test_training_lowers_both_losses(
    mixer: str, example: SimpleNamespace, tmp_path: Path, numbers: np.random.Generator
) -> None:
    letters = {"a__1": b"AT", "a__2": b"AT", "b__1": b"CG", "b__2": b"CG"}
    write(tmp_path, **{name: random_dna(2000, numbers, of) for name, of in letters.items()})
    sizes = {"length": 128, "tokens": 512, "steps": 20, "rate": 2e-2}
    strains = example.genomes.split(example.genomes.find_strains(tmp_path))
    task = example.main.new_task(*strains, replace(example.main.QUICK, **sizes))
    model = example.models.new_model(mixer, 2, task.settings)
    windows, labels = task.test[128]
    ids, labels = example.models.ids_of(windows), torch.from_numpy(labels)

    @torch.no_grad()
    def losses() -> list[float]:
        found: torch.Tensor = example.models.losses_of(model.eval(), ids, labels, [128])
        return list(found.tolist())

    assert losses() == pytest.approx([math.log(12), math.log(2)], abs=0.2)  # guesses
    progress = example.models.train(model, task.known, task.settings, tmp_path / "checkpoints")
    assert progress.steps == {128: 20}
    bases, species = losses()
    assert math.log(2) - 0.01 < bases < 0.8
    assert species < 0.2


def test_training_that_was_killed_goes_on_as_if_it_had_not_been(
    example: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(example, tmp_path / "genomes", length=64, tokens=256)

    def trained(folder: Path) -> dict[str, torch.Tensor]:
        model = example.models.new_model("hyena", 3, task.settings)
        assert example.models.train(model, task.known, task.settings, folder).steps == {64: 10}
        return dict(model.state_dict())

    expected = trained(tmp_path / "whole")
    update = example.models.update

    def killed(*arguments: Any) -> Any:
        if arguments[-1] == 7:
            raise KeyboardInterrupt
        return update(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(example.models, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["step-00000007"]
    got = trained(tmp_path / "killed")
    assert all(torch.equal(got[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("mixer", ["hyena", "attention"])
@torch.no_grad()
def test_one_pass_has_the_losses_of_all_beginnings(
    mixer: str, example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    settings = replace(example.main.QUICK, length=64)
    model = example.models.new_model(mixer, 9, settings).double().eval()
    windows = [random_dna(64, numbers) for _ in range(3)]
    ids, labels = example.models.ids_of(windows), torch.tensor([2, 0, 8])
    logits = model(ids)
    each = F.cross_entropy(logits[:, :-1, :12].mT, ids[:, 1:], reduction="none")
    of_lengths = [F.cross_entropy(model(ids[:, :n])[..., 12:].mean(1), labels) for n in (1, 7, 64)]
    expected = torch.stack([each.mean(), sum(of_lengths, torch.zeros(())) / 3])
    got = example.models.losses_of(model, ids, labels, (1, 7, 64))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)

    finished = example.models.finished(model, [f"s{i}" for i in range(9)])
    guesses, losses = example.models.answers(finished, windows)
    assert guesses.tolist() == logits[..., 12:].mean(1).argmax(1).tolist()
    np.testing.assert_allclose(losses, each.numpy(), rtol=1e-10)
    texts = [window.decode() for window in windows]
    predicted = hyena.predict(finished, load_tokenizer("hyenadna"), texts)
    assert [one.label for one in predicted] == [f"s{i}" for i in guesses]
    scores = hyena.score(finished, load_tokenizer("hyenadna"), texts, begin=False)
    np.testing.assert_allclose([one.score for one in scores], -losses.sum(1), rtol=1e-10)


def test_the_rate_warms_up_and_ends_at_zero(example: SimpleNamespace) -> None:
    rates = [example.models.learning_rate(done) for done in (0.0, 0.02, 0.05, 0.5, 1.0)]
    assert rates == pytest.approx([0.1, 0.4995, 0.9938, 0.5, 0.0], abs=1e-3)


def test_lengths_stages_and_steps(example: SimpleNamespace) -> None:
    whole = example.models.Settings()
    assert whole.lengths == [256, 1024, 4096, 32_768]
    assert whole.stages == [1024, 4096, 32_768]
    assert replace(whole, length=256).lengths == replace(whole, length=256).stages == [256]
    assert [whole.each(n, 4) for n in whole.lengths] == [16, 4, 1, 1]
    progress = example.models.Progress(seconds=120.0)
    assert whole.done(progress) == pytest.approx(2 / whole.minutes)
    progress.steps[1024] = 5
    assert replace(whole, steps=20).done(progress) == 0.25


def test_losses_by_what_is_before_a_base(example: SimpleNamespace) -> None:
    losses = np.arange(1.0, 1024.0)  # as many as bases are before
    assert example.main.by_place(SimpleNamespace(settings=example.main.QUICK), losses) == {
        "1 to 255": 128.0,
        "256 to 1,023": (256 + 1023) / 2,
    }


def test_intervals_and_differences_are_those_of_the_textbooks(example: SimpleNamespace) -> None:
    assert example.report.interval(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert example.report.interval(5, 20) == pytest.approx((0.1119, 0.4687), abs=1e-4)
    one, other = [True] * 8 + [False] * 2, [False] * 6 + [True] * 3 + [False]
    assert example.report.differ_by_chance(one, other) == pytest.approx(2 * 8 / 2**7)
    assert example.report.differ_by_chance(one, one) == 1


def test_the_share_of_pairs(example: SimpleNamespace, numbers: np.random.Generator) -> None:
    assert example.report.share_below([1.0, 2.0], [2.0, 3.0]) == pytest.approx(3.5 / 4)
    same = numbers.normal(size=(2000, 2, 10)).tolist()
    shares = [example.report.share_below(a, b) for a, b in same]
    scores = {"x": {"low": {"by": same[0][0]}, "high": {"by": same[0][1]}}}
    of, mean, by_chance = example.report.shares_below(scores, "by", "low", "high")
    assert of == {"x": shares[0]} == {"x": mean}
    assert by_chance == pytest.approx(2 * np.std(shares), rel=0.05)


def test_what_is_said_follows_from_the_results(example: SimpleNamespace) -> None:
    guesses = {"4-mers": [0, 1] * 10, "hyena": [0, 1] * 9 + [1, 0], "attention": [0] * 20}
    low, high, same = [-2.0] * 12, [1.0] * 12, [-2.0, 1.0] * 6
    by_kind = {"other protein": (low, same), "same protein": (high, same)}
    by_kind["between genes"] = high, same
    result = {
        "species": ["a", "b"],
        "labels": {"64": [0, 1] * 10},
        "told": {by: {"guesses": {"64": of}} for by, of in guesses.items()},
        "losses": {by: {"1 to 7": 1.3, "8 to 63": 1.2} for by in ("6-mers", "hyena")},
        "scores": {
            "a": {
                kind: dict(zip(("6-mers", "hyena"), of, strict=True))
                for kind, of in by_kind.items()
            }
        },
    }
    said = example.report.shown(result)
    assert "- Hyena tells 18 of 20 windows of 64 bases" in said
    assert "(95% interval 70% to 97%), which is better than the 50% of chance" in said
    assert "- Attention tells 10 of 20" in said
    assert "which is not shown to be better than the 50% of chance" in said
    assert "Hyena tells 2 fewer than 4-mers there (a difference is not shown, p = 0.5 by" in said
    assert "Hyena tells 8 more than attention there (p = 0.021 by" in said
    assert "6-mers: 'other protein' is below 'between genes' (100.0% of the pairs)" in said
    assert "Hyena: 'other protein' is not shown to be below 'between genes' (50.0%" in said
    result["scores"]["a"]["other protein"]["hyena"] = [2.0] * 12
    assert "Hyena: 'other protein' is above 'same protein'" in example.report.shown(result)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--genomes", "{folder}"], r"bacteria: .* has no FASTA files"),
        (["--genomes", "{folder}", "--table", "{folder}/none.tsv"], r"bacteria: .*none\.tsv"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, example: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message) as ended:
        example.main.main([word.format(folder=tmp_path) for word in words])
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize("option", ["--minutes=0", "--length=1023"])
def test_sizes_that_cannot_be(
    option: str, example: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        example.main.main([option])
    assert "expected --minutes above 0, and a --length of 1024 or more" in capsys.readouterr().err


def test_strains_by_folder(example: SimpleNamespace, tmp_path: Path) -> None:
    write(tmp_path / "deep", b__two=b"AC", b__one=b"AC", a__one=b"AC")
    (tmp_path / "deep" / "a" / "readme.txt").write_text("no genome")
    found = example.genomes.find_strains(tmp_path)
    assert [(strain.species, strain.name) for strain in found] == [
        ("a", "one"),
        ("b", "one"),
        ("b", "two"),
    ]


def test_strains_by_table(example: SimpleNamespace, tmp_path: Path) -> None:
    write(tmp_path, x__one=b"AC", x__two=b"AC")
    table = tmp_path / "species.tsv"
    table.write_text("x/two.fa\tE. coli\n\nx/one.fa\tV. cholerae\n")
    found = example.genomes.find_strains(tmp_path, table)
    assert [(strain.species, strain.name) for strain in found] == [
        ("E. coli", "two"),
        ("V. cholerae", "one"),
    ]
    for line in ("x/two.fa E. coli", "x/none.fa\tE. coli", "x/one.fa\t "):
        table.write_text(f"x/two.fa\tE. coli\n{line}\n")
        with pytest.raises(ValueError, match=r"species\.tsv line 2: expected a file in"):
            example.genomes.find_strains(tmp_path, table)


def test_a_quarter_of_each_species_is_held_out(example: SimpleNamespace) -> None:
    counts = {"a": 9, "b": 2, "c": 1, "d": 4}
    strains = [
        example.genomes.Strain(species, f"{i}", Path(f"{species}{i}"))
        for species, count in counts.items()
        for i in range(count)
    ]
    known, held_out = example.genomes.split(strains)
    assert [s.species + s.name for s in held_out] == ["a7", "a8", "b1", "d3"]
    assert sorted([*known, *held_out]) == [s for s in sorted(strains) if s.species != "c"]
    with pytest.raises(ValueError, match="expected two species or more of two strains or more"):
        example.genomes.split(strains[:9] + strains[11:12])


def test_a_package_that_cannot_be_fetched(
    example: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get is not here; try apt-get update"):
        example.genomes.fetched(tmp_path / "package")
    package = f"{example.genomes.PACKAGE}_{example.genomes.VERSION}_all.deb"
    (tmp_path / "package" / package).write_bytes(b"another one")
    with pytest.raises(ValueError, match="has the SHA-256"):
        example.genomes.fetched(tmp_path / "package")
    (tmp_path / "package" / "genomes").mkdir()
    assert example.genomes.fetched(tmp_path / "package") == tmp_path / "package" / "genomes"
