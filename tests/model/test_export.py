"""A language model as torch.export sees it, in float32."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import STRIPES, small_model, tokens
from torch.export import Dim

from hyena.model.streaming import WORKING_MEMORY
from hyena.ops.native import library

# Dynamo makes an instance of the autograd function, of which PyTorch warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


WHOLE, PIECES = WORKING_MEMORY, 1 << 13  # more and less than is made


@pytest.mark.parametrize(
    ("isa", "memory", "options"),
    [
        ("none", WHOLE, {}),
        ("none", PIECES, {}),
        ("none", WHOLE, STRIPES),
        (library.isa(), WHOLE, {}),
        (library.isa(), PIECES, {}),
        (library.isa(), PIECES, STRIPES),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside torch.export
def test_an_exported_model_takes_any_batch_and_length(
    isa: str, memory: int, options: dict[str, Any]
) -> None:
    model = small_model("hyena,attention", torch.float32, layers=2, max_length=200, **options)
    model.working_memory = memory
    sizes = {0: Dim("batch", min=1, max=64), 1: Dim("length", min=2, max=200)}
    with torch.no_grad(), library.use(isa):
        program = torch.export.export(model, (tokens(2, 20),), dynamic_shapes=(sizes,)).module()
        for batch, length in ((1, 2), (2, 63), (5, 64), (2, 65), (1, 200)):
            ids = tokens(batch, length, seed=1)
            assert_close(program(ids), model(ids), 1e-5)
