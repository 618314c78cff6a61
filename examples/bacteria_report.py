"""The results in words, as tables in Markdown and as a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bacteria_genes import BETWEEN, KINDS, OTHER, SAME

from hyena.files.markdown import table as as_table
from hyena.plots.figure import new_figure, save_png

LIMITS = """
What it does not show:

- That a model is needed to tell these species apart: counts of k-mers do it.
- That the model knows species or lineages that it has not seen. The test has places that no strain
  to learn from has a copy of, but of the same few species; the strains of one are close relatives.
- How sure the numbers are beyond these strains. Intervals count windows, of which many are of one
  strain, and one training of each model; another seed may give others.
- How attention does with more time, on shorter windows alone, or with settings of its own: the
  learning rate and the sizes are those that Hyena was tried with.
- What a substitution does to a bacterium. Genes are reading frames here, not those of an
  annotation; tRNA and rRNA count as between genes; and a substitution that a model finds unlikely
  need not do harm."""


COLORS = {"hyena": "C0", "attention": "C1", "4-mers": "C2", "GC content": "C3", "6-mers": "C4"}
"""Of what is compared, in the picture."""


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    z = 1.96
    middle, half = right + z * z / 2, z * math.sqrt(right * (of - right) / of + z * z / 4)
    return (middle - half) / (of + z * z), (middle + half) / (of + z * z)


def differ_by_chance(one: Sequence[bool], other: Sequence[bool]) -> float:
    """How likely two that are as good as each other differ as much on the same windows or more: the
    exact test of McNemar."""
    only_one = sum(a and not b for a, b in zip(one, other, strict=True))
    only_other = sum(b and not a for a, b in zip(one, other, strict=True))
    count, least = only_one + only_other, min(only_one, only_other)
    return min(1.0, 2 * sum(math.comb(count, i) for i in range(least + 1)) / 2**count)


def share_below(a: Sequence[float], b: Sequence[float]) -> float:
    """How often one of the first is below one of the second, where equal ones count half."""
    x, y = np.array(a)[:, None], np.array(b)
    return float(np.mean(x < y) + np.mean(x == y) / 2)


def shares_below(
    scores: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], by: str, low: str, high: str
) -> tuple[dict[str, float], float, float]:
    """`share_below` of two kinds in each species, their mean, and how far from 50% it may be by
    chance: twice its standard deviation if both were the same.

    Args: scores by species, kind and what gave them; which of these is asked; the two kinds.
    """
    shares, variance = {}, 0.0
    for species, of_kinds in scores.items():
        a, b = of_kinds[low][by], of_kinds[high][by]
        if a and b:
            shares[species] = share_below(a, b)
            variance += (len(a) + len(b) + 1) / (12 * len(a) * len(b))
    if not shares:
        return {}, math.nan, math.nan
    return shares, float(np.mean(list(shares.values()))), 2 * math.sqrt(variance) / len(shares)


def right_of(result: Mapping[str, Any], by: str, length: str) -> list[bool]:
    """Which windows of a length one of the solvers told rightly."""
    guesses, labels = result["told"][by]["guesses"][length], result["labels"][length]
    return [guess == label for guess, label in zip(guesses, labels, strict=True)]


def report(result: Mapping[str, Any]) -> str:
    """The results in Markdown: tables, what they show, and what not."""
    told, labels = result["told"], result["labels"]
    rows = [["bases", "windows", *told]]
    for n, of in labels.items():
        shares = [np.mean(right_of(result, by, n)) for by in told]
        rows.append([f"{int(n):,}", f"{len(of)}", *(f"{share:.1%}" for share in shares)])
    trained = [["", "parameters", "minutes", "steps (of windows of so many bases)", "bases read"]]
    for by, one in told.items():
        if "steps" in one:
            steps = ", ".join(f"{count} ({int(n):,})" for n, count in one["steps"].items())
            sizes = f"{one['parameters']:,}", f"{one['minutes']:.1f}"
            trained.append([by, *sizes, steps, f"{one['bases'] / 1e6:.1f} million"])
    losses = [["bases before it", *result["losses"]]]
    for place in next(iter(result["losses"].values())):
        losses.append([place, *(f"{of[place]:.4f}" for of in result["losses"].values())])
    shares = [["below 'between genes'", *result["scores"], "mean", "by chance"]]
    for by, low in ((by, low) for by in result["losses"] for low in (OTHER, SAME)):
        of, mean, range_ = shares_below(result["scores"], by, low, BETWEEN)
        each = [f"{of[one]:.0%}" if one in of else "none" for one in result["scores"]]
        shares.append([f"{by}: {low}", *each, f"{mean:.1%}", f"50 ± {100 * range_:.1f}%"])
    return (
        f"{as_table(result['strains'])}\n\n"
        f"Windows whose species was told rightly:\n\n{as_table(rows)}\n\n"
        f"Training:\n\n{as_table(trained)}\n\n"
        f"Loss of the next base in the test, in nats (a guess has {math.log(4):.4f}):\n\n"
        f"{as_table(losses)}\n\n"
        "Pairs of substitutions in which the one in a gene has the lower score:\n\n"
        f"{as_table(shares)}\n\n{shown(result)}\n{LIMITS}"
    )


def shown(result: Mapping[str, Any]) -> str:
    """What the results show, in sentences."""
    length = list(result["labels"])[-1]
    by_length, losses = result["labels"], result["losses"]
    right = {by: right_of(result, by, length) for by in result["told"]}
    count, chance = len(by_length[length]), 1 / len(result["species"])
    lines = []
    for by in ("hyena", "attention"):
        low, high = interval(sum(right[by]), count)
        how = "better than" if low > chance else "not shown to be better than"
        lines.append(
            f"{by} tells {sum(right[by])} of {count} windows of {int(length):,} bases (95% "
            f"interval {low:.0%} to {high:.0%}), which is {how} the {chance:.0%} of chance."
        )
    for by in [by for by in right if by != "hyena"]:
        p = differ_by_chance(right["hyena"], right[by])
        more = sum(right["hyena"]) - sum(right[by])
        how = f"{abs(more)} {'more' if more > 0 else 'fewer'} than" if more else "as many as"
        sure = "" if p < 0.05 else "a difference is not shown, "
        lines.append(f"hyena tells {how} {by} there ({sure}p = {p:.2g} by the test of McNemar).")
    hyena = losses["hyena"]
    first, *_, last = hyena
    lines.append(
        f"With {last} bases before it a base has a loss of {hyena[last]:.4f} nats by hyena, with "
        f"{first} of {hyena[first]:.4f}; by counts of k-mers, that know only of the last few, "
        f"{next(iter(losses.values()))[last]:.4f}."
    )
    for by in losses:
        for low, high in ((OTHER, BETWEEN), (OTHER, SAME)):
            _, mean, range_ = shares_below(result["scores"], by, low, high)
            how = "below" if mean - 0.5 > range_ else "not shown to be below"
            how = "above" if 0.5 - mean > range_ else how
            lines.append(f"{by}: '{low}' is {how} '{high}' ({mean:.1%} of the pairs).")
    return "What this shows:\n\n" + "\n".join(f"- {line[0].upper()}{line[1:]}" for line in lines)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """The share of right answers by length, the loss by what is before a base, and how the scores
    of substitutions by the Hyena model are spread."""
    figure = new_figure(15, 4)
    left, middle, spread = figure.subplots(1, 3)
    lengths = [int(n) for n in result["labels"]]
    for by in result["told"]:
        right = [right_of(result, by, n) for n in result["labels"]]
        means = [float(np.mean(of)) for of in right]
        ends = [interval(sum(of), len(of)) for of in right]
        error = np.abs(np.array(ends).T - means)
        left.errorbar(lengths, means, error, marker="o", capsize=3, label=by, color=COLORS[by])
    left.axhline(1 / len(result["species"]), color="grey", linestyle=":", label="chance")
    left.set_xscale("log", base=2)
    left.set(xlabel="bases", ylabel="windows whose species is told", ylim=(0, 1.03))
    left.legend(loc="lower right")
    for by, of in result["losses"].items():
        middle.plot(list(of), list(of.values()), marker="o", label=by, color=COLORS[by])
    middle.axhline(math.log(4), color="grey", linestyle=":", label="a guess")
    middle.set(xlabel="bases before it", ylabel="loss of the next base (nats)")
    middle.tick_params(axis="x", labelsize="small")
    middle.legend()
    of_kinds = {
        kind: [score for of in result["scores"].values() for score in of[kind]["hyena"]]
        for kind in KINDS
    }
    every = [score for some in of_kinds.values() for score in some]
    bins = np.linspace(min(every), max(every), 40).tolist()
    for kind, some in of_kinds.items():
        spread.hist(some, bins=bins, density=True, histtype="step", label=kind)
    spread.set(xlabel="score of a substitution (nats, hyena)", ylabel="density")
    spread.legend()
    save_png(figure, path)
