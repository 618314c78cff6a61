"""Models for programs that know nothing of this package: torch.export, AOTInductor and ONNX.

``docs/export.md`` says which kind is for what. ONNX needs the extra ``export``.
"""

from hyena.export.aotinductor import to_aotinductor
from hyena.export.onnx_files import step_to_onnx, to_onnx
from hyena.export.onnx_state import initial_state, state_arrays
from hyena.export.program import to_program

__all__ = [
    "initial_state",
    "state_arrays",
    "step_to_onnx",
    "to_aotinductor",
    "to_onnx",
    "to_program",
]
