"""What a client is handed in order, and one that does not take it."""

import asyncio

import pytest
from letters import letters_model

from hyena.http.listener import GoneError, Listener
from hyena.serving import Engine, Request


def rounds(engine: Engine) -> int:
    """Until there is nothing left to do, on this thread."""
    count = 0
    while engine.round():
        count += 1
    return count


def test_who_does_not_read_is_dropped() -> None:
    async def falls_behind(unread: int) -> tuple[int, list[int]]:
        engine = Engine(letters_model())
        async with Listener(engine, unread) as listener:
            listener.submit([Request([1], 20)])
            for _ in range(20):
                engine.round()
                await asyncio.sleep(0)  # in which what was handed over is put into the queue
            taken = []
            async for i, _ in listener.each():
                taken.append(i)
                if len(taken) == 20:
                    break
            return rounds(engine), taken

    assert asyncio.run(falls_behind(20)) == (0, [0] * 20)
    with pytest.raises(GoneError):
        asyncio.run(falls_behind(19))


def test_if_one_request_is_refused_those_before_are_cancelled() -> None:
    async def refused() -> tuple[int, int]:
        engine = Engine(letters_model())
        with pytest.raises(ValueError, match="do not fit max_length"):
            Listener(engine, 10).submit([Request([1], 20), Request([1] * 200, 20)])
        engine.round()
        return engine.waiting, engine.growing

    assert asyncio.run(refused()) == (0, 0)
