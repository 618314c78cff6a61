"""Each task solved slowly and in plain Python: from a prompt to its questions and their answers.

A solver reads one prompt as a list, finds out by itself at which positions something is asked, and
returns the answer at each of them. It shares no code with the tasks.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from hyena.tasks import Batch, TaskConfig

Answers = dict[int, Any]


def recall(prompt: list[int], config: TaskConfig) -> Answers:
    """The public code's layout: its tokens are strings, numbered in their sorted order."""
    numbers = sorted(str(n) for n in range(config.vocab_size - 2))
    vocabulary = sorted([".", "=>", *numbers])
    keys, values = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    words = [vocabulary[token] for token in prompt]
    assert len(words) == config.length + 2
    assert words[-2] == "=>"
    return {len(words) - 1: vocabulary.index(_look_up(words[:-2], words[-1], keys, values))}


def recall_plain(prompt: list[int], config: TaskConfig) -> Answers:
    tokens = list(range(config.vocab_size))
    keys, values = tokens[: config.vocab_size // 2], tokens[config.vocab_size // 2 :]
    assert len(prompt) == config.length + 1
    return {len(prompt) - 1: _look_up(prompt[:-1], prompt[-1], keys, values)}


def _look_up(pairs: list[Any], asked: Any, keys: list[Any], values: list[Any]) -> Any:
    known: dict[Any, Any] = {}
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        assert key in keys
        assert value in values
        assert known.setdefault(key, value) == value, "a key with two values"
    return known[asked]


def multi_query_recall(prompt: list[int], config: TaskConfig) -> Answers:
    last_key = (config.vocab_size - 1) // 2
    known: dict[int, int] = {}
    position = 0
    while prompt[position] > 0 and prompt[position + 1] > 0:
        key, value = prompt[position : position + 2]
        assert key <= last_key < value < config.vocab_size
        assert key not in known, "a key twice"
        known[key] = value
        position += 2
    assert len(known) == config.pairs or config.pairs is None
    rest = range(position, len(prompt))
    assert all((t - position) % 2 == 0 for t in rest if prompt[t])
    assert sorted(token for token in prompt[position:] if token) == sorted(known), "each key once"
    return {t: known[prompt[t]] for t in rest if prompt[t]}


def induction(prompt: list[int], config: TaskConfig) -> Answers:
    trigger, size = config.vocab_size - 1, config.copy_length
    places = [t for t, token in enumerate(prompt) if token == trigger]
    assert len(places) == config.triggers + 1
    assert places[-1] == config.length
    after = {tuple(prompt[t + 1 : t + 1 + size]) for t in places[:-1]}
    assert len(after) == 1, "the same tokens after every trigger"
    (copied,) = after
    assert trigger not in copied
    assert tuple(prompt[places[-1] + 1 :]) == copied[:-1]
    return dict(enumerate(copied, start=places[-1]))


def majority(prompt: list[int], config: TaskConfig) -> Answers:
    ((token, number), *_) = Counter(prompt).most_common()
    assert number > len(prompt) - number, "more often than all others together"
    return {len(prompt) - 1: token}


def counting(prompt: list[int], config: TaskConfig) -> Answers:
    numbers = config.vocab_size // 2
    first_number = config.vocab_size - numbers
    assert all(token < first_number for token in prompt)
    number = sum(token == prompt[-1] for token in prompt)
    return {len(prompt) - 1: list(range(first_number, config.vocab_size))[number - 1]}


def addition(prompt: list[int], config: TaskConfig) -> Answers:
    D = config.digits
    one, two, known = prompt[:D], prompt[D : 2 * D], prompt[2 * D :]
    total = sum(int("".join(map(str, digits))) for digits in (one, two))
    written = [int(digit) for digit in str(total).zfill(D + 1)]
    assert known == written[:-1]
    return dict(enumerate(written, start=2 * D - 1))


def linear_functions(prompt: list[list[float]], config: TaskConfig) -> Answers:
    """Only what all d or more examples before it determine."""
    d = config.dimension
    examples: list[tuple[list[float], float]] = []
    answers = {}
    for t, (*x, y) in enumerate(prompt):
        if t % 2:
            assert x == [0.0] * d
            examples.append((prompt[t - 1][:-1], y))
        else:
            assert y == 0.0
            answers[t] = None
            if len(examples) > d:
                w = _fit(examples)
                answers[t] = sum(a * b for a, b in zip(w, x, strict=True))
    return answers


def _fit(examples: list[tuple[list[float], float]]) -> list[float]:
    """Least squares by the normal equations and Gaussian elimination with pivots."""
    d = len(examples[0][0])
    rows = [
        [sum(x[i] * x[j] for x, _ in examples) for j in range(d)]
        + [sum(x[i] * y for x, y in examples)]
        for i in range(d)
    ]
    for i in range(d):
        pivot = max(range(i, d), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(d):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [rows[i][d] / rows[i][i] for i in range(d)]


SOLVERS: dict[str, Callable[[list[Any], TaskConfig], Answers]] = {
    "recall": recall,
    "recall-plain": recall_plain,
    "multi-query-recall": multi_query_recall,
    "induction": induction,
    "majority": majority,
    "counting": counting,
    "addition": addition,
    "linear-functions": linear_functions,
}


def check_answers(batch: Batch, config: TaskConfig) -> None:
    """Asserts that the answers of a batch of tokens are those of the solver, where it has them."""
    rows = zip(batch.inputs, batch.targets, batch.answers, strict=True)
    for prompt, targets, answers in rows:
        expected = SOLVERS[config.name](prompt.tolist(), config)
        asked = answers.nonzero().flatten().tolist()
        assert asked == sorted(expected)
        assert targets[answers].tolist() == [expected[t] for t in asked]
