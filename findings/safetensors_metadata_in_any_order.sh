#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors and metadata, saved twice, give files that differ in their bytes.
#
# The header lists the tensors in a fixed order, so that one expects a file to be a function of what
# is in it. But the entries of the metadata stand in the order of a hash table that is seeded anew at
# each call: with one entry all files are equal, with two there are two versions of the file, with
# more there are more. So a digest of the file tells nothing about whether the weights are the same;
# who wants reproducible files gives one entry (such as "format": "pt", which others ask for).
#
# Seen: 1 entry: 1 different file of 64; 2 entries: 2; 3 entries: more than 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import hashlib

import numpy
from safetensors.numpy import save

tensors = {"weight": numpy.zeros((2, 3), numpy.float32)}
entries = {"format": "pt", "version": "1", "kind": "model"}
found = []
for count in (1, 2, 3):
    metadata = dict(list(entries.items())[:count])
    files = {hashlib.sha256(save(tensors, metadata)).hexdigest() for _ in range(64)}
    found.append(len(files))
    print(f"{count} entries: {len(files)} different files of 64")
assert found[0] == 1, found
assert found[1] == 2, found
assert found[2] > 2, found
PYTHON
