"""Which species is a piece of DNA from? Hyena beside attention and k-mers, on genomes of bacteria.

A small model reads windows of up to 32,768 bases, and learns the next base and the species of each
window; so does the same model with attention in place of its long filter, for as many minutes.
Logistic regression learns from the frequencies of k-mers. All are asked for the species of windows
of strains that they have not seen, at places of which no strain that they have seen has a copy.
Then the models score substitutions, between genes and in them.

    python examples/bacteria.py                      # genomes of a Debian package, by apt-get
    python examples/bacteria.py --genomes FOLDER     # FOLDER/SPECIES/STRAIN.fasta, .gz or not
    python examples/bacteria.py --quick              # made-up ones, seconds: the way, no result

A table (--table) may say the species instead: lines of a file in FOLDER, a tab and a species. The
results, bacteria.md, bacteria.json and bacteria.png, and both models go into --out. The same
command goes on where an interrupted one was. What the results show, and what not, is printed at the
end. Needs matplotlib (the extra train).
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bacteria_genes import KINDS, Substitution, substitutions
from bacteria_genomes import Strain, fetched, find_strains, make_up, split
from bacteria_kmers import NextBase, kmer_regression
from bacteria_models import MIXERS, TOKENIZER, Settings, answers, finished, new_model, train
from bacteria_report import draw, report
from bacteria_windows import HeldOut, Known, Tile, genome_of
from numpy.typing import NDArray

import hyena
from hyena import LanguageModel, score_variants
from hyena.files.atomic import write_text
from hyena.files.digests import sha256_of
from hyena.files.markdown import table as as_table
from hyena.genomes import Fasta, Variant
from hyena.plots.figure import new_figure

QUICK = Settings(
    length=1024, width=16, steps=10, tokens=3072, counted=100, window=256, substitutions=1
)
TOLD_BY = {"GC content": 1, "4-mers": 4}
"""By the frequencies of which k-mers, on both strands, a species is told."""
BEHIND = 6
"""The k of the k-mers by whose counts the next base is told."""


@dataclass(frozen=True)
class Task:
    """What is learned from and what is asked.

    Attributes:
        species: in the order of their numbers.
        known: windows to learn from.
        held_out: the test.
        test: by their length, the windows of the test and their species by number.
        settings: sizes.
    """

    species: list[str]
    known: Known
    held_out: HeldOut
    test: dict[int, tuple[list[bytes], NDArray[np.int64]]]
    settings: Settings


def new_task(known: Sequence[Strain], held_out: Sequence[Strain], settings: Settings) -> Task:
    """The task with these strains. Raises: ValueError as `HeldOut` and `Known`; OSError."""
    species = sorted({strain.species for strain in known})
    asked = HeldOut(held_out, species, settings.length)
    generator = np.random.default_rng(1)
    test = {n: asked.windows(n, settings.asked, generator) for n in settings.lengths}
    return Task(species, Known(known, species, settings.length, asked), asked, test, settings)


def experiment(strains: Sequence[Strain], out: Path, settings: Settings) -> dict[str, Any]:
    """Trains, compares, scores and draws; writes the results and the models into a folder.

    What an interrupted run of the same strains and settings left there is not done again.

    Returns: what is in ``bacteria.json``.
    Raises: ValueError as `split` and `new_task`, or if the folder has another run; OSError;
        ImportError without matplotlib.
    """
    new_figure(1, 1)  # before all the work, in case there is no matplotlib
    known, held_out = split(strains)
    digests = {str(strain.file): sha256_of(strain.file) for strain in strains}
    run = {"settings": asdict(settings), "genomes": digests}
    refuse_another(out / "run.json", run)
    print(f"{len(strains)} genomes: which places of the held-out ones have copies?", flush=True)
    task = new_task(known, held_out, settings)
    rows = [["species", "learned from", "held out", "of its 21-mers are in the others"]]
    for one in task.species:
        names = (", ".join(s.name for s in some if s.species == one) for some in (known, held_out))
        rows.append([one, *names, f"{task.known.copied[one]:.1%}"])
    print(as_table(rows))
    print(f"\nNo near copies of the test: {task.known.open:.0%} of the windows.", flush=True)

    def part(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``make`` returns, or what is kept of it."""
        path = out / "parts" / f"{name}.json"
        if not path.exists():
            print(f"\n{name}", flush=True)
            write_text(path, json.dumps(make()))
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept

    told = {name: part(name, lambda k=k: by_kmers(task, k)) for name, k in TOLD_BY.items()}
    told |= {m: part(m, lambda m=m: by_model(task, m, out)) for m in MIXERS}
    next_base = part("next base", lambda: by_counts(task))
    result = {
        **run,
        "species": task.species,
        "strains": rows,
        "open": task.known.open,
        "labels": {str(n): labels.tolist() for n, (_, labels) in task.test.items()},
        "told": told,
        "losses": {f"{BEHIND}-mers": next_base["losses"], **{m: told[m]["losses"] for m in MIXERS}},
        "scores": part("substitutions", lambda: scores_by_species(task, out)),
    }
    write_text(out / "bacteria.json", json.dumps(result, indent=1) + "\n")
    write_text(out / "bacteria.md", report(result) + "\n")
    draw(result, out / "bacteria.png")
    return result


def refuse_another(path: Path, run: Mapping[str, Any]) -> None:
    """Writes down what a folder is of. Raises: ValueError if it is of something else; OSError."""
    if path.exists() and json.loads(path.read_text()) != json.loads(json.dumps(run)):
        raise ValueError(
            f"{path.parent} has a run of other genomes or settings; give another folder with --out"
        )
    write_text(path, json.dumps(run, indent=1) + "\n")


def by_kmers(task: Task, k: int) -> dict[str, Any]:
    """What regression on frequencies of k-mers takes the test's windows for, by their length."""
    guesses = {}
    for n, (windows, _) in task.test.items():
        labels = np.arange(task.settings.counted) % len(task.species)
        examples = task.known.windows(n, labels, np.random.default_rng(2))
        guess = kmer_regression(examples, labels, len(task.species), k=k)
        guesses[n] = guess(windows).tolist()
    return {"guesses": guesses}


def by_model(task: Task, mixer: str, out: Path) -> dict[str, Any]:
    """The same of a model, which is trained first; and its loss of bases by what is before them."""
    model = new_model(mixer, len(task.species), task.settings)
    print(f"{model.parameter_count():,} parameters", flush=True)
    progress = train(model, task.known, task.settings, out / "checkpoints" / mixer)
    model = finished(model, task.species)
    model.save(out / mixer)
    TOKENIZER.save(out / mixer)
    kinds, guesses = len(task.species), {}
    for n, (windows, labels) in task.test.items():
        of_windows, losses = answers(model, windows)
        guesses[n] = of_windows.tolist()
        print(f"{n:,} bases: {np.mean(of_windows == labels):.1%} told rightly", flush=True)
    return {
        "parameters": model.parameter_count(),
        "minutes": progress.seconds / 60,
        "steps": progress.steps,
        "bases": sum(
            count * n * kinds * task.settings.each(n, kinds) for n, count in progress.steps.items()
        ),
        "guesses": guesses,
        "losses": by_place(task, losses),  # of the longest windows, which came last
    }


def by_place(task: Task, losses: NDArray[np.float64]) -> dict[str, float]:
    """The mean of losses of the bases of windows but the first, (…, L − 1), by how many are before
    them; without those that are nan."""
    return {
        f"{first:,} to {end - 1:,}": float(np.nanmean(losses[..., first - 1 : end - 1]))
        for first, end in pairwise([1, *task.settings.lengths])
    }


def next_base(task: Task, label: int) -> NextBase:
    """Counts of k-mers in what is learned from of a species, by its number."""
    labels = np.full(task.settings.counted, label)
    length = min(4096, task.settings.length)
    return NextBase(task.known.windows(length, labels, np.random.default_rng(3)), BEHIND)


def by_counts(task: Task) -> dict[str, Any]:
    """How likely the counts of its species find the bases of a window, as `by_place`."""
    windows, labels = task.test[task.settings.length]
    found = []
    for label in range(len(task.species)):
        counts = next_base(task, label)
        some = (window for window, of in zip(windows, labels, strict=True) if of == label)
        found += [-counts.log_likelihoods(window)[1:] for window in some]
    return {"losses": by_place(task, np.stack(found))}


def scores_by_species(task: Task, out: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """How much substitutions change the log-likelihood of what is around them: by species, by their
    kind, and by what says so, a model or counts of k-mers."""
    tiles = task.held_out.tiles
    file = out / "held_out.fasta"
    write_text(file, "".join(f">{name_of(tile)}\n{tile.sequence.decode()}\n" for tile in tiles))
    models = {mixer: hyena.load(out / mixer) for mixer in MIXERS}
    found = {}
    for label, species in enumerate(task.species):
        own = [tile for tile in tiles if tile.strain.species == species]
        drawn = substitutions_of(own, task.settings)
        scores: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
        counts = next_base(task, label)
        for tile, at, one in drawn:
            by = scores[one.kind].setdefault(f"{BEHIND}-mers", [])
            by.append(counts.score(tile.sequence, at, one.base.encode()))
        for mixer, model in models.items():
            for (_, _, one), score in zip(
                drawn, scores_by(model, drawn, Fasta(file), task.settings), strict=True
            ):
                scores[one.kind].setdefault(mixer, []).append(score)
        found[species] = scores
        print(f"{species}: {len(drawn)} substitutions", flush=True)
    return found


Drawn = tuple[Tile, int, Substitution]
"""A tile, a place in it counted from 0, and a substitution there."""


def substitutions_of(tiles: Sequence[Tile], settings: Settings) -> list[Drawn]:
    """Substitutions in tiles of a species, all of its first strain, where there is room around."""
    strain, room = tiles[0].strain, settings.window // 2
    of_strain = {tile.start: tile for tile in tiles if tile.strain == strain}
    ranges = [(start + room, start + settings.length - room) for start in of_strain]
    generator = np.random.default_rng(4)
    drawn = []
    for one in substitutions(genome_of(strain, 1), ranges, settings.substitutions, generator):
        tile = of_strain[max(start for start in of_strain if start <= one.position)]
        drawn.append((tile, one.position - tile.start, one))
    return drawn


def scores_by(
    model: LanguageModel, drawn: Sequence[Drawn], fasta: Fasta, settings: Settings
) -> list[float]:
    """Their scores by a model."""
    variants = [
        Variant(name_of(tile), at + 1, "", chr(tile.sequence[at]), (one.base,), number)
        for number, (tile, at, one) in enumerate(drawn, start=1)
    ]
    found = score_variants(
        model,
        TOKENIZER,
        variants,
        fasta,
        window=settings.window,
        both_strands=True,
        begin=False,  # as it was trained
    )
    return [row.score for row in found if row.score is not None]


def name_of(tile: Tile) -> str:
    """The name of its record, with its first and last base counted from 1."""
    return f"{tile.strain.name}:{tile.start + 1}-{tile.start + len(tile.sequence)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--genomes", type=Path, help="folder of FASTA files, a folder a species")
    parser.add_argument("--table", type=Path, help="files and species, with a tab between them")
    parser.add_argument("--out", type=Path, default=Path("runs/bacteria"), help="folder to write")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, for each model")
    parser.add_argument("--length", type=int, default=32_768, help="bases of the longest windows")
    parser.add_argument("--quick", action="store_true", help="made-up genomes, a tiny model")
    choice = parser.parse_args(arguments)
    out: Path = choice.out
    settings = replace(Settings(), length=choice.length, minutes=choice.minutes)
    if not settings.minutes > 0 or settings.length < 1024:
        parser.error("expected --minutes above 0, and a --length of 1024 or more")
    try:
        if choice.quick:
            settings, genomes = QUICK, out / "genomes"
            make_up(genomes)
        else:
            genomes = choice.genomes or fetched(out / "package")
        result = experiment(find_strains(genomes, choice.table), out, settings)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"bacteria: {error}")
    except KeyboardInterrupt:
        sys.exit("bacteria: interrupted; the same command goes on from here")
    print(f"\n{report(result)}\n\nThe picture is {out / 'bacteria.png'}.")


if __name__ == "__main__":
    main()
