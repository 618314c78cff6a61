"""PyTorch files are read to the same tensors as by PyTorch, and nothing in them is run."""

import argparse
import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hyena.interop.pytorch_file import ALIGNED, StandIn, read

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.complex64, torch.complex128),
]


def tensors() -> dict[str, Tensor]:
    x = torch.arange(120).reshape(8, 15)
    shared = torch.randn(6, 4)
    found = {str(dtype): x.to(dtype) for dtype in DTYPES}
    found |= {"scalar": torch.tensor(3.0), "empty": torch.empty(0, 3), "view": shared[1:, ::2]}
    return found | {"transposed": shared.t(), "shared": shared}


def parts_of(file: Path, size: int) -> list[Path]:
    """The file cut into parts of so many bytes."""
    data = file.read_bytes()
    paths = []
    for i, start in enumerate(range(0, len(data), size)):
        path = file.with_name(f"{file.name}.part{i}")
        path.write_bytes(data[start : start + size])
        paths.append(path)
    return paths


def equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        assert torch.equal(got[name], value), name


def test_tensors_are_those_that_were_saved(tmp_path: Path) -> None:
    expected = tensors()
    torch.save(expected, tmp_path / "x.pt")
    equal(read([tmp_path / "x.pt"]), expected)


@pytest.mark.parametrize("size", [997, 1024, 4096])
def test_a_file_in_parts_is_read_as_one(size: int, tmp_path: Path) -> None:
    expected = {"large": torch.randn(900), **tensors()}
    torch.save(expected, tmp_path / "x.pt")
    parts = parts_of(tmp_path / "x.pt", size)
    assert len(parts) > 3
    (tmp_path / "x.pt").unlink()
    equal(read(parts), expected)


def test_parameters_and_modules_of_state_dicts(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 4)
    torch.save({"a": layer.weight, "state": layer.state_dict()}, tmp_path / "x.pt")
    found = read([tmp_path / "x.pt"])
    equal({"a": found["a"], **found["state"]}, {"a": layer.weight, **layer.state_dict()})


def test_numbers_start_where_a_product_rounds_as_usual(tmp_path: Path) -> None:
    torch.save({str(i): torch.randn(i) for i in range(1, 9)}, tmp_path / "x.pt")
    for paths in ([tmp_path / "x.pt"], parts_of(tmp_path / "x.pt", 1000)):
        assert all(x.data_ptr() % ALIGNED == 0 for x in read(paths).values())


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(50)}, tmp_path / "x.pt")
    before = (tmp_path / "x.pt").read_bytes()
    read([tmp_path / "x.pt"])["x"].fill_(3)
    assert (tmp_path / "x.pt").read_bytes() == before


class Settings(argparse.Namespace):
    """An object of another package, such as a checkpoint has beside its tensors."""


def test_other_objects_become_stand_ins(tmp_path: Path) -> None:
    torch.save(
        {
            "state_dict": collections.OrderedDict(x=torch.ones(2)),
            "path": Path("a"),
            "settings": Settings(a=[1, {"b": collections.deque([2])}]),
            "set": {1, 2},
            "bytes": io.BytesIO(b"abc"),
            "text": "plain",
        },
        tmp_path / "x.pt",
    )
    found = read([tmp_path / "x.pt"])
    assert torch.equal(found["state_dict"]["x"], torch.ones(2))
    assert found["text"] == "plain"
    kinds = {name: type(found[name]) for name in ("path", "settings", "set", "bytes")}
    assert set(kinds.values()) == {StandIn}


def archive(path: Path, data: bytes, records: dict[str, bytes] | None = None) -> Path:
    """A PyTorch file with this pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", data)
        file.writestr("x/byteorder", b"little")
        for name, content in (records or {}).items():
            file.writestr(f"x/data/{name}", content)
    return path


def trap(function: Any, *arguments: Any) -> Any:
    class Trap:
        def __reduce__(self) -> Any:
            return function, arguments

    return Trap()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_that_a_pickle_asks_for_is_run(protocol: int, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    asked = [
        trap(os.system, f"touch {ran}"),
        trap(Path.touch, ran),
        trap(eval, f"open({str(ran)!r}, 'w')"),
    ]
    data = pickle.dumps({"x": asked}, protocol)
    found = read([archive(tmp_path / "x.pt", data)])
    assert len(found["x"]) == 3
    assert all(isinstance(x, StandIn) for x in found["x"])
    assert not ran.exists()


def test_a_call_by_instance_opcodes_is_not_run(tmp_path: Path) -> None:
    command = f"touch {tmp_path / 'ran'}".encode()
    inst = b"(S'" + command + b"'\nios\nsystem\n."
    obj = b"(cos\nsystem\nS'" + command + b"'\no."
    for data in (inst, obj):
        assert isinstance(read([archive(tmp_path / "x.pt", data)]), StandIn)
    assert not (tmp_path / "ran").exists()


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x82\x01.", "it uses an extension"),
        (b"}r\xff\xff\xff\x7f.", "it numbers more objects than it has"),
        (b"}p4000000000\n.", "it numbers more objects than it has"),
        (REBUILD + b"}S'__defaults__'\n)sb.", "it changes a function"),
        (REBUILD + b"(NI0\n))tR.", "a tensor without a storage or a shape"),
        (b"S'key'\nQ.", "it refers to something that is no storage"),
        (b"(S'storage'\ncos\nsystem\nS'0'\nS'cpu'\nI4\ntQ.", "a storage of an unknown kind"),
        (b"ctorch\nfloat32\n)R.", ""),  # a dtype is called
        (b"(]", ""),  # it ends too early
        (b"N", ""),
        (b"\xff", ""),
    ],
)
def test_a_pickle_that_no_torch_save_wrote_is_refused(
    data: bytes, reason: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "x.pt", data)
    with pytest.raises(ValueError, match="is damaged or no checkpoint") as error:
        read([path])
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def view(offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The pickle of a tensor of float32 in the record 0."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"I%d\n" % x for x in values) + b"t"

    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
    return (
        REBUILD + b"(" + storage + b"I%d\n" % offset + numbers(shape) + numbers(stride)
        + b"I00\n}tR."
    )  # fmt: skip


def test_a_tensor_stays_within_its_record(tmp_path: Path) -> None:
    record = {"0": struct.pack("<4f", 1, 2, 3, 4)}
    good = read([archive(tmp_path / "x.pt", view(1, (3,), (1,)), record)])
    assert good.tolist() == [2, 3, 4]
    for offset, shape, stride in (
        (2, (3,), (1,)),
        (0, (2, 3), (1, 2)),
        (0, (2**40,), (0,)),
        (0, (2**40, 2**40), (0, 0)),
        (2**62, (1,), (1,)),
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
    ):
        with pytest.raises(ValueError, match=r"larger than its record|whose shape is none"):
            read([archive(tmp_path / "x.pt", view(offset, shape, stride), record)])
    with pytest.raises(ValueError, match="damaged"):  # a record that is not there
        read([archive(tmp_path / "x.pt", view(0, (1,), (1,)))])


def test_content_that_holds_itself_or_is_deep_ends(tmp_path: Path) -> None:
    itself: list[Any] = []
    itself.append(itself)
    deep: Any = torch.ones(1)
    for _ in range(100):
        deep = [deep]
    torch.save({"itself": itself, "deep": deep}, tmp_path / "x.pt")
    found = read([tmp_path / "x.pt"])
    assert isinstance(found["itself"][0], StandIn)


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_a_file_that_was_cut_off_is_refused(cut: int, tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1000)}, tmp_path / "x.pt")
    data = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(data[:-cut])
    with pytest.raises(ValueError, match=r"x\.pt is damaged or no checkpoint"):
        read([tmp_path / "x.pt"])


def test_the_form_before_zip_archives_is_refused_with_advice(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"before version 1\.6.*where you trust it") as error:
        read([tmp_path / "x.pt"])
    assert "\n" not in str(error.value)


def test_compressed_records_and_big_endian_numbers_are_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(200)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as old:
        content = {name: old.read(name) for name in old.namelist()}
    for change, reason in ((zipfile.ZIP_DEFLATED, "compressed"), (None, "big-endian")):
        with zipfile.ZipFile(tmp_path / "y.pt", "w", change or zipfile.ZIP_STORED) as new:
            for name, data in content.items():
                swapped = change is None and name.endswith("byteorder")
                new.writestr(name, b"big" if swapped else data)
        with pytest.raises(ValueError, match=reason):
            read([tmp_path / "y.pt"])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read([tmp_path / "none.pt"])
