"""Accelerators by name, with their makers' figures: what a training run would have there.

Peaks are of dense matrices. Some makers print only what is reached with a pattern of zeros, which
no training here has: half of it stands here, and the source says so. Links are what makers print of
both directions together, halved.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from hyena.arguments import shown

_SPARSE = "half of what is printed with sparsity"


@dataclass(frozen=True)
class Hardware:
    """One accelerator.

    Attributes:
        name: what `find_hardware` takes.
        bf16: peak operations a second in products of bfloat16 matrices, summed in float32.
        fp32: peak operations a second in float32; not TF32, which PyTorch does not take by itself.
            None if the maker prints none.
        memory: bytes.
        bandwidth: bytes a second of that memory.
        link: bytes a second that it sends to the others of its machine.
        source: where the maker prints these, and of what year.
        note: what else has to be known; empty if nothing.
    """

    name: str
    bf16: float
    fp32: float | None
    memory: float
    bandwidth: float
    link: float
    source: str
    note: str = ""


TABLE = (
    Hardware(
        name="B200",
        bf16=2250e12,
        fp32=80e12,
        memory=180e9,
        bandwidth=8e12,
        link=900e9,
        source="NVIDIA Blackwell architecture technical brief, HGX B200, 2024; memory and "
        "bandwidth: NVIDIA DGX B200 data sheet, an eighth of the system's, 2024",
    ),
    Hardware(
        name="H200",
        bf16=989.5e12,
        fp32=67e12,
        memory=141e9,
        bandwidth=4.8e12,
        link=450e9,
        source=f"NVIDIA H200 Tensor Core GPU data sheet, SXM, 2023; bfloat16: {_SPARSE}",
    ),
    Hardware(
        name="H100-SXM",
        bf16=989.5e12,
        fp32=67e12,
        memory=80e9,
        bandwidth=3.35e12,
        link=450e9,
        source=f"NVIDIA H100 Tensor Core GPU data sheet, SXM, 2023; bfloat16: {_SPARSE}",
    ),
    Hardware(
        name="H100-PCIe",
        bf16=756.5e12,
        fp32=51e12,
        memory=80e9,
        bandwidth=2e12,
        link=64e9,
        source=f"NVIDIA H100 Tensor Core GPU data sheet, PCIe, 2023; bfloat16: {_SPARSE}",
    ),
    Hardware(
        name="A100-80GB",
        bf16=312e12,
        fp32=19.5e12,
        memory=80e9,
        bandwidth=2.039e12,
        link=300e9,
        source="NVIDIA A100 Tensor Core GPU data sheet, 80GB SXM, 2021",
    ),
    Hardware(
        name="A100-40GB",
        bf16=312e12,
        fp32=19.5e12,
        memory=40e9,
        bandwidth=1.555e12,
        link=300e9,
        source="NVIDIA A100 Tensor Core GPU data sheet, 40GB SXM, 2021",
    ),
    Hardware(
        name="L40S",
        bf16=362.05e12,
        fp32=91.6e12,
        memory=48e9,
        bandwidth=864e9,
        link=32e9,
        source="NVIDIA L40S data sheet, 2023",
    ),
    Hardware(
        name="L4",
        bf16=121e12,
        fp32=30.3e12,
        memory=24e9,
        bandwidth=300e9,
        link=32e9,
        source=f"NVIDIA L4 Tensor Core GPU data sheet, 2023; bfloat16: {_SPARSE}",
    ),
    Hardware(
        name="RTX-4090",
        bf16=165.2e12,
        fp32=82.6e12,
        memory=24e9,
        bandwidth=1.008e12,
        link=32e9,
        source="NVIDIA Ada GPU architecture white paper, 2022",
    ),
    Hardware(
        name="RTX-3090",
        bf16=71e12,
        fp32=35.6e12,
        memory=24e9,
        bandwidth=936e9,
        link=32e9,
        source="NVIDIA Ampere GA102 GPU architecture white paper, 2020",
    ),
    Hardware(
        name="MI300X",
        bf16=1307.4e12,
        fp32=163.4e12,
        memory=192e9,
        bandwidth=5.3e12,
        link=448e9,
        source="AMD Instinct MI300X accelerator data sheet, 2023",
    ),
    Hardware(
        name="TPU-v5e",
        bf16=197e12,
        fp32=None,
        memory=16e9,
        bandwidth=819e9,
        link=200e9,
        source="Google Cloud documentation, page TPU v5e, 2023",
        note="Google prints no float32 rate, so that all operations are reckoned at the bfloat16 "
        "one, which is too fast for filters and transforms; hyena train does not run on TPUs",
    ),
)


_MEANT = {"h100": "H100-SXM", "a100": "A100-80GB"}
"""What is meant by a name of several kinds."""


def find_hardware(name: str) -> Hardware:
    """The accelerator of a name; case, hyphens, spaces and underscores do not matter. Of the H100
    and the A100 without more it is the one that clusters have.

    Raises: ValueError, which gives near names, if the table has none.
    """
    by_key = {_key(hardware.name): hardware for hardware in TABLE}
    key = _key(_MEANT.get(_key(name), name))
    if key in by_key:
        return by_key[key]
    near = [found for found in by_key if key and (key in found or found in key)]
    near = near or get_close_matches(key, by_key, n=3)
    names = [by_key[found].name for found in near]
    advice = f"did you mean {' or '.join(names)}?" if names else f"choose from {known()}"
    raise ValueError(f"gpu: expected a known accelerator, got {shown(name)}; {advice}")


def known() -> str:
    """All names, for a message."""
    return ", ".join(hardware.name for hardware in TABLE)


def _key(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in " -_")
