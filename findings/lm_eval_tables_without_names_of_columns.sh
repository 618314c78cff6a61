#!/usr/bin/env bash
# lm_eval 0.4.13: where python-dateutil 4 is installed, its tables of results are headed A, B, C, D.
#
# lm_eval asks for pytablewriter of any version, whose releases of the last years want
# python-dateutil below 3, through typepy. Beside a newer one, such as a lock file keeps for pandas
# or matplotlib, pip looks for a pytablewriter that does not mind, and goes back to 0.38.0.
# That one calls the names of columns `header_list`. lm_eval sets `headers`, which Python lets it do,
# and the table has letters instead: nothing warns, `pip check` is content, and values are rounded in
# another way too. Beside python-dateutil 2 the same call has the names.
#
# So who pins python-dateutil asks for pytablewriter>=1 as well, and pip says what cannot be.
#
# Seen: python-dateutil 4.0.0: pytablewriter 0.38.0, | A  | B | C  | D | E | F |  G   | H | I  |
#       python-dateutil 2.9.0.post0: pytablewriter 1.2.1, |Tasks|Version|Filter|n-shot|Metric|...
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for dateutil in 4.0.0 2.9.0.post0; do
    python3 -m venv "$folder/$dateutil"
    # All that lm_eval.utils needs; the whole of lm_eval gives the same.
    "$folder/$dateutil/bin/pip" install --quiet --disable-pip-version-check \
        "python-dateutil==$dateutil" pytablewriter numpy requests pyyaml jinja2
    "$folder/$dateutil/bin/pip" install --quiet --disable-pip-version-check --no-deps lm_eval==0.4.13
    "$folder/$dateutil/bin/python" - "$dateutil" <<'PYTHON'
import sys
from importlib.metadata import version

from lm_eval.utils import make_table

results = {"task": {"alias": "task", "acc,none": 0.123456, "acc_stderr,none": 0.01}}
table = make_table({"results": results, "versions": {"task": 1}, "n-shot": {"task": 0}})
heading = table.splitlines()[0]
print(f"python-dateutil {sys.argv[1]}: pytablewriter {version('pytablewriter')}, {heading}")
names = [cell.strip() for cell in heading.strip("|").split("|")]
expected = ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"]
assert names == (list("ABCDEFGHI") if sys.argv[1] == "4.0.0" else expected), names
PYTHON
done
