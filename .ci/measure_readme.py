"""How heavy a page is: `python .ci/measure_readme.py README.md` prints its three measures.

Numbers and words count outside code blocks, in tables too. A paragraph ends at a blank line, a list
item or a heading.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple


class Measures(NamedTuple):
    lines: int
    numbers: float  # for every 100 words
    longest: int  # words of the longest paragraph or list item


def measure(text: str) -> Measures:
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    words = len(prose.split())
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.) )|\n(?=#)", prose)
    paragraphs = [block for block in blocks if not block.lstrip().startswith("|")]
    return Measures(
        lines=len(text.splitlines()),
        numbers=100 * len(re.findall(r"\d[\d.,]*", prose)) / words,
        longest=max(len(block.split()) for block in paragraphs),
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        lines, numbers, longest = measure(Path(name).read_text(encoding="utf-8"))
        print(
            f"{name}: {lines} lines, {numbers:.1f} numbers per 100 words, "
            f"longest paragraph or list item {longest} words"
        )
