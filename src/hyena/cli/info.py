"""`hyena info`: the versions in use, or what is known of a model."""

import os
import platform
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy
import safetensors
import torch

import hyena
from hyena.arguments import LONGEST
from hyena.cli.model_facts import describe
from hyena.cli.options import parse
from hyena.cli.saved_model import load_saved
from hyena.cli.values import check_at_least, check_at_most
from hyena.model import PRESETS, LanguageModel, preset
from hyena.model.build import unread
from hyena.model.saved import find_model
from hyena.ops import why_not_native
from hyena.ops.native import library
from hyena.training import TrainConfig
from hyena.training.initial import of_data

POSITIONAL = "model"


@dataclass
class Config:
    """Which model to describe; none prints the versions in use."""

    model: str | None = None
    """Folder of a training run, a checkpoint or a saved model; a configuration of hyena train, a
    file that ends in .yaml or .yml; or a preset, such as 153M or hyenadna-small-32k. A part of a
    name, such as hyenadna, lists the presets that have it, and any other name lists all. A folder
    of a preset's name is written ./153M."""
    order: int | None = None
    """Order of a preset's Hyena operators; none takes 2."""
    length: int | None = None
    """Tokens, for the sizes that grow with them; none takes the model's max_length."""
    batch: int = 1
    """Rows whose operations are counted and whose memory is reckoned; they share the filters."""

    def __post_init__(self) -> None:
        check_at_least(1, length=self.length, batch=self.batch)
        check_at_most(LONGEST, length=self.length, batch=self.batch)


def run(config: Config) -> None:
    """Prints the environment, or the model."""
    if config.model is None:
        if config != Config():
            raise ValueError("order, length and batch are of a model; name one: hyena info MODEL")
        print(environment())
        return
    model, name = _model(config.model, config.order)
    length = model.config.max_length if config.length is None else config.length
    print(f"{name}\n\n{describe(model, length, config.batch)}")


def _model(name: str, order: int | None) -> tuple[LanguageModel, str]:
    """The model that is meant, without weights unless it is saved, and what to call it."""
    if name in PRESETS:
        config = preset(name)
        if order is not None:
            if "order" in unread(config):
                raise ValueError(
                    f"order={order} was asked for, but no layer of the preset {name} has one; "
                    "leave it out"
                )
            config = preset(name, order=order)
        return LanguageModel(config, device="meta"), f"preset {name}"
    if not name or not Path(name).exists():
        near = [one for one in PRESETS if name and name.lower() in one.lower()]
        near = near or get_close_matches(name, PRESETS)
        presets = f"did you mean {' or '.join(near)}" if near else f"presets: {', '.join(PRESETS)}"
        raise FileNotFoundError(
            f"a model was asked for in {name or repr(name)}, which is neither a folder nor a "
            f"preset; {presets}; for sizes of your own give a configuration of hyena train, a "
            ".yaml file"
        )
    if order is not None:
        raise ValueError(
            f"order={order} was asked for, but the model in {name} has its own; "
            "leave it out, or name a preset"
        )
    if Path(name).is_file() and Path(name).suffix in (".yaml", ".yml"):
        return _configured(name), f"model of {name}"
    folder = find_model(Path(name))
    return load_saved(folder), str(folder)


def _configured(file: str) -> LanguageModel:
    """What a configuration of `hyena train` begins with, without weights."""
    config = parse("train", "a run", TrainConfig, None, ["--config", file])
    assert config is not None  # no help was asked for
    model = LanguageModel(of_data(config), device="meta")
    model.working_memory, model.kept_memory = config.working_memory, config.kept_memory
    return model.double() if config.precision == "64" else model


def environment() -> str:
    """Versions, threads and devices, one a line: what a report of a problem should contain."""
    rows = {
        "hyena": hyena.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "devices": ", ".join(_devices()),
        "convolution": _convolution(),
    }
    return "\n".join(f"{name:12} {value}" for name, value in rows.items())


def _convolution() -> str:
    try:
        kernel = library.kernel()
    except ValueError as error:  # as every convolution raises it
        return f"error: {error}"
    if kernel is None:
        return f"torch (native: {why_not_native()})"
    others = [isa for isa in kernel.isas if isa != kernel.isa]
    facts = [f"{kernel.isa} kernel"]
    if others:
        facts.append(f"{' and '.join(others)} available")
    if kernel.single_thread:
        facts.append(f"on one thread: {kernel.single_thread}")
    return f"native ({'; '.join(facts)})"


def _devices() -> list[str]:
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices
