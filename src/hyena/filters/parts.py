"""Long filters are computed a part of the positions at a time, so that a part stays in cache."""

import torch

# Elements (channels · positions) of a part, for each thread: 256k float32 are 1 MiB, about an L2
# cache. On accelerators, where launches cost more than cache misses, everything in one go.
PART_ELEMENTS = 1 << 18
PART_ELEMENTS_DEVICE = 1 << 28
BLOCK = 64  # parts begin at its multiples


def parts(length: int, channels: int, device: torch.device) -> list[slice]:
    """Slices of the positions 0 … length − 1, of about that size; at least 8 blocks each."""
    on_cpu = device.type == "cpu"
    budget = PART_ELEMENTS * torch.get_num_threads() if on_cpu else PART_ELEMENTS_DEVICE
    size = max(budget // (channels * BLOCK), 8) * BLOCK
    return [slice(n, min(n + size, length)) for n in range(0, length, size)]
