"""Models as ONNX files, number by number in onnxruntime."""

from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_close
from small_exports import TOLERANCE, in_onnx, model_of, tokens

from hyena.export import onnx_files, to_onnx
from hyena.export.convolution import MOST_DIRECT
from hyena.export.parity import onnx_session
from hyena.model.label_head import Labels
from hyena.model.label_outputs import label_outputs


def shapes(values: Any) -> dict[str, list[str | int]]:
    return {x.name: x.shape for x in values}


def test_a_file_takes_any_batch_and_length(tmp_path: Path) -> None:
    model = model_of("hyena,attention", max_length=257)
    to_onnx(model, tmp_path / "model.onnx")
    session = onnx_session(tmp_path / "model.onnx")
    assert shapes(session.get_inputs()) == {"input_ids": ["batch", "length"]}
    assert shapes(session.get_outputs()) == {"logits": ["batch", "length", 29]}
    with torch.no_grad():
        for i, length in enumerate((1, 2, 3, 31, 48, 64, 65, 96, 97, 128, 192, 256, 257)):
            ids = tokens(1 + i % 3, length, seed=i)
            assert_close(in_onnx(session, ids), model(ids), TOLERANCE)


@pytest.mark.parametrize("longest", [6, 2500])  # of 2 and 32 columns, see `ByProducts`
def test_a_short_and_a_long_model_take_any_length(longest: int, tmp_path: Path) -> None:
    model = model_of("hyena", layers=1, order=2, max_length=longest)
    to_onnx(model, tmp_path / "model.onnx")
    session = onnx_session(tmp_path / "model.onnx")
    with torch.no_grad():
        for length in (1, 2, 5, 33, 64, 500, 1023, 1536, 2500, longest):
            if length <= longest:
                ids = tokens(2, length, seed=length)
                assert_close(in_onnx(session, ids), model(ids), TOLERANCE)
    if longest > MOST_DIRECT:
        with pytest.raises(Exception, match=r"(?i)shape|out of data bounds"):  # of onnxruntime
            in_onnx(session, tokens(1, longest + 1))


@pytest.mark.parametrize("length", [192, 131])  # 3·2^a, a prime
def test_a_file_of_one_length(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("hyena", layers=1, order=2, max_length=256)
    names = {"model.onnx"}
    if length == 131:  # as weights of gigabytes are
        monkeypatch.setattr(onnx_files, "MOST_BYTES", 1000)
        names.add("model.onnx.data")
    to_onnx(model, tmp_path / "model.onnx", length=length)
    assert {file.name for file in tmp_path.iterdir()} == names
    session = onnx_session(tmp_path / "model.onnx")
    assert shapes(session.get_inputs()) == {"input_ids": ["batch", length]}
    with torch.no_grad():
        ids = tokens(3, length)
        assert_close(in_onnx(session, ids), model(ids), TOLERANCE)
        # A shorter text is padded on the right, where a causal model does not see it.
        got = in_onnx(session, torch.nn.functional.pad(ids[:, :50], (0, length - 50)))
        assert_close(got[:, :50], model(ids[:, :50]), TOLERANCE)


def test_labels_of_a_striped_model_in_bfloat16(tmp_path: Path) -> None:
    labels = Labels("regression", ("a", "b"), "last", means=(1.0, 2.0), deviations=(1.0, 1.0))
    model = model_of("hyena-se,hyena-mr,hyena-li", layers=3, labels=labels).bfloat16()
    to_onnx(model, tmp_path / "model.onnx", length=150)
    session = onnx_session(tmp_path / "model.onnx")
    assert shapes(session.get_inputs()) == {"input_ids": ["batch", 150], "lengths": ["batch"]}
    assert shapes(session.get_outputs()) == {"labels": ["batch", 2]}
    ids, lengths = tokens(3, 150), torch.tensor([2, 77, 150])
    with torch.no_grad():
        expected = label_outputs(model.float(), ids, lengths)
    assert_close(in_onnx(session, ids, lengths), expected, TOLERANCE)


def test_what_cannot_be_a_file_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^to_onnx: rwkv runs a loop that depends on the length"):
        to_onnx(model_of("rwkv", layers=1), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"^to_onnx: a model of max_length 5 is too short for a "):
        to_onnx(model_of("hyena", layers=1, max_length=5), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
