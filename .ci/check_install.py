"""Whether an installed hyena convolves, whether through what it should, and has its page.

`check_install.py native` expects the kernel, in each build that this processor can run;
`check_install.py torch` expects PyTorch's FFT, and one warning that says so.
"""

import sys
import warnings
from pathlib import Path

import torch

import hyena
from hyena.ops import backends, filter_spectrum, long_conv, why_not_native
from hyena.ops.native import library


def convolve() -> None:
    """Checks a long convolution and its gradients against the definition in float64."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(2, 16, 1000, generator=generator)
    k = torch.randn(16, 1000, generator=generator)
    tensors = [u.requires_grad_(), k.requires_grad_()]
    y = long_conv(u, k)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    y_exact = long_conv(*exact, backend="naive")
    results = [y, *torch.autograd.grad(y.square().sum(), tensors)]
    expected = [y_exact, *torch.autograd.grad(y_exact.square().sum(), exact)]
    with torch.no_grad():
        results.append(long_conv(u, filter_spectrum(k, 1000)))
        expected.append(y_exact)
        for got, want in zip(results, expected, strict=True):
            error = ((got - want).norm() / want.norm()).item()
            assert error < 1e-6, f"relative error {error:.1e}"


def main(expected: str) -> None:
    assert backends()[0] == expected, f"{backends()[0]} ({why_not_native()})"
    package = Path(hyena.__file__).parent
    print(f"hyena {hyena.__version__} in {package}, torch {torch.__version__}")
    missing = {"index.html", "page.css", "main.js"}
    missing -= {path.name for path in (package / "http" / "page" / "static").glob("*")}
    assert not missing, f"the page lacks {sorted(missing)}"
    for isa in library.isas():
        with library.use(isa), warnings.catch_warnings():
            warnings.simplefilter("error")
            convolve()
        print(f"native, {isa}: agrees with the definition")
    if expected == "torch":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            convolve()
        messages = [str(warning.message) for warning in caught]
        assert len(messages) == 1, messages
        print(f"torch: agrees with the definition, and warns: {messages[0]}")


if __name__ == "__main__":
    main(sys.argv[1])
