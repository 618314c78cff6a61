"""What each rank does for `test_context_parallel`."""

from __future__ import annotations

from typing import Any

from cut_models import SHARED, with_and_without

CASES: dict[str, Any] = {name: with_and_without(case) for name, case in SHARED.items()}
