"""Scores are what the logits of each sequence alone say, however the sequences are batched."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scoring_models import BYTES, END, build, logprobs, of_text

import hyena
from hyena.data import Document, EvoTokenizer, HyenaDNATokenizer
from hyena.evaluation import sliding_windows
from hyena.mixers import SPECS
from hyena.model import FilterConfig, LanguageModel
from hyena.model.config import FilterKind
from hyena.scoring import Score, score
from hyena.scoring.batches import MOST_TOKENS, inputs_and_targets, padded, similar, waiting

TEXTS = [
    "the cat",
    "a",
    "the cat sat on",
    "x" * 40,
    "dog",
    "the cat",
    "mouse",
    "é",
    "y" * 41,
    "z" * 9,
]


@pytest.mark.parametrize("mixers", [*SPECS, "hyena,attention"])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_a_score_is_the_sum_of_what_the_logits_say(mixers: str, batch: int) -> None:
    model = build(mixers)
    found = list(score(model, BYTES, TEXTS, batch=batch))
    assert [one.index for one in found] == list(range(len(TEXTS)))
    assert [one.name for one in found] == [str(i) for i in range(len(TEXTS))]
    for one, text in zip(found, TEXTS, strict=True):
        assert one.tokens == len(text.encode())
        assert one.score == pytest.approx(sum(of_text(model, text)), rel=1e-10)
        assert (one.strands, one.positions, one.skipped) == (None, None, None)


@pytest.mark.parametrize("kind", get_args(FilterKind))
def test_padding_has_no_say_whatever_the_filter(kind: str) -> None:
    model = build(filter=FilterConfig(kind=kind, emb_dim=5, width=8, modes=8, degree=16))
    for one, text in zip(score(model, BYTES, TEXTS, batch=100), TEXTS, strict=True):
        assert one.score == pytest.approx(sum(of_text(model, text)), rel=1e-10)


@pytest.mark.parametrize("settings", [{"positions": "learned"}, {"block_causal": True}])
def test_padding_has_no_say_whatever_the_model(settings: dict[str, Any]) -> None:
    model = build("hyena,attention", **settings)
    for one, text in zip(score(model, BYTES, TEXTS, batch=100), TEXTS, strict=True):
        assert one.score == pytest.approx(sum(of_text(model, text)), rel=1e-10)


@pytest.mark.parametrize("policy", ["extrapolate", "interpolate"])
def test_beyond_max_length_a_score_is_that_of_the_sequence_alone(policy: str) -> None:
    model = build(max_length=16, length_policy=policy)
    for one, text in zip(score(model, BYTES, TEXTS, batch=100), TEXTS, strict=True):
        assert one.score == pytest.approx(sum(of_text(model, text)), rel=1e-10)


def test_positions_are_those_of_the_definition() -> None:
    model = build()
    for one, text in zip(score(model, BYTES, TEXTS, positions=True), TEXTS, strict=True):
        assert one.positions is not None
        np.testing.assert_allclose(one.positions, of_text(model, text), rtol=1e-10)
        assert one.score == pytest.approx(float(one.positions.sum()), rel=1e-14)


def test_a_mean_is_the_sum_over_the_tokens() -> None:
    model = build()
    sums, means = (list(score(model, BYTES, TEXTS, reduce=by)) for by in ("sum", "mean"))
    for whole, mean in zip(sums, means, strict=True):
        assert whole.score is not None
        assert mean.score == pytest.approx(whole.score / whole.tokens, rel=1e-14)


def test_without_a_beginning_the_first_token_has_no_probability() -> None:
    model, texts = build(), [text for text in TEXTS if len(text.encode()) > 1]
    found = score(model, BYTES, texts, begin=False, positions=True)
    for one, text in zip(found, texts, strict=True):
        expected = of_text(model, text, begin=False)
        assert one.tokens == len(expected)
        assert one.score == pytest.approx(sum(expected), rel=1e-10)
        assert one.positions is not None
        assert math.isnan(one.positions[0])
        np.testing.assert_allclose(one.positions[1:], expected, rtol=1e-10)
        assert one.record()["positions"][0] is None


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize(("window", "stride"), [(10, None), (10, 10), (7, 3), (1, 1), (64, 32)])
def test_windows_score_each_token_once_with_what_comes_before_it(
    window: int, stride: int | None, begin: bool
) -> None:
    model, texts = build(max_length=64), ["ab", "a longer text of more than ten tokens", "y" * 90]
    options: Any = {"window": window, "stride": stride, "begin": begin}
    found = score(model, BYTES, texts, positions=True, batch=3, **options)
    for one, text in zip(found, texts, strict=True):
        tokens = [*([END] if begin else []), *text.encode()]
        expected: list[float] = []
        step = max(1, window // 2) if stride is None else stride
        for start, scored, end in sliding_windows(len(tokens) - 1, length=window, stride=step):
            expected += logprobs(model, tokens[start : end + 1])[scored - start :]
        assert one.positions is not None
        np.testing.assert_allclose(one.positions[0 if begin else 1 :], expected, rtol=1e-10)


def test_both_strands_are_scored_and_their_mean_is_the_score() -> None:
    model, texts = build(), ["ACGTTGCA", "AACCN", "acgu"]
    others = ["TGCAACGT", "NGGTT", "acgt"]  # U gives A
    found = list(score(model, BYTES, texts, both_strands=True, positions=True))
    forward, reverse = (list(score(model, BYTES, x, positions=True)) for x in (texts, others))
    for both, one, other in zip(found, forward, reverse, strict=True):
        assert one.score is not None
        assert other.score is not None
        assert both.strands == pytest.approx((one.score, other.score), rel=1e-10)
        assert both.score == pytest.approx((one.score + other.score) / 2, rel=1e-10)
        np.testing.assert_allclose(both.positions, one.positions, rtol=1e-10)
        assert other.positions is not None
        np.testing.assert_allclose(both.reverse_positions, other.positions[::-1], rtol=1e-10)
        assert list(both.record()) == [
            *("index", "name", "tokens", "score", "forward", "reverse"),
            *("positions", "reverse_positions"),
        ]


def test_documents_and_records_have_names() -> None:
    @dataclasses.dataclass
    class Record:
        name: str
        sequence: bytes

    model = build()
    found = list(score(model, BYTES, [Document("one", "cat"), Record("two", b"cat"), "cat"]))
    assert [one.name for one in found] == ["one", "two", "2"]
    assert len({one.score for one in found}) == 1
    (alone,) = score(model, BYTES, "cat")
    assert alone.score == pytest.approx(found[0].score, rel=1e-12)


BAD = [
    Document("empty", ""),
    Document("row", "", lacks="no field 'text' among 'x'"),
    Document("long", "x" * 65),
    Document("surrogate", "\ud800"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_sequence_is_fatal_or_says_in_its_place_why(bad: Document) -> None:
    model, expected = (
        build(),
        {
            "empty": "it is empty",
            "row": "no field 'text' among 'x'",
            "long": "it has 65 tokens, but the model has room for 64; score it in windows with "
            "window=64 (--window 64), or load the model with length_policy",
            "surrogate": "the text is not valid Unicode: lone surrogate U+D800 at character 0",
        },
    )
    texts = [Document("good", "cat"), bad, Document("also", "dog")]
    found = score(model, BYTES, texts, batch=1)
    with pytest.raises(ValueError, match="^" + re.escape(f"{bad.name}: {expected[bad.name]}")):
        list(found)
    first, second, third = score(model, BYTES, texts, on_error="skip")
    assert (first.skipped, third.skipped) == (None, None)
    assert second.score is None
    assert second.skipped is not None
    assert second.skipped.startswith(expected[bad.name])
    record = {"index": 1, "name": bad.name, "skipped": second.skipped}
    assert json.loads(json.dumps(second.record())) == record


def test_a_sequence_of_one_token_needs_a_beginning() -> None:
    model = build()
    with pytest.raises(ValueError, match=r"^0: it has 1 token, of which none comes after another"):
        list(score(model, BYTES, "a", begin=False))


class Lossy:
    """Bytes of which one is unknown."""

    vocab_size, end_of_text, unknown = 257, 256, 63

    def encode(self, text: str) -> np.ndarray:
        return BYTES.encode("".join(c if c.isupper() else "?" for c in text))

    def decode(self, ids: Any) -> str:
        return BYTES.decode(ids)


def test_a_sequence_of_unknown_letters_alone_is_refused() -> None:
    tokenizer: Any = Lossy()
    with pytest.warns(UserWarning, match=r"^2 of 4 tokens are .*, the first 'g' in 0$"):
        assert len(list(score(build(), tokenizer, ["ACgt"]))) == 1
    with pytest.warns(UserWarning, match=r"^3 of 9 tokens"):  # though not all were asked for
        next(score(build(), tokenizer, ["ACGgt", "Aa", "AC"], batch=1))
    with pytest.raises(ValueError, match=r"^0: none of its letters has a token; are they in lower"):
        list(score(build(), tokenizer, ["acgt"]))


@pytest.mark.parametrize("tokenizer", [HyenaDNATokenizer(), EvoTokenizer()], ids=lambda x: x.name)
def test_lower_case_of_dna_is_folded_unless_it_is_kept(tokenizer: Any) -> None:
    model, texts = build(vocab_size=512), ["GATTACA", "gaTTaca"]
    upper, lower = score(model, tokenizer, texts, positions=True)
    assert lower.score == pytest.approx(upper.score, rel=1e-12)
    plain, kept = score(model, BYTES, texts)
    assert kept.score != pytest.approx(plain.score, rel=1e-3)  # to bytes they are other letters
    if tokenizer.name == "evo":
        _, kept = score(model, tokenizer, texts, soft_masked="keep")
        assert kept.score != pytest.approx(upper.score, rel=1e-3)


@pytest.mark.parametrize("tokenizer", [HyenaDNATokenizer(), EvoTokenizer()], ids=lambda x: x.name)
@pytest.mark.parametrize("begin", [True, False])
def test_positions_that_are_no_bases_are_counted(tokenizer: Any, begin: bool) -> None:
    texts = ["NACGTacgtn", "ACGT", "GNNA"]
    for options in ({}, {"soft_masked": "keep"} if tokenizer.name == "evo" else {}):
        found = score(build(vocab_size=512), tokenizer, texts, begin=begin, **options)
        assert [one.not_acgt for one in found] == [2 if begin else 1, 0, 2]
    (found,) = score(build(), BYTES, "NACGT")
    assert found.not_acgt is None
    assert "not_acgt" not in found.record()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"soft_masked": "drop"}, "soft_masked: expected one of fold, keep, got 'drop'"),
        ({"reduce": "max"}, "reduce: expected one of sum, mean, got 'max'"),
        ({"on_error": "ignore"}, "on_error: expected one of stop, skip, got 'ignore'"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"window": 0}, "window: expected at least 1, got 0"),
        ({"window": 65}, "window: expected at most the model's max_length 64, got 65; or load"),
        ({"window": 8, "stride": 9}, "stride: expected at most 8, got 9"),
        ({"stride": 9}, "stride is from one window to the next; give window too"),
        ({"tokenizer": None}, "tokenizer: expected one such as hyena.data.load_tokenizer gives"),
        ({"tokenizer": "bytes"}, "tokenizer: expected one such as hyena.data.load_tokenizer gives"),
    ],
)
def test_arguments_out_of_range_are_refused_before_any_work(
    options: dict[str, Any], message: str
) -> None:
    given = {"tokenizer": BYTES, "sequences": ["a"], **options}
    with pytest.raises(ValueError, match=f"^{message}"):
        score(build(), **given)


@pytest.mark.parametrize("sequences", [3, [3], [b"a"], [None]])
def test_what_is_no_sequence(sequences: Any) -> None:
    with pytest.raises(ValueError, match=r"^sequences: expected texts, Documents of hyena\.data"):
        list(score(build(), BYTES, sequences))


def test_what_is_no_model() -> None:
    other: Any = torch.nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"^model: expected a LanguageModel, got Linear"):
        score(other, BYTES, ["a"])


def test_a_tokenizer_of_another_model_is_found_out() -> None:
    model = build(vocab_size=99)
    with pytest.raises(ValueError, match=r"^0: token id 116 is outside the model's vocabulary of"):
        list(score(model, BYTES, ["cat"], begin=False))


def test_damaged_weights_are_no_score() -> None:
    model = build()
    model.norm.weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="the model's logits are not finite"):
        list(score(model, BYTES, ["cat"]))


def test_the_mode_of_the_model_is_restored_when_scores_are_no_longer_wanted() -> None:
    model = build(dropout=0.5).train()
    scores = score(model, BYTES, TEXTS)
    assert model.training
    next(scores)
    assert not model.training
    scores.close()
    assert model.training


def test_few_sequences_are_read_ahead() -> None:
    model, read = build(), []

    def texts() -> Iterator[str]:
        for i in range(200):
            read.append(i)
            yield "cat" * (i % 7 + 1)

    for one in score(model, BYTES, texts(), batch=2):
        assert len(read) <= one.index + 32


def test_the_head_never_makes_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    expected = [one.score for one in score(model, BYTES, TEXTS)]
    monkeypatch.delattr(LanguageModel, "_head")
    assert [one.score for one in score(model, BYTES, TEXTS)] == expected


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-3), (torch.bfloat16, 1.0)])
def test_narrow_models_give_scores_in_float64(dtype: torch.dtype, rtol: float) -> None:
    wide, narrow = build(), build(dtype=dtype)
    pairs = zip(score(wide, BYTES, TEXTS), score(narrow, BYTES, TEXTS), strict=True)
    for one, other in pairs:
        assert isinstance(other.score, float)
        assert other.score == pytest.approx(one.score, rel=rtol)


def test_the_root_offers_it() -> None:
    assert hyena.score is score
    assert isinstance(next(hyena.score(build(), BYTES, "cat")), Score)


def test_rows_of_similar_lengths_run_together() -> None:
    config = build().config
    lengths = [9, 100, 10, 101, 9, 112, 113, 1]
    groups = list(similar(lengths, 8, config))
    assert [sorted(lengths[i] for i in group) for group in groups] == [
        [1],
        [9, 9, 10],
        [100, 101, 112],
        [113],
    ]
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert max(map(len, similar([5] * 20, 8, config))) == 8
    wide = [MOST_TOKENS // 2, MOST_TOKENS // 2, MOST_TOKENS // 2, 2 * MOST_TOKENS]
    assert [len(group) for group in similar(wide, 8, config)] == [2, 1, 1]


def test_stretched_filters_are_not_shared_by_rows_of_other_lengths() -> None:
    config = build(length_policy="interpolate").config
    lengths = [60, 64, 65, 66, 66]
    groups = [[lengths[i] for i in group] for group in similar(lengths, 8, config)]
    assert groups == [[60, 64], [65], [66, 66]]


def test_sequences_wait_for_each_other_up_to_a_number_of_tokens() -> None:
    sizes = [1, 1, 1, 5, 1, 9, 1]
    assert list(waiting(sizes, lambda x: x, 1, most=5)) == [[1, 1, 1, 5], [1, 9], [1]]
    assert [len(found) for found in waiting([1] * 40, lambda x: x, 1)] == [16, 16, 8]


def test_rows_are_padded_on_the_right_behind_what_stands_before_them() -> None:
    rows = [np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)]
    ids, lengths = padded(rows, [9])
    assert ids.tolist() == [[9, 5, 6], [9, 7, 0]]
    assert lengths.tolist() == [3, 2]
    ids, lengths = padded(rows, [])
    assert (ids.tolist(), lengths.tolist()) == ([[5, 6], [7, 0]], [2, 1])


def test_each_token_is_the_target_of_the_one_before_it() -> None:
    rows = [np.array([5, 6, 7]), np.array([8, 9]), np.array([1, 2, 3, 4])]
    inputs, targets = inputs_and_targets(rows, [1, 0, 2])
    assert inputs.tolist() == [[5, 6, 0], [8, 0, 0], [1, 2, 3]]
    assert targets.tolist() == [[-100, 7, -100], [9, -100, -100], [-100, -100, 4]]


def test_a_table_of_positions_is_stretched_where_that_is_asked_for() -> None:
    filter = FilterConfig(emb_dim=5, width=8, train_encoding=True)
    for policy in ("error", "extrapolate"):
        with pytest.raises(ValueError, match=r"room for 64; .* \(--length_policy interpolate\)$"):
            list(score(build(filter=filter, length_policy=policy), BYTES, "x" * 65))
    model = build(filter=filter, length_policy="interpolate")
    (found,) = score(model, BYTES, "x" * 65)
    assert found.score == pytest.approx(sum(of_text(model, "x" * 65)), rel=1e-8)
    with pytest.raises(ValueError, match="or take a model with more room: its positions are a tab"):
        list(score(build("attention", positions="learned"), BYTES, "x" * 65))
