"""Memory of a prefill and of the state it leaves; to be used in a fresh process."""

from dataclasses import replace
from typing import Any

import torch

from hyena.bench.generation.cases import Case
from hyena.bench.generation.held import held_bytes
from hyena.bench.generation.mixers import build_mixer, random_inputs
from hyena.bench.memory import peak_of, resident

_WARM_UP_CONTEXT = 256


def measure_prefill(case: Case, name: str) -> dict[str, Any]:
    """Memory of one prefill of a mixer; libraries are set up by a short one first.

    Returns: bytes: "state", behind the state's tensors, room for the case's tokens included;
        "stays", resident memory after the prefill beyond what was there before, which has besides
        what the filter keeps for all sequences; "call" and "process", see
        `hyena.bench.memory.Peak`. Those that the system does not tell are left out.
    """
    _prefill(replace(case, context=min(case.context, _WARM_UP_CONTEXT)), name)()
    call = _prefill(case, name)
    states: list[object] = []
    before = resident()
    peak = peak_of(lambda: states.append(call()))
    after = resident()
    found: dict[str, Any] = {"state": held_bytes(states[0])}
    if before is not None and after is not None:
        found["stays"] = max(0, after - before)
    return found if isinstance(peak, str) else {**found, **peak._asdict()}


def _prefill(case: Case, name: str) -> Any:
    """A call that returns the state alone."""
    mixer = build_mixer(name, case.width, case.context + case.tokens)
    u = random_inputs(case.batch, case.context, case.width)

    @torch.no_grad()
    def call() -> object:
        return mixer.prefill(u, future=case.tokens)[1]

    return call
