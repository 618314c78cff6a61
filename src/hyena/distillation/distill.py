"""A model whose Hyena layers are recurrences, made from one whose filters are not; how near it is.

Sizes: D channels, F long convolutions a layer, L lags, n numbers in a channel's state, V token ids.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from hyena.arguments import check_whole, shown
from hyena.distillation.fit import Fit, check_order, fit
from hyena.distillation.modes import Modes, rational
from hyena.filters import DiagonalSSM, HyenaFilter, LongFilter, TransferFunctionTaps
from hyena.filters.precision import wide
from hyena.generation.model import check_model
from hyena.mixers import HyenaOperator
from hyena.model import FilterConfig, LanguageModel
from hyena.model.build import layers_in_words
from hyena.ops.arguments import check_numbers, check_tensor

Form = Literal["modal", "rational"]


class Layer(NamedTuple):
    """What became of the filters of a Hyena layer, of which there are F · D."""

    block: int  # its index
    fit: Fit  # before the parameters were rounded to the model's precision
    error: Tensor  # (F, D): ‖h − ĥ‖/‖h‖ of the filters that are in the distilled model


class Distilled(NamedTuple):
    """A distilled model and how near its filters are."""

    model: LanguageModel
    layers: tuple[Layer, ...]

    @property
    def order(self) -> int:
        """n: numbers in the state of a channel, the same in all layers."""
        config = self.model.config
        rational = config.filter.kind == "transfer-function"
        return config.filter.degree if rational else config.filter_state


def distill(
    model: LanguageModel,
    *,
    tolerance: float | None = 1e-2,
    state: int | None = None,
    largest: int = 256,
    length: int | None = None,
    form: Form = "modal",
    progress: Callable[[int, int], None] | None = None,
) -> Distilled:
    """Gives each layer "hyena" of a model filters with a state of constant size.

    The filters, of any kind, are replaced by recurrences that equal them at lags 0 … L − 1 as far
    as the tolerance or the order says; everything else is copied. All channels have a state of the
    size that the hardest one needs. Lag 0 is exact, since the skip beside a filter takes the rest.
    Layers "hyena-se", "hyena-mr" and "hyena-li" have such a state, and stay as they are.
    A recurrence goes on beyond L, where the filter it was made from has ended or says something
    else: the distilled model's length_policy is "extrapolate", unless learned positions forbid it.

    Args:
        model: any `LanguageModel` with Hyena layers, which is not changed.
        tolerance: largest relative error of a filter, above 0. The state is as large as it takes.
        state: n, even, instead of a tolerance.
        largest: the largest n that a tolerance may take. Filters that are not within the tolerance
            by then are as near as the search came; see `Layer.error`.
        length: L, max_length if not given; longer for a model that is used beyond it, with the
            length policy "extrapolate".
        form: "modal", a `hyena.filters.DiagonalSSM`; or "rational", the same poles as a
            `hyena.filters.TransferFunctionTaps`, which float32 can hold for few of them only.
        progress: called now and then with the filters that are done and their number.

    Returns: the model, in evaluation mode on the device of the other, in the same precision but
        with filters in float32 or wider; and its layers.
    Raises: TypeError if it is no model; ValueError if it has no Hyena layer, the settings cannot
        be, the length policy refuses the length, or the rational form of so many poles cannot be
        stepped.
    """
    check_settings(
        model, tolerance=tolerance, state=state, largest=largest, length=length, form=form
    )
    operators = _operators(model)
    L = model.config.max_length if length is None else length
    D = model.config.width
    count = D * (model.config.order - 1)
    total = count * len(operators)
    taps, fits = {}, {}
    for done, (i, operator) in enumerate(operators.items()):

        def report(filters: int, _: int, before: int = done * count) -> None:
            if progress is not None:
                progress(before + filters, total)

        taps[i] = exact_taps(operator.filter, L)
        rows = taps[i].flatten(0, 1)[:, 1:]
        wanted = tolerance if state is None else None
        fits[i] = fit(rows, tolerance=wanted, order=state, largest=largest, progress=report)
    order = max(2, *(int(found.order.max()) for found in fits.values()), state or 0)
    filters = {
        i: _filter(operator.filter, fits[i].modes.widened(order // 2), taps[i], form)
        for i, operator in operators.items()
    }
    layers = [
        Layer(i, fits[i], _error(filter, operators[i].filter, taps[i]))
        for i, filter in filters.items()
    ]
    return Distilled(_with_filters(model, filters, order, form), tuple(layers))


def _with_filters(
    model: LanguageModel, filters: dict[int, LongFilter], order: int, form: Form
) -> LanguageModel:
    """The model with other filters in its Hyena layers, of which there is one for each."""
    filter = FilterConfig(kind="s4d", state=order)
    if form == "rational":
        filter = FilterConfig(kind="transfer-function", degree=order)
    policy = model.config.length_policy if model.config.positions == "learned" else "extrapolate"
    config = dataclasses.replace(model.config, filter=filter, length_policy=policy)
    tensors = {
        name: value.detach().clone()
        for name, value in model.state_dict().items()
        if ".mixer.filter." not in name or int(name.split(".")[1]) not in filters
    }
    for i, new in filters.items():
        tensors |= {f"blocks.{i}.mixer.filter.{k}": v for k, v in new.state_dict().items()}
    result = LanguageModel(config, device="meta")
    result.label_head = copy.deepcopy(model.label_head)
    result.load_state_dict(tensors, assign=True)
    return result.to(model.embedding.weight.device).eval()


@torch.no_grad()
def exact_taps(filter: HyenaFilter | LongFilter, length: int) -> Tensor:
    """The taps of lags 0 … length − 1 in float64 on the CPU, (F, D, length)."""
    taps: Tensor = copy.deepcopy(filter).cpu().double().eval()(length)
    return taps


@torch.no_grad()
def _filter(old: HyenaFilter | LongFilter, modes: Modes, taps: Tensor, form: Form) -> LongFilter:
    """The distilled filter on the CPU."""
    F_, D, _ = taps.shape
    n, dtype = 2 * modes.rate.shape[1], wide(old.direct.dtype)
    module: DiagonalSSM | TransferFunctionTaps
    skip = old.direct.cpu().double()
    if form == "modal":
        module = DiagonalSSM(D, filters=F_, state=n, dtype=dtype)
        z = torch.complex(-modes.rate, modes.frequency)
        held = modes.weight * z / torch.expm1(z)  # so that the step of 1 gives the weight back
        module.log_step.zero_()
        module.log_decay.copy_(modes.rate.log().view(F_, D, -1))
        module.frequency.copy_(modes.frequency.view(F_, D, -1))
        module.weight.copy_(torch.view_as_real(held).view(F_, D, -1, 2))
        skip = skip + taps[..., 0] - module(1)[..., 0].double()
    else:
        module = TransferFunctionTaps(D, n, filters=F_, dtype=dtype)
        reflection, numerator = rational(modes, taps[..., 0].flatten())
        module.reflection.copy_(reflection.view(F_, D, -1))
        module.numerator.copy_(numerator.view(F_, D, -1))
        if not _steppable(module):
            raise ValueError(
                f"distill: the filters as ratios of polynomials of degree {n} are too "
                f'ill-conditioned for {dtype}; choose form "modal", or a smaller state'
            )
    filter = LongFilter(
        module, D, old.max_length, filters=F_, length_policy="extrapolate", dtype=dtype
    )
    filter.direct.copy_(skip)
    return filter


def _steppable(taps: TransferFunctionTaps) -> bool:
    if not all(bool(parameter.isfinite().all()) for parameter in taps.parameters()):
        return False
    try:
        taps.recurrence()
    except ValueError:
        return False
    return True


@torch.no_grad()
def _error(new: LongFilter, old: HyenaFilter | LongFilter, taps: Tensor) -> Tensor:
    """Relative errors (F, D) with what the skip takes at lag 0; 0 for a filter of zeros."""
    difference = new(taps.shape[-1]).double() - taps
    difference[..., 0] += new.direct.double() - old.direct.cpu().double()
    norm = taps[..., 1:].norm(dim=-1)
    error = difference.norm(dim=-1) / torch.where(norm > 0, norm, 1.0)
    return torch.where(norm > 0, error, 0.0)


def check_settings(
    model: LanguageModel,
    *,
    tolerance: float | None,
    state: int | None,
    largest: int,
    length: int | None,
    form: str,
) -> None:
    """Raises ValueError or TypeError if `distill` would refuse these before it begins."""
    check_model("distill", model, LanguageModel)
    if not _operators(model):
        raise ValueError(
            "distill: the model has no Hyena layer whose filters could become recurrences, so "
            f"there is nothing to distil; it has {layers_in_words(model.config)}"
        )
    for name, value in (("largest", largest), ("length", length), ("state", state)):
        if name == "largest" or value is not None:
            check_whole(f"distill: {name}", value, None)
    if tolerance is not None:
        check_numbers("distill", tolerance=tolerance)
    if not isinstance(form, str) or form not in get_args(Form):
        raise ValueError(f'distill: expected form "modal" or "rational", got {shown(form)}')
    if state is None and (tolerance is None or not tolerance > 0):
        raise ValueError(f"distill: expected a tolerance above 0 or a state, got {tolerance}")
    if largest < 2 or largest % 2:
        raise ValueError(f"distill: expected an even largest state ≥ 2, got {largest}")
    if length is not None and length < 5:
        raise ValueError(f"distill: expected a length of 5 lags or more, got {length}")
    limit, policy = model.config.max_length, model.config.length_policy
    L = limit if length is None else length
    if policy == "interpolate" and limit < L:
        raise ValueError(
            f"distill: {L} lags exceed max_length {limit}, and with length_policy "
            '"interpolate" the filters change with the length; give no longer length'
        )
    if policy == "error" and limit < L:
        raise ValueError(
            f"distill: {L} lags exceed max_length {limit}, where the filters end; give no longer "
            'length, or load the model with length_policy "extrapolate" (--length_policy '
            "extrapolate)"
        )
    if state is not None:
        check_order(state, L - 1)


def _operators(model: LanguageModel) -> dict[int, HyenaOperator]:
    """The operators with the filters of ``config.filter``, by the index of their blocks. Those of
    StripedHyena 2, which have other names, have a state of one size as they are."""
    named = zip(model.config.layer_mixers(), model.blocks, strict=True)
    mixers = {i: block.mixer for i, (name, block) in enumerate(named) if name == "hyena"}
    return {i: mixer for i, mixer in mixers.items() if isinstance(mixer, HyenaOperator)}


@torch.no_grad()
def logit_error(teacher: LanguageModel, student: LanguageModel, inputs: Iterable[Tensor]) -> float:
    """‖z′ − z‖/‖z‖ over the logits z of one model and z′ of the other at all positions.

    A constant added to the logits of a position changes no probability, so the mean over the
    vocabulary is taken out of each first.

    Args:
        teacher, student: the models, on one device, in evaluation mode.
        inputs: token ids (L,), a tensor a sequence.

    Returns: the relative error, 0 if the teacher's logits are all alike.
    Raises: TypeError if one is no `hyena.LanguageModel`; TypeError or ValueError on other inputs.
    """
    for model in (teacher, student):
        check_model("logit_error", model, LanguageModel)
    if not isinstance(inputs, Iterable):
        raise TypeError(f"logit_error: expected inputs, tensors of ids, got {shown(inputs)}")
    device, V = teacher.embedding.weight.device, teacher.config.vocab_size
    apart = whole = 0.0
    for ids in inputs:
        check_tensor("logit_error", "inputs", ids)
        if ids.is_meta:
            raise ValueError("logit_error: an input is on meta, without values; put it on the CPU")
        z, other = (
            model(ids[None].to(device))[..., :V].double().cpu() for model in (teacher, student)
        )
        z, other = (x - x.mean(-1, keepdim=True) for x in (z, other))
        apart += float((other - z).square().sum())
        whole += float(z.square().sum())
    return (apart / whole) ** 0.5 if whole else 0.0
