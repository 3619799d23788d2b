"""What happens next to one placement: a pure function, so that every cycle says the same until it is done.

    running → (claim what elapsed) → (stop | release | reveal) → finished → claim → results → absorb → delete

Each step is one write, and each is decided from what the API server says, not from what this process
remembers: a hub that dies between two steps goes on with the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from fallow.hub.placements import Placed
from fallow.resources.ranges import EMPTY, IndexRanges

StopReason = Literal["JobDeleted", "JobSuspended", "JobFinished"]


class Step(Enum):
    """The next write for a placement."""

    NONE = auto()
    STOP = auto()
    RELEASE = auto()
    REVEAL = auto()
    CLAIM = auto()
    CLAIM_ELAPSED = auto()
    RESULTS = auto()
    ABSORB = auto()
    DELETE = auto()


@dataclass(frozen=True, slots=True)
class Fate:
    """A step, with what it needs."""

    step: Step
    stop_reason: StopReason | None = None
    tasks: IndexRanges = EMPTY
    """For a release: the tasks to take away. For a reveal: those whose results to ask for."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a placement's fate depends on besides itself."""

    job: Literal["Present", "Suspended", "Complete", "Gone"]
    provider_lost: bool = False
    """It has been silent for as long as the job waits (and the hub does not suspect itself)."""
    provider_removed: bool = False
    provider_silent: bool = False
    owes: bool = False
    """Whether something is payable that the agent has signed for."""
    claimed: bool = False
    elapsed_owed: bool = False
    """Whether elapsed intervals are signed for, observed, and in no claim yet."""
    elapsed_due: bool = False
    """Whether it is time for a claim of them."""
    has_results: bool = False
    """Whether there are inline results that are not copied to the job's namespace yet."""
    absorbed: bool = False
    opening: IndexRanges = EMPTY
    """Replicated tasks whose results may be opened."""
    withheld: IndexRanges = EMPTY
    """Replicated tasks whose results the agent was asked for too long ago."""
    slow: IndexRanges = EMPTY
    """Tasks that would be done sooner elsewhere."""
    undecided: bool = False
    """Whether replicated tasks of it have no written verdict yet."""


def fate(placed: Placed, given: Circumstances) -> Fate:
    """Return the next step for a placement."""
    if _is_over(placed, given):
        if given.undecided:
            return Fate(Step.NONE)
        if given.owes and not given.claimed:
            return Fate(Step.CLAIM)
        if given.job != "Gone" and given.has_results and not given.absorbed:
            return Fate(Step.RESULTS)
        if given.job != "Gone" and not given.absorbed:
            return Fate(Step.ABSORB)
        return Fate(Step.DELETE)
    if not placed.stopped:
        if given.job == "Gone":
            return Fate(Step.STOP, stop_reason="JobDeleted")
        if given.job == "Suspended":
            return Fate(Step.STOP, stop_reason="JobSuspended")
        if given.job == "Complete" and placed.open - placed.released:
            return Fate(Step.STOP, stop_reason="JobFinished")
    if (given.provider_lost or given.provider_removed) and given.job != "Gone" and placed.held:
        # NB: strictly before: what an agent says later of tasks that were taken away does not count.
        return Fate(Step.CLAIM_ELAPSED) if given.elapsed_owed else Fate(Step.RELEASE, tasks=placed.held)
    if given.withheld or given.slow:
        tasks = given.withheld | given.slow
        return Fate(Step.CLAIM_ELAPSED) if given.elapsed_owed else Fate(Step.RELEASE, tasks=tasks)
    if given.opening - placed.asked:
        return Fate(Step.REVEAL, tasks=given.opening)
    return Fate(Step.CLAIM_ELAPSED) if given.elapsed_due else Fate(Step.NONE)


def _is_over(placed: Placed, given: Circumstances) -> bool:
    """Return whether nothing more will come of a placement.

    That is when its agent says Finished; or when its provider was removed and is silent: what its last
    receipt covers is all that is ever paid.
    """
    if placed.finished:
        return True
    gone = given.provider_removed and given.provider_silent
    return gone and (given.job == "Gone" or not placed.held)
