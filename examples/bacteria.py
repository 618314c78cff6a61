"""Which species is a piece of DNA from? Hyena beside attention and k-mers, on genomes of bacteria.

A small model reads windows of 32,768 bases, and learns the next base and the species of each
window; so does the same model with attention, for as many minutes. Logistic regression learns from
the frequencies of k-mers. All three are asked for the species of windows of strains that they have
not seen, from few bases and from many. Then the Hyena model scores substitutions, between genes and
in them.

    python examples/bacteria.py                      # genomes of a Debian package, by apt-get
    python examples/bacteria.py --genomes FOLDER     # FOLDER/SPECIES/STRAIN.fasta, .gz or not
    python examples/bacteria.py --quick              # made-up ones, seconds: the way, no result

A table (--table) may say the species instead: lines of a file in FOLDER, a tab and a species. The
results, bacteria.json and bacteria.png, and the model go into --out. What they show, and what not,
is printed at the end. Needs matplotlib (the extra train).
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bacteria_genes import BETWEEN, KINDS, OTHER, substitutions
from bacteria_genomes import Genomes, Strain, fetched, find_strains, make_up, split
from bacteria_kmers import Guess, K, kmer_regression
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hyena import FilterConfig, LanguageModel, ModelConfig, score_variants
from hyena.data import HyenaDNATokenizer
from hyena.files.atomic import write_text
from hyena.files.markdown import table as as_table
from hyena.genomes import Fasta, Variant, read_sequences
from hyena.plots.figure import new_figure, save_png
from hyena.training import OptimizerConfig, adamw

TOKENIZER = HyenaDNATokenizer()
MEANING = """
What this shows: whether a model of this size learns, in minutes on a CPU, from windows of this
length at once; how many more of them it sees in that time than attention does; and whether what it
has learned tells genes from what is between them, though nobody has named them.

What it does not: that a model is needed to tell these species apart, since counts of k-mers do it
too; that it knows strains unlike those that it has seen, since strains of one species are near
copies of each other; how attention does on shorter windows, or with more time. Nothing was tuned
for either. Genes are reading frames here, not those of an annotation. And a substitution that the
model finds unlikely need not do harm."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiment."""

    length: int = 32_768
    """Bases of the windows that models learn from."""
    width: int = 64
    layers: int = 2
    batch: int = 4
    minutes: float = 10.0
    """Of training, for each model."""
    steps: float = math.inf
    """Of training at most, for each model."""
    counted: int = 2000
    """Windows of each length that k-mers are counted in."""
    tested: int = 40
    """Windows of the full length in the test; there are more of shorter ones, up to 500."""
    window: int = 2048
    """Bases around a substitution that the model reads."""
    substitutions: int = 300
    """Of each kind."""

    @property
    def lengths(self) -> list[int]:
        """Bases from which the species is to be told."""
        return [*(n for n in (256, 1024, 4096) if n < self.length), self.length]

    def windows(self, length: int) -> int:
        """Windows of a length in the test."""
        return min(500, self.tested * self.length // length)


QUICK = Settings(
    length=1024,
    width=16,
    layers=1,
    batch=4,
    minutes=math.inf,
    steps=20,
    counted=100,
    tested=20,
    window=256,
    substitutions=10,
)


def new_model(mixer: str, species: int, settings: Settings) -> LanguageModel:
    """A language model of bases, with HyenaDNA's filters where it has any.

    The species are further tokens of its vocabulary: their logits, in the mean over the positions,
    are those of the window.
    """
    config = ModelConfig(
        vocab_size=TOKENIZER.vocab_size + species,
        width=settings.width,
        layers=settings.layers,
        mixers=mixer,
        max_length=settings.length,
        filter=FilterConfig(emb_dim=5, sine_freq=10.0, shift=0.05),
    )
    return LanguageModel(config, generator=torch.Generator().manual_seed(0))


def ids_of(windows: Sequence[bytes]) -> Tensor:
    """The tokens of windows of one length, (B, L)."""
    return torch.from_numpy(np.stack([TOKENIZER.encode(window.decode()) for window in windows]))


def loss_of(model: LanguageModel, ids: Tensor, labels: Tensor, lengths: Sequence[int]) -> Tensor:
    """Loss of the next base, plus that of the species in the mean over beginnings of the windows.

    A position knows nothing of those behind it, so one pass serves all lengths.

    Args: windows (B, L), their species (B,), and how long the beginnings are.
    """
    logits = model(ids)  # (B, L, V): V is small
    bases = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    sums = logits[..., TOKENIZER.vocab_size :].cumsum(1)
    species = torch.cat([sums[:, n - 1] / n for n in lengths])
    return bases + F.cross_entropy(species, labels.repeat(len(lengths)))


def train(model: LanguageModel, genomes: Genomes, settings: Settings) -> int:
    """Trains until the minutes, or the steps, are over; returns how many steps there were."""
    generator = np.random.default_rng(0)
    optimizer = adamw(model, OptimizerConfig(lr=2e-3, filter_lr=5e-4))
    model.train()
    begin, steps, told = time.monotonic(), 0, 0
    while True:
        minutes = (time.monotonic() - begin) / 60
        done = max(minutes / settings.minutes, steps / settings.steps)
        if done >= 1:
            return steps
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done) * group["peak_lr"]
        windows, labels = genomes.windows(settings.length, settings.batch, generator)
        loss = loss_of(model, ids_of(windows), torch.from_numpy(labels), settings.lengths)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
        if 10 * done >= told:
            told += 1
            print(f"{done:4.0%}: step {steps}, loss {float(loss.detach()):.3f}", flush=True)


def learning_rate(done: float) -> float:
    """The share of its peak when so much of the training is done: a warm-up, then a cosine."""
    return min(1.0, 0.1 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))


def species_by(model: LanguageModel) -> Guess:
    """By the model's logits of the species."""

    @torch.no_grad()
    def guess(windows: Sequence[bytes]) -> NDArray[np.int64]:
        model.eval()
        some = max(1, 65_536 // len(windows[0]))
        found = [
            model(ids_of(windows[i : i + some]))[..., TOKENIZER.vocab_size :].mean(1).argmax(1)
            for i in range(0, len(windows), some)
        ]
        return torch.cat(found).numpy()

    return guess


def scores_by_kind(
    model: LanguageModel, strain: Strain, settings: Settings
) -> dict[str, list[float]]:
    """How much substitutions in the longest record of a strain change its log-likelihood."""
    record = max(read_sequences(strain.file), key=lambda record: len(record.sequence))
    sequence = record.sequence.upper()
    drawn = list(substitutions(sequence, settings.substitutions, np.random.default_rng(2)))
    variants = [
        Variant(record.name, at + 1, "", chr(sequence[at]), (base.decode(),), number)
        for number, (at, base, _) in enumerate(drawn, start=1)
    ]
    found = score_variants(
        model,
        TOKENIZER,
        variants,
        Fasta(strain.file),
        window=min(settings.window, settings.length),
        both_strands=True,
        begin=False,  # as it was trained
    )
    scores: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for each, row in zip(drawn, found, strict=True):
        assert row.score is not None
        scores[each.kind].append(row.score)
    return scores


def share_below(a: Sequence[float], b: Sequence[float]) -> float:
    """How often one of the first is below one of the second, where equal ones count half; nan if
    there are none."""
    if not a or not b:
        return math.nan
    x, y = np.array(a)[:, None], np.array(b)
    return float(np.mean(x < y) + np.mean(x == y) / 2)


def experiment(strains: Sequence[Strain], out: Path, settings: Settings) -> dict[str, Any]:
    """Trains, compares, scores and draws; writes the results and the model into a folder.

    Returns: what is in ``bacteria.json``.
    Raises: ValueError as `split` and `Genomes`; OSError; ImportError without matplotlib.
    """
    new_figure(1, 1)  # before all the work, in case there is no matplotlib
    known, held_out = split(strains)
    species = sorted({strain.species for strain in known})
    rows = [["species", "learned from", "held out"]]
    for one in species:
        names = [[s.name for s in some if s.species == one] for some in (known, held_out)]
        rows.append([one, *(", ".join(some) for some in names)])
    print(as_table(rows))
    seen, unseen = (Genomes(some, species, settings.length) for some in (known, held_out))
    tests = {
        n: unseen.windows(n, settings.windows(n), np.random.default_rng(1))
        for n in settings.lengths
    }

    def accuracies(guess_of: Callable[[int], Guess]) -> dict[int, float]:
        return {
            n: float(np.mean(guess_of(n)(windows) == labels))
            for n, (windows, labels) in tests.items()
        }

    def by_kmers(length: int) -> Guess:
        examples = seen.windows(length, settings.counted, np.random.default_rng(0))
        return kmer_regression(*examples, classes=len(species))

    print(f"\n{K}-mers: regression on {settings.counted:,} windows of each length", flush=True)
    right = {f"{K}-mers": accuracies(by_kmers)}
    steps, models = {}, {}
    for mixer in ("hyena", "attention"):
        model = models[mixer] = new_model(mixer, len(species), settings)
        print(f"\n{mixer}: {model.parameter_count():,} parameters, windows of {settings.length:,}")
        steps[mixer] = train(model, seen, settings)
        guess = species_by(model)
        right[mixer] = accuracies(lambda length, guess=guess: guess)
    scores = scores_by_kind(models["hyena"], held_out[0], settings)
    models["hyena"].save(out / "model")
    TOKENIZER.save(out / "model")
    result = {
        "species": species,
        "learned_from": [str(strain.file) for strain in known],
        "held_out": [str(strain.file) for strain in held_out],
        "steps": steps,
        "tested": {n: len(labels) for n, (_, labels) in tests.items()},
        "accuracy": right,
        "scores": scores,
        "other_protein_below_between": share_below(scores[OTHER], scores[BETWEEN]),
    }
    write_text(out / "bacteria.json", json.dumps(result, indent=1) + "\n")
    draw(right, scores, out / "bacteria.png")
    return result


def report(result: Mapping[str, Any]) -> str:
    """The results as tables in Markdown."""
    tested, right = result["tested"], result["accuracy"]
    rows = [["bases", "windows", *right]]
    for n, count in tested.items():
        rows.append([f"{n:,}", f"{count}", *(f"{of[n]:.1%}" for of in right.values())])
    kinds = [["substitutions", "number", "median score"]]
    for kind, scores in result["scores"].items():
        median = f"{np.median(scores):.2f}" if scores else "none"
        kinds.append([kind, f"{len(scores)}", median])
    steps = ", ".join(f"{mixer} {count}" for mixer, count in result["steps"].items())
    return (
        f"Species told rightly (one in {len(result['species'])} by chance):\n\n{as_table(rows)}\n\n"
        f"Steps of training: {steps}.\n\n{as_table(kinds)}\n\n"
        f"The score of '{OTHER}' is below that of '{BETWEEN}' in "
        f"{result['other_protein_below_between']:.0%} of the pairs; 50% would say nothing."
    )


def draw(
    right: Mapping[str, Mapping[int, float]], scores: Mapping[str, Sequence[float]], path: Path
) -> None:
    """The share of right answers by length, and how the scores of substitutions are spread."""
    figure = new_figure(10, 4)
    left, spread = figure.subplots(1, 2)
    for name, of_length in right.items():
        left.plot(list(of_length), list(of_length.values()), marker="o", label=name)
    left.set_xscale("log", base=2)
    left.set(xlabel="bases", ylabel="species told rightly", ylim=(0, 1.03))
    left.legend()
    every = [score for some in scores.values() for score in some]
    bins = np.linspace(min(every), max(every), 40).tolist() if every else []
    for kind, some in scores.items():
        if some:
            spread.hist(some, bins=bins, density=True, histtype="step", label=kind)
    spread.set(xlabel="score of a substitution", ylabel="density")
    if every:
        spread.legend()
    save_png(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--genomes", type=Path, help="folder of FASTA files, a folder a species")
    parser.add_argument("--table", type=Path, help="files and species, with a tab between them")
    parser.add_argument("--out", type=Path, default=Path("runs/bacteria"), help="folder to write")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each model")
    parser.add_argument("--length", type=int, default=32_768, help="bases of a window")
    parser.add_argument("--quick", action="store_true", help="made-up genomes, a tiny model")
    choice = parser.parse_args(arguments)
    out: Path = choice.out
    settings = replace(Settings(), length=choice.length, minutes=choice.minutes)
    if not settings.minutes > 0 or settings.length < 256:
        parser.error("expected --minutes above 0, and a --length of 256 or more")
    try:
        if choice.quick:
            settings, genomes = QUICK, out / "genomes"
            make_up(genomes)
        else:
            genomes = choice.genomes or fetched(out / "package")
        result = experiment(find_strains(genomes, choice.table), out, settings)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"bacteria: {error}")
    print(f"\n{report(result)}\n\nThe picture is {out / 'bacteria.png'}.\n{MEANING}")


if __name__ == "__main__":
    main()
