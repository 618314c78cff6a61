"""Does one piece of work in one process and says what it took: the file is run by its path, with
the Python of this build or of an older one, and uses only what every build has in public.

It reads one JSON object from standard input, a `hyena.bench.model.cases.Work` and "threads", and
answers with one on standard output: the seconds of each call, bytes at the peak and before the
calls, some numbers by which builds are compared, and which build it is; or "failed", one line.

Sizes: B batch, L length, T tokens that are generated.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena import __version__
from hyena.data import PrepareConfig, prepare
from hyena.model import LanguageModel, ModelConfig, preset
from hyena.training import OptimizerConfig, adamw

Call = Callable[[], list[float]]
"""Does the work once; some of its numbers."""

Works = dict[str, Callable[[dict[str, Any]], Call]]
"""By kind, what makes the call that a request asks for."""

_STATUS = Path("/proc/self/status")
_PACKAGE = Path(inspect.getfile(LanguageModel)).parents[1]
_QUIET: dict[str, Any] = {"check": True, "capture_output": True, "text": True}
_KEPT = 61  # numbers of an output that are handed back, or a few more; no power of two
_PIECE = 10_000  # bytes of a document
_LINE = "the time has come for us to read what they had written of it, and more than that. "


def main(works: Works | None = None) -> None:
    """Does what standard input asks for, of these kinds of work; none means those of this file."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="hyena")
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    _limit()
    json.dump(answer(request, works), answers)
    answers.close()


def answer(request: dict[str, Any], works: Works | None = None) -> dict[str, Any]:
    """What became of a request; "failed" if it cannot be done: an old build may lack anything."""
    try:
        call = (works or _WORK)[request["work"]](request)
        before, seconds = _resident(), []
        for _ in range(request["calls"]):
            begin = time.perf_counter()
            numbers = call()
            seconds.append(time.perf_counter() - begin)
    except Exception as problem:
        return {"failed": f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"}
    found = {"seconds": seconds, "peak": peak(), "before": before, "numbers": numbers}
    return {**found, "build": build()}


def build() -> dict[str, str]:
    """What tells the build apart that does the work: its version, a digest of its Python files,
    the kernel's name and digest, PyTorch's version; and the commit, if it is a tracked folder."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")):
        digest.update(file.read_bytes())
    found = {"hyena": __version__, "sources": digest.hexdigest()[:12]}
    found["torch"] = torch.__version__
    try:
        from hyena.machine import convolution

        found["kernel"] = convolution()["kernel"]
    except (ImportError, KeyError):  # of a build older than these
        pass
    git = ["git", "-C", str(_PACKAGE)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], **_QUIET)
        named = subprocess.run([*git, "describe", "--always", "--dirty"], **_QUIET).stdout
        found["commit"] = named.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return found


def forward(request: dict[str, Any]) -> Call:
    """Logits of all positions without gradients: plain, padded by a column, or of documents."""
    model, ids = _model(request).eval(), _tokens(request)
    options: dict[str, Tensor] = {}
    if request["layout"] == "padded":
        options["mask"] = torch.ones_like(ids, dtype=torch.bool)
        options["mask"][0, 0] = False
    elif request["layout"] == "documents":
        B, L = ids.shape
        options["document_ids"] = (torch.arange(L) * 10 // L).expand(B, L)

    def call() -> list[float]:
        with torch.no_grad():
            return _some(model(ids, **options))

    return call


def train(request: dict[str, Any]) -> Call:
    """A step of training: loss, gradients, AdamW."""
    model, ids = _model(request).train(), _tokens(request, 1)
    model.activation_checkpointing = request["checkpointing"]
    optimizer = adamw(model, OptimizerConfig())
    inputs, targets = ids[:, :-1], ids[:, 1:]
    takes_targets = "targets" in inspect.signature(model.forward).parameters

    def loss_of() -> Tensor:
        if takes_targets:
            loss: Tensor = model(inputs, targets=targets)
            return loss
        return F.cross_entropy(model(inputs).flatten(0, 1).float(), targets.flatten())

    def call() -> list[float]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=request["bf16"]):
            loss = loss_of()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return [loss.item()]

    return call


def prompt(request: dict[str, Any]) -> Call:
    """A prompt given whole, and tokens after it."""
    model, T = _model(request).eval(), request["tokens"]
    ids = _tokens(request, T)

    @torch.no_grad()
    def call() -> list[float]:
        logits, state = model.prefill(ids[:, : ids.shape[1] - T], future=T, last_only=True)
        for token in ids[:, ids.shape[1] - T :].unbind(1):
            logits, state = model.step(token, state)
        return _some(logits)

    return call


def continued(request: dict[str, Any]) -> Call:
    """A block of tokens after as many, which a state has read: in one prefill, or before there was
    one step by step."""
    model, L = _model(request).eval(), request["length"]
    ids = _tokens(request, L)
    in_one = "state" in inspect.signature(model.prefill).parameters
    with torch.no_grad():
        _, start = model.prefill(ids[:, :L], last_only=True)

    @torch.no_grad()
    def call() -> list[float]:
        state = start.copy()
        if in_one:
            logits, _ = model.prefill(ids[:, L:], last_only=True, state=state)
            return _some(logits)
        for token in ids[:, L:].unbind(1):
            logits, state = model.step(token, state)
        return _some(logits)

    return call


def prefill(request: dict[str, Any]) -> Call:
    """The logits of a prompt's last position, and a state that can go on."""
    model, ids = _model(request).eval(), _tokens(request)

    @torch.no_grad()
    def call() -> list[float]:
        return _some(model.prefill(ids, last_only=True)[0])

    return call


def prepared(request: dict[str, Any]) -> Call:
    """Token files of a text of ASCII, on one line or cut by a separator every 10 kB."""
    folder, separator = tempfile.mkdtemp(), request["separator"] or ""
    source, out = Path(folder, "text.txt"), Path(folder, "tokens")
    piece = (_LINE * (_PIECE // len(_LINE) + 1))[: _PIECE - len(separator)] + separator
    with source.open("w") as file:
        for _ in range(request["length"] // _PIECE):
            file.write(piece)
    options: dict[str, Any] = {"validation": 0.0, "test": 0.0, "separator": separator or None}

    def call() -> list[float]:
        prepare(PrepareConfig(source, out, **options))
        return [float(sum(file.stat().st_size for file in out.glob("*.bin")))]

    weakref.finalize(call, shutil.rmtree, folder)
    return call


_WORK: Works = {
    "forward": forward,
    "train": train,
    "prompt": prompt,
    "continued": continued,
    "prefill": prefill,
    "prepare": prepared,
    "build": lambda request: list,  # nothing but to say which it is
}


def config_of(request: dict[str, Any]) -> ModelConfig:
    """The model of a request."""
    sizes = {"max_length": request["length"] * (2 if request["work"] == "continued" else 1)}
    sizes["max_length"] += request["tokens"]
    if request["preset"] is None:
        return ModelConfig(**request["model"], **sizes)
    return preset(request["preset"], **request["model"], **sizes)


def _model(request: dict[str, Any]) -> LanguageModel:
    """With the same weights each time."""
    return LanguageModel(config_of(request), generator=torch.Generator().manual_seed(0))


def _tokens(request: dict[str, Any], more: int = 0) -> Tensor:
    """(B, L + more), the same each time."""
    vocabulary = request["vocabulary"]
    shape = request["batch"], request["length"] + more
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(1))


def _some(x: Tensor) -> list[float]:
    """Numbers of a tensor from all its parts."""
    flat = x.detach().flatten()
    return flat[:: max(1, len(flat) // _KEPT)].double().tolist()


def _limit() -> None:
    """What does not fit into the memory that is free fails here, and disturbs no other process."""
    info = Path("/proc/meminfo")
    if info.is_file():
        import resource

        free = _field("MemAvailable", info)
        resource.setrlimit(resource.RLIMIT_DATA, (free, free))


def _resident() -> int | None:
    """Bytes now; None if the system does not say."""
    return _field("VmRSS", _STATUS) if _STATUS.is_file() else None


def peak() -> int:
    """Bytes of this process at most. Where the system has no status of it, what it counts may have
    those of the process that started it.

    Raises: RuntimeError where it does not count them.
    """
    if _STATUS.is_file():
        return _field("VmHWM", _STATUS)
    try:
        import resource
    except ImportError as error:  # Windows
        raise RuntimeError(
            "the memory of whole models is read from /proc or counted by Python's module resource, "
            "and this system has neither; measure them on Linux or macOS"
        ) from error
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _field(name: str, file: Path) -> int:
    lines = (line.split() for line in file.read_text().splitlines())
    return next(1024 * int(line[1]) for line in lines if line[:1] == [f"{name}:"])


if __name__ == "__main__":
    main()
