"""What stands in messages."""

import pytest

from hyena.arguments import plural


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "tokens"), (1, "token"), (2, "tokens"), (1_000, "tokens")]
)
def test_a_noun_after_a_number(count: int, expected: str) -> None:
    assert plural(count, "token") == expected
    assert plural(count, "row holds", "rows hold") == ("row holds" if count == 1 else "rows hold")
