"""Files of `hyena export`: how large they are, how far from the model, and how fast.

    python benchmarks/exported_models.py
    python benchmarks/exported_models.py --quick                # tiny models
    python benchmarks/exported_models.py --only "bytes, onnx"   # rows with this in their names

Random weights, float32, batch 1. "bytes" is a model of 4 layers of width 256 with a vocabulary of
bytes and filters of 2,048 positions; "recurrent" the same with filters that are recurrences of 64
numbers a channel, as a distilled model has them; "125M" the paper's preset.

Errors are of the logits of random tokens, against the model; of a step, the largest after 20
tokens. A file that is too far off is not timed. Times are of calls in turns with the model itself,
by its kernel, as it runs in Python; a step's, of a call each with the state passed on.

Results go to benchmarks/results/exported-models_HARDWARE_DATE, or to --out; a run that was
interrupted goes on. Needs the extra `export`, and a C++ compiler for AOTInductor.
"""

import argparse
import datetime
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from hyena import LanguageModel, ModelConfig
from hyena.bench import folder, time_in_turns
from hyena.bench.generation.mixers import STATE
from hyena.bench.goals import Results
from hyena.bench.reference import relative_error
from hyena.bench.report import bullets, figure, lines, not_measured
from hyena.bench.report import time as median_and_quartiles
from hyena.data.packages import require
from hyena.export import initial_state, step_to_onnx, to_aotinductor, to_onnx, to_program
from hyena.export.onnx_files import INSTALL
from hyena.export.parity import STEPS, loaded
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.machine import convolution, hardware, setting
from hyena.model import preset
from hyena.model.config import FilterConfig, SSMConfig

TOLERANCE = 2e-5  # relative L2 error with which a file is still timed
KINDS = {
    "torch": "torch.export",
    "aotinductor": "AOTInductor",
    "onnx": "ONNX",
    "onnx-step": "ONNX, a step",
}


@dataclass(frozen=True)
class Case:
    """A model as a file of one kind, and the lengths at which that is called."""

    model: str
    to: str
    lengths: tuple[int, ...]
    fixed: bool = False
    """The file takes the first of the lengths alone."""
    tiny: bool = False
    contenders: tuple[str, ...] = ("file", "model")

    @property
    def key(self) -> str:
        """The name of the case and of its file."""
        return f"{self.model}-{self.to}-{self.lengths[0] if self.fixed else 'any'}"

    def __str__(self) -> str:
        return f"{self.model}, {self.to}, {self.lengths[0] if self.fixed else 'any'}"

    def config(self) -> ModelConfig:
        """Of the model."""
        longest = 40 if self.tiny else 2048
        if self.model == "125M" and not self.tiny:
            return preset("125M", max_length=longest)
        sizes: dict[str, Any] = {"width": 16, "layers": 1} if self.tiny else {"width": 256}
        if self.model == "recurrent":  # is timed for more steps than it has filters for
            sizes |= {"filter": FilterConfig(kind="s4d"), "ssm": SSMConfig(state=STATE)}
            sizes |= {"length_policy": "extrapolate"}
        return ModelConfig(**sizes, max_length=longest)


def cases(*, tiny: bool = False) -> list[Case]:
    """All rows: lengths 2^a, 3 · 2^a and an odd one."""
    lengths = (32, 24, 31) if tiny else (1024, 1536, 1023)
    found = [Case("bytes", to, lengths, tiny=tiny) for to in ("torch", "aotinductor", "onnx")]
    found += [Case("bytes", "onnx", (length,), fixed=True, tiny=tiny) for length in lengths]
    found.append(Case("recurrent", "onnx-step", (1,), tiny=tiny))
    return found + [Case("125M", to, lengths[:1], tiny=tiny) for to in ("torch", "onnx")]


@torch.no_grad()
def measure(case: Case, _: Results | None = None, *, seconds: float = 4.0) -> folder.Result:
    """A case's file: its size, errors and times.

    Args: the case; the budget of the calls at a length.
    Returns: "row", the case; "parameters"; "bytes" of the file and what lies beside it; "exported"
        seconds; by length "errors", relative L2 and the largest relative to the largest logit, and
        "times" of the file and the model; or "failed", one line.
    """
    record: folder.Result = {"row": asdict(case), "skipped": {}}
    model = LanguageModel(case.config(), generator=torch.Generator().manual_seed(0)).eval()
    record["parameters"] = model.parameter_count()
    try:
        with TemporaryDirectory() as place:
            file = Path(place, "model.onnx" if case.to.startswith("onnx") else "model.pt2")
            begin = time.perf_counter()
            export(case, model, file)
            record["exported"] = time.perf_counter() - begin
            record["bytes"] = sum(each.stat().st_size for each in Path(place).iterdir())
            if case.to == "onnx-step":
                return {**record, **of_steps(model, file, seconds)}
            run = in_onnx(file) if case.to == "onnx" else loaded(file, case.to)
            return {**record, **of_calls(case, model, run, seconds)}
    except Exception as problem:
        from_onnxruntime = type(problem).__module__.startswith("onnxruntime")  # and of no base
        if not (isinstance(problem, ImportError | RuntimeError | ValueError) or from_onnxruntime):
            raise
        return {**record, "failed": f"{type(problem).__name__}: {' '.join(str(problem).split())}"}


def export(case: Case, model: LanguageModel, file: Path) -> None:
    """Writes the file."""
    length = case.lengths[0] if case.fixed else None
    if case.to == "onnx-step":
        step_to_onnx(model, file)
    elif case.to == "onnx":
        to_onnx(model, file, length=length)
    elif case.to == "aotinductor":
        to_aotinductor(model, file, length=length)
    else:
        torch.export.save(to_program(model, length=length), file)


def session(file: Path) -> Any:
    """Of onnxruntime, with PyTorch's number of threads, which do not wait for work when a call is
    done: that would take them from the other contender."""
    require("onnxruntime", "running an ONNX file", INSTALL)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def in_onnx(file: Path) -> Callable[[Tensor], Tensor]:
    """Runs a whole model."""
    its = session(file)
    return lambda ids: torch.from_numpy(its.run(None, {"input_ids": ids.numpy()})[0])


class Step:
    """The file of a step, which goes on from the state that it left."""

    def __init__(self, file: Path) -> None:
        self.session = session(file)
        self.state = initial_state(self.session)

    def __call__(self, token: Tensor) -> Tensor:
        """The logits (1, V) after a token (1,)."""
        logits, *after = self.session.run(None, {"input_ids": token.numpy(), **self.state})
        self.state = dict(zip(self.state, after, strict=True))
        return torch.from_numpy(logits)


def of_calls(
    case: Case, model: LanguageModel, run: Callable[[Tensor], Tensor], seconds: float
) -> dict[str, Any]:
    """Errors and times of whole passes, by length."""
    generator = torch.Generator().manual_seed(1)
    found: dict[str, Any] = {"errors": {}, "times": {}}
    for length in case.lengths:
        ids = torch.randint(model.config.vocab_size, (1, length), generator=generator)
        found["errors"][str(length)] = error(run(ids), model(ids))
        if why := too_far(found["errors"]):
            return {"errors": found["errors"], "failed": why}
        calls = {f"file, {length}": partial(run, ids), f"model, {length}": partial(model, ids)}
        times = time_in_turns(calls, seconds=seconds, repeats=100)
        found["times"] |= {name: each._asdict() for name, each in times.items()}
    return found


def of_steps(model: LanguageModel, file: Path, seconds: float) -> dict[str, Any]:
    """The largest error of a step's logits after each token, and its time."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(model.config.vocab_size, (STEPS, 1), generator=generator)
    step = Step(file)
    each = [error(step(x), y) for x, y in zip(ids, model(ids.t())[0], strict=True)]
    errors = {"1": {kind: max(its[kind] for its in each) for kind in each[0]}}
    if why := too_far(errors):
        return {"errors": errors, "failed": why}
    _, state = model.prefill(ids.t())
    calls = {"file, 1": partial(step, ids[0]), "model, 1": partial(model.step, ids[0], state)}
    times = time_in_turns(calls, seconds=seconds, repeats=100)
    return {"errors": errors, "times": {name: each._asdict() for name, each in times.items()}}


def error(got: Tensor, expected: Tensor) -> dict[str, float]:
    """Relative L2, and the largest difference against the largest value."""
    apart = (got.double() - expected.double()).abs().max() / expected.double().abs().max()
    return {"l2": relative_error(got, expected), "max": float(apart)}


def too_far(errors: Mapping[str, Mapping[str, float]]) -> str:
    """Why a file with these errors is not timed, one line, or nothing."""
    for length, its in errors.items():
        if not its["l2"] <= TOLERANCE:  # which a NaN is not
            return f"at length {length} it differs from the model by {its['l2']:.1e}"
    return ""


def report(results: Results, where: Mapping[str, Any]) -> str:
    """The whole report as Markdown."""
    notes = [
        *(f"{name}: {value}" for name, value in where.items()),
        "MB: the file with what lies beside it; the weights in float32 alone are parameters, MB",
        "error: of the logits against the model, relative L2; largest: the largest difference, "
        "against the largest logit",
        "ms: a call of the file and of the model, the median with quartiles; ratio: file / model",
    ]
    rows = [_line(result, length) for result in results.values() for length in _lengths(result)]
    parts = ["# Exported models", bullets(notes)]
    if rows:
        parts += ["## Files", table(lines(rows))]
    return "\n\n".join([*parts, *not_measured(results)]) + "\n"


def _lengths(result: folder.Result) -> list[str]:
    return list(result["errors"]) if "times" in result else []


def _line(result: folder.Result, length: str) -> dict[str, str]:
    """What there is of a file at a length, by column."""
    row, errors = result["row"], result["errors"][length]
    its, models = (result["times"][f"{name}, {length}"] for name in ("file", "model"))
    return {
        "model": row["model"],
        "parameters, MB": f"{4 * result['parameters'] / 1e6:.1f}",
        "file": KINDS[row["to"]],
        "takes": "one length" if row["fixed"] else "a token" if row["to"] == "onnx-step" else "any",
        "MB": f"{result['bytes'] / 1e6:.1f}",
        "exported in, s": figure(result["exported"]),
        "length": length,
        "error": f"{errors['l2']:.1e}",
        "largest": f"{errors['max']:.1e}",
        "file, ms": median_and_quartiles(its),
        "model, ms": median_and_quartiles(models),
        "ratio": figure(its["median"] / models["median"]),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in ("onnxruntime", "onnxscript"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a case could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--threads", type=int, help="default: PyTorch's number")
    parser.add_argument("--seconds", type=float, default=4.0, help="of the calls at a length")
    parser.add_argument("--only", default="", help="rows with this in their names")
    parser.add_argument("--quick", action="store_true", help="tiny models")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    asked = parser.parse_args(arguments)
    if asked.threads is not None and asked.threads < 1:
        parser.error(f"--threads: expected at least 1, got {asked.threads}")
    if not asked.seconds > 0:
        parser.error(f"--seconds: expected more than 0, got {asked.seconds}")
    every = cases(tiny=asked.quick)
    chosen = [case for case in every if asked.only in str(case)]
    if not chosen:
        names = "; ".join(map(str, every))
        parser.error(f"--only: no row has {asked.only!r} in its name; they are {names}")
    before = torch.get_num_threads()
    torch.set_num_threads(asked.threads or before)
    try:
        where = {**setting(), **convolution(), **_versions(), "seconds": asked.seconds}
        del where["command"]  # of which a run that goes on may have another
        name = f"exported-models{'-quick' * asked.quick}_{hardware()}"
        out = asked.out or Path("benchmarks/results", f"{name}_{datetime.date.today():%Y-%m-%d}")
        if asked.fresh:
            folder.clear(out)
        folder.open_folder(out, where, again="--fresh")
        results = folder.run(chosen, out, partial(measure, seconds=asked.seconds))
    except (OSError, ValueError) as problem:
        sys.exit(f"exported_models: {problem}")
    finally:
        torch.set_num_threads(before)
    results = {case.key: results[case.key] for case in every if case.key in results}
    folder.write_json(out / "results.json", {"setting": where, "rows": results})
    text = report(results, where)
    write_text(out / "table.md", text)
    print(text)
    return int(any("failed" in results[case.key] for case in chosen))


if __name__ == "__main__":
    sys.exit(main())
