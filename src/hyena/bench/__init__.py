"""What is behind `hyena bench`: convolution and operator, generation, whole models, genomics.

A *case* is work of one size, done by ours and by *baselines*: what ours replaces, written by us
beside it. What is timed is compared with float64 first, and all contenders of a case take turns in
one process, or in processes of their own where memory counts. ``docs/benchmarks.md`` says what each
case is.

``convolution``, ``generation`` and ``model`` each have their cases and goals, and how one case is
measured; they share the timing, the folder of results and the tables. ``genomes`` has cases of all
three kinds.
"""

from hyena.bench.convolution.baselines import AttentionBlock, PublicOperator, public_gated_conv
from hyena.bench.timing import Timing, time_in_turns

__all__ = ["AttentionBlock", "PublicOperator", "Timing", "public_gated_conv", "time_in_turns"]
