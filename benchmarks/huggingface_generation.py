"""What transformers' `generate` costs a Hyena model, and how fast rivals of equal size are in it.

    python benchmarks/huggingface_generation.py
    python benchmarks/huggingface_generation.py --quick   # tiny models, to see that it runs

The 125M preset with random weights, float32, batch 1, greedy, 128 new tokens. After a prompt of
2,048 tokens the same weights generate by `hyena.generation.generate` and by transformers. After
8,192 they run beside transformers' own Mamba-2, shaped as mamba2-130m, and LFM2, of our width and
depth with two gated short convolutions to one attention layer, all by transformers' `generate`.
Layers of the one, and the width of the other's MLPs, make their parameters as many as ours.

The prompt's time is that to the first token; the time of a token is the mean of those after it.
Contenders take turns, another one beginning each time, after a prompt that is not counted. Before
that, logits that `generate` found step by step are compared with those of one pass.

Results go to benchmarks/results/huggingface_HARDWARE_DATE, or to --out; a run that was interrupted
goes on. Needs the extra `hf`.
"""

import argparse
import datetime
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena import LanguageModel, ModelConfig
from hyena.bench import folder
from hyena.bench.goals import Goal, Results, faster, ratio
from hyena.bench.reference import relative_error, seeded
from hyena.bench.report import bullets, figure, goal_rows, lines, not_measured
from hyena.bench.report import time as median_and_quartiles
from hyena.bench.timing import Timing, quartiles, rounds, without_collector
from hyena.data.packages import require
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.generation import stream
from hyena.machine import convolution, hardware, setting
from hyena.model import preset

CONTENDERS = {
    "direct": "Hyena, by hyena.generation.generate",
    "hyena": "Hyena, by transformers",
    "mamba2": "Mamba-2, by transformers",
    "lfm2": "LFM2, by transformers",
}
TOLERANCE = 1e-4  # relative L2 error of logits step by step, against one pass
CHECKED_PROMPT, CHECKED_TOKENS = 70, 70  # more than a block of our exact generation


@dataclass(frozen=True)
class Case:
    """Contenders that continue the same prompt."""

    contenders: tuple[str, ...]
    prompt: int
    tokens: int = 128
    repeats: int = 3
    preset: str | None = "125M"
    width: int = 128
    layers: int = 3
    """Width and layers of ours without a preset."""

    @property
    def key(self) -> str:
        """The name of the case and of its file."""
        return f"{self.preset or f'D{self.width}'}-P{self.prompt}"

    def __str__(self) -> str:
        return f"{self.preset or f'D={self.width}'}, prompt {self.prompt}"

    def config(self) -> ModelConfig:
        """Of our model."""
        length = max(self.prompt + self.tokens, CHECKED_PROMPT + CHECKED_TOKENS)
        if self.preset is not None:
            return preset(self.preset, max_length=length)
        return ModelConfig(width=self.width, layers=self.layers, max_length=length)


FULL = (Case(("direct", "hyena"), 2048, repeats=5), Case(("hyena", "mamba2", "lfm2"), 8192))
QUICK = tuple(
    Case(case.contenders, 40, tokens=4, repeats=2, preset=None, width=width)
    for case, width in zip(FULL, (64, 128), strict=True)
)


class Run(NamedTuple):
    """Seconds to the first token, seconds a token after it, and the tokens."""

    prefill: float
    decode: float
    tokens: list[int]


class Watch:
    """A streamer that notes when `generate` hands it something: the prompt, then token by token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """There is nothing to be done."""


def by_transformers(model: Any, prompt: Tensor, count: int) -> Run:
    """Continues a prompt (1, P) by so many tokens, 2 or more, by the model's own ``generate``."""
    watch = Watch()
    begin = time.perf_counter()
    found = model.generate(prompt, max_new_tokens=count, do_sample=False, streamer=watch)
    return _run(begin, watch.times[1:], found[0, prompt.shape[1] :].tolist())


def directly(model: LanguageModel, prompt: Tensor, count: int) -> Run:
    """The same by `stream`, of which `hyena.generation.generate` is the loop."""
    times: list[float] = []
    begin = time.perf_counter()
    with stream(model, prompt.tolist(), max_new_tokens=count, temperature=0) as events:
        times.extend(time.perf_counter() for _ in events)
    return _run(begin, times, events.generations[0].tokens)


def _run(begin: float, times: Sequence[float], tokens: list[int]) -> Run:
    return Run(times[0] - begin, (times[-1] - times[0]) / (len(times) - 1), tokens)


def ours(case: Case) -> Any:
    """Our model as one of transformers."""
    from hyena.huggingface import HyenaForCausalLM

    generator = torch.Generator().manual_seed(0)
    return HyenaForCausalLM.from_language_model(
        LanguageModel(case.config(), generator=generator).eval()
    )


def mamba2(config: ModelConfig, size: int) -> Any:
    """The configuration of a Mamba-2 shaped as mamba2-130m, of about this many parameters."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    return nearest(
        Mamba2ForCausalLM,
        lambda layers: Mamba2Config(
            num_hidden_layers=layers,
            num_heads=2 * config.width // 64,
            head_dim=64,
            state_size=128,
            n_groups=1,
            tie_word_embeddings=True,
            **_common(config),
        ),
        size,
    )


def lfm2(config: ModelConfig, size: int) -> Any:
    """The configuration of an LFM2 as deep as ours, of about this many parameters."""
    from transformers import Lfm2Config, Lfm2ForCausalLM

    heads = config.width // 64
    kinds = ("conv", "conv", "full_attention")
    return nearest(
        Lfm2ForCausalLM,
        lambda mlp_width: Lfm2Config(
            num_hidden_layers=config.layers,
            intermediate_size=mlp_width,
            block_auto_adjust_ff_dim=False,
            num_attention_heads=heads,
            num_key_value_heads=max(1, heads // 2),
            layer_types=[kinds[i % 3] for i in range(config.layers)],
            **_common(config),
        ),
        size,
    )


RIVALS: dict[str, Callable[[ModelConfig, int], Any]] = {"mamba2": mamba2, "lfm2": lfm2}


def _common(config: ModelConfig) -> dict[str, Any]:
    """What rivals have of ours, and no token that would end a text."""
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return {"vocab_size": config.vocab_size, "hidden_size": config.width, **ends}


def nearest(kind: Any, config_of: Callable[[int], Any], size: int) -> Any:
    """The configuration with the n ≥ 1 for which a model of this kind, whose parameters are linear
    in n, has about ``size`` of them."""
    one, two = (parameters(kind, config_of(n)) for n in (1, 2))
    return config_of(max(1, 1 + round((size - one) / (two - one))))


def parameters(kind: Any, config: Any) -> int:
    """How many a model has, the tied head not counted again."""
    with torch.device("meta"):
        return int(kind(config).num_parameters())


def rival(name: str, config: ModelConfig, size: int) -> Any:
    """Transformers' own model of random weights."""
    from transformers import AutoModelForCausalLM

    with seeded():
        return AutoModelForCausalLM.from_config(RIVALS[name](config, size)).eval()


def step_error(model: Any, vocabulary: int) -> float:
    """Relative L2 error of the logits by which ``generate`` chose tokens, against one pass."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(vocabulary, (1, CHECKED_PROMPT), generator=generator)
    found = model.generate(
        ids,
        max_new_tokens=CHECKED_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    got = torch.stack(found.logits, dim=1)  # (1, T, V)
    whole = model(found.sequences[:, :-1], use_cache=False).logits
    return relative_error(got, whole[:, CHECKED_PROMPT - 1 :])


@torch.no_grad()
def measure(case: Case, _: Results | None = None) -> folder.Result:
    """A case's times and errors.

    Returns: "row", the case; "times" by contender and part, of which "prefill" is of the whole
        prompt and "decode" of a token; "seconds", those of each run; "parameters" and "errors" by
        contender; "skipped", why a rival was left out; or instead "failed", one line.
    """
    record: folder.Result = {"row": asdict(case), "skipped": {}}
    mine = ours(case)
    config, size = mine.model.config, mine.num_parameters()
    models = {"direct": mine, "hyena": mine}
    models |= {name: rival(name, config, size) for name in case.contenders if name in RIVALS}
    models = {name: models[name] for name in case.contenders}
    record["parameters"] = {name: int(m.num_parameters()) for name, m in models.items()}
    errors = {
        name: step_error(m, config.vocab_size) for name, m in models.items() if name != "direct"
    }
    for name, error in errors.items():
        if not error <= TOLERANCE:  # which a NaN is not
            why = f"steps differ from one pass by {error:.1e}, more than {TOLERANCE:.0e}"
            if name == "hyena":
                return {**record, "failed": f"{why}; nothing of this case was timed"}
            record["skipped"][name] = why
    runs = {
        name: partial(directly, m.model) if name == "direct" else partial(by_transformers, m)
        for name, m in models.items()
        if name not in record["skipped"]
    }
    generator = torch.Generator().manual_seed(2)
    prompt = torch.randint(config.vocab_size, (1, case.prompt), generator=generator)
    found = in_turns(runs, prompt, case.tokens, case.repeats)
    if len({tuple(run.tokens) for name in ("direct", "hyena") for run in found.get(name, [])}) > 1:
        return {**record, "failed": "the tokens of hyena.generation and transformers differ"}
    return {**record, "errors": errors, **timings(found)}


def in_turns(
    runs: Mapping[str, Callable[[Tensor, int], Run]], prompt: Tensor, tokens: int, repeats: int
) -> dict[str, list[Run]]:
    """Each contender's runs, which take turns after one that is not counted."""
    for run in runs.values():
        run(prompt, 2)
    found: dict[str, list[Run]] = {name: [] for name in runs}
    with without_collector():
        for name in rounds(dict.fromkeys(runs, repeats)):
            got = runs[name](prompt, tokens)
            found[name].append(got)
            said = f"{got.prefill:.3g} s for the prompt, {1e3 * got.decode:.3g} ms a token"
            print(f"{CONTENDERS[name]}: {said}", flush=True)
    return found


def timings(found: Mapping[str, list[Run]]) -> dict[str, Any]:
    """Seconds of all runs, and their medians and quartiles."""
    seconds = {
        f"{name}, {part}": [getattr(run, part) for run in its]
        for name, its in found.items()
        for part in ("prefill", "decode")
    }
    times = {name: Timing(*quartiles(its), len(its), 1)._asdict() for name, its in seconds.items()}
    return {"times": times, "seconds": seconds}


def goals(cases: Sequence[Case] = FULL) -> list[Goal]:
    """What is to be reached."""
    first, second = cases
    after = "{}, batch 1, after {} tokens".format
    size = first.preset or "tiny"
    where = after(size, second.prompt)
    rows = [
        (
            "tokens/s of transformers' generate, against hyena.generation",
            after(size, first.prompt),
            0.9,
            faster(first.key, "hyena, decode", "direct, decode"),
        )
    ]
    wanted = (("Mamba-2", "mamba2", "prefill", 2.0), ("Mamba-2", "mamba2", "decode", 2.0))
    for label, name, part, target in (*wanted, ("LFM2", "lfm2", "prefill", 1.0)):
        words = "the prompt" if part == "prefill" else "a token"
        measure = faster(second.key, f"hyena, {part}", f"{name}, {part}")
        rows.append((f"{words}, against {label} of equal size", where, target, measure))
    return [Goal(i, *row[:3], True, row[3]) for i, row in enumerate(rows, 1)]


def report(results: Results, where: Mapping[str, Any], wanted: Sequence[Goal]) -> str:
    """The whole report as Markdown."""
    notes = [
        *(f"{name}: {value}" for name, value in where.items()),
        "prompt: seconds to the first token; ms a token: the mean of those after it; both the "
        "median over the runs, with quartiles; × Hyena: times as long as Hyena by transformers",
        "error: relative L2 of the logits of 70 steps after 70 tokens, against one pass",
    ]
    rows = [
        _line(result, name)
        for result in results.values()
        for name in result["row"]["contenders"]
        if f"{name}, decode" in result.get("times", {})
    ]
    parts = ["# Generation by transformers", bullets(notes)]
    if rows:
        parts += ["## Goals", table(goal_rows(wanted, results, CONTENDERS))]
        parts += ["## Times", table(lines(rows))]
    return "\n\n".join([*parts, *not_measured(results, CONTENDERS)]) + "\n"


def _line(result: folder.Result, name: str) -> dict[str, str]:
    """What there is of a contender, by column."""
    row, times = result["row"], result["times"]
    prefill, decode = times[f"{name}, prefill"], times[f"{name}, decode"]
    seconds = [f"{prefill[part]:.3g}" for part in ("median", "lower", "upper")]
    against = {
        part: ""
        if name == "hyena"
        else figure(ratio(times, f"{name}, {part}", f"hyena, {part}")[0])
        for part in ("prefill", "decode")
    }
    return {
        "prompt": str(row["prompt"]),
        "new": str(row["tokens"]),
        "contender": CONTENDERS[name],
        "parameters": f"{result['parameters'][name]:,}",
        "prompt, s": "{} ({}–{})".format(*seconds),
        "prompt, × Hyena": against["prefill"],
        "ms a token": median_and_quartiles(decode),
        "tokens/s": f"{1 / decode['median']:.4g}",
        "token, × Hyena": against["decode"],
        "runs": str(decode["samples"]),
        "error": f"{result['errors'][name]:.1e}" if name in result["errors"] else "",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a case could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--threads", type=int, help="default: PyTorch's number")
    parser.add_argument("--quick", action="store_true", help="tiny models, seconds")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    asked = parser.parse_args(arguments)
    if asked.threads is not None and asked.threads < 1:
        parser.error(f"--threads: expected at least 1, got {asked.threads}")
    require("transformers", "generation by transformers", "hyena[hf]")
    import transformers

    cases = QUICK if asked.quick else FULL
    before = torch.get_num_threads()
    torch.set_num_threads(asked.threads or before)
    transformers.utils.logging.set_verbosity_error()
    try:
        where = {**setting(), **convolution(), "transformers": transformers.__version__}
        del where["command"]  # of which a run that goes on may have another
        name = f"huggingface{'-quick' * asked.quick}_{hardware()}_{datetime.date.today():%Y-%m-%d}"
        out = asked.out or Path("benchmarks/results", name)
        if asked.fresh:
            folder.clear(out)
        folder.open_folder(out, where, again="--fresh")
        results = folder.run(cases, out, measure)
    except (OSError, ValueError) as error:
        sys.exit(f"huggingface_generation: {error}")
    finally:
        torch.set_num_threads(before)
    wanted = goals(cases)
    document = {"setting": where, "goals": [goal.record(results) for goal in wanted]}
    folder.write_json(out / "results.json", {**document, "rows": results})
    text = report(results, where, wanted)
    write_text(out / "table.md", text)
    print(text)
    return int(any("failed" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
