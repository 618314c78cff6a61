"""Context parallel: rows that are cut into pieces over the processes of one dimension of a mesh.

Sizes: B batch, L length of the whole rows, p positions of a piece, D width, P processes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from hyena.distributed import operators
from hyena.distributed.exchange import positions, whole
from hyena.distributed.loss import mean_over
from hyena.distributed.rows import Rows
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

    def piece(self, x: Tensor) -> Tensor:
        """What this process has of whole rows x (B, L, …): (B, p, …).

        The first L mod P pieces are longer by one position.
        """
        return x.tensor_split(self.processes, dim=1)[self.rank]

    def enter(
        self,
        mixers: Mapping[str, Any],
        input_ids: Tensor,
        mask: Tensor | None,
        document_ids: Tensor | None,
        asked: Mapping[str, int],
    ) -> "Pass":
        """See `hyena.model.piece.Context`."""
        for name, mixer in mixers.items():
            operators.check(name, mixer, self.processes)
        B, p = input_ids.shape
        check_mask("ContextParallel", mask, B, p)
        segments_of("ContextParallel", document_ids, None, input_ids)
        given = {"mask": mask is not None, "document_ids": document_ids is not None}
        lengths = self._agreed(input_ids, {"rows": B, **given, **asked})
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

    def _agreed(self, input_ids: Tensor, asked: Mapping[str, int]) -> list[int]:
        """The length of each process's piece.

        Raises: ValueError unless all of them were asked for the same.
        """
        own = torch.tensor([input_ids.shape[1], *asked.values()], device=input_ids.device)
        found = [torch.empty_like(own) for _ in range(self.processes)]
        dist.all_gather(found, own, group=self.group)
        numbers: list[list[int]] = torch.stack(found).t().tolist()
        lengths, *others = numbers
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

    def mean(self, loss: Tensor, targets: Tensor) -> Tensor:
        return mean_over(self._rows.group, loss, targets)

    def last(self, x: Tensor) -> Tensor:
        rows = self._rows
        end = (rows.length - 1, rows.length)
        return positions(x.transpose(1, 2), rows, [end] * rows.processes).transpose(1, 2)
