"""Models under lm-evaluation-harness, as its model "hyena". Needs the extra ``eval``.

``import hyena.harness`` makes the name known: ``lm_eval.simple_evaluate(model="hyena", …)`` works
then. ``python -m hyena.harness`` is the program ``lm_eval`` with that name.
"""

from hyena.data.packages import require

require("lm_eval", "hyena.harness", "hyena[eval]")

from hyena.harness.answers import Answers  # noqa: E402
from hyena.harness.model import HyenaLM  # noqa: E402
from hyena.harness.samples import sample_lines  # noqa: E402
from hyena.harness.tasks import evaluate_tasks, load_tasks  # noqa: E402

__all__ = ["Answers", "HyenaLM", "evaluate_tasks", "load_tasks", "sample_lines"]
