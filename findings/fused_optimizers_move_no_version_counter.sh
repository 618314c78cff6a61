#!/usr/bin/env bash
# torch 2.13.0 (CPU): a step with fused=True writes to the parameters and moves no version counter.
#
# Every in-place write of PyTorch moves `tensor._version`, by which autograd finds that a tensor which
# it saved for the backward pass was changed since. The foreach and plain steps of all optimizers do
# so too. The fused steps of SGD, Adagrad, Adam and AdamW, the four that have one on the CPU, do not:
#
# - what is cached by version counters is out of date after them, and does not know it;
# - a backward pass after the step computes its gradient from the new weights, without the error
#   "modified by an inplace operation" that the same program gets with fused=False.
#
# Seen:
#   SGD      fused: version 0 -> 0, weight changed   plain: version 0 -> 1, weight changed
#   Adagrad  fused: version 0 -> 0, weight changed   plain: version 0 -> 1, weight changed
#   Adam     fused: version 0 -> 0, weight changed   plain: version 0 -> 1, weight changed
#   AdamW    fused: version 0 -> 0, weight changed   plain: version 0 -> 2, weight changed
#   a backward pass after a fused step: gradient 1.8 where 2.0 is due, no error
#   the same after a plain step: RuntimeError, modified by an inplace operation
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch

expected = True
for name in ("SGD", "Adagrad", "Adam", "AdamW"):
    told = []
    for fused in (True, False):
        weight = torch.nn.Parameter(torch.ones(1))
        weight.grad = torch.ones(1)
        optimizer = getattr(torch.optim, name)([weight], lr=0.1, fused=fused)
        before = weight._version
        optimizer.step()
        changed = float(weight.detach()) != 1
        told.append(
            f"{'fused' if fused else 'plain'}: version {before} -> {weight._version}, "
            f"weight {'changed' if changed else 'as it was'}"
        )
        expected &= changed and (weight._version == before) == fused
    print(f"{name:8}", "   ".join(told))

for fused in (True, False):
    weight = torch.nn.Parameter(torch.ones(1))
    loss = (weight * weight).sum()  # saves the weight; the gradient is 2
    weight.grad = torch.ones(1)
    torch.optim.SGD([weight], lr=0.1, fused=fused).step()
    weight.grad = None
    try:
        loss.backward()
        print(f"fused={fused}: a backward pass after the step gives {float(weight.grad):.1f}, not 2.0")
        expected &= fused and abs(float(weight.grad) - 1.8) < 1e-6
    except RuntimeError as error:
        print(f"fused={fused}: a backward pass after the step: {str(error)[:75]}…")
        expected &= not fused and "modified by an inplace operation" in str(error)
sys.exit(0 if expected else "this is no longer so")
PYTHON
