"""The mixers in compiled programs, in torch.func's transforms, and in programs of these."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from mixer_cases import BIDIRECTIONAL, CASES, D, build, draw
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

# What PyTorch itself says about parts of it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

L = 11
MASK = torch.ones(2, L, dtype=torch.bool)
MASK[0, :3] = MASK[1, 9:] = False
IDS = torch.tensor([[0] * 4 + [1] * 7, [0] * 6 + [1] * 5])
KINDS: dict[str, dict[str, Tensor]] = {
    "rows": {},
    "mask": {"mask": MASK},
    "documents": {"document_ids": IDS},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*CASES, *BIDIRECTIONAL])
def test_forward_mode(name: str, kind: str, generator: torch.Generator) -> None:
    """The product of a tangent with the gradient, once by jvp and once by vjp."""
    mixer, kw = build(name), KINDS[kind]
    u, du, dy = (draw(generator, 2, L, D) for _ in range(3))
    if kind == "mask":
        dy = dy * MASK[..., None]
    y, tangent, *_ = jvp(lambda u: mixer(u, **kw), (u,), (du,))
    leaf = u.clone().requires_grad_()
    expected = mixer(leaf, **kw)
    real = MASK if kind == "mask" else torch.ones_like(MASK)
    assert_close(y[real], expected[real], 1e-12)
    [pulled] = torch.autograd.grad(expected, leaf, dy)
    assert_close((tangent * dy).sum(), (pulled * du).sum(), 1e-10)


def test_forward_mode_beside_the_kernel(generator: torch.Generator) -> None:
    """Which takes float32, and has no rule."""
    mixer = build("hyena", dtype=torch.float32).eval()
    u, du = (draw(generator, 2, L, D).float() for _ in range(2))
    tangent = jvp(mixer, (u,), (du,))[1]
    expected = jvp(mixer.double(), (u.double(),), (du.double(),))[1]
    assert_close(tangent, expected, 1e-5, dtype=torch.float32)


@pytest.mark.parametrize("name", ["rwkv"])
def test_compiled_with_a_mask(name: str, generator: torch.Generator) -> None:
    torch.compiler.reset()
    mixer = build(name, dtype=torch.float32)
    u = draw(generator, 2, L, D).float()

    def loss(run: Any) -> tuple[Tensor, ...]:
        y = run(u, mask=MASK)[MASK]
        parameters = [p for p in mixer.parameters() if p.requires_grad]
        return y, *torch.autograd.grad(y.square().sum(), parameters)

    compiled = loss(torch.compile(mixer, fullgraph=True, backend="aot_eager"))
    for got, expected in zip(compiled, loss(mixer), strict=True):
        assert_close(got, expected, 1e-5)


# An FFT; and a window over a recurrence, with its largest exponent.
@pytest.mark.parametrize("name", ["hyena", "aft-conv"])
def test_compiled_gradients_of_each_row(name: str, generator: torch.Generator) -> None:
    torch.compiler.reset()
    mixer = build(name, dtype=torch.float32)
    parameters = {n: p for n, p in mixer.named_parameters() if p.requires_grad}
    u = draw(generator, 2, L, D).float()

    def loss(parameters: dict[str, Tensor], row: Tensor, mask: Tensor) -> Tensor:
        y = functional_call(mixer, parameters, (row[None],), {"mask": mask[None]})[0]
        found: Tensor = (y * mask[:, None]).square().sum()
        return found

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    compiled = torch.compile(each, fullgraph=True, backend="eager")
    expected = each(parameters, u, MASK)
    for key, got in compiled(parameters, u, MASK).items():
        assert_close(got, expected[key], 1e-5)


def test_a_compiled_transform_of_documents_says_what_it_cannot(
    generator: torch.Generator,
) -> None:
    torch.compiler.reset()
    mixer = build("hyena", dtype=torch.float32)
    run = torch.compile(vmap(lambda u: mixer(u, document_ids=IDS)), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=r"a program of torch\.func's transforms cannot read"):
        run(draw(generator, 1, 2, L, D).float())
