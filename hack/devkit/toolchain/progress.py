"""Shows what is being made, how long it has taken and how long is left: live on a terminal, else lines.

Time left is the sum of the estimates of what remains, stretched by how this machine has compared
with the estimates so far.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

PLAIN_INTERVAL_SECONDS = 20.0


class Estimate:
    """Seconds left for a list of things with estimates, corrected by those already made."""

    def __init__(self, estimates_seconds: Iterable[float]) -> None:
        self._left = sum(estimates_seconds)
        self._estimated_done = 0.0
        self._spent = 0.0

    def expect(self, estimate_seconds: float) -> None:
        """Count in something that nobody knew of before."""
        self._left += estimate_seconds

    def finished(self, *, estimate_seconds: float, spent_seconds: float) -> None:
        self._left -= estimate_seconds
        self._estimated_done += estimate_seconds
        self._spent += spent_seconds

    def left_seconds(self, *, estimate_seconds: float, spent_seconds: float) -> float | None:
        """Return the seconds left, `spent_seconds` into something estimated at `estimate_seconds`.

        None once that has taken longer than even this machine's pace explains: then nobody knows.
        """
        # A fixed prior keeps one tiny, odd build from swinging the whole forecast.
        prior = 30.0
        pace = (self._spent + prior) / (self._estimated_done + prior)
        current = estimate_seconds * pace - spent_seconds
        if current < 0:
            return None
        return max(self._left - estimate_seconds, 0.0) * pace + current


class Display:
    """The progress of a list of things, to standard error."""

    def __init__(self, estimates_seconds: Iterable[float] = (), *, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._estimate = Estimate(estimates_seconds)

    def expect(self, estimate_seconds: float) -> None:
        """Count in something that the estimates at the start did not hold."""
        self._estimate.expect(estimate_seconds)

    def say(self, text: str) -> None:
        """Tell one thing that does not change any more."""
        if self._console.is_terminal:
            self._console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def working(self, name: str, *, estimate_seconds: float) -> Iterator[Callable[[str], None]]:
        """Show `name` as being made; yields a tick to call, with a detail or "", while it goes on."""
        started = time.monotonic()

        def line(detail: str) -> str:
            spent = time.monotonic() - started
            left = self._estimate.left_seconds(estimate_seconds=estimate_seconds, spent_seconds=spent)
            forecast = "longer than usual" if left is None else f"about {clock(left)} left in all"
            return f"{name}: {clock(spent)} so far, {forecast}{detail}"

        if self._console.is_terminal:
            with self._console.status(line("")) as status:
                yield lambda detail: _update(status, line(f" · {detail}" if detail else ""))
        else:
            self.say(line("").replace("0 s so far", "starting"))
            yield _Plain(say=self.say, line=line)
        spent = time.monotonic() - started
        self._estimate.finished(estimate_seconds=estimate_seconds, spent_seconds=spent)
        self.say(f"{name}: done in {clock(spent)}")


class _Plain:
    """Says how it goes every so often, where nothing can be redrawn."""

    def __init__(self, *, say: Callable[[str], None], line: Callable[[str], str]) -> None:
        self._say = say
        self._line = line
        self._last = time.monotonic()

    def __call__(self, detail: str) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL_SECONDS:
            self._last = now
            self._say(self._line(""))


def _update(status: Status, text: str) -> None:
    status.update(text[: status.console.width - 4])


def clock(seconds: float) -> str:
    """Return minutes and seconds, as in 3:07; under a minute just 12 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02d}"
