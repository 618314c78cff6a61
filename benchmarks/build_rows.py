"""Times rows of our own in one build; `compare_builds.py` runs this file with each build's Python.

It reads one JSON object from standard input, {"threads": n, "seconds": s, "rows": {name: row}}, and
answers with one on standard output: of each row its seconds and some of its numbers, by which the
builds are compared. It uses only what every build has in public.

Sizes: B batch, D width, L length, P tokens of a prefill, T tokens that are generated.
"""

from __future__ import annotations

import copy
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
from typing import Any

import torch
from torch import Tensor, nn

import hyena
from hyena.filters import DiagonalSSM, LongFilter
from hyena.ops import filter_spectrum, gated_conv

Sample = Callable[[], float]
"""Measures once: seconds a call, or a token."""

_SHORTEST = 0.005  # seconds of calls behind a sample, far above what reading the clock costs
_LONG = 0.5  # seconds of a sample next to which no second one is needed
_WARM_UP_TOKENS = 130  # two blocks of exact generation, so that a tile is among them
_FIRST_TOKENS = 66  # one of them, so that the numbers compared have a tile in them
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
    """The median of a row's samples within a budget; "failed", one line, if it cannot be run."""
    gc.collect()
    gc.disable()  # Python's collector would run in some row's time
    try:
        sample, numbers = _WORK[row["work"]](row)
        begin, times = time.perf_counter(), []
        while (
            len(times) < (1 if sum(times) > _LONG else 2) or time.perf_counter() - begin < seconds
        ):
            times.append(sample())
    except Exception as problem:  # of an old build, which may lack anything
        return {"failed": f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"}
    finally:
        gc.enable()
    return {"seconds": statistics.median(times), "samples": len(times), "numbers": numbers}


def convolution(row: dict[str, Any]) -> tuple[Sample, list[float]]:
    """A gated convolution: inference with the filter's spectrum at hand, or all gradients."""
    B, D, L = row["batch"], row["width"], row["length"]
    generator = torch.Generator().manual_seed(0)
    z, k, skip, dy = (
        torch.randn(*shape, generator=generator)
        for shape in ((B, 3 * D, L), (D, L), (D,), (B, D, L))
    )
    if row["training"]:
        return _calls(_trained(lambda: gated_conv(z, k, skip), [z, k, skip], dy))
    kept = filter_spectrum(k, L, skip)
    return _calls(_inferred(lambda: gated_conv(z, kept)))


def operator(row: dict[str, Any]) -> tuple[Sample, list[float]]:
    """A whole operator: in evaluation mode, or all gradients; bfloat16 by autocast."""
    module = build_operator(row["width"], row["length"]).train(row["training"])
    generator = torch.Generator().manual_seed(0)
    shape = (row["batch"], row["length"], row["width"])
    u, dy = (torch.randn(shape, generator=generator) for _ in range(2))

    def forward() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=row["bf16"]):
            return module(u)

    if row["training"]:
        return _calls(_trained(forward, [u, *module.parameters()], dy))
    return _calls(_inferred(forward))


@torch.no_grad()
def mixer(row: dict[str, Any]) -> tuple[Sample, list[float]]:
    """Tokens of one layer after a prefill, with or without its projections."""
    P, T = row["prefill"], row["tokens"]
    module = build_operator(row["width"], row["max_length"], recurrent=row["recurrent"]).eval()
    shape = (row["batch"], P + T, row["width"])
    u = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    states = [module.prefill(one[None, :P], future=T)[1] for one in u]
    start = type(states[0]).join(states)
    tokens = u[:, P:].transpose(0, 1).contiguous()
    step, given = module.step, None
    if row["bare"]:
        given, bare = Given(module.in_proj(tokens)), copy.copy(module)
        bare._modules = {**module._modules, "in_proj": given, "out_proj": nn.Identity()}
        step = bare.step

    def begin() -> Any:
        if given is not None:
            given.at = 0
        return start.copy()

    return _tokens(step, begin, tokens.unbind())


@torch.no_grad()
def model(row: dict[str, Any]) -> tuple[Sample, list[float]]:
    """Tokens of a whole model after a prefill."""
    P, T = row["prefill"], row["tokens"]
    sizes: dict[str, Any] = {"max_length": P + T}
    if row["recurrent"]:
        ssm = dataclasses.replace(hyena.ModelConfig().ssm, state=row["recurrent"])
        sizes |= {"filter": hyena.FilterConfig(kind="s4d"), "ssm": ssm}
    if row["preset"] is None:
        config = hyena.ModelConfig(width=row["width"], layers=row["layers"], **sizes)
    else:
        config = hyena.preset(row["preset"], **sizes)
    whole = hyena.LanguageModel(config, generator=torch.Generator().manual_seed(0))
    whole = whole.to(torch.bfloat16 if row["bf16"] else torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(0, config.vocab_size, (1, P), generator=generator)
    tokens = torch.randint(0, config.vocab_size, (T, row["batch"]), generator=generator)
    _, one = whole.prefill(prompt, future=T, last_only=True)
    start = one.select([0] * row["batch"])
    return _tokens(whole.step, start.copy, tokens.unbind())


_WORK = {"convolution": convolution, "operator": operator, "mixer": mixer, "model": model}


class Given(nn.Module):
    """In the place of a projection: hands out, call by call, what that has made before."""

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.z, self.at = z.unbind(), 0

    def forward(self, u: Tensor) -> Tensor:
        self.at += 1
        return self.z[self.at - 1]


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
    once = min(_timed(call, 1) for _ in range(2))
    inner = max(1, math.ceil(_SHORTEST / once))
    return lambda: _timed(call, inner), numbers


def _tokens(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    begin: Callable[[], Any],
    tokens: Sequence[Tensor],
) -> tuple[Sample, list[float]]:
    """A sample goes through all tokens, since those that complete a block cost more."""

    @torch.no_grad()
    def go(tokens: Sequence[Tensor]) -> tuple[float, Tensor]:
        state = begin()
        start = time.perf_counter()
        for token in tokens:
            y, _ = step(token, state)
        return (time.perf_counter() - start) / len(tokens), y

    seconds, y = go(tokens[:_FIRST_TOKENS])
    if seconds * _WARM_UP_TOKENS < _LONG:
        go(tokens[:_WARM_UP_TOKENS])
    return lambda: go(tokens)[0], _some(y)


def _timed(call: Callable[[], object], inner: int) -> float:
    begin = time.perf_counter()
    for _ in range(inner):
        call()
    return (time.perf_counter() - begin) / inner


def _some(x: Tensor) -> list[float]:
    """Numbers of a tensor from all its parts."""
    flat = x.detach().flatten()
    return flat[:: max(1, len(flat) // _KEPT)].double().tolist()


if __name__ == "__main__":
    main()
