"""The memory that a long input is said to take is what it takes."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from hyena.arguments import LONGEST
from hyena.bench.model.cases import Case, Kind, Work
from hyena.bench.model.run import measure
from hyena.cli.model_facts import describe
from hyena.filters import Filter
from hyena.mixers.hyena import kernels
from hyena.model import LanguageModel, ModelConfig
from hyena.model.linear_cross_entropy import LOGITS_BYTES
from hyena.model.memory import filters_kept, forward_bytes, reckons, step_bytes
from hyena.ops.native import library

SIZES = {"width": 128, "layers": 2, "vocab_size": 16}
LENGTH = 65_536  # 32 MiB in the residual stream
LOADED = 24 * 2**20  # what PyTorch takes at its first calls, and does not give back


def model(**options: object) -> LanguageModel:
    return LanguageModel(ModelConfig(**{**SIZES, **options}), device="meta")  # type: ignore[arg-type]


@dataclass
class Taken:
    """A pass whose memory is measured."""

    kind: Kind
    length: int = LENGTH
    batch: int = 1
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "forward": Taken("forward"),
    "training": Taken("train"),
    "forward of the whole": Taken("forward", 16_384),
    "training with dropout": Taken("train", 16_384, options={"dropout": 0.1}),
    "forward of short rows": Taken("forward", 255, 257),
    "training on short rows": Taken("train", 255, 32),
    "training of another order": Taken("train", 255, 32, options={"order": 4, "dropout": 0.1}),
    "forward in many threads": Taken("forward", 1 << 19, 1, 12, {"width": 16, "layers": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_reckoned_is_measured(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library.kernel() is None:
        pytest.skip(f"PyTorch's FFT takes more: {library.why_not()}")
    # What is small has memory of its own too: glibc would keep it in a heap, whose gaps nobody
    # can foretell.
    settings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    monkeypatch.setattr("hyena.bench.model.run.environment", lambda allocator: settings)
    of = CASES[case]
    work = Work(of.kind, of.length, {**SIZES, **of.options}, batch=of.batch, checkpointing=True)
    work = replace(work, vocabulary=16)
    result = measure(Case("a", {"one": work}, repeats=1), threads=of.threads)
    added = result["added"]["one"]
    if added is None:
        pytest.skip("this system does not say how much memory a process has")
    monkeypatch.setattr("torch.get_num_threads", lambda: of.threads)
    reckon = step_bytes if of.kind == "train" else forward_bytes
    told = reckon(model(max_length=of.length, **of.options), of.length, of.batch)
    assert told * 0.85 < added < told * 1.15 + LOADED, (
        f"{added / 2**20:.0f} MiB, not {told / 2**20:.0f}"
    )


def test_it_grows_with_rows_layers_and_the_vocabulary() -> None:
    small = model(max_length=LENGTH)
    stream = LENGTH * SIZES["width"] * 4
    assert (
        step_bytes(model(max_length=LENGTH, layers=3), LENGTH) >= step_bytes(small, LENGTH) + stream
    )
    # Of one row all channels go at once; of more rows fewer do, and shares are smaller.
    assert forward_bytes(small, LENGTH, 4) > forward_bytes(small, LENGTH, 2) + 3 * stream
    assert forward_bytes(small, LENGTH, 2) > forward_bytes(small, LENGTH)
    logits = LENGTH * 5000 * 4
    assert forward_bytes(model(max_length=LENGTH, vocab_size=5000), LENGTH) > logits + 2 * stream
    assert step_bytes(model(max_length=LENGTH, vocab_size=5000), LENGTH) < logits


def test_losses_take_a_slice_of_the_logits() -> None:
    small, large = (model(max_length=LENGTH, vocab_size=number) for number in (16, 5000))
    others = sum(p.nbytes for p in large.parameters()) - sum(p.nbytes for p in small.parameters())
    told = [forward_bytes(of, LENGTH, logits=False) for of in (small, large)]
    assert told[0] <= forward_bytes(small, LENGTH)
    assert told[1] - others - told[0] <= LOGITS_BYTES
    short = model(vocab_size=50_257)  # of which the head takes more than a block
    slice_of = forward_bytes(short, 512) - forward_bytes(short, 512, logits=False)
    assert slice_of == 512 * 50_257 * 4 - LOGITS_BYTES


@pytest.mark.parametrize(
    "options", [{"mixers": "attention"}, {"mixers": "hyena,rwkv"}, {"block_causal": True}]
)
def test_models_that_are_not_reckoned_are_refused(options: dict[str, object]) -> None:
    other = model(**options)
    assert not reckons(other)
    for reckon in (forward_bytes, step_bytes):
        with pytest.raises(ValueError, match=r"^memory is reckoned of models .* got mixers="):
            reckon(other, 100)


def test_each_thread_has_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    of = model(max_length=LENGTH)

    def for_threads(reckon: Callable[..., int], batch: int) -> float:
        """Bytes a position for each thread beyond the first."""
        found = []
        for threads in (1, 9):
            monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
            found.append(reckon(of, LENGTH, batch))
        return (found[1] - found[0]) / (8 * LENGTH)

    assert [for_threads(forward_bytes, batch) for batch in (1, 2)] == [20, 20]
    assert [for_threads(step_bytes, batch) for batch in (1, 2)] == [32, 48]


def test_an_input_that_fits_goes_whole_and_one_position_more_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyena.model.memory.SHORTEST", 256)
    of, of_a_position = model(max_length=LENGTH), 8 * SIZES["width"] * 4
    for reckon, doubled in ((forward_bytes, 1), (step_bytes, 2)):
        of.working_memory, of.kept_memory = 1024 * of_a_position // doubled, 0
        whole = reckon(of, 1024)
        of.working_memory -= 1
        assert reckon(of, 1024) < 0.8 * whole
        assert reckon(of, 255, 16) > reckon(of, 1020, 4)  # rows too short for groups


def test_the_largest_input_there_can_be() -> None:
    of = model(max_length=LENGTH, length_policy="extrapolate")
    for reckon in (forward_bytes, step_bytes):
        assert reckon(of, LONGEST, LONGEST) > LONGEST**2 * SIZES["width"] * 4
    assert "memory at the peak" in describe(of, LONGEST, LONGEST)


def test_every_number_of_float64_counts_twice() -> None:
    for reckon in (forward_bytes, step_bytes):
        single, double = model(max_length=LENGTH), model(max_length=LENGTH).double()
        single.kept_memory = double.kept_memory = 0
        double.working_memory = 2 * single.working_memory
        assert reckon(double, LENGTH) == 2 * reckon(single, LENGTH)


@pytest.mark.parametrize(("length", "batch"), [(300, 2), (255, 40)])
def test_spectra_that_are_kept_count(length: int, batch: int) -> None:
    short = LanguageModel(ModelConfig(width=8, layers=4, vocab_size=16, max_length=300)).eval()
    filters = [part for part in short.modules() if isinstance(part, Filter)]
    short.kept_memory = 2 * filters[0].kept_bytes(length) + 1
    # Shorter rows than groups take go whole, whatever the memory.
    short.working_memory = short.working_memory if length == 300 else 0
    with torch.no_grad():
        short(torch.zeros(batch, length, dtype=torch.int64))
    kept = sum(filter.kept.nbytes for filter in filters)
    assert kept == short.kept_memory - 1
    told = forward_bytes(short, length, batch)
    short.kept_memory = 0
    assert told - forward_bytes(short, length, batch) == kept


@pytest.mark.cpu
@pytest.mark.parametrize("length", [600, 200])
def test_what_the_kernel_sums_keeps_no_spectra(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few taps, and modes from some length on."""
    monkeypatch.setattr(kernels, "BY_MODES_KEPT", 300)
    mixers = "hyena-se,hyena-mr,hyena-li"
    of = LanguageModel(
        ModelConfig(width=8, layers=3, vocab_size=16, max_length=600, mixers=mixers)
    ).eval()
    with torch.no_grad():
        of(torch.zeros(1, length, dtype=torch.int64))
    kept = {part: part.kept.nbytes for part in of.modules() if isinstance(part, Filter)}
    assert filters_kept(of, length) == [part for part, size in kept.items() if size]
    if library.kernel() is not None:
        assert len(filters_kept(of, length)) == (0 if length == 600 else 2)
    told = forward_bytes(of, length)
    of.kept_memory = 0
    assert told - forward_bytes(of, length) == sum(kept.values())
