"""What a file of weights may not say of its model, and where else it is found.

A wrong value would give a model that runs and computes something else, so nothing is guessed: a
setting is in the file, in the configuration beside it, given by hand, or asked for.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from math import isclose
from pathlib import Path
from typing import Any, Literal

from hyena.arguments import shown
from hyena.files.records import from_plain, read_json
from hyena.interop.safari_operator import FilterLayout
from hyena.model import ModelConfig
from hyena.model.build import option
from hyena.model.saved import CONFIG, KIND

Projections = Literal["split", "by-head", "interleaved"]
_YAML_BYTES = 1 << 18  # of a configuration
_OF_FILTERS = "window", "shift", "normalized"
_OF_FILES = "layout", "positions", "projections"  # how weights lie, which a model does not say
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "names with values",
}


@dataclass
class Settings:
    """What the weights of a released model may not say; null takes what the file, or the
    configuration beside it, says."""

    window: bool | None = None
    """Safari: multiply the filters by the decaying window, ``modulate`` in its configuration."""
    shift: float | None = None
    """Safari: constant added to the window; 0.0 in safari's configurations, 0.05 in HyenaDNA's."""
    normalized: bool | None = None
    """Safari: divide the filters by their norm over channels."""
    layout: FilterLayout | None = None
    """Safari, order 3 and more: channel_major if trained with its hyena.py, order_major with
    standalone_hyena.py."""
    positions: Literal["file", "computed"] | None = None
    """Safari: keep the file's encoding of positions as a table, if it has one (file), or take the
    formula, which serves any length (computed)."""
    vocab_size: int | None = None
    """Entries of the tokenizer, if the embedding's rows are padded beyond them."""
    max_length: int | None = None
    """Longest input in tokens."""
    heads: int | None = None
    """Heads of attention."""
    norm_eps: float | None = None
    """What keeps the norms from dividing by zero."""
    activation: str | None = None
    """Activation of the MLPs: gelu, gelu-tanh, silu, or a list for the first layers."""
    rotary_base: float | None = None
    """Base of the frequencies of rotary positions."""
    rotary_scale: float | None = None
    """What rotary positions are divided by; 1 unless the model was stretched to longer inputs."""
    projections: Projections | None = None
    """How the three projections of a Hyena layer lie: one after the other (split), head by head
    (by-head), or in threes (interleaved)."""

    def given(self) -> dict[str, Any]:
        """Those that say something, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def over(self, others: "Settings") -> "Settings":
        """These, and where they say nothing, the others'."""
        return Settings(**{**vars(others), **self.given()})


def settings_of(given: Mapping[str, Any] | Settings | None) -> Settings:
    """Settings given by hand. Raises: ValueError on an unknown one, or a value of another type."""
    if isinstance(given, Settings):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f'settings: expected {{"NAME": value}}, got {shown(given)}')
    names = [field.name for field in fields(Settings)]
    unknown = [name for name in given or {} if name not in names]
    if unknown:
        raise ValueError(
            f"settings: {shown(unknown[0])} is unknown; expected some of {', '.join(names)}"
        )
    return from_plain(Settings, dict(given or {}), "settings")


def check_of_family(settings: Settings, known: frozenset[str], what: str) -> None:
    """Raises ValueError if a setting says something that a kind of models has not."""
    others = [name for name in settings.given() if name not in known]
    if others:
        raise ValueError(
            f"settings: {others[0]} is not of {what}; expected some of {', '.join(sorted(known))}"
        )


def check_taken(given: Settings, config: ModelConfig) -> None:
    """Raises ValueError if a setting that was given by hand is not what the model has, since the
    weights say something else."""
    for name, value in given.given().items():
        if name in _OF_FILES:
            continue
        has: Any = option(config, f"filter.{name}" if name in _OF_FILTERS else name)
        same = isclose(value, has, rel_tol=1e-3) if isinstance(value, float) else value == has
        if not same:
            raise ValueError(
                f"settings: {name}={shown(value)} was given, but the weights say {shown(has)}; "
                "leave it out"
            )


def refuse_others(public: Mapping[str, Any], **known: tuple[object, ...]) -> None:
    """Raises ValueError if a configuration has another value of a name than those that are known,
    which no weight would show."""
    for name, values in known.items():
        if name in public and public[name] not in values:
            raise ValueError(
                f"the configuration says {name}: {shown(public[name])}, which no released model "
                "has and which is not known here"
            )


def need(settings: Settings, what: str, **meanings: str) -> None:
    """Asks for settings that nothing says, all at once.

    Args: settings; what kind of model it is; by name what each setting means.
    Raises: ValueError if one is not there.
    """
    lacking = [name for name in meanings if getattr(settings, name) is None]
    if lacking:
        asked = "; ".join(f"{name} ({meanings[name]})" for name in lacking)
        values = ", ".join(f'"{name}": …' for name in lacking)
        raise ValueError(
            f"the weights of {what} do not say {asked}. Put the model's configuration beside "
            f"them, or give settings={{{values}}}, on the command line --settings.{lacking[0]} …"
        )


def configuration_of(weights: Path, given: str | Path | None) -> dict[str, Any]:
    """The configuration that a model was released with, as far as it was; empty if it was not.

    Args:
        weights: a file of weights, or the folder of several.
        given: a ``.json`` or ``.yml`` file to be read instead of looking beside the weights, where
            it is ``config.json``, or a YAML file of this name or of the weights'.

    Raises: FileNotFoundError if what was given is not there; ValueError if it cannot be read.
    """
    if given is not None and not Path(given).is_file():
        raise FileNotFoundError(f"no configuration at {given}")
    found = _beside(weights) if given is None else _read(Path(given))
    model = found.get("model")  # safari's is of a whole training
    return model if isinstance(model, dict) else found


def _beside(weights: Path) -> dict[str, Any]:
    """The configuration in the folder of a file of weights, or in the folder given."""
    folder = weights if weights.is_dir() else weights.parent
    if (folder / CONFIG).is_file():
        found = _read(folder / CONFIG)
        return {} if found.get("kind") == KIND else found
    for stem in ("config", weights.name.partition(".")[0]):
        for path in (folder / f"{stem}.yml", folder / f"{stem}.yaml"):
            if path.is_file():
                return _read(path)
    return {}


def vocabulary(rows: int, settings: Settings) -> dict[str, Any]:
    """The ids of an embedding of so many rows, as fields of a config.

    Raises: ValueError if there are not as many as the settings say.
    """
    size = rows if settings.vocab_size is None else settings.vocab_size
    if not 1 <= size <= rows:
        raise ValueError(f"vocab_size={shown(size)}, but the embedding has {rows} rows")
    return {"vocab_size": size, "vocab_multiple": rows if size < rows else 1}


def value_of(public: Mapping[str, Any], name: str, kind: type) -> Any:
    """The value that a public configuration has of a name; None if it does not say, or says null.

    Raises: ValueError if it is of another type: taken for nothing, it would be a default here and
        something else in the model's program.
    """
    value: Any = public.get(name)
    if kind is float and type(value) in (int, str):  # YAML takes 1e-6 for a text
        with suppress(ValueError, OverflowError):
            return float(value)
    if value is None or type(value) is kind:
        return value
    raise ValueError(
        f"the configuration says {name}: {shown(value)}; expected {_WORDS[kind]}: write it in its "
        "place"
    )


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return read_json(path, advice="download it again")
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{path} is YAML, for which the package {error.name} is needed: "
            "pip install 'hyena[train]'"
        ) from error
    with path.open("rb") as file:
        data = file.read(_YAML_BYTES + 1)
    try:
        if len(data) > _YAML_BYTES:
            raise ValueError(f"more than {_YAML_BYTES >> 10} KiB")
        text = data.decode()
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("aliases, which can stand for very much")
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no configuration of a model ({reason})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no configuration of a model (it has no names)")
    return found
