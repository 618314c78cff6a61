"""What an attention layer remembers of a sequence: the keys and values of its tokens.

Sizes: B batch, H heads of keys and values, t tokens so far, E head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.mixers.attention.rotary import Turns
from hyena.ops.stepping.states import State, check_alike, normal_tensors

_FEWEST = 16  # tokens to make room for at least


class AttentionState(State):
    """Keys and values of the tokens so far, in buffers that a step fills in place.

    Args:
        k, v: (B, H, t, E), keys rotated.
        mask: (B, t) bool, True at real tokens; None if all are.
        room: for so many tokens more.
        starts: (B,) int64, the column of each row's first token, from which its rotary positions
            count; None if that is the first column.

    Attributes: ``length`` t, the tokens so far; ``k``, ``v`` and ``mask`` of them; ``batch`` B;
        ``sizes`` (H, E).
    """

    def __init__(
        self,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        room: int = 0,
        starts: Tensor | None = None,
    ) -> None:
        if k.dim() != 4 or v.shape != k.shape:
            raise ValueError(
                f"AttentionState: expected k and v (B, H, t, E), got {tuple(k.shape)} and "
                f"{tuple(v.shape)}"
            )
        if v.dtype != k.dtype:
            raise ValueError(f"AttentionState: k is {k.dtype} but v is {v.dtype}")
        self.batch, heads, self.length, head_dim = k.shape
        self.sizes = (heads, head_dim)
        self.turns: Turns | None = None  # of the mixer, for as many positions as there is room
        self._k, self._v, self._mask, self.starts = k, v, mask, starts
        if room:
            self.reserve(self.length + room)

    @property
    def k(self) -> Tensor:
        return self._k[:, :, : self.length]

    @property
    def v(self) -> Tensor:
        return self._v[:, :, : self.length]

    @property
    def mask(self) -> Tensor | None:
        return None if self._mask is None else self._mask[:, : self.length]

    @property
    def device(self) -> torch.device:
        return self._k.device

    @property
    def dtype(self) -> torch.dtype:
        return self._k.dtype

    def positions(self, columns: int | Tensor) -> int | Tensor:
        """Of these columns, one or (L,), in each row: as they are if they are the same in all, else
        (B, 1) or (B, 1, L)."""
        if self.starts is None:
            return columns
        at = torch.as_tensor(columns, device=self.starts.device) - self.starts[:, None]
        return at if isinstance(columns, int) else at[:, None]

    @property
    def capacity(self) -> int:
        """Tokens that the buffers have room for."""
        return self._k.shape[2]

    def reserve(self, capacity: int) -> None:
        """Moves to buffers for so many tokens."""
        with normal_tensors():
            self._k, self._v = (_widened(x, self.length, capacity) for x in (self._k, self._v))
            if self._mask is not None:  # what is to come is real
                room = capacity - self.length
                self._mask = F.pad(self._mask[:, : self.length], (0, room), value=True)
        self.turns = None

    def make_room(self, tokens: int) -> None:
        """For so many tokens more. Buffers that are too small are doubled at least: all the moves
        together then cost about what the last one does, instead of one for each piece."""
        needed = self.length + tokens
        if needed > self.capacity:
            self.reserve(max(needed, 2 * self.length, _FEWEST))

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """One more token, k and v (B, H, E), for which there is room: all keys, values and mask."""
        self._k[:, :, self.length], self._v[:, :, self.length] = k, v
        self.length += 1
        return self.k, self.v, self.mask

    def extend(self, k: Tensor, v: Tensor, room: int | None) -> None:
        """Some more tokens, k and v (B, H, n, E), and room for so many others beside; none is room
        for any number, made as it is needed."""
        start, end = self.length, self.length + k.shape[2]
        if room is None:
            self.make_room(k.shape[2])
        elif end + room > self.capacity:
            self.reserve(end + room)
        self.length = end
        self.k[:, :, start:], self.v[:, :, start:] = k, v

    def rewound(self, length: int) -> AttentionState:
        """A state of the first tokens, so many, in the same buffers: what comes later is written
        over, by either."""
        start = self._of(lambda x: x)
        start.length = length
        return start

    @classmethod
    def join(cls, states: Sequence[AttentionState]) -> AttentionState:
        """See `MixerState.join`; what has no mask is joined with one of ones."""
        masked = any(x.mask is not None for x in states)
        parts = [x._masked().tensors() if masked else x.tensors() for x in states]
        check_alike("AttentionState", parts, [x.settings() for x in states])
        with normal_tensors():
            whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        room = max(x.capacity for x in states) - states[0].length
        return AttentionState(whole["k"], whole["v"], whole.get("mask"), room, whole.get("starts"))

    @classmethod
    def gather(cls, states: Sequence[AttentionState], shifts: Sequence[int]) -> AttentionState:
        """See `MixerState.gather`: rows with fewer tokens have padding before them, and their keys
        stay as they were turned."""
        with normal_tensors():
            moved = [x._moved(shift) for x, shift in zip(states, shifts, strict=True)]
        gathered = cls.join(moved)
        if gathered.starts is not None and not bool(gathered.starts.any()):
            gathered.starts = None
            if gathered.mask is not None and bool(gathered.mask.all()):
                gathered._mask = None
        return gathered

    def tensors(self) -> dict[str, Tensor]:
        found = {"k": self.k, "v": self.v}
        if self.mask is not None:
            found["mask"] = self.mask
        return found if self.starts is None else {**found, "starts": self.starts}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, int]
    ) -> AttentionState:
        k, v = tensors["k"], tensors["v"]
        return cls(k, v, tensors.get("mask"), starts=tensors.get("starts"))

    def _moved(self, shift: int) -> AttentionState:
        """With so many columns of padding before it, or as many fewer, and a mask."""
        whole = self._masked()
        k, v = (F.pad(x, (0, 0, shift, 0)) for x in (whole.k, whole.v))
        starts = k.new_zeros(self.batch, dtype=torch.int64) if self.starts is None else self.starts
        assert whole.mask is not None
        room = self.capacity - self.length
        return AttentionState(k, v, F.pad(whole.mask, (shift, 0)), room, starts + shift)

    def _of(self, change: Callable[[Tensor], Tensor]) -> AttentionState:
        """With other buffers, room included."""
        with normal_tensors():
            mask = None if self._mask is None else change(self._mask)
            starts = None if self.starts is None else change(self.starts)
            other = AttentionState(change(self._k), change(self._v), mask, starts=starts)
        other.length = self.length
        if other._k.device == self._k.device:
            other.turns = self.turns
        return other

    def _masked(self) -> AttentionState:
        """With a mask, be it of ones."""
        if self._mask is not None:
            return self
        k, v = self.k, self.v
        mask = k.new_ones(k.shape[0], self.length, dtype=torch.bool)
        return AttentionState(k, v, mask, starts=self.starts)


def _widened(x: Tensor, length: int, capacity: int) -> Tensor:
    """The first ``length`` columns of x (B, H, ·, E), in memory for ``capacity``."""
    wide = x.new_empty(*x.shape[:2], capacity, x.shape[3])
    wide[:, :, :length] = x[:, :, :length]
    return wide
