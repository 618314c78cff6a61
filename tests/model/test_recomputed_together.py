"""Threads and processes that train one model of which blocks keep their input alone."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from comparison import assert_close
from recomputing import L, loss_and_gradients
from small_models import gradients, small_model, tokens
from torch import Tensor, nn

from hyena.model import recomputed

pytestmark = pytest.mark.usefixtures("short_rows_go_by_groups")


def test_threads_that_train_one_model_together(in_pieces: list[None]) -> None:
    """Each starts its backward pass while the others are in theirs."""
    model, threads, times = small_model().train(), 3, 4
    each = [tokens(2, L).roll(n, 0).roll(n, 1) for n in range(threads)]
    for ids in each:
        model(ids, targets=ids).backward()
    wanted = {name: times * x for name, x in gradients(model).items()}
    model.activation_checkpointing, model.working_memory = True, 0
    before, together = dict(model.named_parameters()), threading.Barrier(threads)

    def train(ids: Tensor) -> None:
        for _ in range(times):
            loss = model(ids, targets=ids)
            together.wait(20)
            loss.backward()

    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(train, each))
    finally:
        sys.setswitchinterval(switched)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert len(in_pieces) == 3 * threads * times
    for name, gradient in gradients(model).items():
        assert_close(gradient, wanted[name], 1e-12)


def test_threads_that_go_back_through_one_graph(in_pieces: list[None]) -> None:
    model, ids, threads, times = small_model(width=64).train(), tokens(2, L), 2, 5
    model.activation_checkpointing, model.working_memory = True, 0
    loss = model(ids, targets=ids)
    loss.backward(retain_graph=True)
    wanted = {name: threads * times * x for name, x in gradients(model).items()}
    together = threading.Barrier(threads)

    def go_back(_: int) -> None:
        for _ in range(times):
            together.wait(20)
            loss.backward(retain_graph=True)

    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(go_back, range(threads)))
    finally:
        sys.setswitchinterval(switched)
    assert len(in_pieces) == 3
    for name, gradient in gradients(model).items():
        assert_close(gradient, wanted[name], 1e-12)


def test_no_other_thread_sees_the_parameters_of_a_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, ids = small_model().train(), tokens(1, L)
    model.activation_checkpointing, model.working_memory = True, 0
    before = list(model.parameters())
    loss, of_mlp, seen = model(ids, targets=ids), recomputed._backward_of_mlp, []

    def looked_at(*given: Any) -> Tensor:
        seen.append(all(a is b for a, b in zip(model.parameters(), before, strict=True)))
        return of_mlp(*given)

    monkeypatch.setattr(recomputed, "_backward_of_mlp", looked_at)
    loss.backward()
    assert seen == [True] * 3


def test_data_parallel_training_gets_the_gradients(in_pieces: list[None]) -> None:
    model, ids = small_model().train(), tokens(2, L)
    _, wanted = loss_and_gradients(model, lambda: model(ids, targets=ids))
    model.activation_checkpointing, model.working_memory = True, 0
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):  # the second one is refused if not every gradient came in the first
            _, found = loss_and_gradients(model, lambda: parallel(ids, targets=ids))
            for name, gradient in found.items():
                assert_close(gradient, wanted[name], 1e-12)
    finally:
        torch.distributed.destroy_process_group()
    assert len(in_pieces) == 6
