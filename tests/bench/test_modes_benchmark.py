"""`benchmarks/modes.py`: modes and transforms give the same, and are timed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from hyena.mixers import HyenaOperator
from hyena.mixers.hyena.kernels import Modes

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import modes as bench

SMALL = ["--lengths", "33", "--widths", "2", "--seconds", "0.001"]


def test_every_kind_is_timed_in_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(SMALL)
    *_, lines = capsys.readouterr().out.split("\n\n")
    rows = [line for line in lines.splitlines() if " | 33 | " in line]
    assert len(rows) == len(bench.TAPS) * len(bench.WAYS)


@pytest.mark.parametrize("way", bench.WAYS)
def test_what_differs_is_not_timed(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = HyenaOperator.modes

    def wrong(op: HyenaOperator, *given: Any) -> Any:
        [(h, skip)] = right(op, *given)
        assert isinstance(h, Modes)
        return [(h._replace(weight=h.weight * (1 + 1e-4)), skip)]

    monkeypatch.setattr(HyenaOperator, "modes", wrong)
    with pytest.raises(RuntimeError, match=rf"^8 complex .*, {way}, L=33: the two differ by"):
        bench.main([*SMALL, "--ways", way, "--kinds", "8 complex (Evo 1)"])
