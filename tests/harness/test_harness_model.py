"""What a model answers to requests of lm_eval, by the logits of each text alone."""

import json
import math
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from harness_models import BYTES, END, TEXTS, build, logprobs, requests_of
from lm_eval.api.model import CacheHook
from lm_eval.api.registry import get_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizer_kinds import KINDS

import hyena
from hyena.data import HyenaDNATokenizer, Tokenizer, tokenize
from hyena.data.documents import Document
from hyena.evaluation import evaluate
from hyena.generation import generate
from hyena.harness import HyenaLM
from hyena.harness.model import seed_of

LONG = "of the United States, in Order to form a more perfect Union, establish Justice"
PAIRS = [
    ("We the", " people"),
    ("We the ", "people"),  # the blank is the continuation's
    ("", "We the people"),
    ("hot or\n", "cold"),
    ("\n", "x"),
    ("We", LONG[:40]),
]


class Kept(CacheHook):  # type: ignore[misc]
    """What would have been written down, in order."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, Any, Any]] = []

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        self.answers.append((attr, req, res))


def of_pair(model: hyena.LanguageModel, context: str, continuation: str) -> list[float]:
    """The definition: of each token of the continuation, and of the blanks before it."""
    whole = (context + continuation).encode()
    return logprobs(model, [END, *whole])[len(context.rstrip()) :]


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
def test_a_continuation_is_scored_after_its_context(
    model: hyena.LanguageModel, batch_size: int | str
) -> None:
    lm = HyenaLM(model, BYTES, batch_size=batch_size)
    found = lm.loglikelihood(requests_of(*PAIRS), disable_tqdm=True)
    expected = [sum(of_pair(model, *pair)) for pair in PAIRS]
    assert [value for value, _ in found] == pytest.approx(expected, rel=1e-10)


def test_without_a_context_it_is_the_score_of_the_text(model: hyena.LanguageModel) -> None:
    for begin in (True, False):
        lm = HyenaLM(model, BYTES, begin=begin)
        told = pytest.warns(UserWarning, match="3 texts begin without the end of text")
        with nullcontext() if begin else told:
            found = lm.loglikelihood(requests_of(*(("", text[:40]) for text in TEXTS)))
            rolled = lm.loglikelihood_rolling(requests_of(*((text[:40],) for text in TEXTS)))
        scores = hyena.score(model, BYTES, [text[:40] for text in TEXTS], begin=begin)
        expected = [one.score for one in scores]
        assert [value for value, _ in found] == pytest.approx(expected, rel=1e-10)
        assert rolled == pytest.approx(expected, rel=1e-10)


def test_a_continuation_is_greedy_if_each_token_is_the_likeliest(
    model: hyena.LanguageModel,
) -> None:
    (generation,) = generate(model, [[END, *b"We the"]], max_new_tokens=5, temperature=0)
    likeliest = bytes(generation.tokens).decode("latin-1")
    if not likeliest.isascii():
        pytest.fail(f"take another model: it goes on with {likeliest!r}")
    other = likeliest[:-1] + ("a" if likeliest[-1] != "a" else "b")
    asked = requests_of(("We the", likeliest), ("We the", other), ("We the", likeliest[0]))
    found = HyenaLM(model, BYTES, batch_size=3).loglikelihood(asked)
    assert [greedy for _, greedy in found] == [True, False, True]


def test_a_context_loses_its_beginning_where_it_does_not_fit(model: hyena.LanguageModel) -> None:
    lm = HyenaLM(model, BYTES, max_length=20, batch_size=2)
    with pytest.warns(
        UserWarning, match="2 contexts were too long for the 20 tokens that the"
    ) as w:
        found = lm.loglikelihood(requests_of((LONG, " and"), ("a", "b"), (LONG, " for all")))
    assert "lost their beginning, the first that of document 0 of t" in str(w[0].message)
    for (value, _), ending in zip(found[::2], (" and", " for all"), strict=True):
        whole = (LONG + ending).encode()[-21:]  # without the end of text, which began the whole
        assert value == pytest.approx(sum(logprobs(model, whole)[-len(ending) :]), rel=1e-10)
    assert found[1][0] == pytest.approx(sum(of_pair(model, "a", "b")))


def test_as_much_as_fits_loses_nothing(model: hyena.LanguageModel) -> None:
    lm = HyenaLM(model, BYTES, max_length=20)
    for context in ("c" * 17, "c"):
        continuation = "d" * (20 - len(context))  # with the end of text 21 tokens, 20 inputs
        ((value, _),) = lm.loglikelihood(requests_of((context, continuation)))
        assert value == pytest.approx(sum(of_pair(model, context, continuation)))
    with pytest.raises(
        ValueError, match="document 0 of t: its continuation has 21 tokens, but the"
    ):
        lm.loglikelihood(requests_of(("c", "d" * 21)))


@pytest.mark.parametrize("length", [7, 16, 48])
@pytest.mark.parametrize("text", ["a", LONG[:7], LONG[:15], LONG])
def test_windows_of_a_long_text_are_those_of_the_other_models_of_lm_eval(
    model: hyena.LanguageModel, length: int, text: str
) -> None:
    windows = get_rolling_token_windows([*text.encode()], END, length, 1)
    expected = 0.0
    for context, scored in map(make_disjoint_window, windows):
        expected += sum(logprobs(model, [*context, *scored])[-len(scored) :])
    lm = HyenaLM(model, BYTES, max_length=length, batch_size=3)
    (found,) = lm.loglikelihood_rolling(requests_of((text,)))
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("stride", [1, 10, 20])
def test_with_a_stride_and_the_end_of_texts_they_are_those_of_evaluate(
    model: hyena.LanguageModel, stride: int
) -> None:
    texts = [*TEXTS, LONG]
    lm = HyenaLM(model, BYTES, max_length=20, stride=stride, end=True, batch_size=4)
    found = lm.loglikelihood_rolling(requests_of(*((text,) for text in texts)))
    documents = tokenize([Document("", text) for text in texts], BYTES)
    expected = evaluate(model, documents, length=20, stride=stride)
    n_bytes = sum(len(text.encode()) for text in texts)
    assert -sum(found) / math.log(2) / n_bytes == pytest.approx(expected.bits_per_byte, rel=1e-10)


def test_an_empty_text_has_a_probability_of_one_or_that_of_its_end(
    model: hyena.LanguageModel,
) -> None:
    assert HyenaLM(model, BYTES).loglikelihood_rolling(requests_of(("",))) == [0]
    (found,) = HyenaLM(model, BYTES, end=True).loglikelihood_rolling(requests_of(("",)))
    assert found == pytest.approx(sum(logprobs(model, [END, END])))
    assert HyenaLM(model, BYTES, begin=False).loglikelihood_rolling(requests_of(("",))) == [0]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("a", ""), "document 0 of t: its continuation is empty; there is nothing to score"),
        (("", ""), "document 0 of t: its continuation is empty"),
        (("", "a"), "document 0 of t: it has 1 token, of which none comes after another one"),
        (("a", "\ud800"), "document 0 of t: "),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_place(
    model: hyena.LanguageModel, pair: tuple[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HyenaLM(model, BYTES, begin=False).loglikelihood(requests_of(pair))


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"end_of_word"}))
def test_tokens_across_the_border_are_the_continuations(kind: str) -> None:
    tokenizer: Tokenizer = KINDS[kind]
    model = build(vocab_size=tokenizer.vocab_size)
    lm = HyenaLM(model, tokenizer)
    for context, continuation in (("we the", " people"), ("we th", "e people")):
        whole = tokenizer.encode(context + continuation)
        before = min(len(tokenizer.encode(context)), len(whole) - 1)
        each = logprobs(model, [tokenizer.end_of_text, *whole])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lm._texts, "notes", list)  # some know none of these letters
            ((value, _),) = lm.loglikelihood(requests_of((context, continuation)))
        assert value == pytest.approx(sum(each[before:]), rel=1e-10), context


def test_a_first_token_that_is_not_scored_is_told(model: hyena.LanguageModel) -> None:
    lm = HyenaLM(model, BYTES, begin=False)
    note = r"^1 text begins without the end of text \(begin=false\), so that its first token is no"
    with pytest.warns(UserWarning, match=note):
        (found,) = lm.loglikelihood_rolling(requests_of((TEXTS[0],)))
    assert found == pytest.approx(sum(logprobs(model, TEXTS[0].encode())), rel=1e-10)
    with pytest.warns(UserWarning, match=note):
        lm.loglikelihood(requests_of(("", "We the"), ("We", " the")))
    lm.loglikelihood(requests_of(("We", " the")))  # of which there is nothing to tell


def test_letters_without_a_token_are_told() -> None:
    model = build(vocab_size=12)
    lm = HyenaLM(model, HyenaDNATokenizer(), begin=False)
    texts, options = ["ACGTacgt", "ACGT"], {"begin": False, "soft_masked": "keep"}
    with (
        pytest.warns(UserWarning, match="2 texts begin without the end of text"),
        pytest.warns(UserWarning, match="4 of 12 tokens are the one for unknown letters, the fir"),
    ):
        found = lm.loglikelihood_rolling(requests_of(*((text,) for text in texts)))
    with pytest.warns(UserWarning, match=r"letters, the first 'a' in 0$"):
        scored = list(hyena.score(model, HyenaDNATokenizer(), texts, **options))
    assert found == pytest.approx([one.score for one in scored], rel=1e-10)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_texts_go_on_as_generate_has_them(model: hyena.LanguageModel, batch_size: int) -> None:
    contexts = ["We the", "ACGT", "", "hot or cold"]
    greedy = {"max_gen_toks": 6, "until": ["\n\n"]}
    sampled = {"max_gen_toks": 6, "do_sample": True, "temperature": 0.7, "top_k": 20}
    lm = HyenaLM(model, BYTES, batch_size=batch_size, seed=5)
    asked = [(context, sampled if i % 2 else greedy) for i, context in enumerate(contexts)]
    found = lm.generate_until(requests_of(*asked), disable_tqdm=True)
    for i, context in enumerate(contexts):
        of = {"temperature": 0.7, "top_k": 20} if i % 2 else {"temperature": 0, "stop": "\n\n"}
        seed = seed_of(5, context, asked[i][1], 0)
        options: dict[str, Any] = {"tokenizer": BYTES, "max_new_tokens": 6, "seed": seed, **of}
        assert found[i] == generate(model, context, **options)[0].text


def test_drawn_texts_depend_on_nothing_that_is_asked_beside_them(
    model: hyena.LanguageModel,
) -> None:
    drawn = {"max_gen_toks": 6, "temperature": 1.0}
    lm = HyenaLM(model, BYTES, seed=5)
    few = lm.generate_until(requests_of(("We", drawn), ("We", drawn), ("the", drawn)))
    assert few[0] != few[1]
    greedy = {"max_gen_toks": 6, "until": []}
    asked = requests_of(("hot", greedy), ("hot", drawn), ("We", drawn), ("the", drawn))
    many = lm.generate_until([*asked, asked[2]])
    assert [many[2], many[4], many[3]] == few
    assert HyenaLM(model, BYTES, seed=6).generate_until(requests_of(("We", drawn))) != few[:1]


def test_a_stop_ends_a_text_and_is_no_part_of_it(model: hyena.LanguageModel) -> None:
    lm = HyenaLM(model, BYTES)
    (whole,) = lm.generate_until(requests_of(("We the", {"max_gen_toks": 8, "until": [""]})))
    stop = whole[3]
    (cut,) = lm.generate_until(requests_of(("We the", {"max_gen_toks": 8, "until": stop})))
    assert cut == whole[: whole.index(stop)]


def test_a_prompt_leaves_room_for_what_is_generated(model: hyena.LanguageModel) -> None:
    lm = HyenaLM(model, BYTES, max_length=20)
    with pytest.warns(UserWarning, match="1 context was too long for the 20 tokens"):
        (found,) = lm.generate_until(requests_of((LONG, {"max_gen_toks": 5, "until": []})))
    (expected,) = generate(
        model, [list(LONG.encode()[-15:])], tokenizer=BYTES, max_new_tokens=5, temperature=0
    )
    assert found == expected.text
    (found,) = lm.generate_until(requests_of(("ab", {"until": []})))  # half of the room
    (expected,) = generate(model, "ab", tokenizer=BYTES, max_new_tokens=10, temperature=0)
    assert found == expected.text
    with pytest.raises(ValueError, match="document 0 of t: 20 new tokens leave no room for a prom"):
        lm.generate_until(requests_of(("ab", {"max_gen_toks": 20})))
    with pytest.raises(ValueError, match="its prompt has no tokens; give begin=true"):
        HyenaLM(model, BYTES, begin=False).generate_until(requests_of(("", {})))


def test_options_of_generation_that_are_not_known_are_refused(model: hyena.LanguageModel) -> None:
    lm = HyenaLM(model, BYTES)
    lm.generate_until(requests_of(("a", {"num_beams": 1, "max_gen_toks": 1})))
    with pytest.raises(
        ValueError, match="document 0 of t: its generation_kwargs have num_beams, w"
    ):
        lm.generate_until(requests_of(("a", {"num_beams": 3, "max_gen_toks": 1})))


def test_each_answer_is_handed_on_when_it_is_there(model: hyena.LanguageModel) -> None:
    lm = HyenaLM(model, BYTES, max_length=20, batch_size=2)
    kept = Kept()
    lm.set_cache_hook(kept)
    pairs, texts = PAIRS[:4], [(LONG,), ("a",), (LONG[:30],)]
    prompts = [("a", {"max_gen_toks": 2}), ("b", {"max_gen_toks": 3})]
    for attr, arguments in (
        ("loglikelihood", pairs),
        ("loglikelihood_rolling", texts),
        ("generate_until", prompts),
    ):
        kept.answers.clear()
        found = getattr(lm, attr)(requests_of(*arguments))
        said = {json.dumps(request): answer for _, request, answer in kept.answers}
        assert {name for name, _, _ in kept.answers} == {attr}
        assert said == {json.dumps(a): x for a, x in zip(arguments, found, strict=True)}
        assert len(kept.answers) == len(arguments)


def test_lm_eval_finds_it_by_name_and_opens_it(model: hyena.LanguageModel, saved: Path) -> None:
    named = get_model("hyena")
    assert named is HyenaLM
    assert get_model("dummy").__name__ == "DummyLM"  # lm_eval's own are known as well
    given = {"batch_size": "4", "max_batch_size": None, "device": "cuda:0"}
    lm = named.create_from_arg_string(f"pretrained={saved},max_length=32,begin=false", given)
    assert (lm.max_length, lm.batch_size, lm.device) == (32, 4, torch.device("cpu"))
    found = lm.loglikelihood(requests_of(("We", " the")))
    assert found == HyenaLM(model, BYTES, begin=False).loglikelihood(requests_of(("We", " the")))
    assert lm.tokenizer_name == BYTES.fingerprint
    info = lm.get_model_info()
    assert info["model_num_parameters"] == model.parameter_count()
    assert (info["max_length"], info["begin"], info["end"]) == (32, False, False)
    assert HyenaLM(str(saved), batch_size="auto:4", max_batch_size=7).batch_size == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("pretrained=x,strid=3", "model_args: there is no 'strid'; did you mean stride?"),
        ("pretrained=x,zzz=3", "model_args: there is no 'zzz'; there are pretrained, tokenizer, "),
        ("stride=3", "model_args: expected pretrained=FOLDER, the folder of a model"),
        ("pretrained=x,batch_size=2", "model_args: batch_size is given twice; leave it to --batch"),
    ],
)
def test_arguments_that_lm_eval_hands_on_are_checked(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        HyenaLM.create_from_arg_string(given, {"batch_size": 1, "device": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 49}, "max_length: expected at most the model's own, 48, got 49; or load "),
        ({"max_length": 0}, "max_length: expected at least 1"),
        ({"stride": 49}, "stride: expected at most 48"),
        ({"begin": "no"}, "begin: expected true or false, got 'no'"),
        ({"end": 1}, "end: expected true or false, got 1"),
        ({"batch_size": "many"}, "batch_size: expected a whole number, got 'many'"),
        ({"tokenizer": "bytes"}, "tokenizer: expected one such as hyena.data.load_tokenizer gives"),
        ({"tokenizer": None}, "tokenizer: expected one such as hyena.data.load_tokenizer gives"),
    ],
)
def test_what_makes_no_sense_is_refused(
    model: hyena.LanguageModel, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HyenaLM(model, **{"tokenizer": BYTES, **options})


def test_other_objects_are_refused(model: hyena.LanguageModel, saved: Path) -> None:
    with pytest.raises(TypeError, match="pretrained: expected a LanguageModel, got 7"):
        HyenaLM(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokenizer: expected the name of one, got <"):
        HyenaLM(saved, BYTES)
    with pytest.raises(ValueError, match="models of hyena have no chat template; leave --apply"):
        HyenaLM(model, BYTES).apply_chat_template([])


def test_a_model_beyond_its_length_is_given_more_if_its_policy_allows(saved: Path) -> None:
    lm = HyenaLM(saved, max_length=100, length_policy="extrapolate")
    (found,) = lm.loglikelihood_rolling(requests_of((LONG,)))
    model = hyena.load(saved, length_policy="extrapolate")
    assert found == pytest.approx(sum(logprobs(model, [END, *LONG.encode()])), rel=1e-10)


def test_weights_that_are_damaged_are_told(saved: Path) -> None:
    model = hyena.load(saved)
    model.embedding.weight.data.fill_(math.nan)
    with pytest.raises(ValueError, match="the model's logits are not finite"):
        HyenaLM(model, BYTES).loglikelihood(requests_of(("a", "b")))


def test_a_model_in_training_is_in_evaluation_meanwhile(saved: Path) -> None:
    model = hyena.load(saved).train()
    HyenaLM(model, BYTES).loglikelihood(requests_of(("a", "b")))
    assert model.training
