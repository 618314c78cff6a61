"""A language model as lm_eval asks models: log-likelihoods of continuations and of whole texts, and
texts that go on until a stop."""

from __future__ import annotations

import inspect
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import lm_eval.models  # noqa: F401  (or lm_eval would know no model but this one)
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

from hyena.arguments import IGNORE, check_whole, shown
from hyena.data.tokenizer import Tokenizer
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.generation import generate
from hyena.generation.model import check_model, device_of
from hyena.harness.texts import Row, Texts
from hyena.interop.with_tokenizer import load_with_tokenizer
from hyena.model import LanguageModel
from hyena.model.greedy import losses_and_greedy
from hyena.scoring.batches import inputs_and_targets, similar
from hyena.scoring.sequences import longer, require_tokenizer, room

_NEW_TOKENS = 256  # of a task that says nothing, as in lm_eval's other models
_AUTOMATIC = 64  # rows of a batch; its tokens are bounded as well, see `hyena.scoring.batches`
_SAMPLING = ("top_k", "top_p", "min_p", "repetition_penalty")


@register_model("hyena")
class HyenaLM(LM):  # type: ignore[misc]
    """A model of this package, or one that `hyena.load` opens, with its tokenizer.

    Everything is scored after what stands before it in the text, as by `hyena.score`, and rows of
    similar lengths run together, which changes nothing but the speed.

    Args:
        pretrained: a `hyena.LanguageModel`, or the folder of a run, a checkpoint or a saved model.
        tokenizer: of a `hyena.data.Tokenizer`, or what `hyena.data.load_tokenizer` takes; None
            takes the one saved with the model.
        max_length: most tokens that the model is given at once; None means the model's own. Longer
            contexts lose their beginning, and longer texts are scored in windows.
        stride: from one window of a long text to the next, as in `hyena.evaluation.evaluate`. None
            takes lm_eval's windows: each begins where the one before ends, but for the last, which
            has max_length inputs.
        begin: put the tokenizer's end of text before each text, as before each document of the
            training data. Without it the first token of a text is not scored.
        end: of whole texts, score the end of text after each too, as `hyena.evaluation.evaluate`.
        length_policy: instead of the saved one, see `hyena.ModelConfig`.
        batch_size: rows at once; "auto" means ``max_batch_size``, or 64.
        device: where a model goes that is loaded; the CPU where CUDA is asked for and not there,
            since lm_eval asks for it unless told otherwise.
        seed: of what is drawn, see `seed_of`.

    Raises: TypeError if it is no model; ValueError if a value is out of range, and as `hyena.load`
        and `hyena.data.load_tokenizer`.
    """

    def __init__(
        self,
        pretrained: LanguageModel | str | Path,
        tokenizer: Tokenizer | str | None = None,
        *,
        max_length: int | None = None,
        stride: int | None = None,
        begin: bool = True,
        end: bool = False,
        length_policy: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, str | Path):
            if tokenizer is not None and not isinstance(tokenizer, str):
                raise ValueError(f"tokenizer: expected the name of one, got {shown(tokenizer)}")
            self.model, self.tokenizer = load_with_tokenizer(
                Path(pretrained), tokenizer, device=_there(device), length_policy=length_policy
            )
        else:
            check_model("pretrained", pretrained, LanguageModel)
            require_tokenizer(tokenizer)
            self.model, self.tokenizer = pretrained, cast(Tokenizer, tokenizer)
        config = self.model.config
        limit = room(config)
        length = config.max_length if max_length is None else check_whole("max_length", max_length)
        if limit is not None and length > limit:
            raise ValueError(
                f"max_length: expected at most the model's own, {limit}, got {length}; or "
                f"{longer(config)}"
            )
        if stride is not None:
            stride = check_whole("stride", stride, 1, length)
        for name, value in (("begin", begin), ("end", end)):
            if not isinstance(value, bool):
                raise ValueError(f"{name}: expected true or false, got {shown(value)}")
        self.batch_size = _rows(batch_size, max_batch_size)
        self._seed = check_whole("seed", seed, 0)
        self._device = device_of(self.model)
        self._settings = {"max_length": length, "stride": stride, "begin": begin, "end": end}
        self._texts = Texts(self.tokenizer, length=length, stride=stride, begin=begin, end=end)

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> HyenaLM:
        """As `create_from_arg_obj`, of "pretrained=FOLDER,stride=8"."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> HyenaLM:
        """How lm_eval makes a model: of ``--model_args``, and of options of its own.

        Raises: ValueError, in one line, if an argument is unknown, given twice or lacks.
        """
        known = list(inspect.signature(cls).parameters)
        options = {k: v for k, v in (additional_config or {}).items() if v is not None}
        for name in arg_dict:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                raise ValueError(f"model_args: there is no {shown(name)}; {advice}")
            if name in options:
                raise ValueError(f"model_args: {name} is given twice; leave it to --{name}")
        if "pretrained" not in arg_dict:
            raise ValueError("model_args: expected pretrained=FOLDER, the folder of a model")
        return cls(**arg_dict, **options)

    @property
    def max_length(self) -> int:
        """Most tokens that the model is given at once."""
        return self._texts.length

    @property
    def tokenizer_name(self) -> str:
        """For the names of what lm_eval keeps of requests."""
        return self.tokenizer.fingerprint

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Of each continuation the natural logarithm of its probability after its context, and
        whether each of its tokens is the likeliest one.

        Raises: ValueError, with the request's place, if a continuation is empty or longer than
            max_length; if the model's logits are not finite.
        """
        rows = [self._texts.continuation(_name(one), *one.args) for one in requests]
        self._tell()
        found: list[Any] = [None] * len(requests)
        for place, value, greedy in self._run(rows, "continuations", disable_tqdm):
            found[place] = (value, greedy)
            self.cache_hook.add_partial("loglikelihood", requests[place].args, found[place])
        return found

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Of each text the natural logarithm of its probability; long ones go in windows.

        Raises: ValueError if the model's logits are not finite.
        """
        windows = [self._texts.windows(_name(one), *one.args) for one in requests]
        self._tell()
        of_row = [i for i, rows in enumerate(windows) for _ in rows]
        left, found = [len(rows) for rows in windows], [0.0] * len(requests)
        every = [row for rows in windows for row in rows]
        for place, value, _ in self._run(every, "windows", disable_tqdm):
            i = of_row[place]
            found[i] += value
            left[i] -= 1
            if not left[i]:
                self.cache_hook.add_partial("loglikelihood_rolling", requests[i].args, found[i])
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model goes on with after each context, up to the first of the task's stops, the
        end of text or ``max_gen_toks`` tokens.

        Of ``generation_kwargs`` it knows until, max_gen_toks, do_sample, temperature, top_k, top_p,
        min_p and repetition_penalty.

        Raises: ValueError, with the request's place, on others, or if there is no room for a
            prompt; and as `hyena.generation.generate`.
        """
        alike = defaultdict[str, list[int]](list)
        for i, one in enumerate(requests):
            alike[json.dumps(one.args[1], sort_keys=True, default=str)].append(i)
        found = [""] * len(requests)
        with tqdm(total=len(requests), desc="texts", disable=True if disable_tqdm else None) as bar:
            for places in alike.values():
                drawn = is_drawn(requests[places[0]].args[1])
                for place, text in self._generate(requests, places):
                    found[place] = text
                    if not drawn:
                        self.cache_hook.add_partial("generate_until", requests[place].args, text)
                    bar.update()
        return found

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Raises ValueError: there is none."""
        raise ValueError("models of hyena have no chat template; leave --apply_chat_template out")

    def get_model_info(self) -> dict[str, Any]:
        """What lm_eval writes of the model beside its results."""
        first = next(self.model.parameters())
        return {
            "model_num_parameters": self.model.parameter_count(),
            "model_dtype": str(first.dtype),
            **self._settings,
        }

    def _run(
        self, rows: Sequence[Row], what: str, disable_tqdm: bool
    ) -> Iterator[tuple[int, float, bool]]:
        """Of each row, batch by batch, its place, the sum of the log-probabilities of the targets
        that are scored, and whether all of them are the likeliest tokens."""
        lengths = [len(row.tokens) - 1 for row in rows]
        with (
            evaluation_mode(self.model),
            tqdm(total=len(rows), desc=what, disable=True if disable_tqdm else None) as bar,
        ):
            for places in similar(lengths, self.batch_size, self.model.config):
                sums, greedy = self._batch([rows[i] for i in places])
                yield from zip(places, sums, greedy, strict=True)
                bar.update(len(places))

    def _batch(self, rows: Sequence[Row]) -> tuple[list[float], list[bool]]:
        """Of rows that run together."""
        inputs, targets = inputs_and_targets(
            [row.tokens for row in rows], [row.score_from for row in rows]
        )
        losses, greedy = losses_and_greedy(
            self.model, inputs.to(self.device), targets.to(self.device)
        )
        sums = -losses.cpu().double().sum(1)  # on the CPU: MPS has no float64
        if not bool(sums.isfinite().all()):
            raise ValueError("the model's logits are not finite; its weights may be damaged")
        all_greedy = (greedy.cpu() | (targets == IGNORE)).all(1)
        return sums.tolist(), all_greedy.tolist()

    def _generate(
        self, requests: Sequence[Instance], places: Sequence[int]
    ) -> Iterator[tuple[int, str]]:
        """Of requests with the same options, batch by batch, the place and the text."""
        first = requests[places[0]]
        options = _options(_name(first), first.args[1], self.max_length)
        prompts = [
            self._texts.prompt(_name(requests[i]), requests[i].args[0], options["max_new_tokens"])
            for i in places
        ]
        self._tell()
        seen, seeds = Counter[str](), dict[int, int]()
        for i in places:
            context = requests[i].args[0]
            seeds[i] = seed_of(self._seed, context, requests[i].args[1], seen[context])
            seen[context] += 1
        lengths = [len(prompt) for prompt in prompts]
        for batch in similar(lengths, self.batch_size, self.model.config):
            generations = generate(
                self.model,
                [prompts[i] for i in batch],
                tokenizer=self.tokenizer,
                seed=[seeds[places[i]] for i in batch],
                **options,
            )
            for i, generation in zip(batch, generations, strict=True):
                yield places[i], generation.text or ""

    def _tell(self) -> None:
        for note in self._texts.notes():
            warnings.warn(note, UserWarning, stacklevel=3)


def is_drawn(options: Mapping[str, Any]) -> bool:
    """Whether generation_kwargs ask for a text that is drawn."""
    return bool(normalize_gen_kwargs(dict(options), _NEW_TOKENS)["do_sample"])


def seed_of(seed: int, context: str, options: Mapping[str, Any], repeat: int) -> int:
    """What the text after a context is drawn by: a hash of the model's seed, the question and how
    often it was asked before, so that other questions beside it change nothing."""
    question = json.dumps([seed, context, options, repeat], sort_keys=True, default=str)
    return int.from_bytes(blake2b(question.encode(), digest_size=7).digest(), "big")


def _options(name: str, given: dict[str, Any], max_length: int) -> dict[str, Any]:
    """What `hyena.generation.generate` calls the options of a task."""
    default = min(_NEW_TOKENS, max(1, max_length // 2))
    left = dict(normalize_gen_kwargs(given, default))
    sampled = left.pop("do_sample")
    temperature = left.pop("temperature", 1.0)
    options = {
        "max_new_tokens": left.pop("max_gen_toks"),
        "stop": [text for text in left.pop("until") if text],
        "temperature": temperature if sampled else 0.0,
    }
    options |= {option: left.pop(option) for option in _SAMPLING if option in left}
    if left.get("num_beams") == 1:  # which is no search
        del left["num_beams"]
    if left:
        raise ValueError(
            f"{name}: its generation_kwargs have {', '.join(left)}, which models of hyena do not "
            f"know; they know until, max_gen_toks, do_sample, temperature, {', '.join(_SAMPLING)}"
        )
    return options


def _name(request: Instance) -> str:
    """Of a request, in messages."""
    return f"document {request.doc_id} of {request.task_name}"


def _rows(batch_size: int | str, most: int | None) -> int:
    """Of a batch, at most."""
    if isinstance(batch_size, str) and batch_size.partition(":")[0] == "auto":
        return _AUTOMATIC if most is None else check_whole("max_batch_size", most)
    if isinstance(batch_size, str) and batch_size.isdecimal():
        batch_size = int(batch_size)
    return check_whole("batch_size", batch_size)


def _there(device: str | None) -> str | None:
    """The device, or None for the CPU where it is CUDA and that is not there."""
    if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
        return None
    return device
