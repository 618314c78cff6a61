"""`hyena info`: figures of a model that agree with the model."""

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hyena.cli import main
from hyena.cli.model_facts import describe, size
from hyena.filters import Filter
from hyena.model import PRESETS, FilterConfig, LanguageModel, ModelConfig, preset
from hyena.model.memory import forward_bytes, kept_of_filters, step_bytes
from hyena.ops.native import library

Output = pytest.CaptureFixture[str]


def cells(text: str, first: str) -> list[str]:
    """The cells of the first line that begins with ``first``."""
    line = next(line for line in text.splitlines() if line.strip().startswith(first + " "))
    return line.strip().removeprefix(first).split()


def section(text: str, title: str) -> str:
    """From a line that begins with the title to the next empty line."""
    return next(part for part in text.split("\n\n") if part.startswith(title))


def convolution(capsys: Output) -> str:
    """What `hyena info` says of the kernel."""
    assert main(["info"]) == 0
    (line,) = re.findall(r"^convolution +(.*)$", capsys.readouterr().out, flags=re.MULTILINE)
    return line


def test_the_kernel_that_is_loaded(capsys: Output) -> None:
    if not (isas := library.isas()):
        assert convolution(capsys) == f"torch (native: {library.why_not()})"
        return
    for isa in isas:
        with library.use(isa):
            line = convolution(capsys)
        others = " and ".join(other for other in isas if other != isa)
        expected = f"{isa} kernel; {others} available" if others else f"{isa} kernel"
        assert line == f"native ({expected})"
    with library.use("none"):
        assert convolution(capsys) == "torch (native: HYENA_ISA=none turned it off)"


@pytest.mark.parametrize("isa", [None, "neon"])
def test_why_no_kernel_is_loaded(
    isa: str | None, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = library.find() if isa else None
    outcome = library.load(file, isa)
    monkeypatch.setattr(library, "outcome", outcome)
    assert outcome.why
    if outcome.refused:  # as every convolution says it
        assert convolution(capsys) == f"error: {outcome.why}"
    else:
        assert convolution(capsys) == f"torch (native: {outcome.why})"


def test_a_kernel_of_one_thread(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = library.load(library.find(), None)
    if outcome.kernel is None:
        pytest.skip(outcome.why)
    kernel = replace(outcome.kernel, isas=(outcome.kernel.isa,), single_thread="no loop")
    monkeypatch.setattr(library, "outcome", replace(outcome, kernel=kernel))
    assert convolution(capsys) == f"native ({kernel.isa} kernel; on one thread: no loop)"


def test_a_preset(capsys: Output) -> None:
    assert main(["info", "153M"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("preset 153M\n")
    assert cells(out, "filter.emb_dim") == ["33"]
    assert cells(section(out, "parameters"), "total") == ["153,700,416"]
    # 54 × 864 numbers of the short convolutions are twice kept, and 18 × 864 a token
    state = section(out, "state of generation, for one sequence in float32")
    assert cells(state, "2,048") == ["31,943,808", f"{31_943_808 * 4 / 2**20:.2f}", "MiB"]
    table = section(out, "operations of a forward pass on 2,048 tokens, for each token")
    assert cells(table, "projections") == ["2,985,984", "4,478,976"]
    assert cells(table, "mlp") == ["5,971,968", "5,971,968"]
    count = LanguageModel(preset("153M"), device="meta").flops(2048)
    expected = [f"{way.per_token():,.0f}" for way in (count.paper, count.executed)]
    assert cells(table, "model") == expected
    assert "counts order projections where" in table


@pytest.mark.parametrize(
    ("name", "length", "total"),
    [
        ("hyenadna-tiny-1k", "1026", "436,096"),
        ("hyenadna-large-1m", "1000002", "6,550,528"),
    ],
)
def test_presets_of_hyenadna(name: str, length: str, total: str, capsys: Output) -> None:
    assert main(["info", name]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"preset {name}\n")
    assert cells(out, "max_length") == [length]
    assert cells(section(out, "parameters"), "total") == [total]
    assert "refuses" not in out


@pytest.mark.parametrize(
    ("name", "total"),
    [("stripedhyena-7b", "7,646,187,520"), ("evo2-7b", "6,581,722,880")],
)
def test_presets_of_hybrids(name: str, total: str, capsys: Output) -> None:
    assert main(["info", name, "--length", "8192"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert cells(section(out, "parameters"), "total") == [total]
    table = section(out, "operations of a forward pass on 8,192 tokens, for each token")
    count = LanguageModel(preset(name), device="meta").flops(8192).executed
    assert cells(table, "model")[1] == f"{count.per_token():,.0f}"
    assert "order" not in section(out, "configuration") or name == "stripedhyena-7b"


def test_an_order_of_a_preset_without_one_is_refused(capsys: Output) -> None:
    assert main(["info", "evo2-1b", "--order", "3"]) == 1
    assert capsys.readouterr().err == (
        "error: order=3 was asked for, but no layer of the preset evo2-1b has one; leave it out\n"
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"mixers": "mamba2", "width": 64, "head_dim": 128}, ["128"]),
        ({"mixers": "mamba2", "width": 96, "head_dim": 64}, ["64"]),
        ({"mixers": "attention", "width": 32}, ["32"]),
        ({"mixers": "attention", "width": 128}, ["64"]),
        ({"mixers": "hyena", "width": 64, "head_dim": 128}, []),
    ],
)
def test_the_width_of_a_head_is_the_one_that_the_mixers_take(
    options: dict[str, Any], shown: list[str]
) -> None:
    model = LanguageModel(ModelConfig(layers=1, **options), device="meta")
    configuration = section(describe(model, 8, 1), "configuration")
    assert [line.split()[1] for line in configuration.splitlines() if "head_dim" in line] == shown


def test_parts_add_up_to_the_total(capsys: Output) -> None:
    assert main(["info", "125M", "--order", "3"]) == 0
    lines = section(capsys.readouterr().out, "parameters").splitlines()[1:]
    numbers = [int(n.replace(",", "")) for n in (line.split("  ")[-1] for line in lines[-1:])]
    parts = [
        int(cell.replace(",", ""))
        for line in lines[:-1]
        for cell in line.split()
        if cell.replace(",", "").isdigit()
    ]
    assert numbers == [sum(parts)] == [133_029_120]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = ModelConfig(
        vocab_size=29,
        width=12,
        layers=3,
        mixers="hyena,hyena,attention",
        head_dim=4,
        max_length=24,
        filter=FilterConfig(emb_dim=5, width=6),
    )
    LanguageModel(config, dtype=torch.bfloat16).save(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_hybrid(folder: Path, capsys: Output) -> None:
    assert main(["info", str(folder), "--length", "16", "--batch", "4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}\n")
    assert cells(out, "mixers") == ["hyena,hyena,attention"]
    numbers = 2 * (3 * 12 * 2 + 12 * 16) + 2 * 12 * 16
    state = section(out, "state of generation, for one sequence in bfloat16")
    assert cells(state, "16") == [f"{numbers:,}", f"{numbers * 2 / 2**10:.2f}", "KiB"]
    table = section(out, "operations of a forward pass on 4 × 16 tokens, for each token")
    assert "hyena block, of 2" in table
    assert "attention block, of 1" in table
    assert cells(table, "scores") == ["384", "384"]  # 2 · 12 · 16
    assert cells(table, "head") == ["696", "696"]  # 2 · 12 · 29
    whole, causal = (
        cells(table, f"model{end}") for end in ("", " without the pairs in the future")
    )
    assert int(causal[1].replace(",", "")) < int(whole[1].replace(",", ""))


def test_an_attention_model_says_nothing_of_the_formula_for_hyena(
    tmp_path: Path, capsys: Output
) -> None:
    LanguageModel(ModelConfig(mixers="attention", layers=1)).save(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "order projections" not in out
    configuration = section(out, "configuration")
    assert cells(configuration, "head_dim") == ["64"]
    for unread in ("order", "filter.", "ssm.", "local_width"):
        assert f"  {unread}" not in configuration
    assert "filters" not in section(out, "parameters")


def test_the_order_of_a_saved_model_is_its_own(folder: Path, capsys: Output) -> None:
    assert main(["info", str(folder), "--order", "3"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: order=3 was asked for, but the model in {folder} has its own")


def test_a_damaged_checkpoint_is_one_line(folder: Path, capsys: Output) -> None:
    (folder / "model.safetensors").write_bytes(b"no tensors")
    assert main(["info", str(folder)]) == 1
    err = capsys.readouterr().err
    assert "is damaged or no safetensors file" in err
    assert err.count("\n") == 1


def test_what_is_kept_of_the_filters() -> None:
    """As many layers as a pass keeps, and their bytes."""
    model = LanguageModel(ModelConfig(width=8, layers=4, max_length=64)).eval()
    (first, *_) = [part for part in model.modules() if isinstance(part, Filter)]
    model.kept_memory = 2 * first.kept_bytes(64) + 1
    text = section(
        describe(model, 64, 1), "filters in evaluation, kept between inputs of 64 tokens"
    )
    with torch.no_grad():
        model(torch.zeros(1, 64, dtype=torch.int64))
    kept = sum(part.kept.nbytes for part in model.modules() if isinstance(part, Filter))
    assert kept == model.kept_memory - 1
    assert cells(text, "one layer") == size(kept // 2).split()
    assert cells(text, "all 4") == size(2 * kept).split()
    assert cells(text, "kept at most (kept_memory)") == size(model.kept_memory).split()
    assert cells(text, "kept, 2 of 4") == size(kept).split()
    model.kept_memory = 2 * kept
    text = section(describe(model, 64, 1), "filters in evaluation")
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["one", "all"]


def test_the_memory_of_a_pass() -> None:
    model = LanguageModel(preset("125M"), device="meta")
    text = section(describe(model, 65536, 2), "memory at the peak")
    assert "on 2 × 65,536 tokens\n" in text
    assert f"with {torch.get_num_threads()} thread" in text
    for name, reckoned in (
        ("forward without gradients, all logits", forward_bytes(model, 65536, 2)),
        ("forward without gradients, losses", forward_bytes(model, 65536, 2, logits=False)),
        ("training, activation_checkpointing", step_bytes(model, 65536, 2)),
    ):
        assert cells(text, name) == [f"{reckoned / 2**30:.2f}", "GiB"]
    assert "last_only=True" in text
    assert "kept_memory" not in text


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"mixers": "hyena,attention"}, "hyena with hyena filters, attention"),
        ({"mixers": "rwkv"}, "rwkv"),
        ({"block_causal": True}, "hyena with hyena filters, block-causal"),
    ],
)
def test_what_is_certain_of_the_memory_of_other_layers(options: Any, layers: str) -> None:
    config = ModelConfig(width=512, layers=2, max_length=512, **options)
    model = LanguageModel(config, device="meta")
    text = section(describe(model, 512, 30), "memory at the peak")
    assert re.search(rf"^  not reckoned, as not all layers are .*: {layers}$", text, re.MULTILINE)
    of_weights = sum(p.nbytes for p in model.parameters())
    assert cells(text, "weights") == size(of_weights).split()
    assert cells(text, "weights, gradients and AdamW's moments") == size(4 * of_weights).split()
    state = 30 * model.state_size(512) * 4
    assert cells(text, "state of generation") == size(state).split()


def test_what_is_kept_of_the_filters_is_named_in_the_memory_of_a_pass() -> None:
    model = LanguageModel(ModelConfig(width=512, layers=4, max_length=4096), device="meta")
    kept = sum(kept_of_filters(model, 4096))
    assert kept
    text = section(describe(model, 4096, 1), "memory at the peak")
    assert cells(text, "of it, kept of the filters (kept_memory)") == size(kept).split()


def test_gaps_of_a_heap_are_said_where_arrays_may_lie_in_it() -> None:
    model = LanguageModel(ModelConfig(width=128, layers=1, vocab_size=16), device="meta")
    for length, told in ((65_536, True), (65_537, False)):  # 32 MiB in the stream, and more
        text = section(describe(model, length, 1), "memory at the peak")
        assert ("MALLOC_MMAP_THRESHOLD_=65536" in text) == told


def test_transforms_that_are_not_the_kernels_are_said_to_take_more() -> None:
    model = LanguageModel(ModelConfig(width=8, layers=1, max_length=64), device="meta")
    said = "This is of the native kernel's transforms"
    assert said in describe(model.double(), 64, 1)
    assert (said in describe(model.float(), 64, 1)) == (library.kernel() is None)
    with library.use("none"):
        assert said in describe(model, 64, 1)


def encoded(trained: bool) -> FilterConfig:
    return FilterConfig(train_encoding=trained)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "length_policy error"),
        ({"filter": encoded(True), "length_policy": "extrapolate"}, "a trained encoding of as"),
        ({"filter": encoded(False), "length_policy": "extrapolate"}, None),
        ({"filter": FilterConfig(kind="s4d"), "length_policy": "extrapolate"}, None),
        ({"length_policy": "interpolate"}, None),
    ],
)
def test_a_length_that_the_model_refuses(options: Any, why: str | None) -> None:
    model = LanguageModel(ModelConfig(width=8, layers=1, max_length=64, **options)).eval()
    assert "refuses" not in describe(model, 64, 1)
    text = describe(model, 65, 1)
    assert (f"The model refuses 65 tokens (max_length 64, {why}" in text) == (why is not None)
    assert ("refuses" in text) == (why is not None)
    with pytest.raises(ValueError, match="shorten") if why else nullcontext(), torch.no_grad():
        model(torch.zeros(1, 65, dtype=torch.int64))


def test_a_configuration_of_a_training_run(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "data: d\nout: o\nprecision: '64'\nkept_memory: 1536\n"
        "model: {vocab_size: 29, width: 12, layers: 3, max_length: 24}\n"
    )
    assert main(["info", str(file), "--batch", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"model of {file}\n")
    assert cells(out, "width") == ["12"]
    assert "state of generation, for one sequence in float64" in out
    assert cells(out, "kept at most (kept_memory)") == ["1.50", "KiB"]
    assert "on 2 × 24 tokens" in out


def test_what_is_wrong_in_a_configuration_is_one_line(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("data: d\nout: o\nmodel: {widht: 12}\n")
    assert main(["info", str(file)]) == 2
    err = capsys.readouterr().err
    assert 'did you mean "model.width"?' in err
    assert err.count("\n") == 1
    assert main(["info", "absent"]) == 1
    assert "for sizes of your own give a configuration of hyena train" in capsys.readouterr().err


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_inputs_that_go_by_groups_of_channels_keep_nothing(batch: int, keeps: bool) -> None:
    model = LanguageModel(ModelConfig(width=8, layers=1, max_length=16_384)).eval()
    model.working_memory = (2 * 32) * batch * 16_384 * 4 - (not keeps)  # of hidden values
    text = section(
        describe(model, 16_384, batch), "filters in evaluation, kept between inputs of 16,384"
    )
    assert ("one layer" in text) == keeps
    assert ("none: they are made a range of channels at a time" in text) != keeps
    with torch.no_grad():
        model(torch.zeros(batch, 16_384, dtype=torch.int64))
    assert (model.blocks[0].mixer.filter.kept.nbytes > 0) == keeps


@pytest.mark.parametrize(
    "options", [{"mixers": "attention"}, {"mixers": "hyena-se"}, {"block_causal": True}]
)
def test_nothing_is_said_of_what_is_never_kept(options: Any) -> None:
    if options.get("mixers") == "hyena-se" and library.kernel() is None:
        pytest.skip(f"it takes the kernel: {library.why_not()}")
    model = LanguageModel(ModelConfig(width=8, layers=1, max_length=64, **options))
    assert "kept between" not in describe(model, 64, 1)


def test_no_name_is_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", ""]) == 1
    line = "a model was asked for in '', which is neither a folder nor a preset"
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("EVO-1", "did you mean evo-1-8k-base or evo-1-131k-base; for sizes"),
        ("hyenadna-smal-32k", "did you mean hyenadna-small-32k"),
        ("absent", f"presets: {', '.join(PRESETS)}; for sizes"),
    ],
)
def test_presets_of_a_name_are_told(name: str, said: str, capsys: Output) -> None:
    assert main(["info", name]) == 1
    assert f"neither a folder nor a preset; {said}" in capsys.readouterr().err
    assert main(["info", "hyenadna"]) == 1
    listed = " or ".join(one for one in PRESETS if one.startswith("hyenadna"))
    assert f"did you mean {listed}; for sizes" in capsys.readouterr().err


def test_memory_is_in_the_unit_of_its_size() -> None:
    shown = {0: "0 bytes", 1: "1 byte", 1023: "1,023 bytes", 1536: "1.50 KiB", 2**20: "1.00 MiB"}
    assert {number: size(number) for number in shown} == shown
    assert size(1234 * 2**30) == "1,234.00 GiB"


def test_a_tiny_model_has_sizes_above_zero_and_a_state_of_one_size_one_row() -> None:
    options = {"width": 8, "layers": 1, "max_length": 32, "vocab_size": 12}
    text = describe(LanguageModel(ModelConfig(**options)), 32, 1)
    assert not re.search(r" 0(\.0+)? (bytes|[KMG]iB)", text)
    assert "one layer" in text
    assert "all 1" not in text
    memory = section(text, "memory at the peak")
    assert cells(memory, "forward without gradients")
    for nothing in ("logits", "losses", "MALLOC"):
        assert nothing not in memory
    recurrent = LanguageModel(ModelConfig(mixers="gss", **options))
    state = section(describe(recurrent, 32, 1), "state of generation").splitlines()
    assert [line.split()[0] for line in state[1:]] == ["tokens", "any"]
