"""The language model as a function of its tokens: what it may see, what it refuses."""

import math
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from small_models import (
    PATTERNS,
    STRIPES,
    VOCABULARY,
    gradients,
    small_config,
    small_model,
    tokens,
)
from torch import Tensor
from torch.nn import functional as F

from hyena.arguments import IGNORE
from hyena.mixers import HyenaOperator
from hyena.model import FilterConfig, LanguageModel, ModelConfig, language_model
from hyena.model import linear_cross_entropy as slices


def naive(model: LanguageModel) -> LanguageModel:
    """The same with convolutions by their definition, which are exactly causal."""
    for module in model.modules():
        if isinstance(module, HyenaOperator):
            module.backend = "naive"
    return model


@pytest.mark.parametrize("mixers", PATTERNS)
def test_no_token_moves_an_earlier_logit(mixers: str) -> None:
    model, ids = small_model(mixers), tokens(2, 24)
    moved = ids.clone()
    moved[:, 11] = (moved[:, 11] + 1) % VOCABULARY
    before, after = model(ids), model(moved)
    assert_close(after[:, :11], before[:, :11], 1e-13)  # an FFT is causal up to rounding
    for t in (11, 12, 23):  # each later one hears of it
        assert relative_error(after[:, t], before[:, t]) > 1e-3
    naive(model)
    assert torch.equal(model(moved)[:, :11], model(ids)[:, :11])


@pytest.mark.parametrize("mixers", ["hyena", "hyena,hyena,attention"])
def test_no_token_moves_an_earlier_logit_by_one_bit_if_block_causal(mixers: str) -> None:
    model = small_model(mixers, max_length=100, block_causal=True)
    ids = tokens(2, 100)
    before = model(ids)
    assert_close(before, small_model(mixers, max_length=100)(ids), 1e-12)
    moved = ids.clone()
    moved[:, 71] = (moved[:, 71] + 1) % VOCABULARY
    after = model(moved)
    assert torch.equal(after[:, :71], before[:, :71])
    assert bool((after[:, 71:] != before[:, 71:]).any(-1).all())


@pytest.mark.parametrize("mixers", PATTERNS)
def test_the_training_pass_is_the_evaluation_pass(mixers: str) -> None:
    # in evaluation the filters' spectra are kept, in training they are made each time
    model, ids = small_model(mixers), tokens(2, 24)
    with torch.no_grad():
        evaluated = model(ids)
    assert_close(model.train()(ids), evaluated, 1e-13)


def test_int32_ids_are_int64_ids() -> None:
    model, ids = small_model(), tokens(2, 9)
    assert torch.equal(model(ids.int()), model(ids))


@pytest.mark.parametrize("shape", [(1, 0), (0, 4), (0, 0)])
def test_an_empty_batch_has_empty_logits(shape: tuple[int, int]) -> None:
    assert small_model("hyena,attention")(tokens(*shape)).shape == (*shape, VOCABULARY)


def test_the_embedding_is_the_head() -> None:
    model = small_model()
    vocabulary = [n for n, p in model.named_parameters() if p.shape[0] == model.config.padded_vocab]
    assert vocabulary == ["embedding.weight"]
    assert next(iter(model.state_dict())) == "embedding.weight"
    # One input token; the others' rows have a gradient through the head alone.
    model(torch.full((1, 5), 3)).square().sum().backward()
    gradient = gradients(model)["embedding.weight"]
    assert bool(gradient[:VOCABULARY].any(dim=1).all())


def test_padding_of_the_vocabulary_is_never_predicted_and_never_trained() -> None:
    model, ids = small_model(), tokens(2, 9)
    logits = model(ids)
    assert model.embedding.weight.shape[0] == 32
    assert logits.shape[-1] == VOCABULARY
    logits.square().sum().backward()
    assert not gradients(model)["embedding.weight"][VOCABULARY:].any()
    with torch.no_grad():
        model.embedding.weight[VOCABULARY:] = torch.nan
    assert torch.equal(model(ids), logits)


def test_a_new_model_guesses_uniformly() -> None:
    config = ModelConfig(
        vocab_size=500, width=64, layers=4, max_length=64, mixers="hyena,attention"
    )
    model = LanguageModel(config, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(0, 500, (4, 65), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(500)) < 0.05


def test_dropout_is_for_training_only() -> None:
    model, ids = small_model("hyena,attention", dropout=0.3), tokens(1, 9)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert relative_error(model(ids), model(ids)) > 1e-2


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (tokens(4), r"expected input_ids \(B, L\), got \(4,\); add or remove a dimension"),
        (tokens(1, 2, 4), r"expected input_ids \(B, L\), got \(1, 2, 4\);"),
        (torch.zeros(1, 4), r"input_ids of int64 or int32, got torch\.float32"),
        (torch.zeros(1, 4, dtype=torch.bool), r"of int64 or int32, got torch\.bool"),
        (torch.zeros(1, 4, dtype=torch.uint16), r"of int64 or int32, got torch\.uint16"),
        (
            torch.tensor([[0, VOCABULARY]]),
            "token id 29 is outside the vocabulary of 29; was the text tokenized with another",
        ),
        (torch.tensor([[-1, 3]]), "token id -1 is outside the vocabulary of 29"),
    ],
)
def test_wrong_ids_are_refused(ids: Tensor, message: str) -> None:
    model = small_model()
    for run in (model, model.prefill):
        with pytest.raises(ValueError, match=f"^LanguageModel: .*{message}"):
            run(ids)


@pytest.mark.parametrize(("ids", "kind"), [([[1, 2]], "list"), (5, "int"), (None, "None")])
def test_ids_are_a_tensor(ids: Any, kind: str) -> None:
    model = small_model()
    _, state = model.prefill(tokens(1, 4))
    for run in (model, model.prefill, lambda ids: model.step(ids, state)):
        with pytest.raises(
            TypeError, match=f"^LanguageModel: expected a tensor as input_ids, got {kind}"
        ):
            run(ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": torch.ones(1, 3, dtype=torch.bool)}, r"mask of bool \(B, L\) = \(1, 4\), True"),
        ({"mask": torch.ones(1, 4)}, r"got \(1, 4\) of torch\.float32"),
        ({"document_ids": tokens(1, 3)}, r"document_ids \(B, L\) = \(1, 4\), got \(1, 3\)"),
        ({"document_ids": torch.zeros(1, 4)}, r"document_ids: expected an integer tensor \(B, L\)"),
        ({"cu_seqlens": torch.tensor([0, 3])}, r"increasing values from 0 to B·L = 4, got 0 … 3"),
        ({"cu_seqlens": torch.tensor([0, 3, 2, 4])}, "which decrease somewhere"),
        (
            {"document_ids": tokens(1, 4), "cu_seqlens": torch.tensor([0, 4])},
            "give document_ids or cu_seqlens, not both",
        ),
    ],
)
def test_wrong_masks_and_documents_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_model()(tokens(1, 4), **options)


TOO_LONG = (
    "the input is 25 tokens long but the model's max_length is 24; shorten it, or build or load "
    'the model with length_policy "extrapolate" or "interpolate"'
)


@pytest.mark.parametrize("mixers", PATTERNS)
def test_a_longer_input_is_refused_by_default(mixers: str) -> None:
    model, ids = small_model(mixers), tokens(1, 25)
    for run in (model, model.prefill):
        with pytest.raises(ValueError) as raised:  # noqa: PT011 (the whole text is compared)
            run(ids)
        assert str(raised.value) == TOO_LONG
    _, state = model.prefill(ids[:, :24])
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        model.step(ids[:, 24], state)
    assert str(raised.value) == TOO_LONG


@pytest.mark.parametrize("mixers", PATTERNS)
def test_a_long_row_of_short_documents_is_not_too_long(mixers: str) -> None:
    model, ids = small_model(mixers), tokens(1, 40)
    y = model(ids, cu_seqlens=torch.tensor([0, 24, 40]))
    assert_close(y[:, :24], model(ids[:, :24]), 1e-12)
    with pytest.raises(ValueError, match="the input is 25 tokens long but"):
        model(ids, cu_seqlens=torch.tensor([0, 25, 40]))


@pytest.mark.parametrize("mixers", PATTERNS)
@torch.no_grad()
def test_extrapolation_goes_on_with_the_same_filter(mixers: str) -> None:
    model, ids = small_model(mixers, length_policy="extrapolate"), tokens(2, 40)
    logits = model(ids)
    assert_close(logits[:, :24], model(ids[:, :24]), 1e-12)
    first, state = model.prefill(ids[:, :24])
    rest = []
    for t in range(24, 40):
        y, state = model.step(ids[:, t], state)
        rest.append(y)
    assert_close(torch.cat([first, torch.stack(rest, 1)], 1), logits, 1e-12)


@torch.no_grad()
def test_interpolation_stretches_the_filter() -> None:
    model, ids = small_model(length_policy="interpolate"), tokens(1, 47)
    for block in model.blocks:  # 47 positions over the span of 24: every other tap is an old one
        filter = block.mixer.filter
        assert_close(filter(47)[..., ::2], filter(24), 1e-12)
    assert model(ids).shape == (1, 47, VOCABULARY)
    assert_close(model(ids[:, :24]), small_model()(ids[:, :24]), 1e-12)
    _, state = model.prefill(ids[:, :24])
    with pytest.raises(ValueError, match="the filter changes with the length, so a sequence"):
        model.step(ids[:, 24], state)
    with pytest.raises(ValueError, match="would need a filter of its own length"):
        model(ids, mask=torch.ones(1, 47, dtype=torch.bool))


def test_a_trained_encoding_cannot_be_extrapolated() -> None:
    model = small_model(
        length_policy="extrapolate", filter=FilterConfig(emb_dim=5, width=6, train_encoding=True)
    )
    with pytest.raises(ValueError, match="a table of 24 positions, which cannot be extrapolated"):
        model(tokens(1, 25))


# With its loss, below, the plain model trains, and the striped one does not.
@pytest.mark.parametrize(("options", "training"), [({}, False), (STRIPES, True)])
# Dynamo itself does what this warning is about when it traces an autograd function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_model_compiles_whole(options: dict[str, Any], training: bool) -> None:
    # Tracing and the graph of the backward pass are tested; generating C++ from it takes minutes.
    torch.compiler.reset()
    model = LanguageModel(small_config("hyena,attention", layers=2, **options)).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    ids = tokens(2, 16)
    with warnings.catch_warnings(), torch.set_grad_enabled(training):
        warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated")
        got = compiled(ids)
        expected = model(ids)
        assert_close(got, expected, 1e-6)
        if training:
            got.square().sum().backward()
            of_compiled = gradients(model)
            expected.square().sum().backward()
            for name, gradient in gradients(model).items():
                assert_close(of_compiled[name], gradient, 1e-5)


# All logits at once, and in slices, which a program calls as a registered op. Logits of a head of
# its own compile above.
ALL, SLICES = 1 << 20, 5 * VOCABULARY * 4


@pytest.mark.parametrize(
    ("training", "slice_bytes", "options"),
    [
        (True, ALL, {}),
        (True, SLICES, {}),
        (True, SLICES, STRIPES),
        (False, SLICES, STRIPES),
    ],
)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_model_compiles_whole_with_its_loss(
    training: bool, slice_bytes: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[int] = []

    def noting(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        swept.append(arguments[3])
        return sweep(*arguments)

    sweep = slices._sweep
    monkeypatch.setattr(slices, "_sweep", noting)
    limited = partial(slices.linear_cross_entropy, slice_bytes=slice_bytes)
    monkeypatch.setattr(language_model, "linear_cross_entropy", limited)
    torch.compiler.reset()
    model = small_model("hyena,attention", torch.float32, layers=2, **options).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    ids, targets = tokens(2, 16), tokens(2, 16, seed=1)
    targets[:, ::3] = IGNORE
    with warnings.catch_warnings(), torch.set_grad_enabled(training):
        warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated")
        loss = compiled(ids, targets=targets)
        assert bool(swept) == (slice_bytes == SLICES)
        logits = model(ids).flatten(0, 1)
        expected = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE)
        assert_close(loss, expected, 1e-6)
        if training:
            loss.backward()
            of_compiled = gradients(model)
            expected.backward()
            for name, gradient in gradients(model).items():
                assert_close(of_compiled[name], gradient, 1e-5)
