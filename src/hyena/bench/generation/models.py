"""Whole models that generate: Hyena, exact and with recurrent filters, and attention.

The weights are random, and so are the tokens: times do not hang on them.

Sizes: B batch, P context, T tokens, V vocabulary.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from hyena.bench import reference
from hyena.bench.generation.cases import BASELINES, Case
from hyena.bench.generation.mixers import FEWEST, RECURRENT_TOLERANCE, STATE
from hyena.bench.generation.tokens import Course, stepping
from hyena.bench.generation.weights import TOLERANCES, bytes_of, narrowed, weights_of
from hyena.bench.reference import ATTENTION_TOLERANCE
from hyena.mixers import AttentionState
from hyena.mixers.projections import product_of_step
from hyena.model import LanguageModel, ModelConfig, ModelState, preset
from hyena.model.config import FilterConfig, SSMConfig

_READS = 64  # passes over the weights in a repetition, at most
_TOLERANCE = {"attention": ATTENTION_TOLERANCE, "distilled": RECURRENT_TOLERANCE}
_HYENA_TOLERANCE = 1e-4  # rounding adds up over the layers
# Models are checked at a short context, whose full forward pass in float64 is quick enough for
# every one of them; the tokens close two blocks, so that tiles of both sizes are among them.
_CHECKED_CONTEXT, _CHECKED_TOKENS, _CHECKED_BATCH = 100, 150, 2


def config_of(name: str, case: Case) -> ModelConfig:
    """The model of a contender: "hyena", "distilled" or "attention"."""
    length = max(case.context + case.tokens, _CHECKED_CONTEXT + _CHECKED_TOKENS)
    changes: dict[str, object] = {"max_length": length}
    if name == "attention":
        changes["mixers"] = "attention"
    if name == "distilled":
        changes |= {"filter": FilterConfig(kind="s4d"), "ssm": SSMConfig(state=STATE)}
    if case.preset is not None:
        return preset(case.preset, **changes)
    return ModelConfig(width=case.width, layers=case.layers, **changes)  # type: ignore[arg-type]


def read_bytes(model: LanguageModel) -> int:
    """Bytes of the weights that each token has to read: all but the filters', whose taps are kept.

    The embedding counts, since it is the head as well.
    """
    named = model.named_parameters()
    return sum(bytes_of(p) for name, p in named if ".mixer.filter." not in name)


@torch.no_grad()
def model_courses(
    case: Case, names: tuple[str, ...]
) -> tuple[dict[str, Course], dict[str, dict[str, float]], dict[str, str]]:
    """The contenders of a case of whole models.

    Returns: courses, and of each "parameters", "read_bytes" and "error", the relative L2 error of
        the logits of a short text against the model in float64, as it was before its weights were
        rounded; and why a baseline was left out, whose error is larger than rounding explains.
    Raises: ValueError on a name that is unknown, or if the error of one of ours is that large.
    """
    courses: dict[str, Course] = {}
    facts: dict[str, dict[str, float]] = {}
    wrong: dict[str, str] = {}
    for name in names:
        if name.startswith("read"):
            continue
        kind, _, _ = name.partition("_")
        if kind not in ("hyena", "distilled", "attention"):
            raise ValueError(f"models have hyena, distilled and attention, but not {name}")
        generator = torch.Generator().manual_seed(0)
        model = LanguageModel(config_of(kind, case), generator=generator).eval()
        ids, truth = _truth(model)
        model = narrowed(model, weights_of(name))
        facts[name] = {
            "parameters": model.parameter_count(),
            "read_bytes": read_bytes(model),
            "error": _error(model, ids, truth),
        }
        why = _too_far(name, facts[name]["error"])
        if why and (name not in BASELINES or len(names) == 1):
            raise ValueError(f"{name}: {why}; nothing of this case was timed")
        if why:
            wrong[name] = why
        else:
            courses[name] = _course(model, kind, case)
    most = max((int(found["read_bytes"]) for found in facts.values()), default=0)
    for name in names:
        if name.startswith("read"):
            courses[name] = _reading(name, most)
    return courses, facts, wrong


def need(case: Case, name: str) -> float:
    """Bytes that a contender may hold at its peak; from above."""
    if name.startswith("read"):
        return 0.0
    config = config_of(name.partition("_")[0], case)
    D, L = config.width, case.context + case.tokens
    weights = 4.0 * (config.layers * D * (5 * D + 2 * config.hidden) + config.padded_vocab * D)
    if name == "attention":
        return 4 * weights + 4.0 * (2 * config.layers * case.batch + 4) * D * L
    # Spectra that filters keep, and the widest of what a prefill of one row computes.
    return 4 * weights + 4.0 * L * (2 * config.layers * D + 2 * config.hidden + 16 * D)


def _course(model: LanguageModel, kind: str, case: Case) -> Course:
    generator = torch.Generator().manual_seed(1)
    vocabulary = (0, model.config.vocab_size)
    prompt = torch.randint(*vocabulary, (1, case.context), generator=generator)
    tokens = torch.randint(*vocabulary, (case.tokens, case.batch), generator=generator).unbind()
    if kind == "attention":
        start = random_cache(model, case.batch, case.context, case.tokens)
    else:
        _, one = model.prefill(prompt, future=case.tokens, last_only=True)
        start = one.select([0] * case.batch)
    fewest = None if kind == "hyena" else FEWEST
    return stepping(model.step, start, _again, tokens, fewest=fewest)


def random_cache(model: LanguageModel, batch: int, context: int, room: int) -> ModelState:
    """The state of an attention model after some context, with random keys and values: what a
    prefill takes O(L²) for. The times of steps do not hang on them."""
    config = model.config
    E = config.width // config.heads
    generator = torch.Generator().manual_seed(2)
    k, v = torch.randn(2, 1, 1, context, E, generator=generator).to(model.norm.weight.dtype)
    shape = (batch, config.heads, context, E)
    layers = [
        AttentionState(k.expand(shape), v.expand(shape), room=room) for _ in range(config.layers)
    ]
    return ModelState(layers, context)


def _again(start: ModelState) -> ModelState:
    """A state to go on from that leaves the start as it is. Buffers of keys and values are shared:
    what comes later is written over."""
    layers = [
        layer.rewound(start.length) if isinstance(layer, AttentionState) else layer.copy()
        for layer in start.layers
    ]
    return ModelState(layers, start.length)


def _truth(model: LanguageModel) -> tuple[Tensor, Tensor]:
    """Some tokens, and the logits of the last of them by the forward pass in float64."""
    P, T = _CHECKED_CONTEXT, _CHECKED_TOKENS
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, model.config.vocab_size, (_CHECKED_BATCH, P + T), generator=generator)
    return ids, copy.deepcopy(model).double()(ids)[:, P:]


def _error(model: LanguageModel, ids: Tensor, truth: Tensor) -> float:
    """Of the logits of these tokens, step by step."""
    P, T = _CHECKED_CONTEXT, _CHECKED_TOKENS
    _, state = model.prefill(ids[:, :P], future=T, last_only=True)
    got = torch.stack([model.step(ids[:, P + i], state)[0] for i in range(T)], dim=1)
    return reference.relative_error(got, truth)


def _too_far(name: str, error: float) -> str:
    """Why a contender with this error is not timed, one line, or nothing."""
    usual = _TOLERANCE.get(name, _HYENA_TOLERANCE)
    tolerance = TOLERANCES.get(weights_of(name), usual)
    if error <= tolerance:  # which a NaN is not
        return ""
    return f"logits differ from float64 by {error:.1e}, more than {tolerance:.0e}"


def _reading(name: str, size: int) -> Course:
    """Reads so many bytes, which are those of the weights of a model in float32."""
    columns = 1024
    weights = torch.full((max(1, size // (4 * columns)), columns), 0.5)
    ones = torch.ones(1, columns)
    calls: dict[str, Callable[[], Tensor]] = {
        "read_sum": weights.sum,
        "read_mv": lambda: weights @ ones[0],
        "read_kernel": lambda: product_of_step(ones, weights),
    }
    if name not in calls:
        raise ValueError(f"weights are read by {', '.join(calls)}, but not {name}")
    call = calls[name]
    return Course(lambda: lambda i: call(), _READS, 2)
