#!/usr/bin/env bash
# torch 2.13.0: torch.export refuses `table[:, :L]` for a free length L that may be the whole width.
#
# A program for 1 to 8 positions, whose module cuts its table of 8 columns to the length of the
# input, is refused: "Not all values of length ... satisfy the generated guard ... != 8". Slicing
# and `narrow` ask while they are recorded whether they take the whole table, since that decides
# how the result lies in memory, and the answer for the example becomes a condition on all lengths.
# With 1 to 7 positions both export. So the last length of a table is lost, or the table has to be a
# column wider than it is used. `index_select` by `arange(L)` asks nothing, and takes all 8.
#
# Seen:
#   1 to 7: slice exported, narrow exported, index_select exported
#   1 to 8: slice refused, narrow refused, index_select exported
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.export import Dim, export

WIDTH = 8
CUTS = {
    "slice": lambda table, length: table[:, :length],
    "narrow": lambda table, length: table.narrow(1, 0, length),
    "index_select": lambda table, length: table.index_select(1, torch.arange(length)),
}


class Scaled(torch.nn.Module):
    def __init__(self, cut) -> None:
        super().__init__()
        self.cut = cut
        self.register_buffer("table", torch.arange(2.0 * WIDTH).view(2, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.cut(self.table, x.shape[1])


def outcome(module: torch.nn.Module, most: int) -> str:
    lengths = {1: Dim("length", min=1, max=most)}
    try:
        program = export(module, (torch.ones(2, 5),), dynamic_shapes=(lengths,)).module()
    except Exception as error:
        assert f"!= {WIDTH}" in str(error), error
        return "refused"
    for length in range(1, most + 1):
        x = torch.randn(2, length)
        assert torch.equal(program(x), module(x))
    return "exported"


found = {
    most: {name: outcome(Scaled(cut), most) for name, cut in CUTS.items()}
    for most in (WIDTH - 1, WIDTH)
}
for most, outcomes in found.items():
    print(f"1 to {most}:", ", ".join(f"{name} {what}" for name, what in outcomes.items()))
assert list(found[WIDTH - 1].values()) == ["exported", "exported", "exported"]
assert list(found[WIDTH].values()) == ["refused", "refused", "exported"]
PYTHON
