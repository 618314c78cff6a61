"""The C interface of the kernel, ``csrc/hyena_kernel.h``, as ctypes sees it.

A test compares every field with the header, which has the comments.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_void_p
from enum import IntEnum
from typing import Any

import torch

ABI = 11


class Dtype(IntEnum):
    """HYENA_FLOAT32 and so on."""

    FLOAT32 = 0
    BFLOAT16 = 1
    FLOAT16 = 2


DTYPES = {
    torch.float32: Dtype.FLOAT32,
    torch.bfloat16: Dtype.BFLOAT16,
    torch.float16: Dtype.FLOAT16,
}
MOST_SHORT_TAPS = 64  # HYENA_MOST_SHORT_TAPS
MOST_DIRECT_TAPS = 128  # HYENA_MOST_DIRECT_TAPS


def _fields(declarations: str, **structures: type[ctypes.Structure]) -> list[tuple[str, Any]]:
    """Fields as C declares them: "int64 first, second; pointer third"; the name of a structure
    stands for a pointer to it."""
    kinds = {"int32": c_int32, "int64": c_int64, "double": c_double, "pointer": c_void_p}
    kinds |= {name: POINTER(structure) for name, structure in structures.items()}
    lists = (declaration.split(maxsplit=1) for declaration in declarations.split(";"))
    return [(name.strip(), kinds[kind]) for kind, names in lists for name in names.split(",")]


class Row(ctypes.Structure):
    """hyena_row"""

    _fields_ = _fields("int64 batch, start, length")


class Conv(ctypes.Structure):
    """hyena_conv"""

    _fields_ = _fields(
        """int64 channels, rows; row row; int64 n; int32 dtype, parts;
        pointer z; int64 z_batch_stride, z_channel_stride;
        pointer offset, short_k, short_bias; int32 short_taps, short_lead;
        pointer spectrum, k; int64 k_stride, taps, lead; pointer skip;
        pointer y; int64 y_batch_stride, y_channel_stride""",
        row=Row,
    )


class Gradients(ctypes.Structure):
    """hyena_gradients"""

    _fields_ = _fields(
        """pointer z; int64 z_batch_stride, z_channel_stride;
        pointer k, skip, short_k, short_bias"""
    )


class Modes(ctypes.Structure):
    """hyena_modes"""

    _fields_ = _fields("int64 count; int32 parts; pointer log_decay, weight, state, state_after")


class ModesGradients(ctypes.Structure):
    """hyena_modes_gradients"""

    _fields_ = _fields("pointer log_decay, weight, state")


class Linear(ctypes.Structure):
    """hyena_linear"""

    _fields_ = _fields(
        """int64 batch, inputs, outputs; int32 dtype, x_dtype, y_dtype;
        pointer x, weight, bias, y"""
    )


class Online(ctypes.Structure):
    """hyena_online"""

    _fields_ = _fields("pointer input, due, taps, x, decay, weight, skip; int64 modes")


class Step(ctypes.Structure):
    """hyena_step"""

    _fields_ = _fields(
        """int64 batch, channels; int32 order, short_taps; pointer z, before, taps, bias;
        online conv; int64 rest, row_stride; pointer y; linear in_proj, out_proj""",
        online=Online,
        linear=Linear,
    )


class Norm(ctypes.Structure):
    """hyena_norm"""

    _fields_ = _fields("pointer weight, bias; double epsilon")


class Block(ctypes.Structure):
    """hyena_block"""

    _fields_ = [
        *_fields("int64 batch, width, hidden; int32 dtype, mixed_dtype"),
        ("before_mixer", Norm),
        ("before_mlp", Norm),
        *_fields("step step; pointer mixed, up_weight, up_bias, down_weight, down_bias", step=Step),
    ]


class Functions(ctypes.Structure):
    """hyena_kernel: the functions of one build. A call lets other Python threads run."""

    _fields_ = [
        ("isa", c_char_p),
        ("size", ctypes.CFUNCTYPE(c_int64, c_int64)),
        ("spectrum_floats", ctypes.CFUNCTYPE(c_int64, c_int64, c_int64)),
        ("spectrum", ctypes.CFUNCTYPE(c_int32, POINTER(Conv), c_void_p)),
        ("forward", ctypes.CFUNCTYPE(c_int32, POINTER(Conv))),
        ("backward", ctypes.CFUNCTYPE(c_int32, POINTER(Conv), POINTER(Gradients))),
        ("modal", ctypes.CFUNCTYPE(c_int32, POINTER(Conv), POINTER(Modes))),
        (
            "modal_backward",
            ctypes.CFUNCTYPE(
                c_int32,
                *(POINTER(Conv), POINTER(Gradients), POINTER(Modes), POINTER(ModesGradients)),
            ),
        ),
        ("step", ctypes.CFUNCTYPE(c_int32, POINTER(Step))),
        ("linear", ctypes.CFUNCTYPE(c_int32, POINTER(Linear))),
        ("blocks", ctypes.CFUNCTYPE(c_int32, POINTER(Block), c_int64, c_void_p)),
        ("butterflies", ctypes.CFUNCTYPE(c_int64, c_int64, c_int64)),
    ]
