"""The C interface of the kernel, ``csrc/hyena_kernel.h``, as ctypes sees it.

A test compares every field with the header, which has the comments.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_void_p
from enum import IntEnum

import torch

ABI = 8


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


class Row(ctypes.Structure):
    """hyena_row"""

    _fields_ = [("batch", c_int64), ("start", c_int64), ("length", c_int64)]


class Conv(ctypes.Structure):
    """hyena_conv"""

    _fields_ = [
        ("channels", c_int64),
        ("rows", c_int64),
        ("row", POINTER(Row)),
        ("n", c_int64),
        ("dtype", c_int32),
        ("parts", c_int32),
        ("z", c_void_p),
        ("z_batch_stride", c_int64),
        ("z_channel_stride", c_int64),
        ("offset", c_void_p),
        ("short_k", c_void_p),
        ("short_bias", c_void_p),
        ("short_taps", c_int32),
        ("short_lead", c_int32),
        ("spectrum", c_void_p),
        ("k", c_void_p),
        ("k_stride", c_int64),
        ("taps", c_int64),
        ("lead", c_int64),
        ("skip", c_void_p),
        ("y", c_void_p),
        ("y_batch_stride", c_int64),
        ("y_channel_stride", c_int64),
    ]


class Gradients(ctypes.Structure):
    """hyena_gradients"""

    _fields_ = [
        ("z", c_void_p),
        ("z_batch_stride", c_int64),
        ("z_channel_stride", c_int64),
        ("k", c_void_p),
        ("skip", c_void_p),
        ("short_k", c_void_p),
        ("short_bias", c_void_p),
    ]


class Linear(ctypes.Structure):
    """hyena_linear"""

    _fields_ = [
        ("batch", c_int64),
        ("inputs", c_int64),
        ("outputs", c_int64),
        ("dtype", c_int32),
        ("x_dtype", c_int32),
        ("y_dtype", c_int32),
        ("x", c_void_p),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("y", c_void_p),
    ]


class Online(ctypes.Structure):
    """hyena_online"""

    _fields_ = [
        ("input", c_void_p),
        ("due", c_void_p),
        ("taps", c_void_p),
        ("x", c_void_p),
        ("decay", c_void_p),
        ("weight", c_void_p),
        ("skip", c_void_p),
        ("modes", c_int64),
    ]


class Step(ctypes.Structure):
    """hyena_step"""

    _fields_ = [
        ("batch", c_int64),
        ("channels", c_int64),
        ("order", c_int32),
        ("short_taps", c_int32),
        ("z", c_void_p),
        ("before", c_void_p),
        ("taps", c_void_p),
        ("bias", c_void_p),
        ("conv", POINTER(Online)),
        ("rest", c_int64),
        ("row_stride", c_int64),
        ("y", c_void_p),
        ("in_proj", POINTER(Linear)),
        ("out_proj", POINTER(Linear)),
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
        ("step", ctypes.CFUNCTYPE(c_int32, POINTER(Step))),
        ("linear", ctypes.CFUNCTYPE(c_int32, POINTER(Linear))),
        ("butterflies", ctypes.CFUNCTYPE(c_int64, c_int64, c_int64)),
    ]
