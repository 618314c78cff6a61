"""A program that was recorded with the kernel runs where there is none."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients
from kernel_cases import documents, draw, short_op
from torch import Tensor
from torch.export import Dim

from hyena.ops import Segments, filter_spectrum, gated_conv, long_conv, short_conv
from hyena.ops.native import library

L = 40

PROGRAM = """
import sys, warnings
warnings.simplefilter("error")
import torch, hyena
from hyena.ops.native import library
assert library.kernel() is None
for folder in sys.argv[1:]:
    inputs, expected, gradients = torch.load(folder + "/numbers.pt")
    program = torch.export.load(folder + "/program.pt2").module()
    leaves = [x.requires_grad_() for x in inputs]
    y = program(*leaves)
    found = [y.detach(), *torch.autograd.grad(y.sum(), leaves)]
    for a, b in zip(found, [expected, *gradients], strict=True):
        error = float((a - b).norm() / b.norm())
        assert error < 1e-6, (folder, error)
print("the same")
"""


class Gated(torch.nn.Module):
    def forward(self, z: Tensor, k: Tensor, skip: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        return gated_conv(z, k, skip, short=(taps, bias))


class Short(torch.nn.Module):
    def forward(self, u: Tensor, k: Tensor, skip: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        y = short_conv(u, taps, bias, causal=False)[:, :3]
        return long_conv(y, k[:, :-1], skip, causal=False)


def test_an_exported_program(tmp_path: Path) -> None:
    """In a process of its own, output and gradients."""
    folders = []
    for module in (Gated(), Short()):
        inputs = draw(2, 3, L, L)
        program = torch.export.export(module, inputs)
        assert "hyena.conv.default" in {str(node.target) for node in program.graph.nodes}
        folder = tmp_path / type(module).__name__
        folder.mkdir()
        torch.export.save(program, folder / "program.pt2")
        leaves = [x.clone().requires_grad_() for x in inputs]
        y = module(*leaves)
        gradients = torch.autograd.grad(y.sum(), leaves)
        torch.save((inputs, y.detach(), gradients), folder / "numbers.pt")
        folders.append(str(folder))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *folders],
        env={**os.environ, "HYENA_ISA": "none"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("the same\n", "")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ids", [None, documents()])
@pytest.mark.parametrize("lead", [0, 1])
def test_the_ops_themselves(lead: int, ids: Any, dtype: torch.dtype) -> None:
    """Give what they give with the kernel: output and gradients, of inputs of any strides."""
    z, k, skip, taps, bias = draw(2, 3, L, 2 * L - 1, dtype=dtype)
    z = z.transpose(0, 1).contiguous().transpose(0, 1)
    long_lead = (L - 1) * lead

    def ops() -> list[list[Tensor]]:
        found = []
        for parts, x in ((3, z), (1, z[:, :3])):
            with_short = (taps[: 3 * parts], bias[: 3 * parts])
            for short in (with_short, (with_short[0], None), (None, None)):
                filters = [k, skip, *(s for s in short if s is not None)]

                def op(
                    x: Tensor, k: Tensor, skip: Tensor, *short: Any, parts: int = parts
                ) -> Tensor:
                    taps, bias = (*short, None, None)[:2]
                    return torch.ops.hyena.conv(
                        x, parts, k, 0, skip, taps, bias, long_lead, lead, ids
                    )

                found.append(with_gradients(op, x, *filters))
        found.append(with_gradients(lambda *x: short_op(*x, lead, ids), z, taps, bias))
        return found

    expected = ops()
    with library.use("none"):
        got = ops()
    for a, b in zip(got, expected, strict=True):
        assert_all_close(a, b, 2e-6 if dtype == torch.float32 else 2e-2)
        assert all(x.is_contiguous() for x in a)


@pytest.mark.parametrize("mixed", [(0, 1), (L - 1, 0)])
def test_one_convolution_causal_and_the_other_not(mixed: tuple[int, int]) -> None:
    inputs = draw(2, 3, L, 2 * L - 1)

    def op(z: Tensor, k: Tensor, skip: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        return torch.ops.hyena.conv(z, 3, k, 0, skip, taps, bias, *mixed, None)

    expected = with_gradients(op, *inputs)
    with library.use("none"):
        assert_all_close(with_gradients(op, *inputs), expected, 2e-6)


def test_the_ops_are_sound() -> None:
    leaves = [x.requires_grad_() for x in draw(2, 3, L, L)]
    plain = [x.detach() for x in leaves]
    dy, dz = torch.randn(2, 3, L), torch.randn(2, 9, L)
    ops = torch.ops.hyena

    def check(op: Any, *arguments: Any) -> None:
        # The FFT's rounding depends on where in memory its rows begin.
        torch.library.opcheck(op.default, arguments, rtol=1e-4, atol=1e-3)

    with library.use("none"):
        for z, k, skip, taps, bias in (leaves, plain):
            check(ops.conv, z, 3, k, 0, skip, taps, bias, 0, 1, documents())
            check(ops.conv, z, 1, None, 0, None, taps, bias, 0, 0, documents())
        for need in ([True] * 5, [False, True, False, False, True]):
            rest = (documents(), True)
            check(ops.conv_backward, dy, z, 3, k, 0, skip, taps, bias, 0, 1, *rest, need)
            need = [need[0], False, False, *need[3:]]
            check(ops.conv_backward, dz, z, 1, None, 0, None, taps, bias, 0, 0, *rest, need)


def test_a_compiled_function() -> None:
    inputs = draw(2, 3, L, L)

    def op(*x: Tensor) -> Tensor:
        return torch.ops.hyena.conv(x[0], 3, x[1], 0, *x[2:], 0, 0, None)

    expected = with_gradients(op, *inputs)
    torch.compiler.reset()
    with library.use("none"):
        compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
        assert_all_close(with_gradients(compiled, *inputs), expected, 2e-6)


def test_gradients_of_gradients() -> None:
    z, k, *_ = draw(2, 3, L, L)

    def second() -> Tensor:
        leaf = z.clone().requires_grad_()
        y = torch.ops.hyena.conv(leaf, 3, k, 0, None, None, None, 0, 0, None)
        [first] = torch.autograd.grad(y.pow(2).sum(), leaf, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), leaf)[0]

    expected = second()
    with library.use("none"):
        assert_close(second(), expected, 2e-6)


def test_a_spectrum_cannot_be_read() -> None:
    z, k, *_ = draw(2, 3, L, L)
    kept = filter_spectrum(k, L)
    message = (
        "^a FilterSpectrum of the native kernel came to hyena::conv, but the kernel is not loaded: "
        r"HYENA_ISA=none turned it off. Record the program with the filter k$"
    )
    with library.use("none"), pytest.raises(RuntimeError, match=message):
        torch.ops.hyena.conv(z, 3, kept.values, kept.n, None, None, None, 0, 0, None)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_spectrum_is_in_no_program_that_may_run_elsewhere(strict: bool) -> None:
    """Other processors' builds have other spectra."""
    z, k, *_ = draw(2, 3, L, L)
    kept = filter_spectrum(k, L)

    class Kept(torch.nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return gated_conv(z, kept)

    message = "a FilterSpectrum of the native kernel fits this processor alone"
    with pytest.raises(Exception, match=message):
        torch.export.export(Kept(), (z,), strict=strict)
    with pytest.raises(ValueError, match=f"^gated_conv: {message}"):
        torch.jit.trace(Kept(), (z,))


def test_documents(tmp_path: Path) -> None:
    """Of a program that holds their places."""
    ids = torch.arange(L).div(9, rounding_mode="floor").expand(2, L)
    segments = Segments.from_document_ids(ids)

    class Packed(torch.nn.Module):
        def forward(self, z: Tensor, k: Tensor) -> Tensor:
            return gated_conv(z, k, segments=segments)

    z, k, *_ = draw(2, 3, L, L)
    program = torch.export.export(Packed(), (z, k)).module()
    expected = Packed()(z, k)
    with library.use("none"):
        assert_close(program(z, k), expected, 1e-6)


@pytest.mark.parametrize("isa", ["none", library.isa()])
def test_an_exported_program_takes_any_batch_and_length(isa: str) -> None:
    with library.use(isa):
        z, k, skip, taps, bias = draw(2, 3, L, L)
        sizes = {0: Dim("batch", min=2, max=64), 2: Dim("length", min=2, max=4096)}
        program = torch.export.export(
            Gated(), (z, k, skip, taps, bias), dynamic_shapes=(sizes, *[None] * 4)
        ).module()
        for batch, length in ((2, L), (3, 17), (5, 2 * L)):
            z = draw(batch, 3, length, length)[0]
            assert_close(program(z, k, skip, taps, bias), Gated()(z, k, skip, taps, bias), 1e-6)
