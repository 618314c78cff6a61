"""Trainer on Hyena models: the loss it takes, padded batches, a run that goes on."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small_transformers import SIZES, tokens
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.models.auto import modeling_auto

import hyena
from hyena.data import load_tokenizer
from hyena.huggingface import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    tokenizer_as_transformers,
)

TEXTS = ["to be or not to be", "that is the question", "whether", "'tis nobler in the mind"] * 2


CHECKPOINTING = next(  # the second is its name in earlier versions of transformers
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in TrainingArguments.__dataclass_fields__
)


def new_model(kind: Any = HyenaForCausalLM, **changes: Any) -> Any:
    """The same initial weights each time."""
    torch.manual_seed(1)
    sizes = {**SIZES, "vocab_size": 257, "filter": vars(SIZES["filter"]), **changes}
    return kind(HyenaConfig(**sizes))


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    values = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 8,
        "max_steps": 6,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**{**values, **changes})


def texts(side: str = "right") -> tuple[list[dict[str, list[int]]], Any]:
    """Rows of different lengths, and the collator that pads them."""
    tokenizer = tokenizer_as_transformers(load_tokenizer("bytes"), padding_side=side)
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS]
    return rows, DataCollatorForLanguageModeling(tokenizer, mlm=False)


def losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@torch.no_grad()
def expected_loss(model: HyenaForCausalLM, rows: list[list[int]], smoothing: float = 0.0) -> Tensor:
    """Mean over the tokens after the first of each row, row by row."""
    logits = torch.cat([model(torch.tensor([row])).logits[0, :-1] for row in rows])
    targets = torch.tensor([token for row in rows for token in row[1:]])
    return F.cross_entropy(logits, targets, label_smoothing=smoothing)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_first_loss_is_that_of_the_rows_without_padding(
    smoothing: float, side: str, tmp_path: Path
) -> None:
    rows, collator = texts(side)
    model = new_model()
    expected = expected_loss(model, [row["input_ids"] for row in rows[:4]], smoothing)
    with torch.enable_grad():
        trainer = Trainer(
            model,
            arguments(tmp_path, max_steps=1, label_smoothing_factor=smoothing),
            train_dataset=rows[:4],
            data_collator=collator,
        )
        trainer.train()
    assert losses(trainer)[0] == pytest.approx(float(expected), rel=1e-4)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    rows, collator = texts()
    found = []
    for batch, accumulate in ((4, 1), (2, 2), (1, 4)):
        trainer = Trainer(
            new_model(),
            arguments(
                tmp_path,
                max_steps=2,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulate,
                max_grad_norm=0.0,
                optim="sgd",
            ),
            train_dataset=rows,
            data_collator=collator,
        )
        trainer.train()
        found.append(trainer.model.get_input_embeddings().weight.detach())
    torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found[2], found[0], atol=1e-6, rtol=1e-4)


def test_a_run_learns_saves_and_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    rows, collator = texts()

    def trainer(folder: str, **changes: Any) -> Trainer:
        return Trainer(
            new_model(),
            arguments(tmp_path / folder, **{"save_strategy": "steps", "save_steps": 3, **changes}),
            train_dataset=rows,
            eval_dataset=rows,
            data_collator=collator,
        )

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            control.should_training_stop = state.global_step == 3

    whole = trainer("whole")
    whole.train()
    before = trainer("cut")
    before.add_callback(Stop())
    before.train()
    after = trainer("cut")
    after.train(resume_from_checkpoint=True)
    assert losses(whole)[-1] < losses(whole)[0] - 0.3
    assert losses(after)[-3:] == losses(whole)[-3:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], value), name
    saved = HyenaForCausalLM.from_pretrained(tmp_path / "whole" / "checkpoint-6")
    ours = hyena.load(tmp_path / "whole" / "checkpoint-6")
    for one in (saved.model, ours):
        assert torch.equal(one.embedding.weight, whole.model.model.embedding.weight)
    measured = whole.evaluate()["eval_loss"]
    expected = expected_loss(whole.model.eval(), [row["input_ids"] for row in rows])
    assert measured == pytest.approx(float(expected), rel=1e-4)


def test_predictions_are_logits_without_a_cache(tmp_path: Path) -> None:
    rows = [{"input_ids": row, "labels": row} for row in tokens(5, 9).tolist()]
    model = new_model().eval()
    trainer = Trainer(model, arguments(tmp_path), eval_dataset=rows)
    output = trainer.predict(rows)
    assert output.predictions.shape == (5, 9, 257)
    with torch.no_grad():
        logits = model(torch.tensor([row["input_ids"] for row in rows])).logits
    torch.testing.assert_close(torch.from_numpy(output.predictions), logits)


def test_classes_are_learned_from_padded_rows(tmp_path: Path) -> None:
    tokenizer = tokenizer_as_transformers(load_tokenizer("bytes"), padding_side="right")
    rows = [
        {**tokenizer("ab" * n if label else "ba" * n), "labels": label}
        for n in range(1, 9)
        for label in (0, 1)
    ]
    found = []
    for batch, accumulate in ((8, 1), (4, 2)):
        trainer = Trainer(
            new_model(HyenaForSequenceClassification, num_labels=2),
            arguments(
                tmp_path,
                max_steps=15,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulate,
                **{CHECKPOINTING: True},
            ),
            train_dataset=rows,
            eval_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {"right": (p.predictions.argmax(-1) == p.label_ids).mean()},
        )
        trainer.train()
        found.append(losses(trainer))
        assert trainer.model.gradient_checkpointing
    assert found[1] == pytest.approx(found[0], rel=2e-2)
    assert trainer.evaluate()["eval_right"] > 0.9


def test_trainer_knows_the_class_as_one_that_shifts_labels() -> None:
    names = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert names["hyena"] == "HyenaForCausalLM"
    assert re.search("ForCausalLM", new_model().loss_type)
