"""A language model as torch.export sees it, in float32."""

import pytest
import torch
from comparison import assert_close
from small_models import small_model, tokens

from hyena.ops import backends

# Dynamo makes an instance of the autograd function, of which PyTorch warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside torch.export
def test_exports() -> None:
    """With the kernel for any batch; PyTorch's FFT goes over channels in as many pieces as fit."""
    model, ids = small_model("hyena,attention", torch.float32, layers=2), tokens(2, 20)
    any_batch = "native" in backends()
    sizes = ({0: torch.export.Dim("batch", min=1, max=64)},) if any_batch else None
    with torch.no_grad():
        program = torch.export.export(model, (ids,), dynamic_shapes=sizes)
        for batch in (1, 2, 5) if any_batch else (2,):
            other = tokens(batch, 20, seed=1)
            assert_close(program.module()(other), model(other), 1e-5)
