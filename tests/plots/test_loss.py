"""The loss curve."""

from pathlib import Path

import numpy as np
import pytest

from hyena.plots import draw_loss
from hyena.plots.loss import running_mean

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_run_is_drawn(tmp_path: Path) -> None:
    records: list[dict[str, float]] = [
        {"step": i, "tokens": 64 * i, "loss": 5 / i} for i in range(1, 200)
    ]
    records[100]["validation_loss"] = 2.0
    path = draw_loss(records, tmp_path / "new folder" / "loss.png")
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize("name", ["loss", "validation_loss"])
def test_one_record_of_one_curve_is_enough(name: str, tmp_path: Path) -> None:
    path = draw_loss([{"step": 1, "tokens": 64, name: 3.0}], tmp_path / "loss.png")
    assert path.read_bytes().startswith(PNG)


def test_a_run_without_a_step_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no step of the run has been recorded"):
        draw_loss([], tmp_path / "loss.png")


@pytest.mark.parametrize("n", [1, 7, 50, 333])
def test_the_running_mean_is_of_the_past_only(n: int) -> None:
    values = np.random.default_rng(0).normal(size=n)
    span = max(1, n // 50)
    expected = [values[max(0, i - span + 1) : i + 1].mean() for i in range(n)]
    np.testing.assert_allclose(running_mean(values), expected, rtol=0, atol=1e-12)


def test_records_of_another_kind_and_a_path_that_is_a_text(tmp_path: Path) -> None:
    assert draw_loss([{"tokens": 64, "loss": 3.0}], str(tmp_path / "loss.png")).is_file()
    for records in ([3], ["x"], [{"loss": 3.0}]):
        with pytest.raises(ValueError, match=r"^draw_loss: expected records {"):
            draw_loss(records, tmp_path / "loss.png")  # type: ignore[arg-type]


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a\0b.png", "\ud800.png"):
        with pytest.raises(OSError, match=r"cannot be written: .*; choose another folder"):
            draw_loss([{"tokens": 64, "loss": 3.0}], tmp_path / name)
