"""What a benchmark or an experiment says of where it ran."""

import pytest

from hyena import machine


@pytest.mark.parametrize(
    ("processor", "name"),
    [
        ("AMD EPYC", "epyc"),
        ("AMD EPYC 7B13 64-Core Processor", "epyc-7b13-64"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "xeon-platinum-8481c"),
        ("arm", "arm"),
    ],
)
def test_the_name_of_a_machine_fits_a_folder(
    processor: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_processor_name", lambda: processor)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    assert machine.hardware() == f"{name}-2core"


def test_the_setting_names_versions_threads_and_the_convolution() -> None:
    found = {**machine.setting(), **machine.convolution()}
    assert {"hyena", "torch", "python", "processor", "threads", "backend", "kernel"} <= set(found)
    assert found["backend"] in ("native", "torch")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512_bf16 vaes", True),
        ("fpu amx_bf16", True),
        ("fpu avx2 avx512f avx512bw", False),
        ("", True),  # not said
    ],
)
def test_which_processors_multiply_in_bfloat16(monkeypatch, flags: str, expected: bool) -> None:
    monkeypatch.setattr(machine, "_processor_info", lambda field: flags)
    assert machine.multiplies_bfloat16() is expected


def test_this_processor_is_asked() -> None:
    assert isinstance(machine.multiplies_bfloat16(), bool)


def test_two_kernels_are_two_settings(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    file = tmp_path / "kernel.so"
    monkeypatch.setattr(machine, "backends", lambda: ("native", "torch", "naive"))
    monkeypatch.setattr(machine.library, "find", lambda: file)
    monkeypatch.setattr(machine.library, "isa", lambda: "avx2")
    found = set()
    for contents in (b"one", b"two"):
        file.write_bytes(contents)
        found.add(machine.convolution()["kernel"])
    assert len(found) == 2
    assert all(kernel.startswith("avx2 ") for kernel in found)


def test_a_record_says_where_it_ran() -> None:
    found, where = machine.of_record(), {**machine.setting(), **machine.convolution()}
    assert set(found) == {"versions", "machine", "threads"}
    assert set(found["versions"]) == {"hyena", "torch", "python", "backend", "kernel"}
    assert set(found["machine"]) == {"processor", "cores"}
    parts = {**found["versions"], **found["machine"], "threads": found["threads"]}
    assert parts == {name: where[name] for name in parts}
