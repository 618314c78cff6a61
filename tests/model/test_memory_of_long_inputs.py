"""The memory that a long input takes is near that of the residual stream."""

import subprocess
import sys

import pytest

WORK = """
import torch
from hyena.bench.memory import peak_of
from hyena.model import FilterConfig, LanguageModel, ModelConfig

L, D, V = 1 << 15, 64, 1024  # the residual stream is 8 MiB, the MLP's (L, 8·D) 64, logits 128
model = LanguageModel(ModelConfig(
    vocab_size=V, width=D, mlp_width=8 * D, layers=3, max_length=L + 4,
    filter=FilterConfig(emb_dim=3, width=4),
))
model.working_memory = 4 << 20
model.activation_checkpointing = True
ids = torch.randint(V, (1, L), generator=torch.Generator().manual_seed(0))
model(ids[:, :64], targets=ids[:, :64]).backward()  # threads and workspaces
for call in (
    lambda: model.eval().token_losses(ids, ids),
    lambda: model.eval().requires_grad_(False).prefill(ids, future=4, last_only=True),
    lambda: model.train().requires_grad_(True)(ids, targets=ids).backward(),
):
    peak = peak_of(call)
    print(peak if isinstance(peak, str) else peak.call >> 20, flush=True)
"""


def test_memory_is_near_that_of_the_residual_stream() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = done.stdout.splitlines()
    if not all(map(str.isdigit, peaks)):
        pytest.skip(peaks[0])
    losses, prefill, step = map(int, peaks)
    # Measured: 80-89, 51-59 and 179-236; taken whole 290, 272 and 409.
    assert losses < 150
    assert prefill < 130
    assert step < 320
