"""The memory that a long input is said to take is what it takes."""

import pytest
import torch

from hyena.bench.model.cases import Case, Work
from hyena.bench.model.run import measure
from hyena.filters import Filter
from hyena.model import LanguageModel, ModelConfig
from hyena.model.memory import forward_bytes, reckons, step_bytes
from hyena.ops.native import library

SIZES = {"width": 128, "layers": 2, "vocab_size": 16}
LENGTH = 65_536  # 32 MiB in the residual stream
LOADED = (
    40 * 2**20
)  # what PyTorch and the allocator take at their first calls, and do not give back


def model(**options: object) -> LanguageModel:
    return LanguageModel(ModelConfig(**{**SIZES, **options}), device="meta")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["forward", "train"])
def test_what_is_reckoned_is_measured(kind: str) -> None:
    if library.kernel() is None:
        pytest.skip(f"PyTorch's FFT takes more: {library.why_not()}")
    work = Work(kind, LENGTH, SIZES, vocabulary=16, checkpointing=True)  # type: ignore[arg-type]
    result = measure(Case("a", {"one": work}, repeats=1), threads=1)
    added = result["added"]["one"]
    if added is None:
        pytest.skip("this system does not say how much memory a process has")
    of = model(max_length=LENGTH)
    told = (step_bytes if kind == "train" else forward_bytes)(of, LENGTH)
    assert told * 0.75 < added < told * 1.25 + LOADED, (
        f"{added / 2**20:.0f} MiB, not {told / 2**20:.0f}"
    )


def test_it_grows_with_rows_layers_and_the_vocabulary() -> None:
    small = model(max_length=LENGTH)
    stream = LENGTH * SIZES["width"] * 4
    assert (
        step_bytes(model(max_length=LENGTH, layers=3), LENGTH) >= step_bytes(small, LENGTH) + stream
    )
    assert forward_bytes(small, LENGTH, 2) > forward_bytes(small, LENGTH) + stream
    logits = LENGTH * 5000 * 4
    assert forward_bytes(model(max_length=LENGTH, vocab_size=5000), LENGTH) > logits + 2 * stream
    assert step_bytes(model(max_length=LENGTH, vocab_size=5000), LENGTH) < logits


@pytest.mark.parametrize(
    "options", [{"mixers": "attention"}, {"mixers": "hyena,rwkv"}, {"block_causal": True}]
)
def test_models_that_are_not_reckoned_are_refused(options: dict[str, object]) -> None:
    other = model(**options)
    assert not reckons(other)
    for reckon in (forward_bytes, step_bytes):
        with pytest.raises(ValueError, match=r"^memory is reckoned of models .* got mixers="):
            reckon(other, 100)


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
