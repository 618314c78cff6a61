import pytest

from hyena.tasks.words import letters, question, shortened


def test_letters() -> None:
    assert [letters(n) for n in (0, 25, 26, 51, 52, 701, 702)] == [
        "a", "z", "aa", "az", "ba", "zz", "aaa",
    ]  # fmt: skip
    assert len({letters(n) for n in range(20_000)}) == 20_000


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, ""), (3, "0 1 2"), (4, "0 1 2 3"), (5, "0 1 … 3 4"), (9, "0 1 … 7 8")],
)
def test_the_middle_is_left_out(count: int, expected: str) -> None:
    assert " ".join(shortened([str(n) for n in range(count)], 2)) == expected


def test_question() -> None:
    assert question(["a", "b"], ["1", "2"]) == "a b → 1 2"
