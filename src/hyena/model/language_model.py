"""The language model: embedding, blocks, norm, and a head, which may be the embedding again.

Sizes: B batch, L length, D width, V vocabulary.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hyena import generation
from hyena.filters.budget import KEPT_MEMORY, Budget
from hyena.filters.cache import clear_cache
from hyena.filters.plain import is_plain
from hyena.generation.state import ModelState
from hyena.mixers.checks import check_future, check_keep_inputs, check_lengths, segments_of
from hyena.mixers.hyena.groups import Buffers
from hyena.mixers.mixer import Room
from hyena.mixers.projections import product_of_step
from hyena.mixers.state import MixerState
from hyena.model import recomputed, streaming
from hyena.model.block import Block
from hyena.model.build import build_norm
from hyena.model.config import ModelConfig
from hyena.model.flops import FlopTable, flops
from hyena.model.head import logits_by, weight_of
from hyena.model.initialization import embedding, initialize
from hyena.model.inputs import (
    check_ids,
    check_length,
    check_room,
    check_rows,
    check_state,
    check_targets,
    position_of,
)
from hyena.model.label_head import LabelHead
from hyena.model.linear_cross_entropy import Reduction, linear_cross_entropy, losses_of
from hyena.model.norm import normalize
from hyena.model.piece import Context, Piece
from hyena.model.saved import as_read, write_model
from hyena.model.step import at_once
from hyena.model.streaming import WORKING_MEMORY, Stream, check_working_memory
from hyena.ops import Segments
from hyena.ops.arguments import placement

# What the processes that share rows compare, in one order whatever the method.
_NOTHING_ASKED = dict.fromkeys(("targets", "prefill", "future", "keep_inputs", "last_only"), 0)
_SETTINGS = "working_memory", "activation_checkpointing", "training"


class LanguageModel(nn.Module):
    """Predicts each next token (Poli et al. 2023, arXiv:2302.10866, section 4 and Table A.4).

    Pre-norm blocks of a mixer and an MLP; no positional embedding unless ``config.positions`` is
    "learned"; the embedding is the head as well if ``config.tied``. The residual stream is float32
    or wider, whatever the parameters' dtype.

    Args:
        config: what it is made of.
        generator: where the initial weights come from; None means PyTorch's own generator.
        device, dtype: of the parameters.

    Attributes:
        config: as given.
        label_head: what fine-tuning has put on the model, a `LabelHead`, or None.
        activation_checkpointing: recompute each block in the backward pass instead of keeping its
            activations. Changes no parameter's name.
        working_memory: bytes of hidden values beyond which a block takes its input in pieces, in
            the memory of the residual stream, where no gradient is recorded, and with
            activation_checkpointing beyond twice as many; it gives the same to rounding. A Hyena
            operator, of rows of 16,384 positions or more, goes by groups of channels then, which
            take as much, or what some of the channels take, and another array like the stream lies
            between its projections. By default 64 MiB.
        kept_memory: bytes that all filters together keep their spectra and the like in between
            calls, 256 MiB at first; beyond, and for inputs that an operator takes in groups of
            channels, they are made again at each pass. What generation reads at each step is kept
            as long as its state. Setting it forgets what is kept, and takes in filters that came
            later. Neither size is saved with the model.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        place = placement("LanguageModel", device, dtype)
        self.config = config
        self.activation_checkpointing = False
        self._working_memory = WORKING_MEMORY
        self.embedding = embedding(config.padded_vocab, config.width, **place)
        self.positions = None
        if config.positions == "learned":
            self.positions = embedding(config.max_length, config.width, **place)
        self.blocks = nn.ModuleList(
            [Block(config, layer, **place) for layer in range(config.layers)]
        )
        self.norm = build_norm(config, **place)
        self.head = None
        if not config.tied:
            self.head = nn.Linear(config.width, config.padded_vocab, bias=False, **place)
        self.label_head: LabelHead | None = None
        self.kept_memory = KEPT_MEMORY
        if self.embedding.weight.device.type != "meta":
            initialize(self, config.layers, generator, linear=config.initial)

    @property
    def working_memory(self) -> int:
        return self._working_memory

    @working_memory.setter
    def working_memory(self, value: int) -> None:
        self._working_memory = check_working_memory(value)

    @property
    def kept_memory(self) -> int:
        return self._kept.limit

    @kept_memory.setter
    def kept_memory(self, value: int) -> None:
        self._kept = Budget(value)
        clear_cache(self, self._kept)

    def forward(
        self,
        input_ids: Tensor,
        *,
        mask: Tensor | None = None,
        document_ids: Tensor | Segments | None = None,
        cu_seqlens: Tensor | None = None,
        targets: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Logits of the token after each position, or with ``targets`` the loss in nats a token.

        The loss is `torch.nn.functional.cross_entropy` of the logits, and so are its gradients, but
        long inputs never take the memory of all logits.

        Args:
            input_ids: (B, L) int64 or int32 in 0 … V−1.
            mask: (B, L) bool, True at real tokens; padding at the ends of a row.
            document_ids, cu_seqlens: packed documents, see `hyena.HyenaOperator.forward`.
            targets: (B, L) int64 or int32, the token after each position, −100 where none counts.
            context: processes that share the rows, see `hyena.distributed.ContextParallel`; all
                other arguments and the logits are then of the piece that this one has.

        Returns: (B, L, V), or the mean loss over the targets, a scalar: float64 for float64
            parameters and float32 otherwise, nan if there is no target.
        Raises: ValueError on bad shapes, ids or targets, or on a length that the policy refuses.
        """
        piece = self._piece(context, input_ids, mask, document_ids, cu_seqlens, targets)
        x, segments = self._enter(input_ids, mask, document_ids, cu_seqlens, piece=piece)
        if targets is not None:
            check_targets(targets, input_ids, self.config)
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            x = self._checkpointed(x, mask, segments, piece)
        else:
            x = self._through_blocks(x, mask, segments, piece)
        if targets is None:
            return self._head(x)
        x, weight = self._before_head(x)
        loss = self._losses(x, weight, targets, "mean")
        return loss if piece is None else piece.mean(loss, targets)

    @torch.no_grad()
    def token_losses(
        self, input_ids: Tensor, targets: Tensor, *, context: Context | None = None
    ) -> Tensor:
        """The loss of each target in nats, without gradients.

        The head, unless it has an adapter, is spared the positions without one, and never has all
        logits of a long input.

        Args:
            input_ids, targets: (B, L), see `forward`; targets may be on another device.
            context: see `forward`.

        Returns: (B, L), 0 where there is no target; float64 for float64 parameters and float32
            otherwise.
        Raises: ValueError as `forward`.
        """
        piece = self._piece(context, input_ids, targets=targets)
        x, segments = self._enter(input_ids, None, None, None, piece=piece)
        check_targets(targets, input_ids, self.config)
        x, weight = self._before_head(self._through_blocks(x, None, segments, piece))
        return self._losses(x, weight, targets, "none")

    def prefill(
        self,
        input_ids: Tensor,
        *,
        mask: Tensor | None = None,
        future: int | None = None,
        keep_inputs: bool | torch.dtype = False,
        last_only: bool = False,
        state: ModelState | None = None,
        context: Context | None = None,
    ) -> tuple[Tensor, ModelState]:
        """``forward``, and the state that `step` goes on from.

        Args:
            input_ids: (B, L), L ≥ 1.
            mask: (B, L) bool for prompts of different lengths, padded on the left.
            future: the most tokens that `step` will be given. The state of a Hyena layer then has
                that size, whatever the prompt's, and ends there; see `hyena.HyenaOperator`.
            keep_inputs: with ``future``, keep what it takes to go on beyond; without ``future``
                that is kept anyway. A dtype such as ``torch.bfloat16`` keeps it in that one.
            last_only: logits of the last position only, which spares the head all others.
            state: of the tokens before these, which is advanced in place, as by `step`: logits and
                state are those of one prefill of all. No mask may come with it.
            context: see `forward`. The state is then that of the whole rows on every process, and
                so are the logits of ``last_only``. It begins: no state may come with it.

        Returns: logits (B, L, V), or (B, 1, V), and the state.
        Raises: ValueError as `forward`, if ``future`` is negative, or if max_length has no room for
            it and the length policy is "error"; with a state TypeError and ValueError as `step`.
        """
        before = 0
        if state is not None:
            check_state("prefill", state, input_ids, len(self.blocks))
            before = state.length
        future = check_future("LanguageModel", future)
        check_keep_inputs("LanguageModel", keep_inputs)
        if state is not None and context is not None:
            raise ValueError(
                "LanguageModel.prefill: expected no state beside context, got both; a state goes "
                "on in one process, as every process has it whole"
            )
        asked = {"future": -1 if future is None else future, "last_only": last_only}
        asked |= {"prefill": True, "keep_inputs": bool(keep_inputs)}
        piece = self._piece(context, input_ids, mask, asked=asked)
        starts = None if state is None else state.starts
        x, _ = self._enter(input_ids, mask, None, None, before, piece, starts)
        tokens = input_ids.shape[1] if piece is None else piece.reach
        if tokens == 0:
            raise ValueError(
                "LanguageModel.prefill: expected input_ids (B, L) with L ≥ 1, got "
                f"{tuple(input_ids.shape)}; {'begin' if state is None else 'go on'} with one token "
                "or more"
            )
        length = before + tokens
        if future:
            check_room(length, future, self.config)
        stream = self._stream()
        if state is not None:
            check_rows(input_ids, state)

            def advance(block: Block, x: Tensor, of: MixerState) -> tuple[Tensor, MixerState]:
                return stream.prefill(block, x, mask, Room(future, keep_inputs, of))

            x = self._through(state, x, advance)
        else:
            layers = []
            for block in self._blocks():
                if piece is None:
                    x, layer = stream.prefill(block, x, mask, Room(future, keep_inputs))
                else:
                    x, layer = block.prefill(x, mask, future, keep_inputs, piece=piece)
                layers.append(layer)
            state = ModelState(layers, length)
        stream.clear()  # all logits may be as large as what is in them
        if last_only:
            x = x[:, -1:] if piece is None else piece.last(x)
        return self._head(x), state

    def step(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """One more token a sequence.

        Args:
            input_ids: (B,) int64 or int32.
            state: of the tokens before, which is advanced in place: copy it first, to go on in two
                ways.

        Returns: logits (B, V), equal to the full forward's to rounding, and the state.
        Raises: ValueError at the end of max_length, if the length policy is "error", after
            ``future`` tokens (see `prefill`), on a state of a model of other sizes, and where
            gradients would be recorded; TypeError on another state.
        """
        check_ids(input_ids, 1, self.config)
        check_state("step", state, input_ids, len(self.blocks))
        check_length(state.length + 1, self.config)
        x = self._embed(input_ids)
        if self.positions is not None:
            column = torch.tensor(state.length, device=x.device)
            at = column if state.starts is None else column - state.starts
            x = x + self.positions(at).to(x.dtype)
        y = at_once(self._blocks(), x, state)
        if y is None:
            y = self._through(state, x, lambda block, x, of: block.step(x, of))
        return self._head(y, product_of_step), state

    generate = generation.generate

    def save(self, directory: str | Path) -> None:
        """Writes the model into ``directory``, which is made if it is not there; `hyena.load` reads
        it. After a failure an older model is whole.

        Weights that blocks share are written for each of them, and no longer shared when loaded.

        Raises: ValueError, before anything is written, if layers have been changed so that the
            config no longer describes them; OSError if the folder cannot be written.
        """
        config = as_read(self.config)
        expected = LanguageModel(config, device="meta").state_dict()
        write_model(Path(directory), config, self.state_dict(), expected, self.label_head)

    def clear_cache(self) -> None:
        """Forgets what is kept of the filters between calls, which frees its memory.

        It is needed for nothing else: what is kept is compared with the weights, byte by byte, at
        each `forward` and `prefill`. Only between two steps from a state some changes count up to
        64 of them late, and at the next one after this.
        """
        clear_cache(self)

    def parameter_count(self) -> int:
        """Number of parameters, trained or not; a tied tensor counts once."""
        return sum(p.numel() for p in self.parameters())

    def state_size(self, length: int, future: int | None = None) -> int:
        """Numbers that generation keeps for one sequence after a `prefill` of ``length`` tokens,
        with room for ``future`` more if that is given."""
        length, future = check_lengths("LanguageModel", length, future)
        return sum(block.mixer.state_size(length, future) for block in self._blocks())

    def flops(self, length: int, batch: int = 1) -> FlopTable:
        """Floating point operations of a forward pass, see `hyena.model.flops.flops`.

        Raises: ValueError if length or batch is below 1.
        """
        return flops(self.config, length, batch)

    def _hidden(self, input_ids: Tensor, block: int | None) -> Tensor:
        """See `hyena.model.hidden.hidden`; a method, as what keeps parameters in parts knows those
        that need them whole."""
        x, _ = self._enter(input_ids, None, None, None)
        stream = self._stream()
        for each in self._blocks()[: None if block is None else block + 1]:
            x = stream.forward(each, x, None, None)
        stream.clear()
        if block is not None:
            return x
        return normalize(self.norm, x, self.embedding if self.head is None else self.head)

    def _through(
        self,
        state: ModelState,
        x: Tensor,
        advance: Callable[[Block, Tensor, MixerState], tuple[Tensor, MixerState]],
    ) -> Tensor:
        """x, a token of each row or several, after all blocks; the state is advanced."""
        state.whole = False  # an interruption may come at any time
        before = position_of(state.layers[0])
        for i, block in enumerate(self._blocks()):
            try:
                x, state.layers[i] = advance(block, x, state.layers[i])
            except (TypeError, ValueError):  # which the first layer may have refused it with
                state.whole = i == 0 and position_of(state.layers[0]) == before
                raise
        state.length, state.whole = state.length + (x.shape[1] if x.dim() == 3 else 1), True
        return x

    def _enter(
        self,
        input_ids: Tensor,
        mask: Tensor | None,
        document_ids: Tensor | Segments | None,
        cu_seqlens: Tensor | None,
        before: int = 0,
        piece: Piece | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, Segments | None]:
        """The residual stream and the documents of tokens that come after so many, of rows that
        start in columns of their own; a piece knows its documents itself."""
        check_ids(input_ids, 2, self.config)
        L, segments = input_ids.shape[1], None
        if piece is None:
            segments = segments_of("LanguageModel", document_ids, cu_seqlens, input_ids)
            limit = self.config.max_length if self.config.length_policy == "error" else None
            check_length(before + L if segments is None else segments.reach(limit), self.config)
        else:
            check_length(piece.reach, self.config)
        x = self._embed(input_ids)
        if self.positions is not None:
            if mask is not None:
                raise ValueError(
                    "LanguageModel: learned positions count columns, so that padding would shift "
                    "them; run rows of one length without mask"
                )
            columns = before + torch.arange(L, device=x.device)
            if starts is not None:
                columns = columns - starts[:, None]
            if segments is not None:
                columns = segments.columns
            if piece is not None:
                columns = piece.columns
            x = x + self.positions(columns).to(x.dtype)
        return F.dropout(x, self.config.dropout, self.training), segments

    def _piece(
        self,
        context: Context | None,
        input_ids: Tensor,
        mask: Tensor | None = None,
        document_ids: Tensor | Segments | None = None,
        cu_seqlens: Tensor | None = None,
        targets: Tensor | None = None,
        asked: Mapping[str, int] = _NOTHING_ASKED,
    ) -> Piece | None:
        """What this process has of the rows, if they are cut."""
        if context is None:
            return None

        def check() -> None:
            check_ids(input_ids, 2, self.config)
            if targets is not None:
                check_targets(targets, input_ids, self.config)
            if cu_seqlens is not None or isinstance(document_ids, Segments):
                raise ValueError(
                    "LanguageModel: beside context expected document_ids as a tensor (B, L) of the "
                    "piece, which tell whether a document goes on in the next one; got "
                    f"{'cu_seqlens' if document_ids is None else 'Segments'}"
                )

        mixers = {f"blocks.{i}.mixer": block.mixer for i, block in enumerate(self._blocks())}
        asked = {**_NOTHING_ASKED, **asked, "targets": targets is not None}
        asked |= {name: int(getattr(self, name)) for name in _SETTINGS}
        return context.enter(check, mixers, input_ids, mask, document_ids, asked)

    def _through_blocks(
        self,
        x: Tensor,
        mask: Tensor | None,
        segments: Segments | None,
        piece: Piece | None = None,
    ) -> Tensor:
        stream = self._stream()
        for block in self.blocks:
            x = stream.forward(block, x, mask, segments, piece)
        return x

    def _checkpointed(
        self, x: Tensor, mask: Tensor | None, segments: Segments | None, piece: Piece | None = None
    ) -> Tensor:
        memory, buffers = recomputed.memory_of(self.working_memory), Buffers()
        for block in self.blocks:
            if recomputed.takes(block, x, mask, segments, memory, piece):
                x = recomputed.forward(block, x, segments, memory, buffers, piece)
            elif streaming.takes(block, x, memory, piece):  # it needs no gradient
                stream = Stream(memory, owned=False, buffers=buffers)
                x = stream.forward(block, x, mask, segments, piece)
            else:
                given = streaming.arguments(mask, segments, piece)
                x = checkpoint(block, x, *given, use_reentrant=False)
        buffers.clear()
        return x

    def _stream(self) -> Stream:
        return Stream(self.working_memory, owned=is_plain(self.embedding, nn.Embedding))

    def _blocks(self) -> list[Block]:
        """Blocks, or what stands around them and passes on what it is asked for."""
        return cast("list[Block]", list(self.blocks))

    def _embed(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def _head(self, x: Tensor, product: Callable[[Tensor, Tensor], Tensor] = F.linear) -> Tensor:
        x, weight = self._before_head(x)
        if weight is None:
            return logits_by(self.head, x, self.config.vocab_size)
        return product(x, weight)

    def _losses(
        self, x: Tensor, weight: Tensor | None, targets: Tensor, reduction: Reduction
    ) -> Tensor:
        """Of what `_before_head` gives."""
        targets = targets.to(x.device, torch.int64)
        if weight is None:
            return losses_of(logits_by(self.head, x, self.config.vocab_size), targets, reduction)
        return linear_cross_entropy(x, weight, targets, reduction=reduction)

    def _before_head(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the head multiplies: x after the norm, and its weight (V, D), None of a head that
        has to be called."""
        weight = weight_of(self.embedding, self.head, self.config.vocab_size, x.device)
        x = normalize(self.norm, x, self.embedding if self.head is None else self.head)
        return (x if weight is None else x.to(weight.dtype)), weight
