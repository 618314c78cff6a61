"""Options from dataclasses, and what is said of wrong ones."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from hyena.cli.options import REPEATED, parse
from hyena.cli.values import OPTIONS_OF, UsageError, option_names


@dataclass
class FilterConfig:
    """A filter."""

    width: int = 64
    """Width of its network."""
    window: bool = True
    window_shape: int = 0


@dataclass
class ModelConfig:
    """A model."""

    layers: int = 2
    """Number of blocks."""
    policy: Literal["error", "extrapolate"] = "error"
    filter: FilterConfig = field(default_factory=FilterConfig)

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers is {self.layers}; it must be at least 1")


@dataclass
class Part:
    """A part."""

    name: str
    weight: float = 1.0


@dataclass
class RunConfig:
    """A run."""

    data: Path
    steps: int = 100
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    stop: str | None = None
    prompts: list[str] = field(default_factory=list)
    text: list[str] | str = field(default="", metadata=REPEATED)
    ids: list[int] | int = field(default_factory=list, metadata=REPEATED)
    parts: list[Part] = field(default_factory=list)
    model: ModelConfig = field(default_factory=ModelConfig)


def read(*words: str) -> RunConfig:
    config = parse("run", "do it", RunConfig, "data", words)
    assert config is not None
    return config


def test_an_empty_path_is_refused_wherever_it_stands() -> None:
    for words in (["--data", ""], ["--data="], [""], ["--steps", "3", "--data", ""]):
        with pytest.raises(UsageError, match='data: expected a path, got ""'):
            read(*words)
    assert read("d", "--stop", "").stop == ""


def test_options_reach_nested_dataclasses() -> None:
    config = read("--data", "d", "--model.filter.width=8", "--lr", "1e-4", "--betas", "[0.5,0.6]")
    expected = ModelConfig(filter=FilterConfig(width=8))
    assert config == RunConfig(data=Path("d"), lr=1e-4, betas=(0.5, 0.6), model=expected)


def test_the_first_word_is_the_positional_option() -> None:
    assert read("somewhere", "--steps", "3") == RunConfig(data=Path("somewhere"), steps=3)
    assert read("--steps", "3", "--data", "d").data == Path("d")


@dataclass
class PairConfig:
    """A source and a target."""

    source: Path
    target: Path | None = None
    steps: int = 1


def test_the_first_words_may_be_several_positional_options(tmp_path: Path) -> None:
    def read_pair(*words: str) -> PairConfig:
        config = parse("convert", "do it", PairConfig, ("source", "target"), words)
        assert config is not None
        return config

    both = PairConfig(Path("a"), Path("b"))
    assert read_pair("a", "b") == read_pair("a", "--target", "b") == both
    assert read_pair("--target=b", "--source=a") == both
    assert read_pair("a", "--steps", "3") == PairConfig(Path("a"), steps=3)
    file = tmp_path / "run.yaml"
    file.write_text("source: x\ntarget: y\nsteps: 2\n")
    assert read_pair("a", "b", "--config", str(file)) == PairConfig(Path("a"), Path("b"), 2)
    for words, message in (
        (["a", "b", "c"], 'unexpected argument "c"'),
        (["a", "b", "--target=c"], "target was given twice"),
        ([], "required and not given: --source"),
    ):
        with pytest.raises(UsageError, match=message):
            read_pair(*words)


def test_the_usage_names_what_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    parse("convert", "do it", PairConfig, ("source", "target"), ["--help"])
    assert capsys.readouterr().out.startswith("usage: hyena convert SOURCE [TARGET] [options]")


def test_text_is_kept_as_it_is() -> None:
    assert read("d", "--stop", "a: {b} # 1e3").stop == "a: {b} # 1e3"
    assert read("d", "--stop", "12").stop == "12"
    assert [read("d", "--stop", text).stop for text in ("###", "# a", " #")] == ["###", "# a", " #"]
    assert read("d", '--prompts=["a b", "c"]').prompts == ["a b", "c"]
    assert read("d", "--prompts+=a", "--prompts+=b").prompts == ["a", "b"]


@pytest.mark.parametrize(
    "texts",
    [
        [""],
        ["a", "b", "a"],
        ["- the cat", "[a, b]", "1", "null", "a: {b} # c", "-1", "--- a line"],
        ['say "no"', "back\\slash", "tab\tand\nline", "é \U0001f600 \x7f \x85 \u2028", "x=y"],
    ],
)
def test_a_repeated_option_is_a_list_of_texts_as_they_are(texts: list[str]) -> None:
    assert read("d", *(word for text in texts for word in ("--text", text))).text == texts
    assert read("d", *(f"--text={text}" for text in texts)).text == texts
    assert read("d", "--text", texts[0], "--steps=3", *(f"--text={t}" for t in texts)).steps == 3


def test_a_repeated_option_stands_where_its_last_stood(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("text: from a file\n")
    assert read("d", "--text", "a", "--config", str(file)).text == "from a file"
    assert read("d", "--config", str(file), "--text", "a", "--text=b").text == ["a", "b"]
    file.write_text("text: [one, two]\n")
    assert read("d", "--config", str(file)).text == ["one", "two"]
    assert read("d", "--text=--top").text == ["--top"]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("--ids 10", [10]),
        ("--ids=-10", [-10]),
        ("--ids [10]", [10]),
        ("--ids 10,13", [10, 13]),
        ("--ids []", []),
        ("--ids 10 --ids=[11,12] --ids [] --ids 13", [10, 11, 12, 13]),
    ],
)
def test_a_repeated_number_may_stand_alone_or_in_a_list(words: str, ids: list[int]) -> None:
    assert read("d", *words.split()).ids == ids


def test_a_number_in_a_file_may_stand_alone(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    for text, ids in [("10", 10), ("[10, 13]", [10, 13])]:
        file.write_text(f"ids: {text}\n")
        assert read("d", "--config", str(file)).ids == ids


def test_hyphens_stand_for_underscores_in_the_names_of_options() -> None:
    assert option_names(RunConfig)[-1] == "model.filter.window_shape"
    assert read("d", "--model.filter.window-shape=3").model.filter.window_shape == 3
    assert read("d", "--model.filter.window-shape", "3").model.filter.window_shape == 3
    with pytest.raises(UsageError, match='unknown option "window-shap"'):
        read("d", "--window-shap=3")


def test_later_options_win_over_a_file_and_files_over_earlier_options(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("steps: 7\nmodel:\n  layers: 5\n")
    assert read("d", "--steps", "1", "--config", str(file)).steps == 7
    late = read("d", "--config", str(file), "--steps", "1")
    assert (late.steps, late.model.layers) == (1, 5)


def test_print_config_gives_back_the_same_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["d", "--lr", "3e-5", "--stop", "no", "--model.filter.window", "false"]
    assert parse("run", "do it", RunConfig, "data", [*words, "--print_config"]) is None
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    assert read("--config", str(file)) == read(*words)


def test_help_shows_the_fields_and_their_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse("run", "do it", RunConfig, "data", ["--help"]) is None
    text = capsys.readouterr().out
    assert text.startswith("usage: hyena run DATA [options]\n\nDo it.\n")
    assert "Number of blocks. (a whole number, default: 2)" in text
    assert "Width of its network. (a whole number, default: 64)" in text


def test_the_usage_says_what_has_to_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    for first, usage in ((None, "--data DATA"), ("steps", "[STEPS] --data DATA")):
        assert parse("run", "do it", RunConfig, first, ["--help"]) is None
        assert f"usage: hyena run {usage} [options]\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "required and not given: --data"),
        ("d --stpes 3", 'unknown option "stpes"; did you mean "steps"?'),
        ("d --stpes=3", 'unknown option "stpes"; did you mean "steps"?'),
        ("d --ste 3", 'unknown option "ste"; did you mean "steps"?'),
        ("d --model.leyers 3", 'unknown option "model.leyers"; did you mean "model.layers"?'),
        ("d --layers 3", 'unknown option "layers"; did you mean "model.layers"?'),
        ("d --modl.zzz 3", 'unknown option "modl.zzz"; did you mean "model"?'),
        ("d --modl.layers 3", 'unknown option "modl.layers"; did you mean "model.layers"?'),
        (
            "d --model.width 3",
            'unknown option "model.width"; did you mean "model.filter.width"?',
        ),
        (
            "d --zzz 3",
            'unknown option "zzz"; choose from data, steps, lr, betas, stop, prompts, text, ids, '
            "parts, model",
        ),
        (
            "d --model.zzz 3",
            'unknown option "model.zzz"; choose from model.layers, model.policy, model.filter',
        ),
        ("d extra", 'unexpected argument "extra"; did you mean --text "extra"?'),
        ("d a few --steps 3", 'unexpected argument "a few"; did you mean --text "a few"?'),
        ("d --steps+=3", 'steps: expected a whole number, got "[3]"'),
        (f"d --model {'x' * 5000}", f'model: expected options, {{name: value}}, got "{"x" * 80}"'),
        ("d --model+=3", 'model: expected options, {name: value}, got "[3]"'),
        ("d --ids x", 'ids: expected a whole number, got "x"'),
        ("d --ids=", 'ids: expected a whole number, got ""'),
        ("d --ids 1,b --ids 2", 'ids: expected a whole number, got "b"'),
        ("d --ids [[1]]", 'ids: expected a whole number, got "[1]"'),
        ("d --steps many", 'steps: expected a whole number, got "many"'),
        ("d --steps=", 'steps: expected a whole number, got ""'),
        ("d --model.policy x", "model.policy: expected one of 'error', 'extrapolate', got \"x\""),
        ("d --model.filter.window 3", 'model.filter.window: expected true or false, got "3"'),
        ("d --steps", "steps: expected a whole number after it"),
        ("d --text", "text: expected text after it"),
        ("d --text --steps=3", "text: expected text after it"),
        ("d --config no/such.yaml", "config: no/such.yaml: No such file or directory"),
        ("d --steps 3 --steps=4", "steps was given twice; leave one of them out"),
        ("d --data e", "data was given twice; leave one of them out"),
        ("d --lr .nan", "lr: expected a finite number, got nan"),
        ("d --betas [0.5,.inf]", "betas: expected a finite number, got inf"),
        ("d --lr 1e999", "lr: expected a finite number, got inf"),
        (f"d --steps {10**19}", f"steps: expected a number below {2**63:,}, got {10**19}"),
    ],
)
def test_a_wrong_command_line_is_one_line(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words.split())
    assert str(caught.value).replace(f"{Path.cwd()}/", "") == f"{message} (see hyena run --help)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"stpes: 3", 'unknown option "stpes"; did you mean "steps"?'),
        (b"model: {leyers: 3}", 'unknown option "model.leyers"; did you mean "model.layers"?'),
        (
            b"model: {filter: {wdth: 3}}",
            'unknown option "model.filter.wdth"; did you mean "model.filter.width"?',
        ),
        (b"model: {filter: {width: a}}", 'model.filter.width: expected a whole number, got "a"'),
        (b"parts: [{name: 12}]", 'parts: name: expected text, got "12"; write it in quotes'),
        (b"parts: [{name: yes}]", 'parts: name: expected text, got "True"; write it in quotes'),
        (b"parts: [{name: a, wight: 2}]", 'parts: unknown option "wight"; did you mean "weight"?'),
        (b"parts: [a]", 'parts: expected options, {name: value}, got "a"'),
        (b"parts: [3]", 'parts: expected options, {name: value}, got "3"'),
        (b"parts: [{weight: 2}]", "parts: required and not given: name"),
        (b"parts: [{name: a, weight: b}]", 'parts: weight: expected a number, got "b"'),
        (b"steps: [", "config: wrong.yaml is not YAML: while parsing a flow node"),
        (b"steps: {a: 1 b: 2}", "config: wrong.yaml is not YAML: while parsing a flow mapping"),
        (
            b"just words",
            'config: wrong.yaml has no options: expected lines "name: value", got "just words"',
        ),
        (b"", 'config: wrong.yaml has no options: expected lines "name: value", it is empty'),
        (b"steps: 1\nsteps: 2", "config: wrong.yaml has 'steps' twice; leave one of them out"),
        (b"model: {layers: 1, layers: 1}", "config: wrong.yaml has 'layers' twice"),
        (b"lr: .nan", "lr: expected a finite number, got nan"),
        (b"steps: 10000000000000000000", "steps: expected a number below"),
        (b"steps: 1\n---\nsteps: 2", "config: wrong.yaml has a second document after ---"),
        (b"steps: !!int 3", "config: wrong.yaml has the tag"),
        (b"? [a]\n: 3", "config: wrong.yaml has the key ['a']; expected a name"),
        (b"text: *a", "config: wrong.yaml has the alias *a, which nothing before it names"),
        (b"text: &a [*a]", "config: wrong.yaml has the alias *a, which nothing before it names"),
        (b"\xff\xfe\x00", "config: wrong.yaml is not UTF-8 text"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read("d", "--config", str(file))
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(message)
    assert "\n" not in str(caught.value)


def test_a_wrong_option_beside_a_file_is_not_the_file_s(tmp_path: Path) -> None:
    file = tmp_path / "right.yaml"
    file.write_text("steps: 3\n")
    with pytest.raises(UsageError) as caught:
        read("d", "--config", str(file), "--model", "{a: 1 b: 2}")
    assert str(caught.value).startswith(
        'model: "{a: 1 b: 2}" is not YAML: while parsing a flow mapping'
    )


def test_the_first_word_wins_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("data: elsewhere\nsteps: 3\n")
    config = read("here", "--config", str(file))
    assert (config.data, config.steps) == (Path("here"), 3)


def test_a_value_that_the_dataclass_refuses_is_its_own_error() -> None:
    with pytest.raises(ValueError, match="layers is 0; it must be at least 1"):
        read("d", "--model.layers", "0")


def test_option_names_are_dotted() -> None:
    assert option_names(ModelConfig) == [
        "layers",
        "policy",
        "filter",
        "filter.width",
        "filter.window",
        "filter.window_shape",
    ]


def test_free_options_have_the_names_of_their_dataclass() -> None:
    @dataclass
    class Sweep:
        base: dict[str, int] = field(default_factory=dict, metadata={OPTIONS_OF: FilterConfig})

    assert option_names(Sweep) == ["base", "base.width", "base.window", "base.window_shape"]
