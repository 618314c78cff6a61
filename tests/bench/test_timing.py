"""Timing by a clock that the calls themselves set."""

import gc
import time

import pytest

from hyena.bench.timing import DeviceClock, Timing, clock_of, time_in_turns


class World:
    """Calls that take as long as they say, and note their order."""

    def __init__(self, **seconds: float) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.calls = {name: self._call(name, took) for name, took in seconds.items()}

    def _call(self, name: str, took: float):
        def call() -> None:
            self.now += took
            self.order.append(name)

        return call

    def clock(self) -> float:
        return self.now

    def times(self, **options) -> dict[str, Timing]:
        return time_in_turns(self.calls, clock=self.clock, **options)


def test_medians_and_quartiles() -> None:
    world = World(varying=0.0)
    warm_up, sampled = [3.0] * 4, [1.0, 5.0, 2.0, 4.0, 3.0]
    durations = iter(warm_up + sampled)

    def call() -> None:
        world.now += next(durations)

    times = time_in_turns({"call": call}, seconds=1000, repeats=5, clock=world.clock)
    assert times["call"] == Timing(median=3.0, lower=2.0, upper=4.0, samples=5, calls=1)


def test_each_has_its_share_and_a_slow_one_fewer_samples() -> None:
    times = World(quick=0.1, slow=1.0).times(seconds=20, repeats=50)
    assert times["quick"] == pytest.approx((0.1, 0.1, 0.1, 50, 1))
    assert times["slow"] == pytest.approx((1.0, 1.0, 1.0, 10, 1))


def test_turns_alternate_and_the_first_of_a_round_changes() -> None:
    world = World(a=1.0, b=1.0, c=1.0)
    world.times(seconds=9, repeats=3, first={"a": 1.0, "b": 1.0, "c": 1.0})
    assert "".join(world.order) == "abcbcacab"


def test_the_samples_of_a_slow_one_are_spread_over_the_rounds() -> None:
    world = World(quick=1.0, slow=4.0)
    world.times(seconds=24, repeats=12)
    warm_up = ["quick"] * 4 + ["slow"] * 2  # which is over after half a share
    assert world.order[:6] == warm_up
    assert [i for i, name in enumerate(world.order[6:]) if name == "slow"] == [3, 8, 13]


def test_a_short_call_is_sampled_many_at_a_time() -> None:
    times = World(short=3e-4).times(seconds=1, repeats=10)
    assert times["short"] == pytest.approx((3e-4, 3e-4, 3e-4, 10, 17))


def test_what_takes_too_long_is_timed_once_and_not_warmed_up_again() -> None:
    world = World(slow=100.0)
    assert world.times(seconds=4, repeats=9, first={"slow": 101.0})["slow"].samples == 1
    assert world.order == ["slow"]
    world = World(slow=6.0)  # more than the budget, but not twice
    assert world.times(seconds=4, repeats=9, first={"slow": 6.0})["slow"].samples == 3


def test_the_collector_is_off_meanwhile_and_on_afterwards() -> None:
    seen = []
    time_in_turns({"call": lambda: seen.append(gc.isenabled())}, seconds=0.01, repeats=2)
    assert seen
    assert not any(seen)
    assert gc.isenabled()


class FakeEvent:
    """An event of a device whose queue is done when somebody waits for it."""

    done = queued = 0.0  # seconds

    def record(self) -> None:
        self.at = type(self).queued

    def synchronize(self) -> None:
        type(self).done = max(self.done, self.at)

    def elapsed_time(self, other: "FakeEvent") -> float:
        assert self.done >= max(self.at, other.at), "nobody has waited for them"
        return 1e3 * (other.at - self.at)


def test_work_of_a_device_is_timed_by_its_events() -> None:
    class Event(FakeEvent):
        pass

    def call() -> None:
        Event.queued += 0.5

    clock = DeviceClock(Event)  # type: ignore[arg-type]
    times = time_in_turns({"call": call}, seconds=100, repeats=4, clock=clock)
    assert times["call"] == pytest.approx((0.5, 0.5, 0.5, 4, 1))
    assert clock() == Event.queued == Event.done


def test_the_cpu_has_the_clock_of_python() -> None:
    assert clock_of("cpu") is time.perf_counter


@pytest.mark.parametrize(("count", "seconds", "repeats"), [(0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0)])
def test_nothing_to_time_is_an_error(count: int, seconds: float, repeats: int) -> None:
    calls = {str(i): (lambda: None) for i in range(count)}
    with pytest.raises(ValueError, match="expected calls, seconds > 0 and repeats ≥ 1"):
        time_in_turns(calls, seconds=seconds, repeats=repeats)
