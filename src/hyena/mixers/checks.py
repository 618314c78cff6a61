"""What mixers are given: sizes, inputs, masks, documents, states; one clear line if it is wrong."""

from numbers import Real
from typing import Any

import torch
from torch import Tensor, float64, is_autocast_enabled, is_grad_enabled, nn, strided
from torch import bool as torch_bool
from torch import dtype as torch_dtype

from hyena.arguments import as_whole, shown
from hyena.ops import Segments
from hyena.ops.arguments import LARGEST, check_size, check_sizes, check_tensor
from hyena.ops.observed import Observer, mapped, observer, records_program


def check_input(name: str, u: Tensor, width: int, dtype: torch_dtype | None = None) -> None:
    """Raises TypeError unless u is a tensor, and ValueError unless it is (B, L, width), and of
    ``dtype``, that of the weights, if that is given and autocast does not convert."""
    check_tensor(name, "u", u)
    if u.dim() != 3 or u.shape[-1] != width:
        raise ValueError(f"{name}: expected u (B, L, {width}), got {tuple(u.shape)}")
    check_dtype(name, u, dtype)


def check_dtype(name: str, u: Tensor, dtype: torch_dtype | None, called: str = "u is") -> None:
    """Raises ValueError if u is not of the weights' dtype, and autocast does not convert both."""
    if dtype in (None, u.dtype):
        return
    if float64 in (u.dtype, dtype) or not is_autocast_enabled(u.device.type):
        raise ValueError(
            f"{name}: {called} {u.dtype} but the weights are {dtype}; convert one of them with "
            ".to(...)"
        )


def check_mask(name: str, mask: Tensor | None, batch: int, length: int) -> None:
    """Raises TypeError or ValueError unless mask is None or a bool tensor (B, L), True at real
    tokens."""
    check_tensor(name, "mask", mask, optional=True)
    if mask is None:
        return
    if mask.dtype != torch_bool or mask.shape != (batch, length):
        raise ValueError(
            f"{name}: expected mask of bool (B, L) = ({batch}, {length}), True at real tokens; "
            f"got {tuple(mask.shape)} of {mask.dtype}"
        )


def check_gaps(name: str, mask: Tensor | None, segments: Segments | None) -> None:
    """Raises ValueError if padding lies between the real tokens of a row or packed document.

    A CUDA device is not waited for, and a program that is recorded checks its masks when it runs:
    there PyTorch's own error, RuntimeError, has the same line. Under `torch.func.vmap` and on the
    device "meta" a mask has no values, and nothing is checked.
    """
    if mask is None:
        return
    who = observer((mask,))
    if not _has_values(mask, who):
        return
    # Rolled, not sliced: an exported program may take any length, L − 1 = 1 among them.
    first = torch.arange(mask.shape[1], device=mask.device) == 0
    starts = first | ~mask.roll(1, 1)
    if segments is not None:
        starts = starts | (segments.ids != segments.ids.roll(1, 1))
    starts = (starts & mask).int()  # where runs of real tokens begin
    if segments is None:
        runs = starts.sum(1)
    else:  # an id is at most its column
        runs = torch.zeros_like(starts).scatter_add(1, segments.ids, starts)
    whole = (runs <= 1).all()
    problem = (
        f"{name}: expected padding at the ends of each row or packed document, got padding between "
        "real tokens; move the real tokens together"
    )
    if mask.is_cuda or who in ("program", "ops"):
        torch._assert_async(whole, problem)
    elif not bool(whole):
        raise ValueError(problem)


def _has_values(mask: Tensor, who: Observer) -> bool:
    """Whether a mask that this observer sees has values that can be read, now or in a program."""
    return not (mask.is_meta or (who == "transform" and (records_program() or mapped(mask))))


def check_left_padding(name: str, mask: Tensor | None) -> None:
    """Raises ValueError if padding follows a real token in a row, or if a row is padding only;
    without values, nothing is checked."""
    if mask is None or not _has_values(mask, observer((mask,))):
        return
    stops = mask[:, :-1] & ~mask[:, 1:]  # a real token before padding
    if not bool(mask[:, -1:].all()) or bool(stops.any()):
        raise ValueError(
            f"{name}.prefill: expected padding on the left only, got rows with padding at the end "
            "or between tokens; move their tokens to the right end"
        )


def wrong_state(name: str, state: object, kind: type[Any]) -> TypeError | ValueError:
    """The error of a mixer's method for a state that is none of its, whose are of this kind."""
    if not isinstance(state, kind):
        return TypeError(
            f"{name}: expected {kind.__name__}, got {type(state).__name__}; pass what "
            "prefill or step of this mixer returned"
        )
    return ValueError(
        f"{name}: the state, a {type(state).__name__}, is that of a mixer of another kind or "
        "size; pass what prefill or step of this mixer returned"
    )


def check_lengths(name: str, length: Any, future: Any) -> tuple[int, int | None]:
    """Both as ints; future may be None. Raises TypeError or ValueError unless they are numbers of
    tokens."""
    length = check_size(f"{name}.state_size", "length", length)
    if future is not None:
        future = check_size(f"{name}.state_size", "future", future)
    return length, future


def check_future(name: str, future: Any) -> int | None:
    """The future as an int. Raises ValueError unless it is None or a number of tokens."""
    whole = None if future is None else as_whole(future)
    if future is not None and not (whole is not None and 0 <= whole <= LARGEST):
        raise ValueError(
            f"{name}.prefill: expected future ≥ 0 tokens, got {shown(future)}; at most 2^48 can be "
            "planned"
        )
    return whole


def check_keep_inputs(name: str, keep_inputs: object) -> None:
    """Raises ValueError unless it is True, False or a dtype of floating point."""
    if not isinstance(keep_inputs, bool | torch_dtype) or (
        isinstance(keep_inputs, torch_dtype) and not keep_inputs.is_floating_point
    ):
        raise ValueError(
            f"{name}.prefill: expected keep_inputs True, False or a dtype such as torch.bfloat16, "
            f"got {shown(keep_inputs)}"
        )


def check_no_gradient(name: str, module: nn.Module, u: Tensor) -> None:
    """Raises ValueError where a gradient would be recorded: the state is written to in place, and
    knows none of the tokens before."""
    if is_grad_enabled() and (u.requires_grad or any(p.requires_grad for p in module.parameters())):
        raise ValueError(
            f"{name}: generation records no gradients; call it under torch.no_grad() or "
            "torch.inference_mode(), or differentiate forward instead"
        )


def check_dropout(name: str, dropout: Any) -> float:
    """``dropout`` as a float. Raises ValueError unless it is a probability below 1."""
    if not (isinstance(dropout, Real) and 0 <= float(dropout) < 1):
        raise ValueError(f"{name}: expected 0 ≤ dropout < 1, got {shown(dropout)}")
    return float(dropout)


def check_heads(
    name: str, width: int, head_dim: int | None, *, times: int = 1, even: bool = False
) -> tuple[int, int]:
    """``width`` and ``head_dim``, by default 64, or ``width`` if that is smaller. Raises ValueError
    unless it divides ``times`` · width, and is even if it has to be."""
    (width,) = check_sizes(name, width=width)
    (head_dim,) = check_sizes(name, head_dim=min(64, width) if head_dim is None else head_dim)
    if times * width % head_dim or (even and head_dim % 2):
        kind, whole = "an even" if even else "a", "width" if times == 1 else f"{times} · width"
        raise ValueError(
            f"{name}: expected {kind} head_dim that divides {whole}, got width={width}, "
            f"head_dim={head_dim}"
        )
    return width, head_dim


def check_kv_heads(name: str, heads: int, kv_heads: int | None) -> int:
    """``kv_heads``, by default as many as ``heads``. Raises ValueError unless it divides them."""
    if kv_heads is None:
        return heads
    (kv_heads,) = check_sizes(name, kv_heads=kv_heads)
    if heads % kv_heads:
        raise ValueError(
            f"{name}: expected kv_heads that divides heads, got heads={heads}, kv_heads={kv_heads}"
        )
    return kv_heads


def check_token(name: str, u: Tensor, width: int, state: Any) -> None:
    """Raises TypeError or ValueError unless u is one token a row of the state, (B, width), and no
    float64 that it would round."""
    if not isinstance(u, Tensor) or u.layout is not strided:
        check_tensor(f"{name}.step", "u", u)
    if u.shape != (state.batch, width):
        raise ValueError(
            f"{name}.step: expected u (B, D) = ({state.batch}, {width}), got {tuple(u.shape)}"
        )
    if not u.is_floating_point():
        raise ValueError(f"{name}.step: expected u of floating point, got {u.dtype}")
    _check_precision(f"{name}.step", u, state)


def check_block(name: str, u: Tensor, mask: Tensor | None, state: Any) -> None:
    """Raises ValueError unless u (B, L, D) has the rows of the state, without a mask, and is no
    float64 that it would round."""
    if mask is not None:
        raise ValueError(
            f"{name}.prefill: expected no mask beside a state, since padding stands only before "
            "the first tokens of a row; give the mask in the prefill of those"
        )
    if u.shape[0] != state.batch:
        raise ValueError(
            f"{name}.prefill: expected u (B, L, D) of the state's B = {state.batch} rows, got "
            f"{tuple(u.shape)}"
        )
    _check_precision(f"{name}.prefill", u, state)


def _check_precision(name: str, u: Tensor, state: Any) -> None:
    if u.dtype == float64 and state.dtype != float64:
        raise ValueError(
            f"{name}: u is {u.dtype} but the state is {state.dtype}, which would round what "
            f"follows; read the prompt anew in {u.dtype}, or go on in {state.dtype}"
        )


def segments_of(
    name: str,
    document_ids: Tensor | Segments | None,
    cu_seqlens: Tensor | None,
    tokens: Tensor,
) -> Segments | None:
    """The packed documents of ``tokens`` (B, L, …), or None if every row is one document.

    Raises: TypeError on what is no tensor; ValueError if both arguments are given, do not fit the
        batch, or are on another device.
    """
    batch, length = tokens.shape[:2]
    check_tensor(name, "cu_seqlens", cu_seqlens, optional=True)
    if not isinstance(document_ids, Segments):
        check_tensor(name, "document_ids", document_ids, optional=True)
    if document_ids is not None and cu_seqlens is not None:
        raise ValueError(f"{name}: give document_ids or cu_seqlens, not both")
    if cu_seqlens is not None:
        segments = Segments.from_cu_seqlens(cu_seqlens, batch, length)
    elif isinstance(document_ids, Segments):
        segments = document_ids
    elif document_ids is not None:
        segments = Segments.from_document_ids(document_ids)
    else:
        return None
    if segments.ids.shape != (batch, length):
        raise ValueError(
            f"{name}: expected document_ids (B, L) = ({batch}, {length}), "
            f"got {tuple(segments.ids.shape)}"
        )
    if segments.ids.device != tokens.device:
        raise ValueError(
            f"{name}: the tokens are on {tokens.device} but their documents on "
            f"{segments.ids.device}; move one of them"
        )
    return None if segments.trivial else segments
