"""Cases of genomics, each measured as its kind is."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from hyena.bench import convolution, folder, generation, model
from hyena.bench.folder import Result
from hyena.bench.genomes.cases import Case
from hyena.bench.processes import Workers

_ask = partial(model.run.ask, script=Path(__file__).with_name("work.py"))


def run(
    cases: Sequence[Case],
    out: Path,
    *,
    threads: int,
    seconds: float | None = None,
    repeats: int | None = None,
    bfloat16: bool = True,
    progress: Callable[[int], object] = lambda done: None,
    say: Callable[[str], None] = print,
    ask: model.run.Ask = _ask,
) -> dict[str, Result]:
    """Measures the cases that a folder does not hold yet; see `hyena.bench.folder.run`.

    Args:
        threads: of each process.
        seconds: budget of a row's samples, or of a contender that generates; none takes its own.
        repeats: samples of a contender at most, repetitions of tokens, or processes of each; none
            takes 100, or the case's number.
        bfloat16: as of `hyena.bench.model.run.measure`.
        ask: who answers for a process of a whole model.

    Raises: ValueError if a file of the folder is damaged.
    """
    workers = Workers(threads)

    def measure(case: Case, results: Mapping[str, Result]) -> Result:
        if isinstance(case, convolution.cases.Case):
            return convolution.run.measure(workers, seconds, repeats or 100, case, results)
        workers.close()  # what it holds is counted as taken
        if isinstance(case, generation.cases.Case):
            budget = seconds or generation.run.SECONDS
            return generation.run.measure(case, seconds=budget, repeats=repeats)
        return model.run.measure(case, threads=threads, repeats=repeats, bfloat16=bfloat16, ask=ask)

    try:
        return folder.run(cases, out, measure, progress=progress, say=say)
    finally:
        workers.close()
