import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from hyena.data import BytesTokenizer, Document, tokenize
from hyena.evaluation import evaluate, sliding_windows
from hyena.mixers import SPECS
from hyena.model import LanguageModel, ModelConfig, language_model
from hyena.model.linear_cross_entropy import linear_cross_entropy

V = 7
END = V - 1


class Bigram(nn.Module):
    """Knows the probability of each token given the one before; notes the shapes it was asked."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(V, V, generator=generator, dtype=torch.float64)
        self.table = nn.Parameter(torch.log_softmax(table, dim=-1))
        self.calls = []

    def forward(self, ids):
        self.calls.append(tuple(ids.shape))
        assert not self.training
        return self.table[ids]


class Counting:
    """Says how far a position is from its window's start: token p gets probability 1 at p."""

    def __call__(self, ids):
        positions = torch.arange(ids.shape[1]).clamp(max=V - 1)
        logits = torch.full((*ids.shape, V), -50.0, dtype=torch.float64)
        logits[:, torch.arange(ids.shape[1]), positions] = 0.0
        return logits


def small_language_model():
    config = ModelConfig(vocab_size=V, width=8, layers=1, max_length=8, initial="pytorch")
    return LanguageModel(config, generator=torch.Generator().manual_seed(0)).double().eval()


def documents(lengths, seed=0):
    generator = np.random.default_rng(seed)
    for n in lengths:
        tokens = np.concatenate([[END], generator.integers(0, END, n), [END]])
        yield tokens.astype(np.uint16), 3 * n


def nats(model, tokens):
    tokens = torch.from_numpy(tokens.astype(np.int64))
    return -float(model.table.detach()[tokens[:-1], tokens[1:]].sum())


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_windows_score_each_target_once_with_the_stated_context(targets, length, stride):
    assume(stride <= length)
    windows = list(sliding_windows(targets, length=length, stride=stride))
    scored = [t for w in windows for t in range(w.score_from, w.end)]
    assert scored == list(range(targets))
    for before, window in itertools.pairwise(windows):
        assert window.start == before.start + stride
        assert window.score_from - window.start == length - stride
    assert all(0 < w.end - w.start <= length for w in windows)
    assert all(w.end - w.start == length for w in windows[:-1])


@pytest.mark.parametrize(("length", "stride"), [(4, 0), (4, 5), (0, 1), (4, -1)])
def test_a_stride_out_of_range(length, stride):
    with pytest.raises(ValueError, match=r"(stride|length): expected"):
        evaluate(Bigram(), documents([3]), length=length, stride=stride)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (5, 1), (5, 3), (5, 5), (64, 32)])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_a_model_of_known_probabilities_gets_its_exact_score(length, stride, batch):
    model = Bigram()
    texts = list(documents([1, 9, 30, 4]))
    total = sum(nats(model, tokens) for tokens, _ in texts)
    result = evaluate(model, texts, length=length, stride=stride, batch=batch)
    assert result.tokens == 2 + 10 + 31 + 5
    assert result.bytes == 3 * 44
    assert result.documents == 4
    assert result.loss_nats_per_token == pytest.approx(total / 48, rel=1e-12)
    assert result.perplexity == pytest.approx(math.exp(total / 48), rel=1e-12)
    assert result.bits_per_byte == pytest.approx(total / math.log(2) / 132, rel=1e-12)


def test_a_uniform_model_needs_log2_of_the_vocabulary_for_each_token():
    def uniform(ids):
        return torch.zeros(*ids.shape, V)

    result = evaluate(uniform, documents([9]), length=4, stride=2)
    assert result.perplexity == pytest.approx(V, rel=1e-6)
    assert result.bits_per_byte == pytest.approx(math.log2(V) * 10 / 27, rel=1e-6)


def test_only_the_last_stride_targets_of_later_windows_are_scored():
    # Targets 0 1 2 3 | 2 3 | 2 3: right exactly if windows of 4 move by 2 and score their last 2.
    tokens = np.array([END, 0, 1, 2, 3, 2, 3, 2, 3])
    assert evaluate(Counting(), [(tokens, 8)], length=4, stride=2).loss_nats_per_token < 1e-9
    assert evaluate(Counting(), [(tokens, 8)], length=4, stride=4).loss_nats_per_token > 1


def test_a_stride_of_the_length_is_independent_windows():
    tokens = np.array([END, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    assert evaluate(Counting(), [(tokens, 8)], length=4, stride=4).loss_nats_per_token < 1e-9


def test_windows_of_one_length_run_together_and_none_is_padded():
    model = Bigram()
    evaluate(model, documents([9, 2, 3, 9, 2]), length=5, stride=5, batch=2)
    assert model.calls == [(2, 5), (2, 5), (2, 3), (1, 4)]


@pytest.mark.parametrize("rows", [3, 1000])
def test_a_language_model_makes_no_logits_of_what_is_not_scored(rows, monkeypatch):
    model, scored = small_language_model(), []

    def spy(x, weight, targets, reduction):
        scored.append(int((targets >= 0).sum()))
        room = rows * V * 16
        return linear_cross_entropy(x, weight, targets, reduction=reduction, slice_bytes=room)

    options = {"length": 8, "stride": 3, "batch": 2}
    expected = evaluate(lambda ids: model(ids), documents([30, 5]), **options)
    monkeypatch.setattr(language_model, "linear_cross_entropy", spy)
    monkeypatch.delattr(LanguageModel, "_head")
    found = evaluate(model, documents([30, 5]), **options)
    assert found.loss_nats_per_token == pytest.approx(expected.loss_nats_per_token, rel=1e-12)
    assert sum(scored) == found.tokens == 37


def test_what_is_done_to_the_logits_of_a_language_model_counts():
    class Cooler(LanguageModel):
        def forward(self, ids, **options):
            return super().forward(ids, **options) / 2

    model = small_language_model()
    cooler = Cooler(model.config).double()
    cooler.load_state_dict(model.state_dict())
    options = {"length": 8, "stride": 3}
    plain = evaluate(model, documents([30]), **options).loss_nats_per_token
    expected = evaluate(lambda ids: model(ids) / 2, documents([30]), **options).loss_nats_per_token
    assert abs(plain - expected) > 1e-3
    assert evaluate(cooler, documents([30]), **options).loss_nats_per_token == expected
    model.register_forward_hook(lambda module, inputs, logits: logits / 2)
    assert evaluate(model, documents([30]), **options).loss_nats_per_token == expected


def test_of_many_lengths_few_windows_wait():
    model, read = Bigram(), []

    def counted():
        for i, document in enumerate(documents(range(1, 700))):
            read.append((i, len(model.calls)))
            yield document

    evaluate(model, counted(), length=1000, stride=1000, batch=2)
    assert max(i - calls for i, calls in read) <= 2 * 64 + 1


@pytest.mark.parametrize(
    ("mixers", "settings", "length"),
    [
        ("hyena", {"positions": "learned"}, 16),
        ("hyena", {"length_policy": "interpolate"}, 24),
        ("hyena", {"length_policy": "extrapolate"}, 24),
        *((mixers, {}, 16) for mixers in SPECS),
    ],
)
def test_the_batch_has_no_say_in_the_result(mixers, settings, length):
    config = ModelConfig(
        width=16, layers=1, mlp_width=16, head_dim=8, max_length=16, mixers=mixers, **settings
    )
    model = LanguageModel(config, generator=torch.Generator().manual_seed(0)).double()
    lengths = [3, 40, 3, 5, 23, 5, 9, 30]
    losses = [
        evaluate(model, documents(lengths), length=length, stride=7, batch=batch)
        for batch in (1, 3, 8)
    ]
    for loss in losses[1:]:
        assert loss.tokens == losses[0].tokens == sum(lengths) + len(lengths)
        assert loss.loss_nats_per_token == pytest.approx(losses[0].loss_nats_per_token, rel=1e-12)


def test_documents_do_not_see_each_other():
    one, two = list(documents([8, 13]))
    model = Bigram()
    each = [evaluate(model, [d], length=4, stride=2) for d in (one, two)]
    both = evaluate(model, [one, two], length=4, stride=2, batch=5)
    total = sum(e.loss_nats_per_token * e.tokens for e in each)
    assert both.loss_nats_per_token * both.tokens == pytest.approx(total, rel=1e-12)


def test_modes_and_gradients_are_left_as_they_were():
    model = nn.Sequential()
    bigram, frozen = Bigram(), nn.Dropout()
    model.add_module("bigram", bigram)
    model.add_module("frozen", frozen.eval())
    model.forward = lambda ids: bigram(ids)
    model.train()
    frozen.eval()
    evaluate(model, documents([5]), length=4, stride=4)
    assert (model.training, bigram.training, frozen.training) == (True, True, False)
    assert bigram.table.grad is None


def test_half_precision_logits_are_summed_in_single():
    model = Bigram()
    texts = list(documents([40]))
    exact = evaluate(model, texts, length=8, stride=4)

    def rounded(ids):
        return model.eval()(ids).to(torch.bfloat16)

    half = evaluate(rounded, texts, length=8, stride=4)
    assert half.loss_nats_per_token == pytest.approx(exact.loss_nats_per_token, rel=1e-2)


def test_progress_is_told():
    seen = []
    evaluate(
        Bigram(),
        documents([9, 9]),
        length=5,
        stride=5,
        batch=2,
        progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(1, 10), (2, 20)]


def test_raw_text_in_bytes():
    def uniform(ids):
        return torch.zeros(*ids.shape, 257)

    texts = tokenize([Document("a", "ä"), Document("b", "xyz")], BytesTokenizer())
    result = evaluate(uniform, texts, length=3, stride=1)
    assert (result.tokens, result.bytes, result.documents) == (7, 5, 2)
    assert result.bits_per_byte == pytest.approx(7 * math.log2(257) / 5, rel=1e-6)


def test_losses_beyond_floats():
    def sure(ids):
        logits = torch.zeros(*ids.shape, V)
        logits[..., 0] = 1e6
        return logits

    tokens = np.array([END, 1, END])
    assert evaluate(sure, [(tokens, 1)], length=3, stride=3).perplexity == math.inf


def test_bad_documents():
    with pytest.raises(ValueError, match="there are no documents to evaluate"):
        evaluate(Bigram(), [], length=4, stride=4)
    with pytest.raises(ValueError, match="document 0 has 1 token; a document is"):
        evaluate(Bigram(), [(np.array([END]), 0)], length=4, stride=4)
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        evaluate(Bigram(), documents([3]), length=4, stride=4, batch=0)
    with pytest.raises(ValueError, match="token id 9 is outside the model's vocabulary of 7"):
        evaluate(Bigram(), [(np.array([END, 1, 9]), 1)], length=4, stride=4)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(wrong):
    model = Bigram()
    with torch.no_grad():
        model.table[:, 2] = wrong
    with pytest.raises(ValueError, match=r"^evaluate: the model's logits are not finite; its weig"):
        evaluate(model, documents([9, 5]), length=4, stride=2)


@pytest.mark.parametrize("model", [-1, None, "model"])
def test_what_is_no_model_is_one_line(model):
    with pytest.raises(TypeError, match=r"^evaluate: expected a model that can be called, got "):
        evaluate(model, [], length=8, stride=4)


@pytest.mark.parametrize("size", [0, 1.5, "x", None, 10**19])
@pytest.mark.parametrize("name", ["length", "stride", "batch"])
def test_a_size_that_is_none(name, size):
    with pytest.raises(ValueError, match=f"{name}: expected"):
        evaluate(Bigram(), documents([3]), **{"length": 4, "stride": 2, "batch": 2, name: size})


def test_arguments_of_another_kind():
    with pytest.raises(ValueError, match=r"^evaluate: expected documents \(tokens, bytes of the"):
        evaluate(Bigram(), [3], length=4, stride=2)
    with pytest.raises(ValueError, match=r'^evaluate: expected a device such as "cpu" or "cuda:0"'):
        evaluate(Bigram(), documents([3]), length=4, stride=2, device="x")


@pytest.mark.parametrize(
    "tokens",
    [
        2**31,
        1.5,
        None,
        "text",
        [END, 1.5, END],
        [END, -100, END],  # which PyTorch's loss would leave out
        [END, 2**64, END],
        np.array([END, 2**63, END], np.uint64),
        np.array([END, 2**64 - 100, END], np.uint64),
        [[END, 1], [2]],
        {END: 1, 1: 2},
        torch.tensor(3),
        torch.zeros(3),
        np.zeros((3, 2), dtype=np.int64),
    ],
)
def test_what_are_no_token_ids(tokens):
    with pytest.raises(ValueError, match=r"^evaluate: expected token ids, 0 or more, got [^\n]*$"):
        evaluate(Bigram(), [(tokens, 9)], length=4, stride=4)


@pytest.mark.parametrize("wrong", [3, 1.5, None])
def test_what_are_no_documents(wrong):
    with pytest.raises(ValueError, match=r"^evaluate: expected documents \(tokens, bytes of the"):
        evaluate(Bigram(), wrong, length=4, stride=2)


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, lambda x: np.array(x, np.uint16)])
def test_tokens_and_sizes_of_any_kind(kind):
    tokens = [END, 1, 2, 3, 2, 1, 2, END]
    small = np.uint8(3)
    expected = evaluate(Bigram(), [(np.array(tokens), 6)], length=3, stride=3, batch=3)
    assert evaluate(Bigram(), [(kind(tokens), np.uint8(6))], length=small, stride=small) == expected
    ends = [window.end for window in sliding_windows(300, length=small, stride=small)]
    assert ends[-1] == 300
