"""Long work in slices, so that the event loop (lease, watches, writes) is never held for long.

What is cut is a generator of steps. It yields None wherever the loop may be let go, and a `Work` where
something pure takes long by itself: that runs in a thread, and its result is sent back into the generator.
Whatever a step read may have changed when it goes on: each step reads the view anew, and a decision that was
made before a pause is carried out only if what it was made from is still there (decision 210).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")
Work = Callable[[], Any]
"""Pure work on values that nobody changes."""
Slices = Generator[Work | None, Any, Result]

SLICE_SECONDS = 0.025
"""How long steps run before the loop gets its turn."""
TURN_SECONDS = 0.05
"""How long that turn is at most: until nothing is ready, or so long."""
_NOTHING_READY_SECONDS = 0.0002
"""A round of the loop that is shorter found nothing to do."""


def at_once(steps: Slices[Result]) -> Result:
    """Run all steps without a pause."""
    answer: Any = None
    while True:
        try:
            work = steps.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        answer = work() if work is not None else None


async def in_slices(
    steps: Slices[Result],
    *,
    held: Callable[[float], None] = lambda seconds: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Result:
    """Run all steps, and give the event loop its turn after each slice; `held` is told how long each took."""
    began = monotonic()
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            work = steps.throw(error) if error is not None else steps.send(answer)
        except StopIteration as end:
            held(monotonic() - began)
            result: Result = end.value
            return result
        answer = error = None
        if work is not None:
            held(monotonic() - began)
            try:
                answer = await asyncio.to_thread(work)
            except Exception as caught:
                error = caught
            began = monotonic()
        elif (took := monotonic() - began) >= SLICE_SECONDS:
            held(took)
            await _turn(monotonic)
            began = monotonic()


async def _turn(monotonic: Callable[[], float]) -> None:
    """Let the loop do what is ready."""
    began = monotonic()
    while True:
        round_began = monotonic()
        await asyncio.sleep(0)
        now = monotonic()
        if now - round_began < _NOTHING_READY_SECONDS or now - began >= TURN_SECONDS:
            return
