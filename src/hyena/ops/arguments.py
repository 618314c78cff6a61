"""What an argument of any kind must be; one clear line where it is not."""

from torch import Tensor


def check_tensor(op: str, name: str, x: object, *, optional: bool = False) -> None:
    """Raises TypeError unless x is a tensor, or None if it is optional."""
    if isinstance(x, Tensor) or (optional and x is None):
        return
    expected = "a tensor or None" if optional else "a tensor"
    if x is None:
        raise TypeError(f"{op}: expected {expected} as {name}, got None")
    kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
    raise TypeError(
        f"{op}: expected {expected} as {name}, got {kind}; torch.as_tensor makes one of numbers"
    )
