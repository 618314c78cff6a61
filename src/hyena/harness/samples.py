"""Documents one by one: what was asked of each, and answered, as lm_eval writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.utils import handle_non_serializable, sanitize_list


def sample_lines(samples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a file ``samples_TASK.jsonl``, with the fields that lm_eval's own program has.

    Args: samples: of a task, as `hyena.harness.evaluate_tasks` gives them.
    """
    for sample in samples:
        arguments = {
            f"gen_args_{i}": {f"arg_{j}": value for j, value in enumerate(given)}
            for i, given in enumerate(sample["arguments"])
        }
        row = {
            **sample,
            "resps": sanitize_list(sample["resps"]),
            "filtered_resps": sanitize_list(sample["filtered_resps"]),
            "arguments": arguments,
            "target": str(sample["target"]),
        }
        yield json.dumps(row, default=handle_non_serializable, ensure_ascii=False) + "\n"
