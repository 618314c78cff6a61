r"""Long convolutions one position at a time: an output is wanted before the next input is known.

Inputs and outputs are cut into blocks of S positions. An input adds to the outputs of its own block
at once. To those of later blocks it adds in tiles: when the t-th position has come, t a multiple of
S, and U is the largest power of two that divides t, then the last U inputs add to the next U
outputs. So every pair of an input and a later output is in one tile or block, and T positions cost
O(T log² T): the relaxed product of van der Hoeven, used for generation as in Flash Inference
(arXiv:2410.12982). What inputs before the first position add is computed at once, for as many
outputs as are planned (as in FutureFill, arXiv:2410.03766).

Sizes: B batch, F convolutions that take turns at each position, D channels of each, T positions
that are planned, S positions of a block, U of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.ops.arguments import check_size, check_tensor
from hyena.ops.backend import Backend
from hyena.ops.long import long_conv
from hyena.ops.native.step import NativeStep, OnlineStep, takes
from hyena.ops.observed import transformed
from hyena.ops.spectrum import FilterSpectrum, filter_spectrum
from hyena.ops.stepping.states import State, check_alike, normal_tensors

BLOCK = 64  # S; a power of two


class OnlineFilter:
    """What online convolution reads of F filters: their first taps, and their spectra for tiles.

    Args:
        limit: the most taps that the filters have; None if any number.
        backend: of the convolutions of tiles, see `hyena.ops.long_conv`.
        block: S, a power of two.
    """

    def __init__(self, limit: int | None, backend: Backend = "auto", block: int = BLOCK) -> None:
        if limit is not None:
            limit = check_size("OnlineFilter", "limit", limit)
        block = _check_block("OnlineFilter", block)
        self.limit, self.backend, self.block = limit, backend, block
        self.taps: Tensor | None = None  # (F, S, 1, D) by lag, those of lag 0 with the skip
        self._near: list[list[Tensor]] = []
        self._tiles: dict[int, Tensor | FilterSpectrum] = {}

    def prepare(self, room: int, taps: Callable[[int], Tensor], skip: Callable[[], Tensor]) -> None:
        """Makes what ``room`` positions need and is not there yet.

        Args: taps(n) (F, D, n), of lags 0 … n − 1, for n up to the limit; skip() (F, D).
        """
        room = check_size("OnlineFilter.prepare", "room", room)
        sizes = [self.block]
        if self.limit is not None:  # no sequence is longer, but a plan of gathered ones may be
            room = min(room, 2 * self.limit + self.block)
        while sizes[-1] < room:
            sizes.append(2 * sizes[-1])
        sizes.pop()  # tiles of a block and more, shorter than room
        missing = [size for size in sizes if size not in self._tiles]
        if self._near and not missing:
            return
        longest = 2 * missing[-1] if missing else self.block
        with normal_tensors():
            h = taps(longest if self.limit is None else min(longest, self.limit))
            h = F.pad(h, (0, longest - h.shape[-1]))
            if not self._near:
                near = h[..., : self.block].clone()
                near[..., 0] += skip().to(h.dtype)
                self.taps = near.permute(0, 2, 1)[:, :, None].contiguous()
                self._near = [[part[:n] for n in range(self.block + 1)] for part in self.taps]
            for size in missing:
                self._tiles[size] = self._tile(h[..., 1 : 2 * size].flatten(0, 1), size)

    @property
    def nbytes(self) -> int:
        """Of what it holds now."""
        tiles = [k.values if isinstance(k, FilterSpectrum) else k for k in self._tiles.values()]
        return sum(x.nbytes for x in (self.taps, *tiles) if x is not None)

    def near(self, part: int, count: int) -> Tensor:
        """The taps of lags 0 … count − 1 of one of the filters, with its skip: (count, 1, D)."""
        return self._near[part][count]

    def tile(self, inputs: Tensor) -> Tensor:
        """What U inputs add to the U outputs after them: (B, F·D, U) → (B, F·D, U)."""
        k = self._tiles[inputs.shape[-1]]
        assert self.taps is not None
        # A state may be of a model that had another dtype.
        wide = inputs.to(self.taps.dtype)
        return long_conv(wide, k, causal=False, backend=self.backend)

    def _tile(self, k: Tensor, size: int) -> Tensor | FilterSpectrum:
        # Output j, of those after the inputs, reads input i with the tap of lag size + j − i: from
        # the first of the inputs it is a convolution whose middle tap has lag ``size``.
        if self.backend == "naive":
            return k
        return filter_spectrum(k, size, causal=False, backend=self.backend)


def contribution(inputs: Tensor, taps: Tensor, room: int, *, backend: Backend = "auto") -> Tensor:
    """What inputs (B, C, L) add to the ``room`` outputs after them: (B, C, room).

    Args: taps (C, n) of lags 0 … n − 1; further ones count as zero.
    Raises: TypeError on what is no tensor or integer; ValueError on sizes that do not fit.
    """
    check_tensor("contribution", "inputs", inputs)
    check_tensor("contribution", "taps", taps)
    room = check_size("contribution", "room", room)
    if inputs.dim() != 3 or taps.dim() != 2 or inputs.shape[1] != taps.shape[0]:
        raise ValueError(
            "contribution: expected inputs (B, C, L) and taps (C, n), got "
            f"{tuple(inputs.shape)} and {tuple(taps.shape)}"
        )
    size = max(inputs.shape[-1], room)
    if size == 0:
        return inputs
    inputs = F.pad(inputs, (size - inputs.shape[-1], 0))
    k = taps[:, 1 : 2 * size]
    k = F.pad(k, (0, 2 * size - 1 - k.shape[1]))
    return long_conv(inputs, k, causal=False, backend=backend)[..., :room]


def _check_block(name: str, block: int) -> int:
    """The block as an int. Raises TypeError or ValueError unless it is a power of two."""
    block = check_size(name, "block", block, 1)
    if block & (block - 1):
        raise ValueError(f"{name}: expected a power of two as block, got {block}")
    return block


class OnlineState(State):
    """F convolutions in the middle of a sequence, for B rows; advanced in place.

    Args:
        line: (B, F·D, T), what inputs before add to the outputs of T positions to come. The state
            takes it over: of positions that are past it holds their inputs instead.
        parts: F.
        inputs: (B, F·D, P), all inputs before, if they are to be kept so that `extend` can plan
            for more.
        position: how many of the T positions are past, if the line is of such a state.
        block: S.

    Attributes: ``position``; ``filter``, the `OnlineFilter` in use, of this block and prepared for
        T, None until it is set.
    """

    def __init__(
        self,
        line: Tensor,
        parts: int,
        inputs: Tensor | None = None,
        *,
        position: int = 0,
        block: int = BLOCK,
    ) -> None:
        check_tensor("OnlineState", "line", line)
        check_tensor("OnlineState", "inputs", inputs, optional=True)
        parts = check_size("OnlineState", "parts", parts, 1)
        position = check_size("OnlineState", "position", position)
        block = _check_block("OnlineState", block)
        if line.dim() != 3 or line.shape[1] % parts or position > line.shape[2]:
            raise ValueError(
                "OnlineState: expected a line (B, F·D, T) and a position from 0 to T, got "
                f"{tuple(line.shape)}, F = {parts} and {position}"
            )
        if inputs is not None and (inputs.dim() != 3 or inputs.shape[:2] != line.shape[:2]):
            raise ValueError(
                f"OnlineState: expected inputs (B, F·D, P) of the line {tuple(line.shape)}, got "
                f"{tuple(inputs.shape)}"
            )
        self.filter: OnlineFilter | None = None
        self.position: int
        self._recent = self._due = line[..., :0]
        self.parts, self.block = parts, block
        self._begin(line, inputs, position)

    @property
    def sizes(self) -> tuple[int, int]:
        """(F, D)."""
        return self.parts, self._line.shape[1] // self.parts

    @property
    def dtype(self) -> torch.dtype:
        """That of inputs and outputs, as they are kept."""
        return self._line.dtype

    @property
    def keeps_inputs(self) -> bool:
        """Whether `extend` can plan for more."""
        return self._inputs is not None

    @property
    def planned(self) -> int:
        """T."""
        return self._line.shape[-1]

    @property
    def full(self) -> bool:
        """Whether all planned positions are past."""
        return self.position == self._line.shape[-1]

    @property
    def inputs(self) -> Tensor | None:
        """All inputs so far, (B, F·D, ·), if they are kept."""
        if self._inputs is None:
            return None
        past = self.line[..., : self.position].to(self._inputs.dtype)
        return torch.cat([self._inputs, past], dim=-1)

    @property
    def line(self) -> Tensor:
        """(B, F·D, T): inputs of past positions, and what is known of the outputs to come."""
        now = self._now()
        now[: self._row].copy_(self._recent[: self._row])
        now[self._row :].copy_(self._due[self._row : self._rows])
        return self._line

    def known(self, room: int) -> Tensor:
        """What all inputs so far add to the next ``room`` of the planned outputs, (B, F·D, room),
        in memory of its own: the line, and the tiles that are not complete yet."""
        line, now = self.line, self.position
        known = line[..., now : now + room].clone()
        size = self.block
        while size < self.planned:
            end = (now // size + 1) * size  # of the inputs that a tile of this size has from now on
            tile = known[..., end - now : end - now + size]
            if end // size % 2 == 1 and end - now < size and tile.shape[-1]:
                assert self.filter is not None
                inputs = F.pad(line[..., end - size : now], (0, end - now))
                tile.add_(self.filter.tile(inputs)[..., : tile.shape[-1]])
            size *= 2
        return known

    def step(self, part: int, gate: Tensor, value: Tensor) -> Tensor:
        """The output (B, D) of one of the convolutions, whose input is gate · value.

        Each takes its turn once; then comes `advance`, until which the output is valid.
        """
        assert self.filter is not None
        entry, rest = self._recent[self._row, part], self._due[self._row : self._rows, part]
        near = self.filter.near(part, self._rows - self._row)
        if transformed():  # which have no rules for the others
            entry.copy_(value * gate)
            rest.add_(entry * near)
        else:
            torch.mul(value, gate, out=entry)
            rest.addcmul_(entry, near)
        return rest[0]

    def native(self, short: tuple[Tensor, Tensor]) -> NativeStep | None:
        """An operator's step at the current position in one call of the kernel, see `OnlineStep`;
        None where it does not take this memory. It is good until there is another filter, or more
        is planned.

        Args: the taps of the operator's short convolution, as of `OnlineStep`.
        """
        taps = None if self.filter is None else self.filter.taps
        if taps is None or not takes(taps, self._due):
            return None
        step = OnlineStep(short, taps, self._recent, self._due)
        return NativeStep(step, lambda: (self._row, self._rows - self._row))

    def advance(self) -> None:
        """To the next position."""
        self.position += 1
        self._row += 1
        if self._row == self._rows:
            self._close_block()

    def feed(self, inputs: Tensor) -> None:
        """To the position after inputs (B, F·D, n) whose outputs are at hand already, as of a piece
        of a prompt. As many must be left of the plan."""
        assert self.filter is not None
        assert self.filter.taps is not None
        start, end = self.position, self.position + inputs.shape[-1]
        line, block = self.line, end // self.block * self.block
        line[..., start:end] = inputs
        size = self.block
        while size < self.planned:  # tiles that are complete now, of which some outputs come later
            t = end // size * size
            if t > start and t // size % 2 == 1 and end < self.planned:
                added = self.filter.tile(line[..., t - size : t])[..., end - t :]
                due = line[..., end : t + size]
                due.add_(added[..., : due.shape[-1]])
            size *= 2
        if block < end < self.planned:  # in the block in the middle of which it stops
            due, first = line[..., end : block + self.block], max(block, start)
            taps = self.filter.taps[:, :, 0].transpose(1, 2).flatten(0, 1)
            recent = line[..., first:end].to(taps.dtype)
            due.add_(contribution(recent, taps, due.shape[-1], backend=self.filter.backend))
        self.position = end
        self._open_block()

    def extend(self, taps: Tensor, room: int) -> None:
        """Plans for ``room`` positions from here on, anew from all inputs, which must be kept.

        Args: taps (F, D, n) of lags 0 … n − 1, n as large as the sequence may become.
        """
        inputs = self.inputs
        assert inputs is not None
        assert self.filter is not None
        with normal_tensors():
            wide = inputs.to(self._line.dtype)
            line = contribution(wide, taps.flatten(0, 1), room, backend=self.filter.backend)
        self._begin(line.contiguous(), inputs, 0)

    def limit(self, room: int) -> None:
        """Gives back what is planned beyond ``room`` positions from here on."""
        if self.planned - self.position > room:
            self._begin(self.line[..., : self.position + room].clone(), self._inputs, self.position)

    @classmethod
    def gather(cls, states: Sequence[OnlineState], shifts: Sequence[int]) -> OnlineState:
        """All rows in one plan, whatever the plan of each: before those that begin later stand
        inputs of zero, which add nothing. Each row has room for as many tokens as it had.

        Raises: ValueError if inputs are kept, which are as many as the tokens of each, or if the
            states are of other sizes.
        """
        if any(x.keeps_inputs for x in states):
            raise ValueError(
                "OnlineState.gather: the states keep their inputs, of which each has another "
                "number; prefill with future= and without keep_inputs"
            )
        at, room = states[0].position, max(x.planned - x.position for x in states)
        if at > room:  # most of the plan is past, and would be carried along
            at = 0
        block = states[0].block
        planned = -(-(at + room) // block) * block
        lines = [{"line": x._placed(at, planned)} for x in states]
        check_alike("OnlineState", lines, [{"parts": x.parts, "block": x.block} for x in states])
        with normal_tensors():
            line = torch.cat([each["line"] for each in lines])
            return cls(line, states[0].parts, position=at, block=block)

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored: ``line``, and ``inputs`` if kept."""
        kept = {} if self._inputs is None else {"inputs": self._inputs}
        return {"line": self.line, **kept}

    def settings(self) -> dict[str, int]:
        """The numbers that go with the tensors."""
        return {"parts": self.parts, "position": self.position, "block": self.block}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, int]
    ) -> OnlineState:
        """See `State.from_tensors`."""
        numbers = {name: settings[name] for name in ("parts", "position", "block")}
        return cls(tensors["line"], inputs=tensors.get("inputs"), **numbers)

    def _placed(self, position: int, planned: int) -> Tensor:
        """The line of a plan of so many tokens, with this position as its present one."""
        with normal_tensors():
            if self.position == position:
                line = self.line
            else:
                line = F.pad(self.known(self.planned - self.position), (position, 0))
            return F.pad(line, (0, planned - line.shape[-1]))

    def _follow(self, other: OnlineState) -> None:
        self.filter = other.filter

    def _begin(self, line: Tensor, inputs: Tensor | None, position: int) -> None:
        """In the middle of the block of this position."""
        self._line, self._inputs, self.position = line, inputs, position
        B, channels, planned = line.shape
        size = min(self.block, planned)
        with normal_tensors():
            # Of the current block, by position: inputs, and what is known of the outputs. Here a
            # step reads and writes what lies side by side, in the line it does not.
            shape = (size, self.parts, B, channels // self.parts)
            self._recent, self._due = line.new_zeros(shape), line.new_zeros(shape)
        self._open_block()

    def _now(self) -> Tensor:
        """The current block in the line, (rows, F, B, D)."""
        block = self._line[..., self._start : self._start + self._rows]
        return block.unflatten(1, self._recent.shape[1::2]).permute(3, 1, 0, 2)

    def _open_block(self) -> None:
        """Reads the current block out of the line."""
        self._start = self.position // self.block * self.block
        self._rows = min(self.block, self.planned - self._start)
        self._row = self.position - self._start
        now = self._now()
        self._recent[: self._row].copy_(now[: self._row])
        self._due[self._row : self._rows].copy_(now[self._row :])

    def _close_block(self) -> None:
        """Writes a block that is past to the line, and adds the tile that its end completes."""
        self._now().copy_(self._recent[: self._rows])
        t = self.position
        if t < self.planned:
            size = t & -t
            tile = self._line[..., t : t + size]
            assert self.filter is not None
            added = self.filter.tile(self._line[..., t - size : t])
            tile.add_(added[..., : tile.shape[-1]])
        self._open_block()
