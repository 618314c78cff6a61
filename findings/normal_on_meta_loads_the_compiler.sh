#!/usr/bin/env bash
# torch 2.13.0: `normal_` of a tensor on "meta", which draws nothing, imports torch._dynamo and SymPy.
#
# Whoever builds a model on "meta", to load weights into it, expects that initialisation costs
# nothing there. `uniform_` does: it loads no module. The first `normal_` (so `nn.init.normal_`, and
# `nn.Embedding`'s own initialisation) loads hundreds of modules of PyTorch's compiler, which
# takes longer than opening a small checkpoint. A model that skips drawing on "meta" opens without.
#
# Seen: uniform_ loads 0 modules, normal_ 824 in 1.0 s, torch._dynamo and sympy among them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import torch

COMPILER = {"torch._dynamo", "sympy"}


def loaded_by(operation) -> int:
    before, started = set(sys.modules), time.perf_counter()
    operation()
    new = set(sys.modules) - before
    found = sorted(COMPILER & set(sys.modules))
    print(f"{len(new)} modules in {time.perf_counter() - started:.2f} s; loaded by now: {found}")
    return len(new)


x = torch.empty(3, device="meta")
loaded_by(x.uniform_)
assert not COMPILER & set(sys.modules)
assert loaded_by(x.normal_) > 300
assert COMPILER <= set(sys.modules)
PYTHON
