"""The memory that a long input takes is near that of the residual stream."""

import os
import subprocess
import sys

import pytest

from hyena.ops.native import library

WORK = """
import torch
from hyena.bench.memory import peak_of
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.linear_cross_entropy import linear_cross_entropy

linear_cross_entropy.__kwdefaults__["slice_bytes"] = 1 << 24  # of logits; far less than an array
torch.set_num_threads(1)
L, D, V = 1 << 14, 256, 1024  # the stream is 16 MiB, hidden values (L, 4·D) or logits (L, V) are 64
model = LanguageModel(ModelConfig(
    vocab_size=V, width=D, layers=2, max_length=L + 4, filter=FilterConfig(emb_dim=3, width=4),
))
model.working_memory = 1 << 20
model.activation_checkpointing = True
ids = torch.randint(V, (1, L), generator=torch.Generator().manual_seed(0))
model(ids[:, :512], targets=ids[:, :512]).backward()  # what comes with the first calls
for call in (
    lambda: model.eval().token_losses(ids, ids),
    lambda: model.eval().requires_grad_(False).prefill(ids, future=4, last_only=True),
    lambda: model.train().requires_grad_(True)(ids, targets=ids).backward(),
):
    peak = peak_of(call)
    print(peak if isinstance(peak, str) else peak.call >> 20, flush=True)
"""


def test_memory_is_near_that_of_the_residual_stream() -> None:
    if library.kernel() is None:
        pytest.skip(f"PyTorch's FFT takes more: {library.why_not()}")
    # What is small has memory of its own too: glibc would keep it in a heap with gaps.
    settings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    done = subprocess.run(
        [sys.executable, "-c", WORK], capture_output=True, text=True, env=settings
    )
    assert done.returncode == 0, done.stderr
    peaks = done.stdout.splitlines()
    if not all(map(str.isdigit, peaks)):
        pytest.skip(peaks[0])
    losses, prefill, step = map(int, peaks)
    # Measured: 46, 59 and 153. One array more breaks each bound: 107, 102 in the loss; 107; in a
    # step 165 in the loss, 179 in the MLP.
    assert losses < 90
    assert prefill < 90
    assert step < 162
