"""Two processes, each with half of the batch and its loss in slices, train as one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from comparison import assert_close
from processes import started
from small_models import gradients, small_model, tokens
from torch.nn import functional as F

from hyena.arguments import IGNORE

SCRIPT = """
import sys
from functools import partial

import torch
from small_models import VOCABULARY, gradients, small_model
from torch.nn.parallel import DistributedDataParallel

from hyena.model import language_model, linear_cross_entropy as slices

rank, folder = int(sys.argv[1]), sys.argv[2]
swept = []
sweep = slices._sweep

def noting(*arguments):
    swept.append(arguments[3])  # positions of a slice
    return sweep(*arguments)

slices._sweep = noting
language_model.linear_cross_entropy = partial(
    slices.linear_cross_entropy, slice_bytes=5 * VOCABULARY * 8
)
store = torch.distributed.FileStore(f"{folder}/store", 2)
torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
ids, targets = (x.chunk(2)[rank] for x in torch.load(f"{folder}/batch.pt"))
found = []
for recomputed in (False, True):
    model = small_model("hyena,attention").train()
    model.activation_checkpointing = recomputed
    parallel = DistributedDataParallel(model)
    for _ in range(2):  # the second one is refused if not every gradient came in the first
        model.zero_grad(set_to_none=True)
        loss = parallel(ids, targets=targets)
        loss.backward()
    found.append({"loss": loss.detach(), **gradients(model)})
torch.save({"found": found, "swept": swept}, f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def run_two(folder: Path) -> list[dict[str, Any]]:
    """What each process found."""
    here = Path(__file__).parent
    search = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    options: dict[str, Any] = {
        "env": {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    words = [sys.executable, "-c", SCRIPT]
    with (
        started([*words, "0", str(folder)], **options) as first,
        started([*words, "1", str(folder)], **options) as second,
    ):
        for process in (first, second):
            printed, _ = process.communicate(timeout=300)
            assert process.returncode == 0, printed
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    ids, targets = tokens(4, 16), tokens(4, 16, seed=1)
    targets[:, ::3] = IGNORE  # in both halves as many: the mean of their means is that of all
    torch.save((ids, targets), tmp_path / "batch.pt")
    model = small_model("hyena,attention").train()
    loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    loss.backward()
    wanted = gradients(model)
    first, second = run_two(tmp_path)
    assert first["swept"] == second["swept"] == [5] * 4
    for one, other in zip(first["found"], second["found"], strict=True):
        assert_close((one.pop("loss") + other.pop("loss")) / 2, loss.detach(), 1e-12)
        assert one.keys() == other.keys() == wanted.keys()
        for name, gradient in wanted.items():
            assert torch.equal(one[name], other[name])
            assert_close(one[name], gradient, 1e-12)
