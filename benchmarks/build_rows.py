"""Times rows of our own in one build; `compare_builds.py` runs this file with each build's Python.

It reads one JSON object from standard input, {"threads": n, "seconds": s, "rows": {name: row}}, and
answers with one on standard output: of each row its seconds and some of its numbers, by which the
builds are compared. It uses only what every build has in public.

Sizes: B batch, D width, L length, P tokens of a prefill, T tokens that are generated.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor

import hyena
from hyena.filters import DiagonalSSM, LongFilter
from hyena.ops import filter_spectrum, gated_conv

Sample = Callable[[], int]
"""Runs calls, or tokens; how many."""

_SHORTEST = 0.005  # seconds of calls behind a sample, far above what reading the clock costs
_LONG = 0.5  # seconds of a sample next to which no second one is needed
_WARM_UP_TOKENS = 130  # two blocks of exact generation, so that a tile is among them
# What is drawn, which takes longer than to compute with it; it comes round again.
_DRAWN, _DRAWN_TOKENS = 4_194_301, 1024  # numbers of a tensor, a prime; inputs of generation
_KEPT = 61  # numbers of each output that are handed back, or a few more; no power of two


def main() -> None:
    """Measures what standard input asks for."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="hyena")
    asked = json.load(sys.stdin)
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    found = {name: measure(row, asked["seconds"]) for name, row in asked["rows"].items()}
    build = {"folder": hyena.__path__[0], "torch": torch.__version__}
    json.dump({"build": {**build, "threads": torch.get_num_threads()}, "rows": found}, answers)
    answers.close()


def measure(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The median of a row's samples within a budget, a long one alone; "failed", one line, if it
    cannot be run."""
    gc.collect()
    gc.disable()  # Python's collector would run in some row's time
    try:
        sample, numbers = _WORK[row["work"]](row)
        times: list[float] = []
        spent = 0.0
        while spent < seconds or (len(times) < 2 and spent < _LONG):
            begin = time.perf_counter()
            count = sample()
            took = time.perf_counter() - begin
            times.append(took / count)
            spent += took
    except Exception as problem:  # of an old build, which may lack anything
        return {"failed": f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"}
    finally:
        gc.enable()
    return {"seconds": statistics.median(times), "samples": len(times), "numbers": numbers}


def convolution(row: dict[str, Any]) -> tuple[Sample, list[float]]:
    """A gated convolution: inference with the filter's spectrum at hand, or all gradients."""
    B, D, L = row["batch"], row["width"], row["length"]
    shapes = (B, 3 * D, L), (D, L), (D,), (B, D, L)
    z, k, skip, dy = (random(*shape, seed=seed) for seed, shape in enumerate(shapes))
    if row["training"]:
        return _calls(_trained(lambda: gated_conv(z, k, skip), [z, k, skip], dy))
    kept = filter_spectrum(k, L, skip)
    return _calls(_inferred(lambda: gated_conv(z, kept)))


def operator(row: dict[str, Any]) -> tuple[Sample, list[float]]:
    """A whole operator: in evaluation mode, or all gradients; bfloat16 by autocast."""
    module = build_operator(row["width"], row["length"]).train(row["training"])
    u, dy = (random(row["batch"], row["length"], row["width"], seed=seed) for seed in range(2))

    def forward() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=row["bf16"]):
            return module(u)

    if row["training"]:
        return _calls(_trained(forward, [u, *module.parameters()], dy))
    return _calls(_inferred(forward))


@torch.no_grad()
def mixer(row: dict[str, Any]) -> tuple[Sample, list[float]]:
    """Tokens of one layer after a prefill."""
    T, D, B = row["tokens"], row["width"], row["batch"]
    module, one = _prefilled_mixer(D, row["recurrent"], row["prefill"], T, row["max_length"])
    start = type(one).join([one] * B)
    u = random(min(T, _DRAWN_TOKENS), B, D, seed=2)
    return _tokens(module.step, start.copy, u.unbind(), T)


@lru_cache(maxsize=1)
def _prefilled_mixer(
    width: int, recurrent: int | None, prefill: int, tokens: int, max_length: int
) -> tuple[hyena.HyenaOperator, Any]:
    """A layer, and its state after one row; rows of several batches have it in common."""
    module = build_operator(width, max_length, recurrent=recurrent).eval()
    return module, module.prefill(random(1, prefill, width, seed=1), future=tokens)[1]


@torch.no_grad()
def model(row: dict[str, Any]) -> tuple[Sample, list[float]]:
    """Tokens of a whole model after a prefill."""
    fields = ("preset", "width", "layers", "recurrent", "bf16", "prefill", "tokens")
    whole, one = _prefilled_model(*(row[field] for field in fields))
    start = one.select([0] * row["batch"])
    shape = (min(row["tokens"], _DRAWN_TOKENS), row["batch"])
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, whole.config.vocab_size, shape, generator=generator)
    return _tokens(whole.step, start.copy, tokens.unbind(), row["tokens"])


@lru_cache(maxsize=1)
def _prefilled_model(
    preset: str | None,
    width: int,
    layers: int,
    recurrent: int | None,
    bf16: bool,
    prefill: int,
    tokens: int,
) -> tuple[hyena.LanguageModel, Any]:
    """A model, and its state after one prompt; rows of several batches have it in common."""
    sizes: dict[str, Any] = {"max_length": prefill + tokens}
    if recurrent:
        ssm = dataclasses.replace(hyena.ModelConfig().ssm, state=recurrent)
        sizes |= {"filter": hyena.FilterConfig(kind="s4d"), "ssm": ssm}
    if preset is None:
        config = hyena.ModelConfig(width=width, layers=layers, **sizes)
    else:
        config = hyena.preset(preset, **sizes)
    whole = hyena.LanguageModel(config, generator=torch.Generator().manual_seed(0))
    whole = whole.to(torch.bfloat16 if bf16 else torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(0, config.vocab_size, (1, prefill), generator=generator)
    return whole, whole.prefill(prompt, future=tokens, last_only=True)[1]


_WORK = {"convolution": convolution, "operator": operator, "mixer": mixer, "model": model}


def build_operator(
    width: int, max_length: int, *, recurrent: int | None = None
) -> hyena.HyenaOperator:
    """Order 2, the same weights each time; with filters that are recurrences of so many numbers."""
    torch.manual_seed(0)
    if not recurrent:
        return hyena.HyenaOperator(width, max_length)
    taps = DiagonalSSM(width, state=recurrent)
    filter = LongFilter(taps, width, max_length, length_policy="extrapolate")
    return hyena.HyenaOperator(width, max_length, filter=filter)


def random(*shape: int, seed: int) -> Tensor:
    """Of unit variance; of a large tensor the first numbers come again."""
    count = math.prod(shape)
    some = torch.randn(min(count, _DRAWN), generator=torch.Generator().manual_seed(seed))
    return some.repeat(-(-count // len(some)))[:count].view(shape)


def _inferred(forward: Callable[[], Tensor]) -> Callable[[], list[Tensor]]:
    def call() -> list[Tensor]:
        with torch.no_grad():
            return [forward()]

    return call


def _trained(
    forward: Callable[[], Tensor], leaves: Sequence[Tensor], dy: Tensor
) -> Callable[[], list[Tensor]]:
    leaves = [x.requires_grad_() for x in leaves]

    def call() -> list[Tensor]:
        y = forward()
        return [y, *torch.autograd.grad(y, leaves, dy.to(y.dtype))]

    return call


def _calls(call: Callable[[], list[Tensor]]) -> tuple[Sample, list[float]]:
    numbers = [number for x in call() for number in _some(x)]
    begin = time.perf_counter()
    call()
    inner = 1 + int(_SHORTEST / (time.perf_counter() - begin))

    def sample() -> int:
        for _ in range(inner):
            call()
        return inner

    return sample, numbers


def _tokens(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    begin: Callable[[], Any],
    tokens: Sequence[Tensor],
    count: int,
) -> tuple[Sample, list[float]]:
    """A sample goes through all tokens, since those that complete a block cost more."""

    @torch.no_grad()
    def go(count: int) -> Tensor:
        state = begin()
        for token in islice(cycle(tokens), count):
            y, _ = step(token, state)
        return y

    def sample() -> int:
        go(count)
        return count

    return sample, _some(go(min(count, _WARM_UP_TOKENS)))


def _some(x: Tensor) -> list[float]:
    """Numbers of a tensor from all its parts."""
    flat = x.detach().flatten()
    return flat[:: max(1, len(flat) // _KEPT)].double().tolist()


if __name__ == "__main__":
    main()
