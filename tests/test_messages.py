"""Values that a message cannot write out as they are: it is one line all the same."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hyena import HyenaOperator, LanguageModel, ModelConfig, replace_attention
from hyena.data import PrepareConfig, TextFields
from hyena.distillation import distill
from hyena.filters import DiagonalSSM, ExplicitTaps, HyenaFilter, LongFilter
from hyena.generation import beam_search, generate
from hyena.interop.safari import load_safari
from hyena.ops import long_conv

HUGE: Any = 10**5000  # Python refuses to write it out

Call = Callable[[], Any]


def model() -> LanguageModel:
    return LanguageModel(ModelConfig(width=8, layers=1, max_length=8, vocab_size=9))


def prepared(**settings: Any) -> None:
    PrepareConfig(**{"source": "x", "out": "y", **settings}).check()


CALLS: dict[str, Call] = {
    "backend": lambda: long_conv(torch.zeros(1, 1, 1), torch.zeros(1, 1), backend=HUGE),
    "backend of a layer": lambda: HyenaOperator(8, 8, backend=HUGE),
    "length_policy": lambda: HyenaFilter(8, 8, length_policy=HUGE),
    "length_policy of taps": lambda: LongFilter(ExplicitTaps(8, 8), 8, 8, length_policy=HUGE),
    "initial": lambda: DiagonalSSM(8, initial=HUGE),
    "names": lambda: replace_attention(
        nn.TransformerEncoderLayer(8, 2), 8, causal=True, names=HUGE
    ),
    "positions": lambda: load_safari(Path("x"), window=True, normalized=True, positions=HUGE),
    "layout": lambda: load_safari(Path("x"), window=True, normalized=True, layout=HUGE),
    "form": lambda: distill(model(), form=HUGE),
    "seed of prepare": lambda: prepared(seed=-HUGE),
    "max_documents": lambda: prepared(max_documents=-HUGE),
    "split_by": lambda: prepared(split_by=HUGE),
    "validation": lambda: prepared(validation=HUGE),
    "separator": lambda: TextFields(separator=HUGE),
    "kind": lambda: TextFields(kind=HUGE),
    "seed": lambda: generate(model(), [[1]], max_new_tokens=1, seed=HUGE),
    "length_penalty": lambda: beam_search(model(), [[1]], max_new_tokens=1, length_penalty=HUGE),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_integer_of_thousands_of_digits_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape("an int of some 5001 digits")) as error:
        CALLS[name]()
    assert "\n" not in str(error.value)
