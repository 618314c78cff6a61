"""Context parallel: rows that are cut into pieces over the processes of one dimension of a mesh.

Sizes: B batch, L length of the whole rows, p positions of a piece, D width, P processes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from hyena.distributed import operators
from hyena.distributed.exchange import positions, whole
from hyena.distributed.loss import mean_over
from hyena.distributed.rows import Rows
from hyena.mixers import HyenaOperator
from hyena.mixers.checks import check_gaps, check_left_padding, check_mask, segments_of
from hyena.mixers.mixer import Mixer, Room


class ContextParallel:
    """Processes that share rows: each has one contiguous piece of every row.

    Handed to a `hyena.LanguageModel` as ``context``, with the pieces as its input. Pieces may
    differ in length; `piece` cuts them as even as it goes.

    Args: mesh: of one dimension, such as ``mesh["context"]``.

    Attributes: ``group`` of the P processes; ``rank`` of this one among them; ``processes`` P.
    Raises: ValueError on a mesh of several dimensions.
    """

    def __init__(self, mesh: DeviceMesh) -> None:
        if mesh.ndim != 1:
            raise ValueError(
                f"ContextParallel: expected a mesh of one dimension, got {mesh.ndim} of names "
                f'{mesh.mesh_dim_names}; name one of them, as mesh["context"] does'
            )
        self.group, self.rank = mesh.get_group(), mesh.get_local_rank()
        self.processes = mesh.size()
        self._device = mesh.device_type

    def piece(self, x: Tensor) -> Tensor:
        """What this process has of whole rows x (B, L, …): (B, p, …).

        The first L mod P pieces are longer by one position.
        """
        return x.tensor_split(self.processes, dim=1)[self.rank]

    def enter(
        self,
        check: Callable[[], None],
        mixers: Mapping[str, Any],
        input_ids: Tensor,
        mask: Tensor | None,
        document_ids: Any,
        asked: Mapping[str, int],
    ) -> "Pass":
        """See `hyena.model.piece.Context`."""
        given = {"mask": mask is not None, "document_ids": document_ids is not None}
        asked = {"rows": 0, **given, **asked}
        length, wrong = 0, None
        try:
            check()
            for name, mixer in mixers.items():
                operators.check(name, mixer, self.processes)
            asked["rows"], length = input_ids.shape
            check_mask("ContextParallel", mask, asked["rows"], length)
            segments_of("ContextParallel", document_ids, None, input_ids)
        except (TypeError, ValueError) as error:  # of which the others are to know
            wrong = error
        lengths = self._agreed(length, asked, wrong)
        rows = Rows(self.group, self.rank, lengths)
        if mask is not None:
            mask = whole(mask[:, None].to(torch.uint8), rows)[:, 0].bool()
        segments = None
        if document_ids is not None:
            ids = whole(document_ids[:, None].to(torch.int64), rows)[:, 0]
            segments = segments_of("ContextParallel", ids, None, ids)
        for mixer in mixers.values():
            if not mixer.takes_gaps:
                check_gaps(type(mixer).__name__, mask, segments)
        return Pass(Rows(self.group, self.rank, lengths, mask, segments), input_ids.device)

    def _agreed(self, length: int, asked: Mapping[str, int], wrong: Exception | None) -> list[int]:
        """The length of each process's piece.

        Args: the length of this one's; what was asked for; what is wrong with it.
        Raises: what is wrong; ValueError if something is on another process, and unless all of them
            were asked for the same.
        """
        own = torch.tensor([wrong is None, length, *asked.values()], device=self._device)
        found = [torch.empty_like(own) for _ in range(self.processes)]
        dist.all_gather(found, own, group=self.group)
        numbers: list[list[int]] = torch.stack(found).t().tolist()
        right, lengths, *others = numbers
        if wrong is not None:
            raise wrong
        if 0 in right:
            raise ValueError(
                f"ContextParallel: process {right.index(0)} of {self.processes} refused what it "
                "was given, and says why; none went on"
            )
        for name, values in zip(asked, others, strict=True):
            if len(set(values)) > 1:
                raise ValueError(
                    f"ContextParallel: the processes disagree on {name}: {values} by rank; give "
                    "each its piece of the same rows, and the same arguments"
                )
        if 0 in lengths:
            raise ValueError(
                "ContextParallel: expected one position or more on each process, got pieces of "
                f"{lengths} by rank; cut short rows over fewer processes"
            )
        return lengths


class Pass:
    """A `hyena.model.piece.Piece`.

    Args: the rows; device: of the piece.
    """

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self._rows, self._device = rows, device

    @property
    def reach(self) -> int:
        rows = self._rows
        return rows.length if rows.segments is None else rows.segments.longest

    @property
    def longest(self) -> int:
        return max(self._rows.lengths)

    @property
    def columns(self) -> Tensor:
        rows = self._rows
        if rows.segments is None:
            return torch.arange(rows.start, rows.stop, device=self._device)
        return rows.segments.columns[:, rows.start : rows.stop]

    def mix(
        self, mixer: Mixer, u: Tensor, mask: Tensor | None, room: Room | None
    ) -> tuple[Tensor, Any]:
        rows = self._rows
        if room is not None:
            check_left_padding(type(mixer).__name__, rows.mask)
        return operators.mix(mixer, mixer.checked(u, mask), mask, rows, room)

    def between(self, mixer: Mixer, mask: Tensor | None) -> operators.Between | None:
        if not isinstance(mixer, HyenaOperator):
            return None
        return operators.Between(mixer, mask, self._rows)

    def mean(self, loss: Tensor, targets: Tensor) -> Tensor:
        return mean_over(self._rows.group, loss, targets)

    def last(self, x: Tensor) -> Tensor:
        rows = self._rows
        end = (rows.length - 1, rows.length)
        return positions(x.transpose(1, 2), rows, [end] * rows.processes).transpose(1, 2)
