"""Options of a model that nothing in it reads."""

from dataclasses import fields
from typing import Any, get_args

import pytest
from small_models import STRIPES

from hyena.mixers import SPECS
from hyena.model import FilterConfig, ModelConfig
from hyena.model.build import without_effect
from hyena.model.config import FilterKind, SSMConfig, StripedConfig


@pytest.mark.parametrize(
    ("mixers", "options", "unread"),
    [
        ("hyena", {}, []),
        ("hyena", {"order": 3, "filter": FilterConfig(sine_freq=1, emb_dim=9)}, []),
        ("hyena", {"filter": FilterConfig(taps=9)}, ["filter.taps"]),
        ("hyena", {"filter": FilterConfig("explicit", taps=9)}, []),
        ("hyena", {"filter": FilterConfig("explicit", window=False)}, ["filter.window"]),
        ("hyena", {"filter": FilterConfig("s4d", state=8), "ssm": SSMConfig(dt_min=0.01)}, []),
        ("hyena", {"filter": FilterConfig("s4d", state=8), "ssm": SSMConfig(16)}, ["ssm.state"]),
        ("hyena,h3", {"filter": FilterConfig("s4d", state=8), "ssm": SSMConfig(16)}, []),
        ("hyena", {"head_dim": 16, "local_width": 4}, ["head_dim", "local_width"]),
        ("hyena,attention", {"head_dim": 16, "positions": "none", "order": 3}, []),
        ("linear-attention", {"head_dim": 16, "positions": "none"}, ["positions"]),
        ("rwkv", {"positions": "learned"}, []),
        ("rwkv", {"ssm": SSMConfig(state=8)}, ["ssm.state"]),
        ("h3", {"ssm": SSMConfig(state=8), "head_dim": 16}, ["head_dim"]),
        ("attention", {"filter": FilterConfig("explicit", taps=9)}, ["filter.kind", "filter.taps"]),
        ("hyena,attention", STRIPES, []),
        ("hyena", {"kv_heads": 2, "rotary_base": 100}, ["kv_heads", "rotary_base"]),
        ("attention", {"positions": "none", "rotary_base": 100}, ["rotary_base"]),
        ("attention", {"positions": "learned", "rotary_scale": 2}, ["rotary_scale"]),
        ("rwkv", {"in_proj_bias": False, "rotary_scale": 2}, ["in_proj_bias", "rotary_scale"]),
        ("s4d", {"striped": StripedConfig(modes=4)}, ["striped.modes"]),
        ("attention", {"filter": FilterConfig(groups=2)}, ["filter.groups"]),
    ],
)
def test_what_has_no_effect(mixers: str, options: dict[str, Any], unread: list[str]) -> None:
    assert without_effect(ModelConfig(width=32, mixers=mixers, **options)) == unread


def test_every_option_is_of_some_model() -> None:
    """Each option of filters and state spaces is unread where there are none."""
    parts = ("filter", FilterConfig), ("ssm", SSMConfig), ("striped", StripedConfig)
    for part, config in parts:
        for field in fields(config):
            changed = ModelConfig(mixers="rwkv")
            setattr(getattr(changed, part), field.name, "changed")
            assert without_effect(changed) == [f"{part}.{field.name}"]


def test_every_mixer_and_filter_is_known() -> None:
    for mixer in SPECS:
        assert without_effect(ModelConfig(mixers=mixer)) == []
    for kind in get_args(FilterKind):
        assert without_effect(ModelConfig(mixers="hyena", filter=FilterConfig(kind))) == []
