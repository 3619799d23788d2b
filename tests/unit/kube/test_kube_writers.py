"""Writers: order, coalescing, retries by class, the budget, and silence after the lease is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import virtual_time
from fallow.errors import Conflict, FallowError, NotLeading, TooManyRequests, Unavailable
from fallow.kube.write_budget import WriteBudget
from fallow.kube.writers import Writers
from fallow.telemetry import Telemetry


class Journal:
    """Writes that note what they did; each takes `seconds` and ends as `errors` say, in turn."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float]] = []
        self.done: list[tuple[str, str]] = []
        self.under_way = 0
        self.most = 0

    def write(
        self, name: str, *, seconds: float = 0.1, errors: list[FallowError] | None = None
    ) -> Callable[[], Awaitable[None]]:
        async def carry_out() -> None:
            self.begun.append((name, asyncio.get_running_loop().time() - 1000.0))
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(seconds)
            self.under_way -= 1
            if errors:
                raise errors.pop(0)

        return carry_out

    def on_done(self, name: str) -> Callable[[Exception | None], None]:
        return lambda error: self.done.append((name, type(error).__name__ if error else "ok"))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.begun]


def writers(
    *, in_flight: int = 2, per_second: float = 1000, burst: int = 1000, telemetry: Telemetry | None = None
) -> Writers:
    return Writers(
        in_flight=in_flight,
        per_second=per_second,
        burst=burst,
        telemetry=telemetry,
        chance=lambda: 0.5,  # waits are exactly 0.2 s, 0.4 s, …
    )


def test_submit__same_key__one_at_a_time_and_only_the_latest_waits() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers() as them:
            them.submit("a", journal.write("first"))
            await asyncio.sleep(0.01)
            for name in ("second", "third"):
                them.submit("a", journal.write(name), on_done=journal.on_done(name))
            assert await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert journal.begun == [("first", 0.0), ("third", pytest.approx(0.1))]
    assert journal.most == 1
    assert journal.done == [("third", "ok")]


def test_submit__many_keys__no_more_than_allowed_under_way() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers(in_flight=3) as them:
            for number in range(10):
                them.submit(number, journal.write(str(number)))
            assert len(them) == 10
            assert await them.drain(timeout_seconds=5)
            assert len(them) == 0

    virtual_time.run(scenario())
    assert journal.most == 3
    assert journal.names == [str(number) for number in range(10)]


def test_submit__lower_priority_number__goes_before_what_waits() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers(in_flight=1) as them:
            them.submit("running", journal.write("running"))
            await asyncio.sleep(0.01)
            them.submit("later", journal.write("later"), priority=1)
            them.submit("sooner", journal.write("sooner"), priority=0)
            them.submit("raised", journal.write("raised, first try"), priority=2)
            them.submit("raised", journal.write("raised"), priority=-1)
            assert await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert journal.names == ["running", "raised", "sooner", "later"]


def test_write__retryable_error__is_repeated_with_growing_waits_until_it_works() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers() as them:
            errors: list[FallowError] = [Unavailable("cut"), Unavailable("cut")]
            them.submit("a", journal.write("a", seconds=0, errors=errors), on_done=journal.on_done("a"))
            assert await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert [moment for _, moment in journal.begun] == pytest.approx([0.0, 0.2, 0.6])
    assert journal.done == [("a", "ok")]


def test_write__permanent_error__is_told_and_not_repeated() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers() as them:
            errors: list[FallowError] = [Conflict("changed")]
            them.submit("a", journal.write("a", errors=errors), on_done=journal.on_done("a"))
            assert await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert journal.names == ["a"]
    assert journal.done == [("a", "Conflict")]


def test_write__newer_decision_while_it_waits_to_be_repeated__replaces_it_but_waits_as_long() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers() as them:
            asked = TooManyRequests("slow down", status=429, retry_after_seconds=3.0)
            them.submit("a", journal.write("old", seconds=0, errors=[asked]), on_done=journal.on_done("old"))
            await asyncio.sleep(1)
            them.submit("a", journal.write("new"), on_done=journal.on_done("new"))
            assert await them.drain(timeout_seconds=10)

    virtual_time.run(scenario())
    assert journal.begun == [("old", 0.0), ("new", pytest.approx(3.0))]
    assert journal.done == [("new", "ok")]


def test_write__bug_in_it__is_told_and_the_others_go_on() -> None:
    journal = Journal()

    async def broken() -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with writers(in_flight=1) as them:
            them.submit("a", broken, on_done=journal.on_done("a"))
            them.submit("b", journal.write("b"), on_done=journal.on_done("b"))
            assert await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert journal.done == [("a", "ZeroDivisionError"), ("b", "ok")]


def test_writers__lease_lost__nothing_more_starts_and_waiting_writes_are_told() -> None:
    journal = Journal()
    leading = True

    async def scenario() -> None:
        nonlocal leading
        them = Writers(in_flight=1, per_second=1000, burst=1000, may_write=lambda: leading)
        async with them:
            for name in ("a", "b", "c"):
                them.submit(name, journal.write(name), on_done=journal.on_done(name))
            await asyncio.sleep(0.05)
            leading = False
            assert await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert journal.names == ["a"]
    assert journal.done == [("a", "ok"), ("b", NotLeading.__name__), ("c", NotLeading.__name__)]


def test_drain__write_that_hangs__gives_up_in_time_and_leaving_cancels_it() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers() as them:
            them.submit("a", journal.write("a", seconds=1e6), on_done=journal.on_done("a"))
            assert not await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert journal.done == []


def test_drain__write_waits_to_be_repeated__waits_for_it() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers() as them:
            them.submit("a", journal.write("a", errors=[Unavailable("cut")]))
            assert await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert journal.names == ["a", "a"]


def test_budget__burst_used_up__writes_go_out_at_the_rate() -> None:
    journal = Journal()

    async def scenario() -> None:
        async with writers(in_flight=100, per_second=20, burst=5) as them:
            for number in range(15):
                them.submit(number, journal.write(str(number)))
            assert await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    moments = [moment for _, moment in journal.begun]
    assert moments[:5] == [0.0] * 5
    assert moments[5:] == pytest.approx([0.05 * number for number in range(1, 11)])


@pytest.mark.parametrize(
    ("seconds", "errors", "rate_after"),
    [
        (0.1, [], 20.0),
        (1.5, [], 10.0),
        (0.1, [TooManyRequests("slow down", status=429)], 10.0),
        (0.1, [Conflict("changed")], 20.0),
    ],
    ids=["a quick answer", "a slow answer", "a 429", "a refusal"],
)
def test_budget__after_one_answer__halves_only_on_a_complaint(
    seconds: float, errors: list[FallowError], rate_after: float
) -> None:
    async def scenario() -> None:
        async with writers(per_second=20, burst=200) as them:
            them.submit("a", Journal().write("a", seconds=seconds, errors=errors))
            await asyncio.sleep(seconds + 0.01)
            assert them.budget.rate == rate_after

    virtual_time.run(scenario())


def test_budget__thirty_slow_answers_at_once__halves_once_and_recovers_within_a_minute() -> None:
    now = 0.0
    budget = WriteBudget(per_second=20, burst=200, monotonic=lambda: now)
    for _ in range(30):
        budget.slow_down()
    assert budget.rate == 10
    assert budget.wait_seconds() == 0  # one token stays: the next write may find out
    budget.take()
    assert budget.wait_seconds() == pytest.approx(0.1)
    now = 60.0
    budget.wait_seconds()
    assert budget.rate == 20


def test_budget__complaints_without_end__keeps_a_trickle() -> None:
    now = 0.0
    budget = WriteBudget(per_second=32, burst=1, monotonic=lambda: now)
    for _ in range(100):
        budget.slow_down()
        now += 1.0
    assert 1.0 <= budget.rate <= 4.0


def test_telemetry__writes__are_counted_by_how_they_ended() -> None:
    telemetry = Telemetry("test")

    async def scenario() -> None:
        async with writers(telemetry=telemetry) as them:
            them.submit("a", Journal().write("a"))
            them.submit("b", Journal().write("b", errors=[Conflict("changed")]))
            await them.drain(timeout_seconds=5)

    virtual_time.run(scenario())
    assert telemetry.registry.get_sample_value("fallow_writes_total", {"result": "ok"}) == 1
    assert telemetry.registry.get_sample_value("fallow_writes_total", {"result": "Conflict"}) == 1
    assert telemetry.registry.get_sample_value("fallow_writes_waiting") == 0
